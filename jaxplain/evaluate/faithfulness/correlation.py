"""Faithfulness by correlation: does the score change in proportion to what the removed features were worth?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.removal import Faithful, Task, part_of_one, random_subset, settings, share_of
from jaxplain.evaluate.similarity import pearson, spearman
from jaxplain.program import chunked_map, public, setting, shown
from jaxplain.types import Array


@shown
class SensitivityCurve(NamedTuple):
    """Correlation by how many features are removed.

    size: `[sizes]`, integers. correlation: `[sizes]`, NaN where undefined.
    """

    size: Array
    correlation: Array


class SubsetCorrelation(Faithful):
    """Correlation over random subsets of features. Made by the functions below."""

    samples: int = setting(default=100)
    sizes: tuple[int, ...] | None = setting(default=None)
    fraction: float | None = setting(default=None)
    rank: bool = setting(default=False)
    with_curve: bool = setting(default=False)

    @property
    def draws(self) -> bool:
        """Always: the subsets are drawn."""
        return True

    @property
    def better(self) -> str | None:
        """Which values are better."""
        return None if self.with_curve else "higher"

    def __call__(self, *inputs: Any) -> Any:
        """Judge one attribution: `m(key, x, attribution, *args)`."""
        task = Task(self, inputs)
        sizes = self._sizes(task)
        whole = task.score(task.x)
        # Subsets of one size: a shift of all attributions shifts all sums, so that sums of equal ones are equal zeros.
        low = jnp.min(jnp.where(task.valid, task.relevance, jnp.inf))
        high = jnp.max(jnp.where(task.valid, task.relevance, -jnp.inf))
        worth = jnp.where(task.valid, task.relevance - (low / 2 + high / 2), 0.0)

        def point(item: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            row, sample, size = item
            key = jax.random.fold_in(jax.random.fold_in(task.key, row), sample)
            chosen = random_subset(key, task, size)
            return jnp.sum(jnp.where(chosen, worth, 0.0)), whole - task.without(chosen)

        rows, samples = np.divmod(np.arange(len(sizes) * self.samples, dtype=np.int32), self.samples)
        items = jnp.asarray(rows), jnp.asarray(samples), jnp.asarray(np.asarray(sizes, np.int32)[rows])
        sums, drops = (part.reshape(len(sizes), self.samples) for part in chunked_map(point, items, self.batch_size))
        found = task.known(jax.vmap(spearman if self.rank else pearson)(sums, drops))
        return SensitivityCurve(jnp.asarray(sizes, jnp.int32), found) if self.with_curve else jnp.mean(found)

    def _sizes(self, task: Task) -> tuple[int, ...]:
        if self.sizes is None:
            total = task.known_total("pass the subsets' size")
            if self.fraction is not None:
                return (share_of(self.fraction, total),)
            end = max(1.0, 0.8 * total)
            return tuple(sorted({round(float(size)) for size in np.geomspace(1.0, end, 10)}))
        if max(self.sizes) > task.parts.slots:
            raise ValueError(
                f"{self.name}: subsets of {max(self.sizes)} features are asked for, but there are {task.parts.slots}."
            )
        return self.sizes


@public
def faithfulness_correlation(
    f: Callable[..., Any],
    *,
    size: int | None = None,
    samples: int = 100,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SubsetCorrelation:
    """Correlation between the attribution of random subsets and the drop they cause; higher is better.

    r = corr_S(sum_(i in S) a_i, f(x) - f(x without S)), Pearson's over `samples` subsets S of `size` features.

    Args:
        f: As in `deletion`.
        size: How many features a subset has; None takes a quarter of them.
        samples: How many subsets are drawn.
        baseline: As in `deletion`.
        batch_size: How many subsets are scored at once; memory grows with it and not with `samples`. None takes what
            fills the device in `evaluate_batch`, and 1 elsewhere.
        groups: As in `deletion`; where traced, `size` has to be given.

    Returns:
        `m(key, x, attribution, *args) -> r`, one number in [-1, 1], exactly 1 (to rounding) for the attribution of an
        additive score; NaN where all features have the same attribution, the score does not change, the attribution
        holds NaN, or `size` takes all features. Subset s draws from a key of its own, so the result does not depend on
        `batch_size`. Cost: `samples` + 1 forward passes.

    Raises:
        ValueError: Fewer features than `size`, `samples` below 2, and as in `deletion`.
        TypeError: A call without key, and as in `deletion`.

    Example:
        >>> import jax
        >>> x = jnp.array([1.0, -3.0, 2.0, 0.5])
        >>> m = faithfulness_correlation(lambda x: x.sum(), size=2, samples=9)
        >>> round(float(m(jax.random.key(0), x, x)), 5)
        1.0

    Source: Bhatt, Weller and Moura 2020, "Evaluating and aggregating feature-based model explanations", Definition 3.
    """
    name = "faithfulness_correlation"
    sizes = None if size is None else (check.count(size, name, "size"),)
    return SubsetCorrelation(
        **settings(name, f, baseline, groups, batch_size),
        samples=check.count(samples, name, "samples", 2),
        sizes=sizes,
        fraction=0.25,
    )


@public
def mu_fidelity(
    f: Callable[..., Any],
    *,
    fraction: float = 0.2,
    samples: int = 200,
    window: int | tuple[int, ...] | None = None,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SubsetCorrelation:
    """Rank correlation between the attribution of random subsets of regions and the drop they cause; higher is better.

    `faithfulness_correlation` with Spearman's correlation (equal values share their rank) and subsets that hold a
    fraction of the regions, at least one.

    Args:
        f: As in `deletion`.
        fraction: Share of the regions in a subset, above 0 and at most 1, rounded down.
        samples: How many subsets are drawn.
        window: As in `region_perturbation`.
        baseline: As in `deletion`.
        batch_size: As in `faithfulness_correlation`.
        groups: As in `deletion`; not traced.

    Returns:
        `m(key, x, attribution, *args) -> r`, one number in [-1, 1]; NaN as in `faithfulness_correlation`.
        Cost: `samples` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `faithfulness_correlation`; a fraction outside (0, 1].

    Example:
        >>> import jax
        >>> x = jnp.array([1.0, -3.0, 2.0, 0.5, 4.0])
        >>> round(float(mu_fidelity(lambda x: jnp.exp(x.sum()), samples=9)(jax.random.key(0), x, x)), 5)
        1.0

    Source: Bhatt, Weller and Moura 2020, Definition 3; on regions and with ranks as in Fel et al. 2021, "Look at the
    variance! Efficient black-box explanations with Sobol-based sensitivity analysis", section 4.
    """
    name = "mu_fidelity"
    return SubsetCorrelation(
        **settings(name, f, baseline, groups, batch_size, window),
        samples=check.count(samples, name, "samples", 2),
        fraction=part_of_one(fraction, name, "fraction"),
        rank=True,
    )


def _sensitivity_n(
    name: str, f: Any, sizes: Any, samples: int, baseline: Any, batch_size: int | None, groups: Any, with_curve: bool
) -> SubsetCorrelation:
    if isinstance(sizes, int | np.integer):
        sizes = (sizes,)
    if sizes is not None:
        sizes = tuple(check.count(size, name, "sizes") for size in sizes)
        if not sizes:
            raise ValueError(f"{name}: `sizes` is empty; pass numbers of features, or None.")
    return SubsetCorrelation(
        **settings(name, f, baseline, groups, batch_size),
        samples=check.count(samples, name, "samples", 2),
        sizes=sizes,
        with_curve=with_curve,
    )


@public
def sensitivity_n(
    f: Callable[..., Any],
    *,
    sizes: int | tuple[int, ...] | None = None,
    samples: int = 100,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SubsetCorrelation:
    """Correlation between summed attributions and drops, averaged over sizes of random subsets; higher is better.

    mean_n corr_S(sum_(i in S) a_i, f(x) - f(x without S)), |S| = n: how nearly the attribution has the property
    sensitivity-n, that a sum over any n features is the drop they cause.

    Args:
        f: As in `deletion`.
        sizes: One n or several; None takes ten or fewer, evenly spaced in the logarithm from 1 to 80 % of the features.
        samples: How many subsets are drawn for each n.
        baseline: As in `deletion`.
        batch_size: As in `faithfulness_correlation`.
        groups: As in `deletion`; where traced, `sizes` has to be given.

    Returns:
        `m(key, x, attribution, *args) -> r`, one number in [-1, 1], exactly 1 (to rounding) for the attribution of an
        additive score; NaN where the correlation of any size is undefined, as in `faithfulness_correlation`.
        Cost: 1 + `samples` forward passes for each size.

    Raises:
        ValueError, TypeError: As in `faithfulness_correlation`.

    Example:
        >>> import jax
        >>> x = jnp.array([1.0, -3.0, 2.0, 0.5])
        >>> round(float(sensitivity_n(lambda x: x.sum(), sizes=(1, 3), samples=9)(jax.random.key(0), x, x)), 5)
        1.0

    Source: Ancona et al. 2018, "Towards better understanding of gradient-based attribution methods for deep neural
    networks", section 4.
    """
    return _sensitivity_n("sensitivity_n", f, sizes, samples, baseline, batch_size, groups, False)


@public
def sensitivity_n_curve(
    f: Callable[..., Any],
    *,
    sizes: int | tuple[int, ...] | None = None,
    samples: int = 100,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SubsetCorrelation:
    """The correlations of which `sensitivity_n` is the mean, by size.

    Args:
        f: As in `deletion`.
        sizes: As in `sensitivity_n`.
        samples: As in `sensitivity_n`.
        baseline: As in `deletion`.
        batch_size: As in `faithfulness_correlation`.
        groups: As in `deletion`.

    Returns:
        `m(key, x, attribution, *args) -> SensitivityCurve(size, correlation)`, both `[sizes]`. Cost: as
        `sensitivity_n`.

    Raises:
        ValueError, TypeError: As in `sensitivity_n`.

    Example:
        >>> import jax
        >>> x = jnp.array([1.0, -3.0, 2.0, 0.5])
        >>> sensitivity_n_curve(lambda x: x.sum(), sizes=(1, 3))(jax.random.key(0), x, x).size.tolist()
        [1, 3]

    Source: Ancona et al. 2018, section 4, figure 3.
    """
    return _sensitivity_n("sensitivity_n_curve", f, sizes, samples, baseline, batch_size, groups, True)


class FaithfulnessEstimate(Faithful):
    """Correlation over single features. Made by `faithfulness_estimate`."""

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        slots = jnp.arange(task.parts.slots)
        scores = chunked_map(lambda i: task.without(slots == i), slots, self.batch_size)
        relevance = jnp.where(task.valid, task.relevance, 0.0)
        return task.known(pearson(relevance, task.score(task.x) - scores, where=task.valid))


@public
def faithfulness_estimate(
    f: Callable[..., Any], *, baseline: Any = 0.0, batch_size: int | None = None, groups: Any = None
) -> FaithfulnessEstimate:
    """Correlation between each feature's attribution and the drop that removing it alone causes; higher is better.

    r = corr_i(a_i, f(x) - f(x without i)), Pearson's over all features.

    Args:
        f: As in `deletion`; the source takes a class probability.
        baseline: As in `deletion`.
        batch_size: How many features are removed at once (each in a copy of its own). None takes what fills the device
            in `evaluate_batch`, and 1 elsewhere.
        groups: As in `deletion`, traced ones too.

    Returns:
        `m(x, attribution, *args) -> r`, one number in [-1, 1]; NaN where all features have the same attribution, none
        changes the score, or the attribution holds NaN. Cost: one forward pass for each feature, and one.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([1.0, -3.0, 2.0])
        >>> round(float(faithfulness_estimate(lambda x: x.sum())(x, 2 * x)), 5)
        1.0

    Source: Alvarez-Melis and Jaakkola 2018, "Towards robust interpretability with self-explaining neural networks",
    section 5.2 (faithfulness).
    """
    return FaithfulnessEstimate(**settings("faithfulness_estimate", f, baseline, groups, batch_size))
