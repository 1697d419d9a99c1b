"""Inputs as their own values: `pixels` in a range, `vector` without bounds, `ball` around a given input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.visualization.image.parameterisation import Parameterisation, Squash, as_shape, squash
from jaxplain.program import public, setting
from jaxplain.types import Array, Arrays, Number


class Pixels(Parameterisation):
    """An image as pixels squashed into a range: x = low + (high - low) sigmoid(theta). Made by `pixels`."""

    sigma: Any

    def init(self, key: Array) -> Array:
        """Draw theta, N(0, sigma^2), so that the image starts near the middle of the range."""
        return self.sigma * jax.random.normal(key, self.shape)

    def buffer(self, theta: Array) -> Array:
        """The values before squashing: theta itself."""
        return theta

    def encode(self, x: Array, margin: float = 0.02) -> Array:
        """The theta of an input."""
        return self.squash.inverse(x, margin)


@public
def pixels(
    shape: tuple[int, ...],
    *,
    low: Number | None = 0.0,
    high: Number | None = 1.0,
    sigma: float = 0.1,
    colour: Number | str | None = None,
) -> Pixels:
    """Parameterise an input by its own values, squashed into [low, high].

    Args:
        shape: Shape of one input, such as `(28, 28, 1)`.
        low: Smallest value, a scalar or an array that broadcasts to `shape`; None, together with `high`, sets no
            bounds.
        high: Largest value.
        sigma: Standard deviation of the starting theta.
        colour: How decorrelated channels mix, `[C, C]`: 'imagenet', or `colour_matrix(images)`; None for no mixing.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: nothing beside one sigmoid.

    Raises:
        ValueError: A shape with an axis below 1, `low` not below `high`, a colour matrix of another size.
        TypeError: A shape that is none.

    Example:
        >>> import jax
        >>> image = pixels((2, 2, 1))
        >>> image.render(image.init(jax.random.key(0))).shape
        (2, 2, 1)
    """
    shape = as_shape(shape, "pixels")
    return Pixels(
        shape, squash(shape, low, high, colour, "pixels"), check.positive(sigma, "pixels", "sigma", zero=True)
    )


class Vector(Parameterisation):
    """Real values around a mean: x = mean + scale theta. Made by `vector`."""

    mean: Any
    scale: Any
    sigma: Any

    def init(self, key: Array) -> Array:
        """Draw theta, N(0, sigma^2)."""
        return self.sigma * jax.random.normal(key, self.shape)

    def buffer(self, theta: Array) -> Array:
        """The values."""
        return jnp.broadcast_to(self.mean + self.scale * theta, self.shape)

    def encode(self, x: Array, margin: float = 0.02) -> Array:
        """The theta of an input."""
        return (jnp.asarray(x) - self.mean) / self.scale


@public
def vector(shape: tuple[int, ...], *, mean: Number = 0.0, scale: Number = 1.0, sigma: float = 0.1) -> Vector:
    """Parameterise real values without bounds: rows of a table `(D,)`, embedding sequences `(T, D)`.

    x = mean + scale theta. With the features' means and standard deviations every feature is moved in its own unit.
    Penalties such as `l2` hold the values near the data.

    Args:
        shape: Shape of one input.
        mean: Where the values start, a number or an array that broadcasts to `shape`.
        scale: Unit of each value, positive, likewise.
        sigma: Standard deviation of the starting theta.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: nothing.

    Raises:
        ValueError: A scale that is not positive, a shape with an axis below 1.

    Example:
        >>> image = vector((2,), mean=5.0, scale=jnp.array([1.0, 10.0]))
        >>> image.render(jnp.array([1.0, 1.0])).tolist()
        [6.0, 15.0]
    """
    shape = as_shape(shape, "vector")
    for argument, value in (("mean", mean), ("scale", scale)):
        sizes = zip(jnp.shape(value)[::-1], shape[::-1], strict=False)
        if jnp.ndim(value) > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
            raise ValueError(f"vector: `{argument}` has shape {jnp.shape(value)}, which does not broadcast to {shape}.")
    return Vector(
        shape,
        Squash(None, None, None),
        jnp.broadcast_to(jnp.asarray(mean, jnp.float32), shape),
        jnp.broadcast_to(jnp.asarray(check.positive(scale, "vector", "scale"), jnp.float32), shape),
        check.positive(sigma, "vector", "sigma", zero=True),
    )


class Ball(Parameterisation):
    """An input within a distance of another. Made by `ball`."""

    center: Any
    radius: Any
    sigma: Any
    norm: str = setting(default="l2")

    def init(self, key: Array) -> Array:
        """Draw theta, N(0, sigma^2 / number of values), near the centre."""
        return self.sigma * jax.random.normal(key, self.shape) / jnp.sqrt(float(max(1, self.center.size)))

    def buffer(self, theta: Array) -> Array:
        """Centre plus a step of theta, brought back to the ball."""
        if self.norm == "linf":
            return self.center + self.radius * jnp.tanh(theta)
        length = jnp.sqrt(jnp.sum(jnp.square(theta)) + 1e-12)
        return self.center + self.radius * theta / jnp.maximum(1.0, length)

    def render(self, theta: Array) -> Array:
        """The input, cut off at the bounds where there are any."""
        x = self.buffer(theta)
        return x if self.squash.low is None else jnp.clip(x, self.squash.low, self.squash.high)


@public
def ball(
    center: Arrays,
    radius: float,
    *,
    norm: str = "l2",
    low: Number | None = None,
    high: Number | None = None,
    sigma: float = 0.1,
) -> Ball:
    """Parameterise the inputs within a distance of a given one: |x - center| <= radius.

    L2: x = center + radius theta / max(1, |theta|). L-inf: x = center + radius tanh(theta).

    Args:
        center: The input around which the ball lies, of the input's shape.
        radius: Of the ball, in units of the input, positive.
        norm: 'l2' or 'linf'.
        low: Smallest value; the result is cut off there. None, together with `high`, for no bounds.
        high: Largest value.
        sigma: Length of the starting step, in radii.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: one norm.

    Raises:
        ValueError: A radius that is not positive, an unknown norm, NaN in the centre, bounds out of order.

    Example:
        >>> import jax.numpy as jnp
        >>> ball(jnp.zeros(2), 1.0).render(jnp.array([3.0, 4.0])).round(3).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    check.differentiable(center, "ball", "center")
    check.finite(center, "ball", "center")
    check.choice(norm, ("l2", "linf"), "ball", "norm")
    center = jnp.asarray(center)
    return Ball(
        center.shape,
        squash(center.shape, low, high, None, "ball"),
        center,
        check.positive(radius, "ball", "radius"),
        check.positive(sigma, "ball", "sigma", zero=True),
        norm,
    )
