"""Faithfulness by monotonicity: does the score rise as features are put in, and do important ones move it more?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.removal import Faithful, Task, portions, ranked, settings
from jaxplain.evaluate.similarity import spearman
from jaxplain.program import chunked_map, needs_key, public, setting
from jaxplain.types import Array


class Monotonicity(Faithful):
    """Whether the score never falls while features are put in. Made by `monotonicity`."""

    tolerance: Any = 0.0
    steps: int | None = setting(default=None)

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        counts, _ = portions(task.parts, self.steps, self.name)
        ranks = task.values(ranked(task.relevance))

        def point(count: Array) -> Array:
            absent = [None if r is None else r < task.parts.total - count for r in ranks]
            return task.score(task.replaced(absent))

        change = jnp.diff(chunked_map(point, counts, self.batch_size))
        rises = jnp.all(change >= -jnp.asarray(self.tolerance)).astype(change.dtype)
        return task.known(jnp.where(jnp.isnan(change).any(), jnp.nan, rises))


@public
def monotonicity(
    f: Callable[..., Any],
    *,
    tolerance: float = 0.0,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Monotonicity:
    """Whether the score never falls as features are put into the baseline, the least relevant first: 1 or 0.

    1 if f(x_k) >= f(x_(k-1)) - tolerance for all k, where x_k is the baseline with the k portions of lowest (signed)
    attribution put in. On an additive score the order changes nothing: it is 1 exactly if no feature lowers the score.

    Args:
        f: As in `deletion`; the source takes a class probability.
        tolerance: How far the score may fall and still count as not falling, in units of the score; rounding alone can
            make it fall by 1e-7 of its size.
        baseline: As in `deletion`.
        steps: As in `deletion`.
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> 1.0 or 0.0`; NaN where the attribution or a score is NaN. Higher is better.
        Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; a negative tolerance.

    Example:
        >>> f, x = lambda x: jnp.maximum(x.sum(), 0.0), jnp.array([2.0, -1.0])
        >>> float(monotonicity(f)(x, x)), float(monotonicity(f)(x, -x))
        (1.0, 0.0)

    Source: Arya et al. 2019, "One explanation does not fit all: a toolkit and taxonomy of AI explainability
    techniques", section on metrics; after Luss et al. 2019.
    """
    name = "monotonicity"
    return Monotonicity(
        **settings(name, f, baseline, groups, batch_size),
        tolerance=check.one_number(tolerance, name, "tolerance", zero=True),
        steps=None if steps is None else check.count(steps, name, "steps"),
    )


class Effects(Faithful):
    """Base of the metrics that look at the score's mean squared change when one feature is redrawn."""

    samples: int = setting(default=10)

    def effects(self, task: Task) -> Array:
        """`[slots]`, e_i = mean_s (f(x) - f(x with feature i drawn anew))^2; 0 at slots beyond the features."""
        samples = self.samples if needs_key(self.baseline) else 1
        whole, slots = task.score(task.x), np.arange(task.parts.slots, dtype=np.int32)
        index, sample = jnp.asarray(np.repeat(slots, samples)), jnp.asarray(np.tile(np.arange(samples), slots.size))

        def change(item: tuple[Array, Array]) -> Array:
            chosen = task.values(jnp.arange(task.parts.slots) == item[0])
            return jnp.square(whole - task.score(task.replaced(chosen, task.drawn(item[1]))))

        changes = chunked_map(change, (index, sample), self.batch_size)
        return changes.reshape(slots.size, samples).mean(axis=1)


class MonotonicityCorrelation(Effects):
    """Rank correlation of importance and effect. Made by `monotonicity_correlation`."""

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        importance = jnp.where(task.valid, jnp.abs(task.relevance), 0.0)
        return task.known(spearman(importance, self.effects(task), where=task.valid))


@public
def monotonicity_correlation(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    samples: int = 10,
    batch_size: int | None = None,
    groups: Any = None,
) -> MonotonicityCorrelation:
    """Rank correlation between features' importance and the effect of not knowing them; higher is better.

    r = Spearman_i(|a_i|, e_i), e_i = mean_s (f(x) - f(x with feature i from the s-th baseline))^2, equal values sharing
    their rank. The absolute value is the source's; a factor common to all e_i (libraries divide by f(x)^2) would change
    nothing.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`; where it is random, as in the source, `samples` draws are made for each feature and
            calls take a key first.
        samples: How many draws; not used by a baseline that is not random.
        batch_size: How many points are scored at once. None takes what fills the device in `evaluate_batch`, and 1
            elsewhere.
        groups: As in `deletion`, traced ones too.

    Returns:
        `m(x, attribution, *args) -> r`, one number in [-1, 1]; NaN where all features have the same importance, or all
        the same effect, or the attribution holds NaN. Cost: `samples` forward passes for each feature, and one.

    Raises:
        ValueError, TypeError: As in `deletion`; `samples` below 1.

    Example:
        >>> x = jnp.array([1.0, -3.0, 2.0])
        >>> float(monotonicity_correlation(lambda x: x.sum())(x, x))
        1.0

    Source: Nguyen and Rodríguez Martínez 2020, "On quantitative aspects of model interpretability" (monotonicity).
    """
    name = "monotonicity_correlation"
    return MonotonicityCorrelation(
        **settings(name, f, baseline, groups, batch_size), samples=check.count(samples, name, "samples")
    )
