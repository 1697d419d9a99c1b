"""Shapley values of training examples for a nearest-neighbour classifier, in closed form."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.result import Influence
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


@public
def knn_shapley(
    features: ArrayLike, labels: ArrayLike, query_features: ArrayLike, query_labels: ArrayLike, *, neighbours: int = 5
) -> Influence:
    """Compute exact Shapley values of training examples for the K-nearest-neighbour classifier on given features.

    The utility of a set S for a query is v(S) = (1/K) * number of right labels among its min(K, |S|) nearest neighbours
    in S, by Euclidean distance (ties by index). Values sum to v(all) - v(empty), and v(empty) = 0.

    Args:
        features: Of the training examples, `[N, D]`: inputs, or what a layer makes of them.
        labels: Whole numbers `[N]`.
        query_features: `[Q, D]`.
        query_labels: Whole numbers `[Q]`.
        neighbours: K.

    Returns:
        `Influence` with values `[Q, N]`, units None: they are in units of the utility, which is higher for the better,
        but no derivatives. Cost: Q N distances and Q sorts of N.

    Raises:
        ValueError: Shapes that do not fit, NaN.
        TypeError: Labels that are no whole numbers.

    Example:
        >>> import numpy as np
        >>> found = knn_shapley(np.array([[0.0], [1.0], [3.0]]), [0, 1, 0], np.array([[0.1]]), [0], neighbours=1)
        >>> [round(value, 4) for value in found.values[0].tolist()], found.scores.tolist()
        ([0.8333, -0.1667, 0.3333], [1.0])

    Source: Jia et al. 2019, "Efficient task-specific data valuation for nearest neighbor algorithms", theorem 1.
    """
    check.count(neighbours, "knn_shapley", "neighbours")
    features, labels, query_features, query_labels = map(jnp.asarray, (features, labels, query_features, query_labels))
    for argument, value in (("features", features), ("query_features", query_features)):
        if value.ndim != 2 or 0 in value.shape:
            raise ValueError(f"knn_shapley: `{argument}` has shape {value.shape}; it has to be [N, D], one row each.")
        check.finite(value, "knn_shapley", argument)
    if features.shape[1] != query_features.shape[1]:
        raise ValueError(
            f"knn_shapley: `features` have {features.shape[1]} columns, `query_features` {query_features.shape[1]}."
        )
    for argument, value, rows in (("labels", labels, features), ("query_labels", query_labels, query_features)):
        if not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"knn_shapley: `{argument}` has dtype {value.dtype}; pass whole numbers.")
        if value.shape != (len(rows),):
            raise ValueError(f"knn_shapley: `{argument}` has shape {value.shape}, but there are {len(rows)} rows.")
    values, scores = _values(features, labels, query_features, query_labels, neighbours)
    return Influence(values, scores, None, True, f"knn_shapley ({neighbours})", {"empty": 0.0})


@functools.partial(jax.jit, static_argnames="neighbours")
def _values(features: Array, labels: Array, probes: Array, answers: Array, neighbours: int) -> tuple[Array, Array]:
    count = len(features)
    places = np.arange(1, count)  # i = 1 .. N - 1, from the nearest
    factors = jnp.asarray(np.minimum(neighbours, places) / (neighbours * places), features.dtype)

    def one(row: tuple[Array, Array]) -> tuple[Array, Array]:
        probe, answer = row
        order = jnp.argsort(jnp.sum((features - probe[None]) ** 2, axis=1), stable=True)
        right = (labels[order] == answer).astype(features.dtype)
        last = right[-1] * min(neighbours, count) / (neighbours * count)
        steps = (right[:-1] - right[1:]) * factors
        sorted_values = jnp.concatenate([last + jnp.cumsum(steps[::-1])[::-1], last[None]])
        return jnp.zeros(count, features.dtype).at[order].set(sorted_values), jnp.sum(right[:neighbours]) / neighbours

    return jax.lax.map(one, (probes, answers))
