"""Lloyd's algorithm: centres of rows, from a start that spreads them, or from several of which the best is taken."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.concept.distance import squared_distances
from jaxplain.types import Array


@functools.partial(jax.jit, static_argnames="k")
def spread_start(a: Array, key: Array, k: int) -> Array:
    """k-means++: a row at random, then the best of a few rows drawn in proportion to their squared distance."""
    tries = 2 + int(np.log(k))
    first = a[jax.random.randint(jax.random.fold_in(key, 0), (), 0, a.shape[0])]

    def add(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, distances = state
        drawn = a[jax.random.categorical(jax.random.fold_in(key, i), jnp.log(distances), shape=(tries,))]
        nearer = jnp.minimum(distances[None], squared_distances(drawn, a))
        best = jnp.argmin(jnp.sum(nearer, axis=1))
        return centres.at[i].set(drawn[best]), nearer[best]

    centres = jnp.zeros((k, a.shape[1]), a.dtype).at[0].set(first)
    return jax.lax.fori_loop(1, k, add, (centres, jnp.sum((a - first[None]) ** 2, axis=1)))[0]


@functools.partial(jax.jit, static_argnames="steps")
def moved(a: Array, centres: Array, steps: int) -> Array:
    """The centres where Lloyd's algorithm ends, the largest cluster first."""
    count, k = a.shape[0], centres.shape[0]
    middle = jnp.mean(a, axis=0)[None]  # about which no square is larger than it has to be
    a, centres = a - middle, centres - middle

    def compared(centres: Array) -> Array:
        # |a - c|^2 without |a|^2, which all centres of a row have in common
        products = jnp.matmul(a, (-2 * centres).T, precision=jax.lax.Precision.HIGHEST)
        return jnp.sum(centres**2, axis=1)[None] + products

    def filled(labels: Array, sizes: Array, values: Array) -> tuple[Array, Array]:
        # the r-th empty cluster takes the row that is r-th farthest from its centre
        farthest = jnp.argsort(-(jnp.min(values, axis=1) + jnp.sum(a**2, axis=1)), stable=True)[:k]
        rank = jnp.cumsum(sizes == 0) - 1
        places = jnp.where(sizes == 0, farthest[rank], count)  # out of bounds: dropped
        given = labels.at[places].set(jnp.arange(k, dtype=labels.dtype), mode="drop")
        return given, jnp.bincount(given, length=k)

    added, multiplied = functools.partial(_added, k=k), functools.partial(_multiplied, k=k)

    def step(state: Any) -> Any:
        centres, former, number, _ = state
        values = compared(centres)
        labels = jnp.argmin(values, axis=1)
        sizes = jnp.bincount(labels, length=k)
        empty = jnp.any(sizes == 0)
        given, held = jax.lax.cond(empty, filled, lambda labels, sizes, _: (labels, sizes), labels, sizes, values)
        sums = jax.lax.platform_dependent(a, given, cpu=added, default=multiplied)
        means = jnp.where(held[:, None] > 0, sums / jnp.maximum(held, 1)[:, None], centres)
        return means, labels, number + 1, jnp.all(labels == former)

    start = (centres, jnp.full(count, -1), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    centres = jax.lax.while_loop(lambda s: (s[2] < steps) & ~s[3], step, start)[0]
    sizes = jnp.bincount(jnp.argmin(compared(centres), axis=1), length=k)
    return centres[jnp.argsort(-sizes, stable=True)] + middle


def _multiplied(a: Array, labels: Array, k: int) -> Array:
    """The sum of each cluster's rows, `[k, D]`: a product, the same on every run where additions have no order."""
    return jnp.matmul(jax.nn.one_hot(labels, k, dtype=a.dtype).T, a, precision=jax.lax.Precision.HIGHEST)


BLOCKS = 16
"""Of rows that are added by themselves: one sum over a million would lose a digit more."""


def _added(a: Array, labels: Array, k: int) -> Array:
    """The same, row by row, k times fewer operations: on a CPU half the time of the product."""
    blocks = max(1, min(BLOCKS, a.shape[0] // k))  # whose sums take no more memory than the rows
    block = jnp.arange(a.shape[0]) * blocks // a.shape[0]
    sums = jax.ops.segment_sum(a, labels + k * block, blocks * k)
    return sums.reshape(blocks, k, -1).sum(axis=0)


@functools.partial(jax.jit, static_argnames=("k", "starts", "steps"))
def best_labels(a: Array, key: Array, k: int, starts: int = 10, steps: int = 50) -> Array:
    """The cluster of each row, `[N]`, from the start that ends with the least sum of squared distances."""

    def one(key: Array) -> tuple[Array, Array]:
        distances = squared_distances(a, moved(a, spread_start(a, key, k), steps))
        return jnp.min(distances, axis=1).sum(), jnp.argmin(distances, axis=1)

    losses, labels = jax.lax.map(one, jax.random.split(key, starts))
    return labels[jnp.argmin(losses)]
