"""Weights and inputs that any framework can draw, for the tests that compare backward rules."""

import numpy as np


def weights(seed=0):
    draw = np.random.default_rng(seed)

    def layer(*shape):
        kernel = draw.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
        return {"kernel": kernel, "bias": 0.3 * draw.normal(size=shape[-1])}

    return {
        "first": layer(4, 5),
        "second": layer(5, 3),
        "conv": layer(3, 3, 2, 4),
        "head_2": layer(3 * 3 * 4, 3),
        "head_1": layer(4 * 4 * 4, 3),
    }


def inputs(seed=1):
    draw = np.random.default_rng(seed)
    return {
        "vector": draw.normal(size=4).astype(np.float32),
        "background": draw.normal(size=(6, 4)).astype(np.float32),
        "image": draw.normal(size=(6, 6, 2)).astype(np.float32),
    }
