"""k-means of activations: each described by the nearest of k centres."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.factorization import rows_of
from jaxplain.concept.dictionary.site import Site
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


class MeansDictionary(Dictionary):
    """Codes that are 1 at the nearest centre and 0 at the others. Made by `k_means`."""

    atoms: Any

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]`: one of them 1, the first of equally near centres. Cost: M D operations a row."""
        distances = _distances(h.reshape(-1, h.shape[-1]), jnp.asarray(self.atoms))
        codes = jax.nn.one_hot(jnp.argmin(distances, axis=1), distances.shape[1], dtype=distances.dtype)
        return codes.reshape(*h.shape[:-1], distances.shape[1])


@public
def k_means(
    activations: ArrayLike,
    k: int,
    *,
    key: Array | None = None,
    start: ArrayLike | None = None,
    steps: int = 300,
    site: Site | None = None,
) -> MeansDictionary:
    """Make a dictionary of the k centres of clusters of activations (Lloyd's algorithm).

    Args:
        activations: `[N, D]`, of any sign.
        k: How many clusters, at most N; of N rows with fewer different ones, at most those.
        key: PRNG key of the start (greedy k-means++: each next centre is the best of 2 + log k rows, drawn in
            proportion to their squared distances from those there are). Needed where `start` is None.
        start: Centres to start from, `[k, D]`.
        steps: Most steps; it ends where no row changes its cluster. A cluster that loses all its rows begins anew at
            the row farthest from its centre.
        site: Which layer it describes (`layer_site`).

    Returns:
        A `Dictionary` whose atoms `[k, D]` are the centres, the largest cluster first; a code is 1 at the nearest
        centre. Cost of a step: N k D operations.

    Raises:
        ValueError: NaN, activations that are all equal, a k that is too large, neither key nor start.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [10.0]])
        >>> k_means(rows, 2, key=jax.random.key(0)).atoms.tolist()
        [[1.0], [10.0]]

    Source: Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++".
    """
    name = "k_means"
    a = rows_of(activations, k, name, most="rows")
    check.count(steps, name, "steps")
    if start is None:
        if key is None:
            raise ValueError(f"{name}: the start is drawn, so pass `key=jax.random.key(0)`, or `start=` centres.")
        check.threefry(key, name)
        _refuse_few(a, k, name)
        begun = _spread_start(a, key, k)
    else:
        check.arrays(start, name, "start")
        begun = jnp.asarray(start).astype(a.dtype)
        if begun.shape != (k, a.shape[1]):
            raise ValueError(f"{name}: `start` has shape {begun.shape}; {(k, a.shape[1])} is needed, one row a centre.")
        check.finite(begun, name, "start")
    return MeansDictionary(_moved(a, begun, steps), site=site)


def _refuse_few(a: Array, k: int, name: str) -> None:
    """Fewer different rows than clusters leave clusters empty for ever."""
    if not check.is_concrete(a):
        return
    different = len({row.tobytes() for row in jax.device_get(a)})
    if different < k:
        raise ValueError(
            f"{name}: `k` is {k}, but only {different} of {a.shape[0]} rows are different. Pass at most {different}."
        )


def _distances(rows: Array, centres: Array) -> Array:
    """Squared distances `[N, k]`, in float32 at least: |h|^2 - 2 h c + |c|^2, about the centres' mean.

    Far from the origin the three terms would cancel.
    """
    middle = jnp.mean(centres, axis=0)[None]
    rows, centres = rows.astype(jnp.result_type(rows, centres)) - middle, centres - middle
    squares = jnp.sum(centres**2, axis=1)[None] - 2 * rows @ centres.T
    return jnp.maximum(squares + jnp.sum(rows**2, axis=1)[:, None], 0)


@functools.partial(jax.jit, static_argnames="k")
def _spread_start(a: Array, key: Array, k: int) -> Array:
    """k-means++: a row at random, then the best of a few rows drawn in proportion to their squared distance."""
    tries = 2 + int(np.log(k))
    first = a[jax.random.randint(jax.random.fold_in(key, 0), (), 0, a.shape[0])]

    def add(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, distances = state
        drawn = a[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(distances), shape=(tries,))]
        nearer = jnp.minimum(distances[None], _distances(drawn, a))
        best = jnp.argmin(jnp.sum(nearer, axis=1))
        return centres.at[i].set(drawn[best]), nearer[best]

    centres = jnp.zeros((k, a.shape[1]), a.dtype).at[0].set(first)
    return jax.lax.fori_loop(1, k, add, (centres, jnp.sum((a - first[None]) ** 2, axis=1)))[0]


@functools.partial(jax.jit, static_argnames="steps")
def _moved(a: Array, centres: Array, steps: int) -> Array:
    """The centres where Lloyd's algorithm ends, the largest cluster first."""
    count, k = a.shape[0], centres.shape[0]

    def step(state: Any) -> Any:
        centres, former, number, _ = state
        distances = _distances(a, centres)
        labels = jnp.argmin(distances, axis=1)
        sizes = jnp.bincount(labels, length=k)
        # the r-th empty cluster takes the row that is r-th farthest from its centre
        farthest = jnp.argsort(-jnp.min(distances, axis=1), stable=True)[:k]
        rank = jnp.cumsum(sizes == 0) - 1
        places = jnp.where(sizes == 0, farthest[rank], count)  # out of bounds: dropped
        given = labels.at[places].set(jnp.arange(k), mode="drop")
        onto = jax.nn.one_hot(given, k, dtype=a.dtype)
        held = jnp.sum(onto, axis=0)
        moved = jnp.where(held[:, None] > 0, (onto.T @ a) / jnp.maximum(held, 1)[:, None], centres)
        return moved, labels, number + 1, jnp.all(labels == former)

    start = (centres, jnp.full(count, -1), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    centres = jax.lax.while_loop(lambda s: (s[2] < steps) & ~s[3], step, start)[0]
    sizes = jnp.bincount(jnp.argmin(_distances(a, centres), axis=1), length=k)
    return centres[jnp.argsort(-sizes, stable=True)]
