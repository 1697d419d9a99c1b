"""Weights of the networks that rules are compared on, as NumPy arrays: the same for JAX and for the peers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np


def dense_network(bias: bool) -> dict[str, Any]:
    """A network of 6, 8, 5 and 3 units, and an input of both signs."""
    draw = np.random.default_rng(7)
    sizes = (6, 8, 5, 3)
    weights = [draw.normal(size=(a, b)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    biases = [0.3 * draw.normal(size=b).astype(np.float32) * bias for b in sizes[1:]]
    return {"weights": weights, "biases": biases, "x": draw.normal(size=6).astype(np.float32)}


def convolutional_network() -> dict[str, Any]:
    """conv, BatchNorm, ReLU, max pooling, conv, ReLU, average pooling, dense; kernels are HWIO, the input is HWC."""
    draw = np.random.default_rng(11)

    def normal(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32)

    return {
        "first": 0.5 * normal(3, 3, 2, 4),
        "first_bias": 0.2 * normal(4),
        "scale": normal(4),
        "shift": 0.2 * normal(4),
        "mean": 0.2 * normal(4),
        "variance": np.exp(0.3 * normal(4)),
        "second": 0.4 * normal(3, 3, 4, 5),
        "second_bias": 0.2 * normal(5),
        "head": normal(5 * 2 * 2, 3),
        "head_bias": 0.2 * normal(3),
        "x": draw.uniform(size=(8, 8, 2)).astype(np.float32) - 0.3,
    }


def residual_network() -> dict[str, Any]:
    """A residual block of 4 units and a head of 2, without biases."""
    draw = np.random.default_rng(5)
    shapes = {"inner": (4, 4), "head": (4, 2), "x": (4,)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
