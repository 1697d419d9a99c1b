"""Penalties `x -> scalar` on an optimised input, and the normalisation of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import blur as blurred
from jaxplain.program import Function, public, setting
from jaxplain.types import Array, Number, Pytree

__all__ = ["blur", "l1", "l2", "lp", "normalize_gradient", "opacity", "total_variation", "value_range"]


class Penalty(Function):
    """A weighted penalty `x -> scalar`. Made by `l1`, `l2`, `lp`, `total_variation` and the others."""

    weight: Any
    settings: tuple[Any, ...] = ()
    kind: str = setting(default="l2")

    def __call__(self, x: Array) -> Array:
        """The weighted penalty."""
        if self.kind == "value_range":
            for value, argument in zip(self.settings, ("low", "high"), strict=True):
                check.broadcasts(value, jnp.shape(x), self.kind, argument)
        return self.weight * _MEASURES[self.kind](x, *self.settings)

    @property
    def name(self) -> str:
        """What an error calls the term."""
        return self.kind


def _penalty(kind: str, weight: Any, *settings: Any) -> Penalty:
    return Penalty(check.positive(weight, kind, "weight", zero=True), settings, kind)


@public
def l1(weight: float) -> Penalty:
    """The penalty weight * mean |x|.

    Args:
        weight: Units of the score per unit of the input, zero or more.

    Returns:
        `x -> scalar`. Cost: one pass over the input.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> float(l1(0.5)(jnp.array([2.0, 0.0])))
        0.5
    """
    return _penalty("l1", weight)


@public
def l2(weight: float) -> Penalty:
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
    return _penalty("l2", weight)


@public
def lp(weight: float, power: float = 6.0) -> Penalty:
    """The penalty weight * mean |x|^p; a high p lets small values pass and forbids large ones.

    Args:
        weight: Units of the score per unit of the input to the power p, zero or more.
        power: p, at least 1.

    Returns:
        `x -> scalar`. Cost: one pass over the input.

    Raises:
        ValueError: A negative weight, a power below 1.

    Example:
        >>> float(lp(1.0, 3.0)(jnp.array([2.0, 0.0])))
        4.0

    Source: Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", section 3.2.
    """
    check.positive(jnp.asarray(power) - 1, "lp", "power - 1", zero=True)
    return _penalty("lp", weight, power)


@public
def total_variation(weight: float) -> Penalty:
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
    return _penalty("total_variation", weight)


@public
def value_range(weight: float, low: Number = 0.0, high: Number = 1.0) -> Penalty:
    """The penalty weight * mean square of how far values lie outside of [low, high].

    Args:
        weight: Units of the score per squared unit of the input, zero or more.
        low: Smallest value that costs nothing.
        high: Largest.

    Returns:
        `x -> scalar`. Cost: one pass over the input.

    Raises:
        ValueError: A negative weight, `low` above `high`.

    Example:
        >>> float(value_range(1.0)(jnp.array([3.0, 0.5])))
        2.0
    """
    check.positive(jnp.asarray(high) - jnp.asarray(low), "value_range", "high - low", zero=True)
    return _penalty("value_range", weight, low, high)


@public
def blur(weight: float, sigma: float = 1.0) -> Penalty:
    """The penalty weight * mean (x - blurred x)^2: what is finer than a Gaussian costs.

    Args:
        weight: Units of the score per squared unit of the input, zero or more.
        sigma: Standard deviation of the Gaussian, in pixels.

    Returns:
        `x -> scalar`, over all axes but the last. Cost: one blur.

    Raises:
        ValueError: A negative weight, a sigma that is not positive.

    Example:
        >>> float(blur(1.0)(jnp.ones((4, 4, 1)))) < 1e-12
        True

    Source: Yosinski et al. 2015, "Understanding neural networks through deep visualization", section 3 (Gaussian blur),
    as a penalty.
    """
    return _penalty("blur", weight, check.positive(sigma, "blur", "sigma"))


@public
def opacity(weight: float) -> Penalty:
    """The penalty weight * mean of the last channel, for images with a channel of opacity (`image.alpha`).

    Args:
        weight: Units of the score, zero or more.

    Returns:
        `x -> scalar`. Cost: one pass over the last channel.

    Raises:
        ValueError: A negative weight.

    Example:
        >>> float(opacity(2.0)(jnp.array([[9.0, 0.5]])))
        1.0
    """
    return _penalty("opacity", weight)


def _variation(x: Array) -> Array:
    axes = [axis for axis in range(max(1, x.ndim - 1)) if x.shape[axis] > 1]
    return sum((jnp.mean(jnp.abs(jnp.diff(x, axis=axis))) for axis in axes), jnp.zeros((), x.dtype))


def _outside(x: Array, low: Any, high: Any) -> Array:
    return jnp.mean(jnp.square(jnp.maximum(low - x, 0)) + jnp.square(jnp.maximum(x - high, 0)))


def _fine(x: Array, sigma: Any) -> Array:
    axes = tuple(range(max(1, x.ndim - 1)))
    return jnp.mean(jnp.square(x - blurred(sigma, axes=axes)(x)))


_MEASURES: dict[str, Callable[..., Array]] = {
    "l1": lambda x: jnp.mean(jnp.abs(x)),
    "l2": lambda x: jnp.mean(jnp.square(x)),
    "lp": lambda x, power: jnp.mean(jnp.abs(x) ** power),
    "total_variation": _variation,
    "value_range": _outside,
    "blur": _fine,
    "opacity": lambda x: jnp.mean(x[..., -1]),
}


def _no_state(params: Pytree) -> tuple[()]:
    return ()


def _normalized(gradient: Pytree, state: Any, params: Pytree = None) -> tuple[Pytree, Any]:
    leaves = jax.tree.leaves(gradient)
    square = sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves)
    size = jnp.sqrt(square / sum(leaf.size for leaf in leaves))
    return jax.tree.map(lambda leaf: leaf / (size + 1e-8).astype(leaf.dtype), gradient), state


@public
def normalize_gradient() -> Any:
    """Divide the gradient by its root mean square, so that a step has the same length at any score.

    g / (sqrt(mean g^2) + 1e-8), over all parameters of the image.

    Returns:
        An optax `GradientTransformation`: `optax.chain(normalize_gradient(), optax.sgd(0.1))` is the `optimizer`.
        Cost: one pass over the parameters.

    Example:
        >>> transform = normalize_gradient()
        >>> transform.update(jnp.array([3.0, 3.0]), transform.init(None))[0].tolist()
        [1.0, 1.0]

    Source: Mordvintsev 2016, "DeepDreaming with TensorFlow", section "Naive feature visualization".
    """
    import optax

    return optax.GradientTransformation(_no_state, _normalized)
