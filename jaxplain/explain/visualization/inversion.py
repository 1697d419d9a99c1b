"""Inputs made from inputs: feature inversion, accentuation, and a picture for every position of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.visualization.activation import ActivationMaximization, Visualization, activation_maximization
from jaxplain.explain.visualization.image import fourier, pixels, start
from jaxplain.explain.visualization.objective import Direction, Inversion, reading
from jaxplain.program import Function, as_function, public
from jaxplain.types import Array, Pytree


class FeatureInversion(Function):
    """An input whose layer is that of a given one. Made by `feature_inversion`."""

    read: Any
    image: Any
    settings: Any

    @property
    def needs_key(self) -> bool:
        """Always."""
        return True

    def __call__(self, key: Array, x: Array, *args: Any) -> Visualization:
        """Invert the layer of one example."""
        check.finite(x, "feature_inversion")
        objective = Inversion(self.read, "inversion", jax.lax.stop_gradient(self.read(x, *args)))
        image = fourier(x.shape) if self.image is None else self.image
        return self.settings(objective, image)(key, *args)


@public
def feature_inversion(f: Callable[..., Any], path: str, *, image: Any = None, **settings: Any) -> FeatureInversion:
    """Make an input whose value at a layer is that of a given input: what the layer has kept of it.

    Maximises -|h(x') - h(x)|^2 / |h(x)|^2 by `activation_maximization`. What the layer does not see is left to the
    parameterisation and the penalties.

    Args:
        f: As in `objective.channel`.
        path: The layer, as in `split`.
        image: The parameterisation; None takes `fourier` of x's shape in [0, 1].
        **settings: `transforms`, `regularisers`, `optimizer`, `steps`, ... of `activation_maximization`.

    Returns:
        `e(key, x, *args) -> Visualization`; `value` is minus the relative squared distance, 0 at best. `jax.vmap` does
        many inputs at once. Cost: as `activation_maximization`, and one forward pass.

    Raises:
        ValueError: As in `activation_maximization`; NaN in a concrete `x`.

    Example:
        >>> import optax
        >>> def f(x):
        ...     with jax.named_scope("mean"):
        ...         y = x.mean(axis=0)
        ...     return y.sum()
        >>> e = feature_inversion(f, "mean", image=pixels((4, 1)), optimizer=optax.adam(0.1), steps=200)
        >>> round(float(e(jax.random.key(0), jnp.full((4, 1), 0.75)).image.mean()), 2)
        0.75

    Source: Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", equation 2.
    """
    return FeatureInversion(reading(f, path, "feature_inversion"), image, Settings(template(image, settings)))


class Settings(Function):
    """Everything of an activation maximization but the objective and the image."""

    template: Any

    def __call__(self, objective: Any, image: Any, *regularisers: Any) -> ActivationMaximization:
        """The template with another objective, begun at an image."""
        e = self.template
        return ActivationMaximization(
            as_function(objective),
            image,
            e.transforms,
            (*e.regularisers, *regularisers),
            e.optimizer,
            e.steps,
            e.samples,
            e.redirect,
            e.batch_size,
        )


def template(image: Any, settings: dict[str, Any]) -> ActivationMaximization:
    """Check settings once, when a method is made."""
    return activation_maximization(_nothing, image=pixels((1,)) if image is None else image, **settings)


def _nothing(x: Pytree) -> Array:
    return jnp.zeros(())


class Drift(Function):
    """A penalty on the distance from an input, in pixels or in a layer."""

    weight: Any
    x: Any
    read: Any
    target: Any

    @property
    def name(self) -> str:
        """What an error calls the term."""
        return "drift"

    def __call__(self, image: Array) -> Array:
        """The weighted distance."""
        if self.read is None:
            return self.weight * jnp.mean(jnp.square(image - self.x))
        distance = jnp.sum(jnp.square(self.read(image) - self.target))
        return self.weight * distance / (jnp.sum(jnp.square(self.target)) + 1e-12)


class Accentuation(Function):
    """An input pushed towards a score. Made by `accentuate`."""

    score: Any
    drift: Any
    image: Any
    read: Any
    settings: Any
    low: Any
    high: Any

    @property
    def needs_key(self) -> bool:
        """Always."""
        return True

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        look = getattr(self.score, "check_call", None)
        if look is not None:
            look(x, *args)

    def __call__(self, key: Array, x: Array, *args: Any) -> Visualization:
        """Push one example."""
        check.finite(x, "accentuate")
        x = jnp.asarray(x)
        image = pixels(x.shape, low=self.low, high=self.high) if self.image is None else self.image
        target = None if self.read is None else self.read(x)
        penalty = Drift(self.drift, x, self.read, target)
        return self.settings(self.score, start(image, x), penalty)(key, *args)


@public
def accentuate(
    f: Callable[..., Any],
    *,
    drift: float = 10.0,
    path: str | None = None,
    model: Callable[..., Any] | None = None,
    image: Any = None,
    low: Any = 0.0,
    high: Any = 1.0,
    **settings: Any,
) -> Accentuation:
    """Start from a real input and push it towards a score, with a penalty on the distance it goes.

    Maximises f(x') - drift * d(x', x), where d is the mean squared difference of the values or, with `path`, the
    relative squared distance at a layer. The start is the input itself (values at the bounds moved inside by a fiftieth
    of the range).

    Args:
        f: A score or objective, `f(x, *args) -> scalar`.
        drift: Weight of the distance, zero or more, in units of the score.
        path: A layer of `model` in which the distance is taken; None takes the input's own values.
        model: The function whose layer `path` is; None takes `f`.
        image: The parameterisation, `pixels`, `fourier` or `vector`; None takes `pixels` in [low, high].
        low: Smallest value of the input.
        high: Largest.
        **settings: `transforms`, `regularisers`, `optimizer`, `steps`, ... of `activation_maximization`.

    Returns:
        `e(key, x, *args) -> Visualization`; `value` is the score of the result. Cost: as `activation_maximization`.

    Raises:
        ValueError: As in `activation_maximization`; a negative weight, NaN in a concrete `x`.
        TypeError: A parameterisation that cannot begin at an input.

    Example:
        >>> e = accentuate(lambda x: x.sum(), drift=100.0, steps=300)
        >>> result = e(jax.random.key(0), jnp.full((2, 1), 0.5))
        >>> round(float(result.image.mean()), 2)
        0.51

    Source: Hamblin et al. 2024, "Feature accentuation: revealing 'what' features respond to in natural images",
    equation 4 (a regulariser that penalises the distance from the seed image).
    """
    read = None if path is None else reading(f if model is None else model, path, "accentuate")
    drift = check.positive(drift, "accentuate", "drift", zero=True)
    return Accentuation(as_function(f), drift, image, read, Settings(template(image, settings)), low, high)


class ActivationGrid(Function):
    """A picture for every position of a layer. Made by `activation_grid`."""

    read: Any
    image: Any
    settings: Any
    power: Any

    @property
    def needs_key(self) -> bool:
        """Always."""
        return True

    def __call__(self, key: Array, x: Array, *args: Any) -> Visualization:
        """The pictures, `[*positions, ...]`."""
        h = self.read(x, *args)
        flat = h.reshape(-1, h.shape[-1])
        image = fourier(x.shape) if self.image is None else self.image
        found = visualize_directions(self.settings, self.read, image, flat, key, self.power, *args)
        return jax.tree.map(lambda leaf: leaf.reshape(*h.shape[:-1], *leaf.shape[1:]), found)


def visualize_directions(
    settings: Any, read: Any, image: Any, vectors: Array, key: Array, power: Any, *args: Any
) -> Visualization:
    """Visualize directions `[n, C]` of a layer in one compiled call; the i-th draws from `fold_in(key, i)`."""

    def one(index: Array, vector: Array) -> Visualization:
        unit = vector / jnp.sqrt(jnp.sum(jnp.square(vector)) + 1e-12)
        objective = Direction(read, "direction", unit, power)
        return settings(objective, image)(jax.random.fold_in(key, index), *args)

    return jax.vmap(one)(jnp.arange(len(vectors)), vectors)


@public
def activation_grid(
    f: Callable[..., Any], path: str, *, image: Any = None, power: float = 4.0, **settings: Any
) -> ActivationGrid:
    """A picture of what a layer says at every position of a given input.

    At each position the layer holds one vector over its channels; the picture is an input whose layer points in that
    direction, <h, v> cos^power on average over its positions.

    Args:
        f: As in `objective.channel`.
        path: The layer, as in `split`.
        image: The parameterisation of the pictures; None takes `fourier` of x's shape in [0, 1].
        power: Exponent of the cosine.
        **settings: `transforms`, `regularisers`, `optimizer`, `steps`, ... of `activation_maximization`.

    Returns:
        `e(key, x, *args) -> Visualization` with the layer's positions as leading axes. Cost: one
        `activation_maximization` for each position, all in one compiled loop.

    Raises:
        ValueError: As in `activation_maximization`.

    Example:
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> e = activation_grid(f, "double", image=pixels((2, 3)), steps=2)
        >>> e(jax.random.key(0), jnp.ones((2, 3))).image.shape
        (2, 2, 3)

    Source: Olah et al. 2018, "The building blocks of interpretability", "What does the network see?".
    """
    check.positive(power, "activation_grid", "power", zero=True)
    return ActivationGrid(reading(f, path, "activation_grid"), image, Settings(template(image, settings)), power)
