"""Weights and activations on which sparse autoencoders are compared with SAELens'; NumPy alone."""

import numpy as np

ATOMS, WIDTH, BATCH, K = 6, 4, 5, 2
PENALTY, BANDWIDTH, SIZES = 0.3, 0.4, (2, 4)
ARCHITECTURES = ("standard", "topk", "batchtopk", "jumprelu", "matryoshka", "gated")


def wave(shift: float, *shape: int) -> np.ndarray:
    """Numbers without a pattern that matters."""
    return np.sin(shift + 1.7 * np.arange(np.prod(shape))).reshape(shape)


ROWS = wave(4, BATCH, WIDTH)
DECODER = wave(2, ATOMS, WIDTH) / np.linalg.norm(wave(2, ATOMS, WIDTH), axis=1, keepdims=True)
ENCODER, BIAS, OFFSET = wave(1, WIDTH, ATOMS), 0.1 * wave(3, ATOMS), 0.2 * wave(5, WIDTH)
THRESHOLD, GAIN, SIZE_BIAS = 0.3 + 0.2 * wave(6, ATOMS), 0.3 * wave(7, ATOMS), 0.2 * wave(8, ATOMS)
