"""Activation maximization: which input does a class, a unit or any other score respond to most?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program.function import Function, Static, as_function, setting
from jaxplain.program.layout import fast_layout
from jaxplain.types import Array, Pytree


class Visualization(NamedTuple):
    """What an activation maximization found.

    image: the input found, of the parameterisation's shape; value: its score, without transforms and penalties;
    values: the objective (score of the transformed image minus penalties) at every step, `[steps]`.
    """

    image: Array
    value: Array
    values: Array


class Pixels(Function):
    """An image as pixels squashed into a range: x = low + (high - low) sigmoid(theta). Made by `pixels`."""

    low: Any
    high: Any
    sigma: Any
    shape: tuple[int, ...] = setting()

    def init(self, key: Array) -> Array:
        """Draw theta, N(0, sigma^2), so that the image starts near the middle of the range."""
        return self.sigma * jax.random.normal(key, self.shape)

    def render(self, theta: Array) -> Array:
        """The image of theta."""
        return self.low + (self.high - self.low) * jax.nn.sigmoid(theta)


def pixels(shape: tuple[int, ...], *, low: Any = 0.0, high: Any = 1.0, sigma: Any = 0.1) -> Pixels:
    """Parameterise an input by its own values, squashed into [low, high].

    Args:
        shape: Shape of one input, such as `(28, 28, 1)`.
        low: Smallest value, a scalar or an array that broadcasts to `shape`.
        high: Largest value.
        sigma: Standard deviation of the starting theta.

    Returns:
        An object with `init(key) -> theta` and `render(theta) -> x`. Cost: nothing beside one sigmoid.

    Raises:
        ValueError: A shape with an axis below 1, or `low` not below `high`.

    Example:
        >>> import jax
        >>> image = pixels((2, 2, 1))
        >>> image.render(image.init(jax.random.key(0))).shape
        (2, 2, 1)
    """
    shape = tuple(check.count(size, "pixels", "shape") for size in shape)
    check.positive(jnp.asarray(high) - jnp.asarray(low), "pixels", "high - low")
    return Pixels(low, high, check.positive(sigma, "pixels", "sigma", zero=True), shape)


class Jitter(Function):
    """Rolls an input by a random offset. Made by `jitter`."""

    offset: int = setting(default=1)
    axes: tuple[int, ...] | None = setting(default=None)

    def __call__(self, key: Array, x: Array) -> Array:
        """Roll the axes (all but the last, by default)."""
        axes = tuple(range(max(1, x.ndim - 1))) if self.axes is None else self.axes
        shifts = jax.random.randint(key, (len(axes),), -self.offset, self.offset + 1)
        for axis, shift in zip(axes, shifts, strict=True):
            x = jnp.roll(x, shift, axis)
        return x


def jitter(offset: int, *, axes: tuple[int, ...] | None = None) -> Jitter:
    """A transform that shifts the input by up to `offset` elements along each axis, wrapping around.

    Args:
        offset: The largest shift, in pixels, at least 1.
        axes: Which axes are shifted; None takes all but the last (the channels).

    Returns:
        `(key, x) -> x`. Cost: one copy.

    Raises:
        ValueError: `offset` below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jitter(1)(jax.random.key(0), jnp.eye(3)[..., None]).sum().item()
        3.0

    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism" (random shifts between steps).
    """
    return Jitter(check.count(offset, "jitter", "offset"), None if axes is None else tuple(axes))


class Penalty(Function):
    """A regulariser `x -> scalar`. Made by `l2` and `total_variation`."""

    weight: Any
    kind: str = setting(default="l2")

    def __call__(self, x: Array) -> Array:
        """The weighted penalty."""
        if self.kind == "l2":
            return self.weight * jnp.mean(jnp.square(x))
        axes = range(max(1, x.ndim - 1))
        return self.weight * sum(jnp.mean(jnp.abs(jnp.diff(x, axis=axis))) for axis in axes if x.shape[axis] > 1)


def l2(weight: Any) -> Penalty:
    """The penalty weight * mean(x^2).

    Args:
        weight: Units of the score per squared unit of the input, zero or more.

    Returns:
        `x -> scalar`. Cost: one pass over the input.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> import jax.numpy as jnp
        >>> float(l2(0.5)(jnp.array([2.0, 0.0])))
        1.0
    """
    return Penalty(check.positive(weight, "l2", "weight", zero=True), "l2")


def total_variation(weight: Any) -> Penalty:
    """The penalty weight * sum over spatial axes of mean |x[i + 1] - x[i]| (anisotropic total variation).

    Args:
        weight: Units of the score per unit of the input, zero or more.

    Returns:
        `x -> scalar`, over all axes but the last. Cost: one pass over the input for each axis.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> import jax.numpy as jnp
        >>> float(total_variation(1.0)(jnp.array([[0.0], [1.0], [0.0]])))
        1.0

    Source: Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", section 3.2.
    """
    return Penalty(check.positive(weight, "total_variation", "weight", zero=True), "total_variation")


class ActivationMaximization(Function):
    """An input found by gradient ascent on a score. Made by `activation_maximization`."""

    score: Any
    image: Any
    transforms: tuple[Any, ...]
    regularisers: tuple[Any, ...]
    optimizer: Static
    steps: int = setting(default=256)

    @property
    def needs_key(self) -> bool:
        """Always: the start and the transforms are drawn from the key."""
        return True

    def __call__(self, key: Array, *args: Any) -> Visualization:
        """Maximise `score(x, *args)`; `vmap` over targets does many classes or units in one compiled loop."""
        theta = self.image.init(jax.random.fold_in(key, 0))
        optimizer, draws = self.optimizer.value, jax.random.fold_in(key, 1)
        # The transformed gradient sits in a loop, where a convolution is fast only in the backend's own layout.
        ascend = fast_layout(jax.value_and_grad(self._objective))

        def step(carry: Any, index: Array) -> tuple[Any, Array]:
            theta, state = carry
            objective, gradient = ascend(theta, jax.random.fold_in(draws, index), *args)
            updates, state = optimizer.update(gradient, state, theta)
            return (jax.tree.map(jnp.add, theta, updates), state), -objective

        (theta, _), values = lax.scan(step, (theta, optimizer.init(theta)), jnp.arange(self.steps))
        image = self.image.render(theta)
        return Visualization(image, check.scalar(self.score(image, *args), "activation_maximization"), values)

    def _objective(self, theta: Pytree, key: Array, *args: Any) -> Array:
        """What the optimiser minimises: penalties minus the score of the transformed image."""
        image = self.image.render(theta)
        seen = image
        for number, transform in enumerate(self.transforms):
            seen = transform(jax.random.fold_in(key, number), seen)
        value = check.scalar(self.score(seen, *args), "activation_maximization")
        return sum((penalty(image) for penalty in self.regularisers), jnp.zeros(())) - value


@functools.lru_cache(maxsize=1)
def _adam() -> Any:
    import optax

    # One object, so that two explanations with the default optimiser share their compiled program.
    return optax.adam(0.05)


def activation_maximization(
    f: Callable[..., Any],
    *,
    image: Any,
    transforms: tuple[Callable[..., Any], ...] = (),
    regularisers: tuple[Callable[..., Any], ...] = (),
    optimizer: Any = None,
    steps: int = 256,
) -> ActivationMaximization:
    """Find an input that maximises a score: argmax over theta of E[f(t(render(theta)))] - sum of penalties.

    The whole optimisation is one compiled loop. `jax.vmap(e, (None, 0))(key, jnp.arange(10))` maximises ten classes at
    once; the same key gives the same bits.

    Args:
        f: A score, `f(x, *args) -> scalar`: a class (`logit`, `log_probability`), a unit of a split layer, or any
            function of the input.
        image: The parameterisation, with `init(key) -> theta` and `render(theta) -> x`, such as `pixels((28, 28, 1))`.
        transforms: Random transforms `(key, x) -> x` applied in order before the score, such as `jitter(2)`.
        regularisers: Penalties `x -> scalar` on the untransformed image, such as `l2(0.1)` and `total_variation(0.1)`.
        optimizer: An optax `GradientTransformation`; None takes Adam with a step of 0.05.
        steps: Number of steps.

    Returns:
        `e(key, *args) -> Visualization(image, value, values)`. Cost: `steps` forward and backward passes and one
        forward pass.

    Raises:
        ValueError: `steps` below 1, or a score that is no scalar.
        TypeError: `image` or `optimizer` of the wrong kind, a transform or regulariser that is not callable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> e = activation_maximization(lambda x: (x * jnp.array([1.0, -1.0])).sum(), image=pixels((2,)))
        >>> e(jax.random.key(0)).image.round().tolist()
        [1.0, 0.0]

    Source: Erhan et al. 2009, "Visualizing higher-layer features of a deep network", section 3; the penalties follow
    Simonyan, Vedaldi and Zisserman 2014, equation 1.
    """
    name = "activation_maximization"
    if not (hasattr(image, "init") and hasattr(image, "render")):
        raise TypeError(f"{name}: `image` has to offer init(key) and render(theta), such as pixels((28, 28, 1)).")
    for kind, functions in (("transforms", transforms), ("regularisers", regularisers)):
        if not isinstance(functions, tuple | list) or not all(callable(function) for function in functions):
            raise TypeError(f"{name}: `{kind}` has to be a tuple of functions, not {functions!r}.")
    optimizer = _adam() if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"{name}: `optimizer` has to be an optax GradientTransformation, not {optimizer!r}.")
    return ActivationMaximization(
        as_function(f),
        image,
        tuple(as_function(transform) for transform in transforms),
        tuple(as_function(penalty) for penalty in regularisers),
        Static(optimizer),
        check.count(steps, name, "steps"),
    )
