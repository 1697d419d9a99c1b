"""Parameterisations made of others: with opacity, several together, from a given start."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.visualization.image.parameterisation import Parameterisation
from jaxplain.explain.visualization.image.spectrum import fourier
from jaxplain.program import Function, public, setting
from jaxplain.types import Array, Arrays, Pytree


class Alpha(Function):
    """An image with a channel of opacity behind its own. Made by `alpha`."""

    image: Any
    opacity: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The image's shape with one more channel."""
        return (*self.image.shape[:-1], self.image.shape[-1] + 1)

    def init(self, key: Array) -> tuple[Pytree, Pytree]:
        """Draw both."""
        return self.image.init(jax.random.fold_in(key, 0)), self.opacity.init(jax.random.fold_in(key, 1))

    def render(self, theta: tuple[Pytree, Pytree]) -> Array:
        """The image, opacity as its last channel."""
        return jnp.concatenate([self.image.render(theta[0]), self.opacity.render(theta[1])], axis=-1)


@public
def alpha(image: Any, *, opacity: Any = None) -> Alpha:
    """Add a channel of opacity in [0, 1] to an image: what the objective does not need becomes transparent.

    Use it with the transform `composite`, which lays the image over a random background before the model sees it, and
    the penalty `opacity`, which makes opaqueness cost something.

    Args:
        image: A parameterisation of the colours, `(H, W, C)` or `(T, C)`.
        opacity: One of the last channel, `(H, W, 1)`; None takes `fourier`.

    Returns:
        A parameterisation of shape `(H, W, C + 1)`. Cost: that of both.

    Raises:
        TypeError: Parts that are no parameterisations.
        ValueError: An opacity of another size.

    Example:
        >>> from jaxplain.explain.visualization.image import pixels
        >>> alpha(pixels((4, 4, 3))).shape
        (4, 4, 4)

    Source: Mordvintsev et al. 2018, "Differentiable image parameterizations", "Semi-transparent patterns".
    """
    shape = shape_of(image, "alpha")
    opacity = fourier((*shape[:-1], 1)) if opacity is None else opacity
    if shape_of(opacity, "alpha", "opacity") != (*shape[:-1], 1):
        raise ValueError(f"alpha: `opacity` has shape {opacity.shape}; it has to be {(*shape[:-1], 1)}.")
    return Alpha(image, opacity)


class Several(Function):
    """Several inputs optimised together. Made by `batch`."""

    image: Any
    size: int = setting(default=4)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all inputs, the batch axis first."""
        return (self.size, *self.image.shape)

    def init(self, key: Array) -> Pytree:
        """Draw each from a key of its own."""
        return jax.vmap(lambda index: self.image.init(jax.random.fold_in(key, index)))(jnp.arange(self.size))

    def render(self, theta: Pytree) -> Array:
        """All inputs, `[size, ...]`."""
        return jax.vmap(self.image.render)(theta)


@public
def batch(image: Any, size: int) -> Several:
    """Optimise several inputs together, for objectives that compare them, such as `diversity`.

    Transforms and penalties act on each input by itself; the objective is given all of them, `[size, ...]`: wrap one
    that is written for a single input by `objective.each`. For inputs that have nothing to do with each other use
    `jax.vmap` over keys instead.

    Args:
        image: The parameterisation of one input.
        size: How many.

    Returns:
        A parameterisation of shape `(size, *shape)`. Cost: `size` of one.

    Raises:
        TypeError: `image` is no parameterisation. ValueError: `size` below 1.

    Example:
        >>> from jaxplain.explain.visualization.image import pixels
        >>> batch(pixels((4, 4, 3)), 2).shape
        (2, 4, 4, 3)
    """
    shape_of(image, "batch")
    return Several(image, check.count(size, "batch", "size"))


class Start(Function):
    """A parameterisation that starts at a given input. Made by `start`."""

    image: Any
    x: Any
    margin: float = setting(default=0.02)

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's shape."""
        return self.image.shape

    def init(self, key: Array) -> Pytree:
        """The theta of the given input; the key is not used."""
        return self.image.encode(self.x, self.margin)

    def render(self, theta: Pytree) -> Array:
        """As the parameterisation."""
        return self.image.render(theta)


@public
def start(image: Any, x: Arrays, *, margin: float = 0.02) -> Start:
    """Begin the optimisation at a given input instead of at noise.

    Args:
        image: `pixels`, `fourier` or `vector` of the input's shape.
        x: The input.
        margin: How far values at the bounds are moved inside, as a part of the range: a sigmoid reaches its bounds only
            at infinity.

    Returns:
        A parameterisation of the same shape whose `init` ignores the key.

    Raises:
        TypeError: A parameterisation that an input cannot be turned into (`maco`, `cppn`, `pyramid`).
        ValueError: An input of another shape, or with NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.visualization.image import pixels
        >>> image = start(pixels((2, 1)), jnp.array([[0.25], [0.75]]))
        >>> image.render(image.init(jax.random.key(0))).round(4).tolist()
        [[0.25], [0.75]]
    """
    if jnp.shape(x) != shape_of(image, "start"):
        raise ValueError(f"start: `x` has shape {jnp.shape(x)}, but the parameterisation has {image.shape}.")
    check.finite(x, "start")
    if not hasattr(image, "encode") or type(image).encode is Parameterisation.encode:
        raise TypeError(f"start: {type(image).__name__} cannot begin at a given input; use pixels, fourier or vector.")
    check.inside(margin, "start", "margin")
    return Start(image, jnp.asarray(x), margin)


@public
def shape_of(image: Any, name: str, argument: str = "image") -> tuple[int, ...]:
    """The shape of what a parameterisation renders."""
    if not (hasattr(image, "init") and hasattr(image, "render")):
        raise TypeError(f"{name}: `{argument}` has to offer init(key) and render(theta), such as pixels((28, 28, 1)).")
    if hasattr(image, "shape"):
        return tuple(image.shape)
    return tuple(jax.eval_shape(lambda key: image.render(image.init(key)), jax.random.key(0)).shape)
