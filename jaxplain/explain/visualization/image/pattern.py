"""Images as smooth patterns: a network of the coordinates (`cppn`), a sum of coarse images (`pyramid`)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.visualization.image.parameterisation import Parameterisation, spatial_shape, squash
from jaxplain.program import public, setting
from jaxplain.types import Array, Number


class Cppn(Parameterisation):
    """A network from coordinates to channels. Made by `cppn`."""

    width: int = setting(default=16)
    depth: int = setting(default=4)

    def init(self, key: Array) -> list[Array]:
        """Draw the weights; the last layer starts small, so the image starts near the middle of the range."""
        sizes = [self._coordinates().shape[-1] + 1] + [2 * self.width] * self.depth
        outputs = [self.width] * self.depth + [self.shape[-1]]
        return [
            jax.random.normal(jax.random.fold_in(key, layer), (size, out))
            * ((1.0 if layer < self.depth else 0.1) / np.sqrt(size))
            for layer, (size, out) in enumerate(zip(sizes, outputs, strict=True))
        ]

    def buffer(self, theta: list[Array]) -> Array:
        """The network's output at every position."""
        coordinates = self._coordinates()
        h = jnp.concatenate([coordinates, jnp.ones((len(coordinates), 1), jnp.float32)], axis=1)
        for weights in theta[:-1]:
            wave = h @ weights
            h = jnp.concatenate([jnp.tanh(wave), jnp.cos(wave)], axis=1)
        return (h @ theta[-1]).reshape(self.shape)

    def _coordinates(self) -> Array:
        """Positions of all pixels, and their distance from the centre, the longer side running over [-2, 2]."""
        sides = self.shape[:-1]
        half = max(max(sides) - 1, 1) / 2
        axes = [(np.arange(side) - (side - 1) / 2) / half * 2 for side in sides]
        grid = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)
        radius = np.sqrt(np.square(grid).sum(axis=1, keepdims=True))
        return jnp.asarray(np.concatenate([grid, radius], axis=1), jnp.float32)


@public
def cppn(
    shape: tuple[int, ...],
    *,
    width: int = 16,
    depth: int = 4,
    low: Number | None = 0.0,
    high: Number | None = 1.0,
    colour: Number | str | None = None,
) -> Cppn:
    """Parameterise an image or signal by a small network of the pixel's coordinates.

    h_0 = (position, radius, 1), h_(l+1) = [tanh(h_l W_l), cos(h_l W_l)], x = squash(h W). The image is smooth, and the
    same theta can be rendered at another size.

    Args:
        shape: `(H, W, C)` or `(T, C)`.
        width: Units of each layer (each gives a tanh and a cosine).
        depth: Number of layers.
        low: As in `pixels`.
        high: As in `pixels`.
        colour: As in `pixels`.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: `depth` small products for every pixel.

    Raises:
        ValueError: A shape that is no image or signal, sizes below 1, bounds out of order.

    Example:
        >>> import jax
        >>> image = cppn((5, 6, 3))
        >>> image.render(image.init(jax.random.key(0))).shape
        (5, 6, 3)

    Source: Mordvintsev et al. 2018, "Differentiable image parameterizations", "Compositional pattern producing
    networks", after Stanley 2007; two activations of this library's choice.
    """
    shape = spatial_shape(shape, "cppn")
    return Cppn(
        shape,
        squash(shape, low, high, colour, "cppn"),
        check.count(width, "cppn", "width"),
        check.count(depth, "cppn", "depth"),
    )


class Pyramid(Parameterisation):
    """A sum of images of growing resolution. Made by `pyramid`."""

    sigma: Any
    levels: int = setting(default=4)

    def init(self, key: Array) -> list[Array]:
        """Draw every level, white."""
        return [
            self.sigma * jax.random.normal(jax.random.fold_in(key, level), (*self._sides(level), self.shape[-1]))
            for level in range(self.levels)
        ]

    def buffer(self, theta: list[Array]) -> Array:
        """The sum of all levels, each brought to full size by linear interpolation."""
        return sum((self._upsampled(part) for part in theta), jnp.zeros(self.shape)) / np.sqrt(self.levels)

    def _sides(self, level: int) -> tuple[int, ...]:
        factor = 2 ** (self.levels - 1 - level)
        return tuple(max(1, -(-side // factor)) for side in self.shape[:-1])

    def _upsampled(self, part: Array) -> Array:
        for axis, size in enumerate(self.shape[:-1]):
            weights = jnp.asarray(_linear(part.shape[axis], size))
            part = jnp.moveaxis(jnp.tensordot(weights, part, (1, axis)), 0, axis)
        return part


@public
def pyramid(
    shape: tuple[int, ...],
    *,
    levels: int = 4,
    low: Number | None = 0.0,
    high: Number | None = 1.0,
    sigma: float = 0.1,
    colour: Number | str | None = None,
) -> Pyramid:
    """Parameterise an image or signal by a sum of images of growing resolution, each half as fine as the next.

    x = squash(sum_l up(theta_l) / sqrt(levels)); every level is brought to full size by linear interpolation, scaled so
    that white theta gives variance one (on average over the positions).

    Args:
        shape: `(H, W, C)` or `(T, C)`.
        levels: How many; 1 is `pixels`. The coarsest has sides divided by 2^(levels - 1).
        low: As in `pixels`.
        high: As in `pixels`.
        sigma: Standard deviation of the starting theta.
        colour: As in `pixels`.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: `levels` interpolations.

    Raises:
        ValueError: A shape that is no image or signal, no levels, bounds out of order.

    Example:
        >>> import jax
        >>> image = pyramid((8, 7, 1), levels=3)
        >>> [part.shape for part in image.init(jax.random.key(0))]
        [(2, 2, 1), (4, 4, 1), (8, 7, 1)]

    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism" (octaves); Mordvintsev 2016, "DeepDreaming with TensorFlow",
    Laplacian pyramid.
    """
    shape = spatial_shape(shape, "pyramid")
    return Pyramid(
        shape,
        squash(shape, low, high, colour, "pyramid"),
        check.positive(sigma, "pyramid", "sigma", zero=True),
        check.count(levels, "pyramid", "levels"),
    )


def _linear(size: int, target: int) -> np.ndarray:
    """Linear interpolation from `size` to `target` points as a matrix whose mean squared row length is one."""
    place = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(size)[None, :]))
    return (weights / np.sqrt(np.square(weights).sum(axis=1).mean())).astype(np.float32)
