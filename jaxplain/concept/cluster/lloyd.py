"""K-means of the rows of an embedding, the best of several starts."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.types import Array


@functools.partial(jax.jit, static_argnames=("clusters", "starts", "steps"))
def k_means(rows: Array, key: Any, clusters: int, starts: int = 10, steps: int = 50) -> Array:
    """The cluster of each row, `[N]`, of the start with the least sum of squared distances.

    Starts are drawn one centre after the other, each with the probability of its squared distance to the nearest so far
    (Arthur and Vassilvitskii 2007); a centre without rows stays where it is.
    """

    def apart(centres: Array) -> Array:
        return ((rows[:, None] - centres[None]) ** 2).sum(-1)

    def start(key: Any) -> Array:
        first = rows[jax.random.randint(jax.random.fold_in(key, 0), (), 0, len(rows))]
        centres = jnp.tile(first[None], (clusters, 1))

        def add(number: Any, centres: Array) -> Array:
            least = apart(centres).min(1)  # those not yet drawn repeat the first
            drawn = jax.random.categorical(jax.random.fold_in(key, number), jnp.log(least))
            return centres.at[number].set(rows[jnp.where(least.max() > 0, drawn, 0)])

        return jax.lax.fori_loop(1, clusters, add, centres)

    def move(_: Any, centres: Array) -> Array:
        member = jax.nn.one_hot(apart(centres).argmin(1), clusters, dtype=rows.dtype)
        count = member.sum(0)[:, None]
        return jnp.where(count > 0, member.T @ rows / jnp.maximum(count, 1), centres)

    def one(key: Any) -> tuple[Array, Array]:
        centres = jax.lax.fori_loop(0, steps, move, start(key))
        distances = apart(centres)
        return distances.min(1).sum(), distances.argmin(1)

    losses, labels = jax.lax.map(one, jax.random.split(key, starts))
    return labels[jnp.argmin(losses)]
