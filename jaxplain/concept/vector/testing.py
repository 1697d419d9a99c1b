"""Is a concept more than chance: its statistic among those of random concepts put through the same pipeline."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.distance import safe_shift
from jaxplain.concept.vector.direction import ConceptVectors, concept_similarity
from jaxplain.concept.vector.fit import EXACT, Recipe, fit
from jaxplain.concept.vector.sensitivity import (
    STATISTICS,
    chosen_pool,
    fits,
    gradients,
    interval,
    statistic_of,
)
from jaxplain.program import chunked_map, public
from jaxplain.types import Array, ArrayLike, Number

TIES = 2**31 - 1
"""What the key of tie breaking is folded with; draws of random concepts fold in their sizes, which are smaller."""


@dataclasses.dataclass(frozen=True, repr=False)
class Tcav:
    """What a score makes of C concepts over B examples. Made by `tcav`.

    scores: `[C]`, the share of examples whose score rises along the vector; means: `[C]`, the mean sensitivity, in
        units of the score for one unit of activation.
    low, high: `[C]`, interval of the statistic over examples, the vectors held fixed.
    p: `[C]`, of the two-sided rank test, NaN without one; corrected: `[C]`, times C, at most 1 (Bonferroni).
    random_low, random_high: `[C]`, between which 95 % of the random concepts lie.
    accuracy: `[C]`, of the vectors on held-out examples.
    sensitivities: `[B, C]`.
    names: Of the concepts. statistic: 'mean' or 'score'. samples: How many random concepts.
    """

    scores: np.ndarray
    means: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    corrected: np.ndarray
    random_low: np.ndarray
    random_high: np.ndarray
    accuracy: np.ndarray
    sensitivities: np.ndarray
    names: tuple[str, ...] = ()
    statistic: str = "mean"
    samples: int = 0

    @property
    def values(self) -> np.ndarray:
        """The statistic that is tested, `[C]`."""
        return self.means if self.statistic == "mean" else self.scores

    def rows(self) -> list[dict[str, Any]]:
        """A line for each concept, as `report` draws a table of."""
        columns: dict[str, Any] = {
            "concept": self.names, "score": self.scores, "mean sensitivity": self.means, "low": self.low,
            "high": self.high, "random low": self.random_low, "random high": self.random_high, "p": self.p,
            "p corrected": self.corrected, "accuracy": self.accuracy,
        }  # fmt: skip
        return [
            {key: value[index] if key == "concept" else float(value[index]) for key, value in columns.items()}
            for index in range(len(self.scores))
        ]

    def __repr__(self) -> str:
        lines = [
            f"Tcav: {len(self.scores)} concepts, {len(self.sensitivities)} examples, statistic {self.statistic!r} "
            f"against {self.samples} random concepts"
        ]
        for row in self.rows()[:10]:
            lines.append(
                f"  {row['concept']}: score {row['score']:.2f}, mean {row['mean sensitivity']:+.3g}, p corrected "
                f"{row['p corrected']:.3g}, accuracy {row['accuracy']:.2f}"
            )
        return "\n".join(lines + ["  ..."] * (len(self.scores) > 10))


_ARRAYS = [field.name for field in dataclasses.fields(Tcav) if field.name not in ("names", "statistic", "samples")]
jax.tree_util.register_dataclass(Tcav, _ARRAYS, ["names", "statistic", "samples"])


@public
def tcav(
    head: Callable[..., Any],
    vectors: Any,
    activations: ArrayLike,
    *args: Any,
    key: Array | None = None,
    samples: int | None = None,
    statistic: str = "mean",
    pool: Any = None,
    confidence: float = 0.95,
    threshold: Number = 0.9,
    batch_size: int = 64,
) -> Tcav:
    """Measure what concepts do to a score, and test it against random concepts.

    The test is one of ranks. `samples` random concepts, each of as many examples with and without it as the concept
    has, are drawn from the pool and put through the same pipeline: the same fit, the same gradients, the same statistic
    t. With a = |t| of the mean or |t - 1/2| of the score, and ties broken at random,

        p = (1 + number of random concepts with a at least as large) / (samples + 1).

    A concept whose examples are themselves drawn from the pool has each p = i / (samples + 1) with equal probability,
    whatever the network. The t-test of the source does not hold its level (`tcav_t_test`).

    Args:
        head: A score of the layer, `head(h, *args) -> scalar`: the logit of a class after the layer.
        vectors: What `concept_vectors` made; an array `[C, ...]` can only be measured (`samples=0`).
        activations: `[B, ...]`, the layer's values of the examples that are asked about, those of one class, say; not
            those of the concepts.
        *args: Further arguments of the head, each with a leading axis B, or one number for all.
        key: Of the random concepts; needed where there are any.
        samples: How many; None: 100 C - 1 and at least 999, so that the least p is at most .01 after the correction. 0:
            no test.
        statistic: 'mean', the mean sensitivity, or 'score', the share of examples whose score rises.
        pool: `[N]` booleans, which of the activations that the vectors were fitted on are random examples. None: those
            that no concept claims.
        confidence: Of the interval.
        threshold: Absolute cosine of two concepts from which on they are warned of as entangled; 1 for none.
        batch_size: Examples, and random concepts, at once.

    Returns:
        `Tcav`. Cost: B gradients of the head, and for each random concept (drawn once for all concepts of one size) its
        fit and B D operations.

    Raises:
        ValueError: Too few random examples, shapes that do not fit, NaN.
        TypeError: No key; vectors that say nothing of their examples, with a test.

    Example:
        >>> import jax, numpy as np
        >>> found = tcav(lambda h: 3.0 * h[0] - h[1], np.eye(2), np.ones((5, 2)), samples=0)
        >>> found.scores.tolist(), found.means.tolist()
        ([1.0, 0.0], [3.0, -1.0])

    Source: Kim et al. 2018, equations 1 and 2; the test is that of Phipson and Smyth 2010, "Permutation p-values should
    never be zero", equation 2.
    """
    check.choice(statistic, STATISTICS, "tcav", "statistic")
    inside(confidence, "tcav")
    made = isinstance(vectors, ConceptVectors)
    drawn = samples is None or check.count(samples, "tcav", "samples", 0) > 0
    if drawn and not made:
        raise TypeError(
            f"tcav: `vectors` is {check.short(vectors)}, which does not say what examples it was fitted on, so that "
            "random concepts cannot be fitted alike. Pass what concept_vectors returned, or `samples=0` for no test."
        )
    if drawn:
        if key is None:
            raise TypeError(
                "tcav: random concepts are drawn, which needs a key: `key=jax.random.key(0)`, or `samples=0` for no "
                "test."
            )
        check.threefry(key, "tcav")
    rows = chosen_pool(vectors, pool, "tcav") if drawn else np.zeros(0, int)
    concept_similarity(vectors, threshold=threshold)
    slopes = gradients(head, activations, args, batch_size, "tcav")
    lines = jnp.asarray(vectors.vectors if made else vectors)
    fits(slopes, lines, "tcav")
    flat = slopes.reshape(len(slopes), -1)
    lines = lines.reshape(len(lines), -1).astype(flat.dtype)
    along = np.asarray(jnp.matmul(flat, lines.T, precision=EXACT))
    rises, means = (np.asarray(statistic_of(flat, lines, kind)) for kind in ("score", "mean"))
    count = len(lines)
    nothing = np.full(count, np.nan)
    p, below, above, samples = nothing, nothing, nothing, samples if samples is not None else max(999, 100 * count - 1)
    if drawn:
        _enough(samples, count)
        values = means if statistic == "mean" else rises
        p, below, above = _ranked(vectors, flat, values, key, samples, statistic, rows, batch_size)
    low, high = interval(along, statistic, confidence)
    names = vectors.names if made else tuple(map(str, range(count)))
    accuracy = np.asarray(vectors.accuracy) if made else nothing
    corrected = np.minimum(p * count, 1)
    return Tcav(rises, means, low, high, p, corrected, below, above, accuracy, along, names, statistic, samples)


def inside(confidence: float, name: str) -> None:
    """Require a coverage between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"{name}: `confidence` has to lie between 0 and 1, not {confidence}.")


def _enough(samples: int, count: int) -> None:
    if (samples + 1) * 0.05 < count:
        warnings.warn(
            f"tcav: with {samples} random concepts the least p is {1 / (samples + 1):.3g}, which is above .05 after "
            f"the correction for {count} concepts, so that none can be significant. Pass `samples={100 * count - 1}`.",
            UserWarning,
            stacklevel=4,
        )


def _ranked(
    vectors: ConceptVectors, flat: Array, values: np.ndarray, key: Any, samples: int, statistic: str, rows: np.ndarray,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """p, and between what 95 % of the random concepts lie, each `[C]`."""
    sizes = np.stack([(vectors.concepts == sign).sum(axis=1) for sign in (1, -1)], axis=1)
    pool = jnp.asarray(vectors.activations.reshape(len(vectors.activations), -1))
    pool = jnp.ldexp(pool, safe_shift(pool))  # as the concepts were fitted; a direction has no unit
    p, low, high = (np.empty(len(sizes)) for _ in range(3))
    middle = 0.0 if statistic == "mean" else 0.5
    for size in np.unique(sizes, axis=0):
        mine = np.flatnonzero((sizes == size[None]).all(axis=1))
        drawn = fold_sizes(key, size)
        random = np.asarray(
            random_statistics(
                pool, jnp.asarray(rows), flat, drawn, jnp.asarray(size), int(sizes.sum(axis=1).max()), samples,
                vectors.recipe, statistic, min(batch_size, samples),
            )
        )  # fmt: skip
        low[mine], high[mine] = np.quantile(random[np.isfinite(random)], [0.025, 0.975])
        others = np.where(
            np.isnan(random), np.inf, np.abs(random - middle)
        )  # a draw without a direction speaks for none
        lots = np.asarray(jax.random.uniform(jax.random.fold_in(drawn, TIES), (samples,)))
        for index in mine:
            own = np.abs(values[index] - middle)
            lot = float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(drawn, TIES - 1), int(index))))
            above = (others > own) | ((others == own) & (lots >= lot))
            p[index] = (1 + above.sum()) / (samples + 1)
    return p, low, high


def fold_sizes(key: Any, size: Any) -> Any:
    """The key of the random concepts of a size."""
    return jax.random.fold_in(jax.random.fold_in(key, int(size[0])), int(size[1]))


@functools.partial(jax.jit, static_argnames=("width", "samples", "recipe", "statistic", "batch_size"))
def random_statistics(
    values: Array, rows: Array, flat: Array, key: Any, size: Array, width: int, samples: int, recipe: Recipe,
    statistic: str, batch_size: int,
) -> Array:  # fmt: skip
    """Statistics `[samples]` of random concepts: draw, fit, measure, some at once, one program for every size."""
    place = jnp.arange(width)
    signs = jnp.where(place < size[0], 1.0, jnp.where(place < size.sum(), -1.0, 0.0)).astype(values.dtype)

    def one(number: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, number), rows)[:width]
        vector, _ = fit(values[order], signs, recipe)
        return statistic_of(flat, vector[None].astype(flat.dtype), statistic)[0]

    return chunked_map(one, jnp.arange(samples), batch_size)
