"""A network, an input, baselines and masks by formula, the same in JAX and for the peers that it is compared with."""

import numpy as np

FEATURES, HIDDEN = 5, 6
FIRST = (1.5 * np.sin(1.0 + np.arange(FEATURES * HIDDEN))).reshape(FEATURES, HIDDEN).astype(np.float32)
SECOND = np.cos(np.arange(HIDDEN)).astype(np.float32)
X = np.array([0.5, -1.0, 2.0, 0.25, -0.75], np.float32)
BASELINE = np.array([0.1, 0.2, -0.3, 0.4, 0.0], np.float32)
BACKGROUND = np.cos(0.7 * np.arange(3 * FEATURES)).reshape(3, FEATURES).astype(np.float32)
GROUPS = np.array([0, 1, 0, 2, 1])
MASKS = np.sin(12.9898 * np.arange(40 * FEATURES) ** 1.3).reshape(40, FEATURES) > 0
MASKS[0] = True


def network(x):
    """Scores `[B]` of inputs `[B, 5]` in NumPy."""
    return np.tanh(x @ FIRST) @ SECOND


def lime_weights(masks, width=0.5):
    """The kernel of LIME for masks `[S, n]`."""
    distance = 1 - np.sqrt(masks.mean(axis=1))
    return np.exp(-((distance / width) ** 2))
