"""Counterfactuals: the nearest input for which the answer would have been another."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.perturbation.box import check_box
from jaxplain.program import (
    Function,
    Static,
    as_function,
    common_dtype,
    is_node,
    map_floating,
    public,
    setting,
    shown,
    wide_dtype,
)
from jaxplain.types import Array, Arrays, Number, Pytree

FARTHEST = 32.0
"""How far off, in units of `scale`, one is expected at most: where a score saturates its gradient is flat."""


@shown
class Counterfactual(NamedTuple):
    """What a search for a counterfactual found.

    x: the changed input, of x's structure and dtypes; score: its score; distance: from the input, in the units of
    `scale`; reached: whether the score is at least the threshold (if not, `x` is the last point tried).
    """

    x: Pytree
    score: Array
    distance: Array
    reached: Array


class CounterfactualSearch(Function):
    """A search for the nearest input of a score above a threshold. Made by `counterfactual`."""

    score: Any
    threshold: Any
    scale: Any
    mask: Any
    low: Any
    high: Any
    optimizer: Static
    norm: str = setting(default="l1")
    steps: int = setting(default=500)
    name: str = setting(default="counterfactual")

    def __call__(self, x: Pytree, *args: Any) -> Counterfactual:
        """Search for one example."""
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        scale, mask = (self._settings(value, x, word) for value, word in ((self.scale, "scale"), (self.mask, "mask")))
        check.finite_scores(self._scored(x, args), self.name)
        scale, unit, whole = self._near(x, scale, mask, args)
        offset = map_floating(lambda leaf: jnp.zeros(jnp.shape(leaf), wide_dtype(jnp.result_type(leaf))), x)
        offset = [leaf for leaf, real in zip(jax.tree.leaves(offset), _floating(x), strict=True) if real]

        def objective(offset: list[Array], weight: Array, x: Pytree, *args: Any) -> tuple[Array, Array]:
            value = self._scored(self._point(x, offset, scale, mask), args)
            short = jnp.maximum(self.threshold - value, 0.0) / whole
            return self._length(offset, mask) + weight * short, value

        slope = jax.value_and_grad(objective, has_aux=True)
        optimizer = self.optimizer.value

        def step(carry: Any, _: None) -> tuple[Any, None]:
            offset, state, weight, best = carry
            (_, value), gradient = slope(offset, weight, x, *args)
            best = self._better(best, offset, value, mask)
            # The weight of what is missing grows until the threshold is passed, and falls behind it: the search goes to
            # and fro over the border, where the distance decides.
            weight = jnp.clip(jnp.where(value >= self.threshold, weight * 0.9, weight * 1.1), 1e-6, 1e12)
            updates, state = optimizer.update(gradient, state, offset)
            return (jax.tree.map(jnp.add, offset, updates), state, weight, best), None

        best = (offset, jnp.asarray(jnp.inf, common_dtype(x)))
        start = (offset, optimizer.init(offset), jnp.ones(()), best)
        (last, _, _, (offset, distance)), _ = lax.scan(step, start, None, length=self.steps)
        reached = jnp.isfinite(distance)
        nearer = self._shortened(x, offset, scale, mask, args)
        offset = jax.tree.map(lambda a, b: jnp.where(reached, a, b), nearer, last)
        found = self._point(x, offset, scale, mask)
        return Counterfactual(found, self._scored(found, args), unit * self._length(offset, mask), reached)

    def _near(
        self, x: Pytree, scale: list[Array], mask: list[Array], args: tuple[Any, ...]
    ) -> tuple[list[Array], Array, Array]:
        """The scale times the distance that the gradient at x lets expect, that distance, and what the score lacks.

        In these units the way and what the score lacks are about one, so that a step of the optimiser is a small part
        of the way, and neither of the two drowns the other.
        """
        zeros = [jnp.zeros_like(unit) for unit in scale]
        value, slope = jax.value_and_grad(lambda offset: self._scored(self._point(x, offset, scale, mask), args))(zeros)
        steep = jnp.stack([jnp.abs(part).max() for part in slope]).max()
        if self.norm == "l2":
            steep = jnp.sqrt(sum((jnp.square(part).sum() for part in slope), jnp.zeros(())))
        short = self.threshold - value
        whole = lax.stop_gradient(jnp.where(short > 0, short, 1.0))
        distance = whole / jnp.where(steep > 0, steep, whole)
        unit = lax.stop_gradient(jnp.clip(distance, 1 / FARTHEST, FARTHEST))
        return [part * unit for part in scale], unit, whole

    def _scored(self, x: Pytree, args: tuple[Any, ...]) -> Array:
        value = jnp.asarray(check.scalar(self.score(x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))

    def _settings(self, value: Any, x: Pytree, argument: str) -> list[Array]:
        """One array for each floating-point leaf, from a number or a pytree of x's structure."""
        leaves = jax.tree.leaves(x)
        values = [value] * len(leaves)
        if is_node(value):
            if str(jax.tree.structure(value)) != str(jax.tree.structure(x)):
                raise ValueError(f"{self.name}: `{argument}` has to be a number or a pytree of x's structure.")
            values = jax.tree.leaves(value)
        fitted = []
        for part, leaf in zip(values, leaves, strict=True):
            if not check.is_floating(leaf):
                continue
            try:
                wide = jnp.asarray(part, wide_dtype(jnp.result_type(leaf)))
                fitted.append(jnp.broadcast_to(wide, jnp.shape(leaf)))
            except ValueError:
                raise ValueError(
                    f"{self.name}: `{argument}` has shape {jnp.shape(part)}, which does not broadcast to `x` of shape "
                    f"{jnp.shape(leaf)}."
                ) from None
        return fitted

    def _point(self, x: Pytree, offset: list[Array], scale: list[Array], mask: list[Array]) -> Pytree:
        """The input moved by `offset` (in units of `scale`) where the mask allows, inside the bounds."""
        supply = iter(zip(offset, scale, mask, strict=True))

        def moved(leaf: Any) -> Array:
            change, unit, allowed = next(supply)
            value = jnp.asarray(leaf).astype(change.dtype) + change * unit * allowed
            if self.low is not None or self.high is not None:
                check.broadcasts(self.low, value.shape, self.name, "low")
                check.broadcasts(self.high, value.shape, self.name, "high")
                value = jnp.clip(value, self.low, self.high)
            return value.astype(jnp.result_type(leaf))

        return map_floating(moved, x)

    def _length(self, offset: list[Array], mask: list[Array]) -> Array:
        parts = [change * allowed for change, allowed in zip(offset, mask, strict=True)]
        if self.norm == "l1":
            return sum((jnp.abs(part).sum() for part in parts), jnp.zeros(()))
        square = sum((jnp.square(part).sum() for part in parts), jnp.zeros(()))
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # no NaN in the gradient at zero

    def _better(self, best: Any, offset: list[Array], value: Array, mask: list[Array]) -> Any:
        distance = self._length(offset, mask).astype(best[1].dtype)
        better = (value >= self.threshold) & (distance < best[1])
        kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), offset, best[0])
        return kept, jnp.where(better, distance, best[1])

    def _shortened(
        self, x: Pytree, offset: list[Array], scale: list[Array], mask: list[Array], args: tuple[Any, ...]
    ) -> list[Array]:
        """Bisect the way from the input to what was found, for the nearest point on it that passes the threshold."""

        def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            short, far = ends
            middle = (short + far) / 2
            point = self._point(x, [change * middle for change in offset], scale, mask)
            passes = self._scored(point, args) >= self.threshold
            return (jnp.where(passes, short, middle), jnp.where(passes, middle, far)), None

        (_, far), _ = lax.scan(halve, (jnp.zeros(()), jnp.ones(())), None, length=12)
        return [change * far for change in offset]


def _floating(x: Pytree) -> list[bool]:
    return [check.is_floating(leaf) for leaf in jax.tree.leaves(x)]


@functools.lru_cache(maxsize=16)
def _adam(steps: int) -> Any:
    import optax

    # One object for a number of steps, so that two searches with the default optimiser share their compiled program.
    return optax.adam(optax.cosine_decay_schedule(0.05, steps))


@public
def counterfactual(
    f: Callable[..., Any],
    *,
    threshold: float = 0.0,
    norm: str = "l1",
    scale: Arrays = 1.0,
    mask: Arrays = 1.0,
    low: Number | None = None,
    high: Number | None = None,
    optimizer: Any = None,
    steps: int = 500,
) -> CounterfactualSearch:
    """The nearest input whose score passes a threshold: argmin over x' of d(x', x) with f(x') >= threshold.

    With `f` the margin of another class and the threshold 0, x' is the least change for which the model would have
    answered that class. d is the L1 distance (few values change) or the Euclidean one, in units of `scale`. The search
    minimises d + weight * max(threshold - f(x'), 0) by gradients; the weight grows below the threshold and falls above
    it, the best point found is kept, and the way to it is bisected at the end. Steps are in units of the distance that
    the gradient at x lets expect (at most 32 of `scale`). It finds a local minimum; of a linear score that is the
    nearest point, |threshold - f(x)| over the dual norm of the weights, to 0.2 % (l2) and 3 % (l1) within that range.

    Args:
        f: A score, `f(x, *args) -> scalar`, such as `jaxplain.margin(apply, params)`, called with the other class.
        threshold: What the score has to reach, in its units.
        norm: 'l1' or 'l2'.
        scale: The unit of each value, a number, an array that broadcasts to x or a pytree of x's structure; the source
            takes the median absolute deviation over the training set.
        mask: Which values may change (1) and which not (0), as `scale`.
        low: The smallest value allowed, a number or an array that broadcasts to x; None for no bound.
        high: The largest value allowed.
        optimizer: An optax `GradientTransformation` on the change in units of `scale`; None takes Adam with a step
            that falls from 0.05 to 0.
        steps: How many steps.

    Returns:
        `e(x, *args) -> Counterfactual(x, score, distance, reached)`. Cost: `steps` forward and backward passes, one
        after the other, and 14 forward passes.

    Raises:
        ValueError: An unknown norm, a scale that is not positive, shapes that do not fit, NaN or infinities in a
            concrete `x` or its score.
        TypeError: `x` has no floating-point leaf, an optimizer of the wrong kind.

    Example:
        >>> e = counterfactual(lambda x: 3 * x[0] + 4 * x[1], threshold=5.0, norm="l2")
        >>> result = e(jnp.zeros(2))
        >>> bool(result.reached), round(float(result.distance), 1)
        (True, 1.0)

    Source: Wachter, Mittelstadt and Russell 2018, "Counterfactual explanations without opening the black box",
    equations 1 to 4.
    """
    name = "counterfactual"
    check.choice(norm, ("l1", "l2"), name, "norm")
    for leaf in jax.tree.leaves(scale):
        check.positive(leaf, name, "scale")
    check.finite(threshold, name, "threshold")
    check_box(low, high, mask, name)
    steps = check.count(steps, name, "steps")
    optimizer = _adam(steps) if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"{name}: `optimizer` has to be an optax GradientTransformation, not {optimizer!r}.")
    score = as_function(check.callable_score(f, name))
    return CounterfactualSearch(score, threshold, scale, mask, low, high, Static(optimizer), norm, steps)
