"""The small networks that the tests of class activation maps share, and slow references written from the papers."""

from __future__ import annotations

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name


class Net(nn.Module):
    """Two convolutions in 1, 2 or 3 dimensions, average pooling and a dense layer."""

    dimensions: int = 2
    stride: int = 1
    smooth: bool = False

    @nn.compact
    def __call__(self, x):
        window = (3,) * self.dimensions
        activation = jax.nn.softplus if self.smooth else jax.nn.relu
        x = nn.Conv(4, window, strides=(self.stride,) * self.dimensions, padding=1, name="first")(x)
        x = checkpoint_name(activation(x), "features")
        x = checkpoint_name(activation(nn.Conv(5, window, padding=1, name="second")(x)), "last")
        return nn.Dense(3, name="head")(x.mean(tuple(range(1, self.dimensions + 1))))


def weights(dimensions=2, seed=0, channels=2):
    """The network's weights as any framework can draw them; kernels `[*window, in, out]`."""
    draw = np.random.default_rng(seed)
    shapes = {
        "first": ((3,) * dimensions + (channels, 4), (4,)),
        "second": ((3,) * dimensions + (4, 5), (5,)),
        "head": ((5, 3), (3,)),
    }
    return {
        name: {
            "kernel": draw.normal(size=kernel) / np.sqrt(np.prod(kernel[:-1])) * 1.5,
            "bias": 0.3 * draw.normal(size=bias),
        }
        for name, (kernel, bias) in shapes.items()
    }


def variables(dimensions=2, seed=0, channels=2):
    return {"params": jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights(dimensions, seed, channels))}


def image(size=(6, 6), seed=1, channels=2):
    return np.random.default_rng(seed).normal(size=(*size, channels)).astype(np.float32)


# Maps at the layer's size, from values A [*grid, C] and gradients g, one place and channel at a time.


def places(values):
    return list(itertools.product(*(range(n) for n in values.shape[:-1])))


def weighted(values, weight):
    out = np.zeros(values.shape[:-1])
    for p in places(values):
        for k in range(values.shape[-1]):
            out[p] += weight[k] * values[(*p, k)]
    return out


def grad_cam(values, slopes):
    z = len(places(values))
    return weighted(values, [sum(slopes[(*p, k)] for p in places(values)) / z for k in range(values.shape[-1])])


def class_activation_map(values, slopes):
    return weighted(values, [sum(slopes[(*p, k)] for p in places(values)) for k in range(values.shape[-1])])


def grad_cam_plus_plus(values, slopes):
    weight = []
    for k in range(values.shape[-1]):
        total, w = sum(values[(*p, k)] for p in places(values)), 0.0
        for p in places(values):
            g = slopes[(*p, k)]
            if g > 0:
                w += g**2 / (2 * g**2 + total * g**3) * g
        weight.append(w)
    return weighted(values, weight)


def hires_cam(values, slopes):
    out = np.zeros(values.shape[:-1])
    for p in places(values):
        out[p] = sum(values[(*p, k)] * slopes[(*p, k)] for k in range(values.shape[-1]))
    return out


def xgrad_cam(values, slopes):
    weight = []
    for k in range(values.shape[-1]):
        total = sum(values[(*p, k)] for p in places(values))
        weight.append(sum(values[(*p, k)] / total * slopes[(*p, k)] for p in places(values)) if total else 0.0)
    return weighted(values, weight)


def layer_cam(values, slopes):
    return hires_cam(values, np.maximum(slopes, 0))


def _principal(matrix):
    """The first right singular vector by power iteration."""
    v = np.ones(matrix.shape[1]) + 0.1 * np.arange(matrix.shape[1])
    for _ in range(5000):
        v = matrix.T @ (matrix @ v)
        v /= np.linalg.norm(v)
    return v


def _projected(values):
    out = values @ _principal(values.reshape(-1, values.shape[-1]))
    return -out if -out.min() > out.max() else out


def eigen_cam(values, slopes):
    return _projected(values)


def eigen_grad_cam(values, slopes):
    return _projected(values * slopes)


def stretched(mask):
    low, high = mask.min(), mask.max()
    return (mask - low) / (high - low) if high > low else np.zeros_like(mask)


def score_cam(values, score_of_masked, size):
    scores = np.array([score_of_masked(stretched(interpolated(values[..., k], size))) for k in range(values.shape[-1])])
    e = np.exp(scores - scores.max())
    return weighted(values, e / e.sum())


def ablation_cam(values, score_of_layer):
    whole, weight = score_of_layer(values), []
    for k in range(values.shape[-1]):
        ablated = values.copy()
        ablated[..., k] = 0
        weight.append((whole - score_of_layer(ablated)) / whole)
    return weighted(values, weight)


def interpolated(values, size):
    """Linear interpolation along each axis with half-pixel centres, the border repeated."""
    for axis, wanted in enumerate(size):
        own = values.shape[axis]
        lines = []
        for i in range(wanted):
            centre = (i + 0.5) * own / wanted - 0.5
            low = int(np.floor(centre))
            part = centre - low
            a, b = (np.take(values, min(max(j, 0), own - 1), axis) for j in (low, low + 1))
            lines.append((1 - part) * a + part * b)
        values = np.stack(lines, axis)
    return values
