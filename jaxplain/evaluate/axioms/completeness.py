"""Axioms: properties that an attribution is meant to have whatever the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import as_baseline, attribution_leaves, replacement
from jaxplain.evaluate.metric import Metric
from jaxplain.program import as_function, needs_key, public, setting, total, wide_dtype
from jaxplain.types import Array, Pytree


class Completeness(Metric):
    """The completeness gap of an attribution. Made by `completeness`."""

    score: Any
    baseline: Any
    floor: Any
    relative: bool = setting(default=False)
    name: str = setting(default="completeness")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        key, (x, attribution, *args) = (inputs[0], inputs[1:]) if self.needs_key else (None, inputs)
        check.arrays(x, "completeness")
        check.finite(x, "completeness")
        start, moves = replacement(self.baseline, x, key, name="completeness")
        check.replaceable(x, "completeness", moves)
        values = [value for value, _ in attribution_leaves(attribution, x, None, "completeness", moves)]
        change = self._score(x, *args) - self._score(start, *args)
        gap = jnp.abs(total(values) - change)
        return gap / (jnp.abs(change) + self.floor) if self.relative else gap

    def _score(self, x: Pytree, *args: Any) -> Array:
        value = jnp.asarray(check.scalar(self.score(x, *args), "completeness"))
        return value.astype(wide_dtype(value.dtype))


@public
def completeness(
    f: Callable[..., Any], *, baseline: Any = 0.0, relative: bool = False, floor: float = 1e-3
) -> Completeness:
    """How far an attribution is from summing to the change of the score: |sum_i a_i - (f(x) - f(b))|; lower is better.

    Only methods that claim completeness for this baseline can have a small gap; the gradient, for example, does not.
    A gap of 0 says nothing about how the sum is shared out.

    Args:
        f: The score, `f(x, *args) -> scalar`.
        baseline: b: a number, an array or pytree of x's structure, or a function of `x` or of `(key, x)` (then calls
            take a key first; a method with the same baseline and key has drawn the same b). It moves the integer and
            boolean leaves that it moves in the methods (see `jaxplain.shapley_values`), and those take part in the sum.
        relative: Whether to divide by |f(x) - f(b)| + floor.
        floor: Absolute part of that divisor, in units of the score; 0 gives NaN or infinity where f(x) = f(b).

    Returns:
        `m(x, attribution, *args) -> gap`, one number, at least 0, in units of the score (without unit if `relative`),
        summed in float32 or wider. Cost: two forward passes.

    Raises:
        ValueError: An attribution or a baseline that does not fit, NaN or infinities in a concrete `x`, a
            negative floor.
        TypeError: No leaf moves, a complex attribution, `f` is no function.

    Example:
        >>> m = completeness(lambda x: x.sum())
        >>> x = jnp.array([1.0, 3.0])
        >>> float(m(x, x)), float(m(x, 2 * x))
        (0.0, 4.0)

    Source: Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks", Proposition 1.
    """
    if not callable(f):
        raise TypeError(
            f"completeness: the score `f` has to be a function f(x, *args) -> scalar, not {type(f).__name__}."
        )
    check.positive(floor, "completeness", "floor", zero=True)
    return Completeness(as_function(f), as_baseline(baseline), floor, bool(relative))
