"""The graph of nearest neighbours of rows, and the smallest eigenvalues of its Laplacian."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.types import Array

DENSE = 1500
"""Up to so many rows the whole matrix is taken apart on the device; above, by Lanczos' method on the host."""


@functools.partial(jax.jit, static_argnames=("neighbours", "batch_size"))
def nearest(rows: Array, neighbours: int, batch_size: int) -> tuple[Array, Array]:
    """The nearest other rows of each, `[N, k]`, and the distances; of equal ones those with the lower index."""
    rows = rows - jnp.mean(rows, axis=0)[None]  # far from the origin the three terms of a distance would cancel
    squares = (rows**2).sum(1)

    def one(item: tuple[Array, Array]) -> tuple[Array, Array]:
        number, row = item
        products = jnp.matmul(rows, row, precision=jax.lax.Precision.HIGHEST)
        apart = jnp.maximum(squares - 2 * products + row @ row, 0).at[number].set(jnp.inf)
        found, index = jax.lax.top_k(-apart, neighbours)
        return index, jnp.sqrt(-found)

    return jax.lax.map(one, (jnp.arange(len(rows)), rows), batch_size=batch_size)


def affinity(rows: np.ndarray, neighbours: int, sigma: float | None, batch_size: int) -> Any:
    """The symmetric affinity of neighbours, a SciPy matrix in compressed rows, without loops.

    1 where either row is among the other's nearest; with a width, exp(-distance^2 / (2 sigma^2)) there.
    """
    from scipy import sparse

    index, distances = map(np.asarray, nearest(jnp.asarray(rows), neighbours, min(batch_size, len(rows))))
    count = len(rows)
    weights = np.ones(index.size)
    if sigma is not None:
        weights = np.exp(-(distances.ravel().astype(np.float64) ** 2) / (2 * sigma**2))
    start = np.repeat(np.arange(count), neighbours)
    one_way = sparse.csr_matrix((weights, (start, index.ravel())), shape=(count, count))
    return one_way.maximum(one_way.T).tocsr()


def laplacian(matrix: Any) -> Any:
    """I - D^-1/2 A D^-1/2, sparse; 0 instead of 1 on the diagonal of a row without neighbours."""
    from scipy import sparse

    degree = np.asarray(matrix.sum(axis=1)).ravel()
    root = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    scaled = sparse.diags(root) @ matrix @ sparse.diags(root)
    return (sparse.diags((degree > 0).astype(float)) - scaled).tocsr()


def smallest(matrix: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` smallest eigenvalues of a Laplacian, ascending and not below 0, and their vectors `[N, count]`."""
    size = matrix.shape[0]
    if size <= DENSE or count >= size - 1:
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:
        from scipy.sparse import identity
        from scipy.sparse.linalg import eigsh

        # The largest of 2 I - L, from a start that is the same every time.
        start = np.random.default_rng(0).normal(size=size)
        values, vectors = eigsh(2 * identity(size) - matrix, k=count, which="LA", v0=start, ncv=max(4 * count, 40))
        values = 2 - values
    order = np.argsort(values, kind="stable")[:count]
    vectors = vectors[:, order]
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return np.maximum(values[order], 0.0), vectors * np.where(sign == 0, 1, sign)[None]
