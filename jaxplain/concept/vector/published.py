"""The significance test as the source has it, kept for comparison: it rejects far more random concepts than it says."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.distance import safe_shift
from jaxplain.concept.vector.direction import ConceptVectors
from jaxplain.concept.vector.fit import Recipe, fit
from jaxplain.concept.vector.sensitivity import STATISTICS, chosen_pool, fits, gradients, statistic_of
from jaxplain.concept.vector.testing import fold_sizes, random_statistics
from jaxplain.program import chunked_map, public, shown
from jaxplain.types import Array, ArrayLike


@shown
class TTest(NamedTuple):
    """What the published test says of C concepts.

    values: `[C, K]`, the statistic of each concept with each of K sets of random negatives; random: `[C, K]`, those of
        K random concepts of its size; t, p: `[C]`, of Student's two-sided test with pooled variance.
    """

    values: np.ndarray
    random: np.ndarray
    t: np.ndarray
    p: np.ndarray


@public
def tcav_t_test(
    head: Callable[..., Any],
    vectors: ConceptVectors,
    activations: ArrayLike,
    *args: Any,
    key: Array,
    samples: int = 50,
    statistic: str = "score",
    pool: Any = None,
    batch_size: int = 64,
) -> TTest:
    """Apply the published t-test: K vectors of a concept against K of random concepts. It does not hold its level.

    The K vectors of a concept share its examples and differ in the random negatives alone, so that their statistics are
    no independent draws: the more negatives are drawn, the smaller is p, also for a concept that is none. Use `tcav`.

    Args:
        head: As in `tcav`.
        vectors: What `concept_vectors` made; of each concept the examples that show it are taken, and their recipe.
        activations: As in `tcav`.
        *args: As in `tcav`.
        key: Of the draws.
        samples: K.
        statistic: 'score' or 'mean'.
        pool: As in `tcav`.
        batch_size: Examples, and vectors, at once.

    Returns:
        `TTest`, always with a warning. Cost: B gradients of the head, 2 C K fits.

    Raises:
        ValueError, TypeError: As `tcav`.

    Source: Kim et al. 2018, section 3.4.
    """
    check.choice(statistic, STATISTICS, "tcav_t_test", "statistic")
    check.count(samples, "tcav_t_test", "samples", 2)
    check.threefry(key, "tcav_t_test")
    slopes = gradients(head, activations, args, batch_size, "tcav_t_test")
    fits(slopes, vectors.vectors, "tcav_t_test")
    rows = chosen_pool(vectors, pool, "tcav_t_test")
    warnings.warn(
        "tcav_t_test: the vectors of a concept share its examples, so that this test rejects random concepts far more "
        "often than its level says; it is here for comparison with what is published. Report the p of jaxplain.concept."
        "tcav.",
        UserWarning,
        stacklevel=3,
    )
    flat, pool_values = (a.reshape(len(a), -1) for a in (slopes, vectors.activations))
    pool_values = jnp.ldexp(pool_values, safe_shift(pool_values))  # as the concepts were fitted
    values, random = [], []
    for index, labels in enumerate(vectors.concepts):
        size = np.array([(labels == sign).sum() for sign in (1, -1)])
        own = jnp.asarray(np.flatnonzero(labels == 1))
        one = jax.random.fold_in(jax.random.fold_in(key, 1), index)
        settings = (samples, vectors.recipe, statistic, min(batch_size, samples))
        others = jnp.asarray(np.setdiff1d(rows, np.flatnonzero(labels == 1)))
        if len(others) < size[1]:
            raise ValueError(
                f"tcav_t_test: there are {len(others)} random examples beside those of concept "
                f"{vectors.names[index]!r}, but {size[1]} negatives are drawn. Pass more examples."
            )
        values.append(_with_random_negatives(pool_values, own, others, flat, one, int(size[1]), *settings))
        drawn = jax.random.fold_in(fold_sizes(key, size), index)
        random.append(
            random_statistics(
                pool_values, jnp.asarray(rows), flat, drawn, jnp.asarray(size), int(size.sum()), *settings
            )
        )
    first, second = np.asarray(jnp.stack(values), np.float64), np.asarray(jnp.stack(random), np.float64)
    return TTest(first, second, *student(first, second))


@functools.partial(jax.jit, static_argnames=("size", "samples", "recipe", "statistic", "batch_size"))
def _with_random_negatives(
    values: Array, own: Array, rows: Array, flat: Array, key: Any, size: int, samples: int, recipe: Recipe,
    statistic: str, batch_size: int,
) -> Array:  # fmt: skip
    """Statistics `[samples]` of one concept's examples against random negatives."""
    signs = jnp.concatenate([jnp.ones(len(own)), -jnp.ones(size)]).astype(values.dtype)

    def one(number: Array) -> Array:
        drawn = jax.random.permutation(jax.random.fold_in(key, number), rows)[:size]
        vector, _ = fit(values[jnp.concatenate([own, drawn])], signs, recipe)
        return statistic_of(flat, vector[None].astype(flat.dtype), statistic)[0]

    return chunked_map(one, jnp.arange(samples), batch_size)


def student(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """t and the two-sided p of each row, with pooled variance; where both are constant 0 and 1, or infinite and 0."""
    count = first.shape[1]
    difference = first.mean(axis=1) - second.mean(axis=1)
    error = np.sqrt((first.var(axis=1, ddof=1) + second.var(axis=1, ddof=1)) / count)
    certain = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    t = np.divide(difference, error, out=certain, where=error > 0)
    freedom = 2.0 * count - 2
    with np.errstate(over="ignore"):
        p = jax.scipy.special.betainc(freedom / 2, 0.5, jnp.asarray(freedom / (freedom + t**2)))
    return t, np.asarray(p)
