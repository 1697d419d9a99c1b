"""Distances between rows of activations or attributions, exact wherever the rows lie."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.types import Array


def squared_distances(first: Array, second: Array) -> Array:
    """|a - b|^2 of all pairs of `[N, D]` and `[M, D]`, `[N, M]`, by one product of matrices.

    Taken about the second's mean: far from the origin the three terms |a|^2 - 2 a b + |b|^2 would cancel.
    """
    middle = jnp.mean(second, axis=0)[None]
    first, second = first - middle, second - middle
    products = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum((first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * products, 0)


SAFE = 32
"""The exponent of the largest value that is aimed at: squares of it, and sums of many, are far from both ends."""


@jax.jit
def safe_shift(*values: Array) -> Array:
    """The exponent of the power of two by which values have to be multiplied so that their squares are numbers.

    0 where they are as they are. Attributions of a saturated probability are as small as 1e-30, of which every square
    is 0 in float32, so that all rows would be equally near; squares of 1e20 are infinite.
    """
    largest = jnp.max(
        jnp.stack([jnp.max(jnp.abs(value), initial=0).astype(jnp.result_type(*values)) for value in values])
    )
    exponent = jnp.frexp(largest)[1]
    fine = (largest == 0) | ((exponent >= -30) & (exponent <= SAFE))
    return jnp.where(fine, 0, jnp.clip(SAFE - exponent, -120, 120))


def scaled(values: Array, shift: Array) -> Array:
    """`values` times that power of two; as they are where it is known to be one."""
    return values if check.is_concrete(shift) and not int(shift) else jnp.ldexp(values, shift)


def median_distance(squares: Array) -> Array:
    """The median of squared distances that are apart, as a distance; copies of a row, and NaN places, do not count."""
    distances = jnp.sqrt(squares)
    return jnp.nanmedian(jnp.where(distances > 1e-3 * jnp.nanmax(distances), distances, jnp.nan))
