"""Complexity: over how many features is an attribution spread?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.removal import Faithful, Task, ranked, settings
from jaxplain.program import chunked_map, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class Complexity(Metric):
    """A number of an attribution alone. Made by `sparseness`, `entropy` and `effective_complexity`."""

    takes: ClassVar[tuple[str, ...]] = ("attribution",)
    threshold: Any = 0.0
    name: str = setting(default="sparseness")

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher" if self.name == "sparseness" else "lower"

    def __call__(self, attribution: Pytree) -> Array:
        """Judge one attribution: `m(attribution)`."""
        check.arrays(attribution, self.name)
        check.real_leaves(attribution, self.name, "attribution")
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(attribution)]
        dtype = wide_dtype(jnp.result_type(*leaves, jnp.bfloat16))
        size = jnp.abs(jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in leaves]))
        if self.name == "effective_complexity":
            return jnp.where(jnp.isnan(size).any(), jnp.nan, jnp.sum(size > self.threshold).astype(dtype))
        size = size / jnp.where(size.max() > 0, size.max(), 1.0)
        total = size.sum()
        share = jnp.where(total > 0, size / jnp.where(total > 0, total, 1.0), jnp.nan)
        if self.name == "entropy":
            return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1.0)), 0.0 * share))
        n = share.size
        weight = (2 * jnp.arange(1, n + 1, dtype=dtype) - n - 1) / n
        return jnp.sum(weight * jnp.sort(share))


@public
def sparseness() -> Complexity:
    """The Gini index of an attribution's absolute values; higher is sparser, and better.

    G = sum_i (2 i - n - 1) |a|_(i) / (n sum_i |a|_i), |a|_(1) <= ... <= |a|_(n): 0 where all are equal, (n - 1) / n
    where one holds everything. The absolute value is the source's.

    Returns:
        `m(attribution) -> G`, one number in [0, 1), unchanged by factors; NaN where the attribution is zero everywhere
        or holds NaN. Cost: one sort.

    Raises:
        ValueError, TypeError: No arrays.

    Example:
        >>> float(sparseness()(jnp.array([0.0, 0.0, -2.0, 0.0])))
        0.75

    Source: Chalasani et al. 2020, "Concise explanations of neural networks using adversarial training", section 5.
    """
    return Complexity(name="sparseness")


@public
def entropy() -> Complexity:
    """The entropy of the shares that features have of an attribution; lower is simpler, and better.

    H = -sum_i p_i ln p_i, p_i = |a_i| / sum_j |a_j|: 0 where one feature holds everything, ln n where all are equal.

    Returns:
        `m(attribution) -> H`, one number in [0, ln n], in nats, unchanged by factors; NaN where the attribution is zero
        everywhere or holds NaN. Cost: one pass over the values.

    Raises:
        ValueError, TypeError: No arrays.

    Example:
        >>> round(float(entropy()(jnp.ones(4))), 5)
        1.38629

    Source: Bhatt, Weller and Moura 2020, "Evaluating and aggregating feature-based model explanations" (complexity).
    """
    return Complexity(name="entropy")


class EffectiveComplexity(Faithful):
    """How many features keep the score. Made by `effective_complexity`."""

    tolerance: Any = 0.0
    samples: int = setting(default=10)

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        total = task.known_total("pass concrete groups")
        rank = ranked(jnp.where(task.valid, jnp.abs(task.relevance), -jnp.inf))
        whole, samples = task.score(task.x), self.samples if needs_key(self.baseline) else 1
        counts = jnp.repeat(jnp.arange(total + 1), samples)
        draws = jnp.tile(jnp.arange(samples), total + 1)

        def change(item: tuple[Array, Array]) -> Array:
            return jnp.square(whole - task.score(task.replaced(task.values(rank >= item[0]), task.drawn(item[1]))))

        loss = chunked_map(change, (counts, draws), self.batch_size).reshape(total + 1, samples).mean(axis=1)
        return task.known(jnp.argmax(loss <= self.tolerance).astype(whole.dtype))


@public
def effective_complexity(
    f: Callable[..., Any] | None = None,
    *,
    tolerance: float = 1e-5,
    baseline: Any = 0.0,
    samples: int = 10,
    batch_size: int | None = None,
    groups: Any = None,
) -> Complexity | EffectiveComplexity:
    """How many features it takes to keep the score, the most important first; lower is simpler, and better.

    With a score: the smallest k for which mean_s (f(x) - f(x with all but the k features of largest |a| from the s-th
    baseline))^2 <= tolerance. Without one, as libraries in use have it: how many values have |a_i| > tolerance, which
    depends on the attribution's units.

    Args:
        f: A score, or None.
        tolerance: In squared units of the score; without a score in units of the attribution.
        baseline: As in `deletion`; where it is random, as in the source, `samples` draws are made for each k.
        samples: How many draws; not used by a baseline that is not random.
        batch_size: How many points are scored at once. None takes what fills the device in `evaluate_batch`, and 1
            elsewhere.
        groups: As in `deletion`; not traced.

    Returns:
        With a score `m(x, attribution, *args) -> k`, 0 to n, with a key first where the baseline is random; cost:
        `samples` (n + 1) + 1 forward passes. Without one `m(attribution) -> count`; no model pass. NaN where the
        attribution holds NaN.

    Raises:
        ValueError, TypeError: As in `deletion`; a negative tolerance.

    Example:
        >>> a = jnp.array([0.0, 3.0, -1.0])
        >>> float(effective_complexity()(a)), float(effective_complexity(lambda x: x[1])(jnp.ones(3), a))
        (2.0, 1.0)

    Source: Nguyen and Rodríguez Martínez 2020, "On quantitative aspects of model interpretability" (effective
    complexity).
    """
    name = "effective_complexity"
    tolerance = check.one_number(tolerance, name, "tolerance", zero=True)
    if f is None:
        return Complexity(tolerance, name)
    return EffectiveComplexity(
        **settings(name, f, baseline, groups, batch_size),
        tolerance=tolerance,
        samples=check.count(samples, name, "samples"),
    )
