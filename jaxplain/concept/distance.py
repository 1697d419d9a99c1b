"""Distances between rows of activations or attributions, exact wherever the rows lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxplain.types import Array


def squared_distances(first: Array, second: Array) -> Array:
    """|a - b|^2 of all pairs of `[N, D]` and `[M, D]`, `[N, M]`, by one product of matrices.

    Taken about the second's mean: far from the origin the three terms |a|^2 - 2 a b + |b|^2 would cancel.
    """
    middle = jnp.mean(second, axis=0)[None]
    first, second = first - middle, second - middle
    products = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * products, 0)


def median_distance(squares: Array) -> Array:
    """The median of squared distances that are apart, as a distance; copies of a row, and NaN places, do not count."""
    distances = jnp.sqrt(squares)
    return jnp.nanmedian(jnp.where(distances > 1e-3 * jnp.nanmax(distances), distances, jnp.nan))
