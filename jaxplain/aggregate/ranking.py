"""The examples of a dataset with the largest or smallest scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.aggregate.aggregator import Aggregator, mask_or_all, per_example
from jaxplain.program import public, setting, shown
from jaxplain.types import Array, Pytree

EMPTY = np.iinfo(np.int32).max  # the index of a place in a ranking that no example has taken


class TopKState(NamedTuple):
    """State of `top_k`: the best so far, best first. order: `[k]`, the scores, negated where large is best."""

    order: Array
    indices: Array
    undefined: Array


@shown
class TopK(NamedTuple):
    """Result of `top_k`, best first; places that no example has taken hold NaN and -1.

    scores: `[k]`; indices: `[k]`, the examples' indices in the dataset; undefined: examples whose score is NaN.
    """

    scores: Array
    indices: Array
    undefined: Array


class TopKAggregator(Aggregator):
    """The examples with the largest (smallest) scores. Made by `top_k`."""

    k: int = setting(default=10)
    largest: bool = setting(default=True)

    def init(self, attribution: Pytree = None) -> TopKState:
        """An empty ranking; the attribution is not looked at."""
        return TopKState(
            jnp.full(self.k, jnp.inf, jnp.float32), jnp.full(self.k, EMPTY, jnp.int32), jnp.zeros((), jnp.int32)
        )

    def update(
        self,
        state: TopKState,
        attribution: Pytree = None,
        *,
        label: Any = None,
        score: Any = None,
        index: Any = None,
        mask: Any = None,
    ) -> TopKState:
        """The ranking with a batch taken in; needs `score` (`[B]`) and `index` (`[B]`, integers)."""
        if score is None or index is None:
            raise ValueError("top_k: `update` needs `score` and `index`, each of shape [B].")
        score = jnp.asarray(score).astype(jnp.float32)
        size = check.batch_length(score, "top_k", "score")
        score = per_example(score, size, "top_k", "score", jnp.floating)
        index = per_example(index, size, "top_k", "index", jnp.integer)
        real = mask_or_all(mask, size, "top_k")
        counted = real & ~jnp.isnan(score)
        order = jnp.where(counted, -score if self.largest else score, jnp.inf)
        undefined = jnp.sum(real & jnp.isnan(score), dtype=jnp.int32)
        return self._best(state, TopKState(order, jnp.where(counted, index.astype(jnp.int32), EMPTY), undefined))

    def _best(self, one: TopKState, other: TopKState) -> TopKState:
        # Sorted by score and then by index, so that ties do not depend on how the examples were batched.
        order, index = lax.sort(
            (jnp.concatenate([one.order, other.order]), jnp.concatenate([one.indices, other.indices])), num_keys=2
        )
        return TopKState(order[: self.k], index[: self.k], one.undefined + other.undefined)

    def merge(self, one: TopKState, other: TopKState) -> TopKState:
        """The best of both."""
        return self._best(one, other)

    def compute(self, state: TopKState) -> TopK:
        """Scores and indices, best first."""
        taken = state.indices != EMPTY
        score = jnp.where(taken, -state.order if self.largest else state.order, jnp.nan)
        return TopK(score, jnp.where(taken, state.indices, -1), state.undefined)


@public
def top_k(k: int = 10, *, largest: bool = True) -> TopKAggregator:
    """The k examples of a dataset with the largest score, and their indices.

    Ties go to the smaller index. NaN scores are ranked nowhere and counted.

    Args:
        k: How many.
        largest: False for the smallest.

    Returns:
        An `Aggregator` that computes `TopK`. `update` needs `score` and `index`: where in the dataset each example is.
        Cost of `update`: one sort of k + B numbers.

    Raises:
        ValueError: `k` below 1; in `update`: no score or index, an empty batch.

    Example:
        >>> aggregator = top_k(2)
        >>> state = aggregator.update(aggregator.init(), score=jnp.array([0.5, 2.0, 1.0]), index=jnp.array([7, 8, 9]))
        >>> aggregator.compute(state).indices.tolist()
        [8, 9]
    """
    return TopKAggregator(check.count(k, "top_k", "k"), bool(largest))
