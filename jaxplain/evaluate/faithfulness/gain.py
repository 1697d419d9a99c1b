"""Faithfulness by both orders of removal at once: the symmetric relevance gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.removal import Faithful, Task, portions, ranked, settings
from jaxplain.program import chunked_map, public, setting
from jaxplain.types import Array


class Gain(Faithful):
    """The area between the curves of both orders of removal. Made by `symmetric_relevance_gain`."""

    steps: int | None = setting(default=None)

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        counts, fraction = portions(task.parts, self.steps, self.name)
        most = ranked(task.relevance)
        # The other way round with a rank of its own, so that ties go to the lower number in both orders.
        least = ranked(jnp.where(task.valid, -task.relevance, -jnp.inf))

        def point(item: tuple[Array, Array]) -> Array:
            count, first = item
            return task.without(jnp.where(first, most, least) < count)

        # Both curves start at the whole input and end at the baseline, so that only what lies between is scored.
        inner = counts[1:-1]
        count = jnp.concatenate([inner, inner])
        first = jnp.arange(count.size) < inner.size
        scores = chunked_map(point, (count, first), self.batch_size) if inner.size else jnp.zeros(0)
        between = scores[inner.size :] - scores[: inner.size]
        # Trapezia over points that need not be equally far apart.
        return task.known(jnp.sum(between * (fraction[2:] - fraction[:-2]) / 2))


@public
def symmetric_relevance_gain(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
    window: int | tuple[int, ...] | None = None,
) -> Gain:
    """How much higher the score stays if the least relevant features are removed first; higher is better.

    SRG = area(least relevant first) - area(most relevant first), the areas under the curves of `deletion` in the two
    orders: what any removal at all does to the model is in both and falls out. The source finds that ranks of methods
    by it hardly depend on what stands for the removed, where ranks by one order do. For an additive score whose
    contributions are sorted by the attribution (descending), SRG = 1/n sum_(k < n) (S_k - R_k) with the sums S_k of the
    first k of them and R_k of the last k.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`; one draw serves both orders.
        steps: As in `deletion`, at least 2.
        batch_size: As in `deletion`.
        groups: As in `deletion`.
        window: As in `region_perturbation`.

    Returns:
        `m(x, attribution, *args) -> gain`, one number in units of the score: 0 where the order makes no difference,
        negative where it is the wrong way round. NaN where the attribution holds NaN. Cost: 2 (`steps` - 1) forward
        passes; the ends of the curves are the same and not scored.

    Raises:
        ValueError, TypeError: As in `deletion`; `window` and `groups` together.

    Example:
        >>> m = symmetric_relevance_gain(lambda x: x.sum())
        >>> x = jnp.array([1.0, 3.0])
        >>> float(m(x, x)), float(m(x, -x))
        (1.0, -1.0)

    Source: Blücher, Vielhaben and Strodthoff 2024, "Decoupling pixel flipping and occlusion strategy for consistent XAI
    benchmarks": least influential first minus most influential first (LIF - MIF), here as areas by the trapezium rule.
    """
    name = "symmetric_relevance_gain"
    steps = None if steps is None else check.count(steps, name, "steps", 2)  # with one, both orders remove all at once
    return Gain(**settings(name, f, baseline, groups, batch_size, window), steps=steps)
