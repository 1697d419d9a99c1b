"""What every parameterisation offers, and how its buffer becomes values in a range."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, setting
from jaxplain.types import Array, Pytree


class Squash(Function):
    """Buffer to values: mixes the colours, then low + (high - low) sigmoid(buffer); no bounds leave it as it is."""

    low: Any
    high: Any
    colour: Any

    def __call__(self, buffer: Array) -> Array:
        """The values of a buffer."""
        if self.colour is not None:
            buffer = buffer @ jnp.asarray(self.colour, buffer.dtype).T
        return buffer if self.low is None else self.low + (self.high - self.low) * jax.nn.sigmoid(buffer)

    def inverse(self, x: Array, margin: float) -> Array:
        """The buffer of values, those at the bounds moved inside by `margin` of the range."""
        buffer = jnp.asarray(x)
        if self.low is not None:
            part = jnp.clip((buffer - self.low) / (self.high - self.low), margin, 1 - margin)
            buffer = jnp.log(part) - jnp.log1p(-part)
        if self.colour is None:
            return buffer
        return buffer @ jnp.linalg.inv(jnp.asarray(self.colour, buffer.dtype)).T


class Parameterisation(Function):
    """Base of the parameterisations: `init(key) -> theta`, `buffer(theta)` before squashing, `render(theta) -> x`."""

    shape: tuple[int, ...] = setting()
    squash: Any

    def init(self, key: Array) -> Pytree:
        """Draw theta."""
        raise NotImplementedError

    def buffer(self, theta: Pytree) -> Array:
        """The values before they are squashed into the range."""
        raise NotImplementedError

    def render(self, theta: Pytree) -> Array:
        """The input that theta stands for."""
        return self.squash(self.buffer(theta))

    def encode(self, x: Array, margin: float = 0.02) -> Pytree:
        """A theta whose render is `x` (values at the bounds moved inside by `margin` of the range)."""
        raise TypeError(f"{type(self).__name__.lower()}: an input cannot be turned into this parameterisation.")


def squash(shape: tuple[int, ...], low: Any, high: Any, colour: Any, name: str) -> Squash:
    """Check a range and a colour matrix."""
    if (low is None) != (high is None):
        raise ValueError(f"{name}: pass both `low` and `high`, or None for both (values without bounds).")
    if low is not None:
        check.broadcasts(low, shape, name, "low")
        check.broadcasts(high, shape, name, "high")
        check.positive(jnp.asarray(high) - jnp.asarray(low), name, "high - low")
    if isinstance(colour, str):
        check.choice(colour, ("imagenet",), name, "colour")
        colour = IMAGENET
    if colour is not None and jnp.shape(colour) != (shape[-1], shape[-1]):
        raise ValueError(
            f"{name}: `colour` has shape {jnp.shape(colour)}, but the input has {shape[-1]} channels. Pass 'imagenet' "
            "for three, or colour_matrix(images) of your own data."
        )
    return Squash(low, high, colour)


def as_shape(shape: Any, name: str) -> tuple[int, ...]:
    """Require the shape of one input."""
    if isinstance(shape, int) or not hasattr(shape, "__iter__"):
        raise TypeError(f"{name}: `shape` has to be the shape of one input, such as (28, 28, 1), not {shape!r}.")
    return tuple(check.count(size, name, "shape") for size in shape)


def spatial_shape(shape: Any, name: str) -> tuple[int, ...]:
    """Require the shape of a signal `(T, C)` or an image `(H, W, C)`."""
    shape = as_shape(shape, name)
    if len(shape) not in (2, 3):
        raise ValueError(f"{name}: `shape` is {shape}; pass (H, W, C) for an image or (T, C) for a signal.")
    return shape


# Square root of the covariance of ImageNet's colours as Lucid publishes it, its longest column of length one.
_ROOT = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
IMAGENET = (_ROOT / np.linalg.norm(_ROOT, axis=0).max()).astype(np.float32)
