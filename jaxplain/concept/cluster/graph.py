"""The graph of nearest neighbours of rows, and the smallest eigenvalues of its Laplacian."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.concept.distance import safe_shift, squared_distances
from jaxplain.types import Array

DENSE = 1500
"""Up to so many rows the whole matrix is taken apart on the device; above, by Lanczos' method on the host."""


@functools.partial(jax.jit, static_argnames=("neighbours", "batch_size"))
def nearest(rows: Array, neighbours: int, batch_size: int) -> tuple[Array, Array]:
    """The nearest other rows of each, `[N, k]`, and the distances; of equal ones those with the lower index."""
    shift = safe_shift(rows)
    rows = jnp.ldexp(rows, shift)

    def one(item: tuple[Array, Array]) -> tuple[Array, Array]:
        number, row = item
        apart = squared_distances(row[None], rows)[0].at[number].set(jnp.inf)
        found, index = jax.lax.top_k(-apart, neighbours)
        return index, jnp.ldexp(jnp.sqrt(-found), -shift)

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
        weights = np.exp(-((distances.ravel().astype(np.float64) / sigma) ** 2) / 2)
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


def parts(affinity: Any) -> np.ndarray:
    """Of an affinity's connected parts the vectors that its Laplacian sends to 0, `[N, parts]`, of length 1."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(affinity, directed=False)
    degree = np.asarray(affinity.sum(axis=1)).ravel()
    vectors = np.zeros((len(degree), count))
    vectors[np.arange(len(degree)), label] = np.sqrt(np.where(degree > 0, degree, 1))
    return vectors / np.linalg.norm(vectors, axis=0, keepdims=True)


def smallest(matrix: Any, count: int, affinity: Any) -> tuple[np.ndarray, np.ndarray]:
    """The `count` smallest eigenvalues of an affinity's Laplacian, ascending and not below 0, and their vectors.

    Lanczos' method finds an eigenvalue once, however often it is there: zeros are those of the connected parts, and it
    looks for the others beside them.
    """
    size = matrix.shape[0]
    if size <= DENSE or count >= size - 1:
        values, vectors = np.linalg.eigh(matrix.toarray())
    else:
        values, vectors = _beside(matrix, count, parts(affinity)[:, :count])
    order = np.argsort(values, kind="stable")[:count]
    vectors = vectors[:, order]
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return np.maximum(values[order], 0.0), vectors * np.where(sign == 0, 1, sign)[None]


def _beside(matrix: Any, count: int, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors, of which those in `known` belong to 0."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    zeros = np.zeros(known.shape[1])
    left = count - known.shape[1]
    if not left:
        return zeros, known

    def turned(x: np.ndarray) -> np.ndarray:  # the largest of 2 I - L, without the vectors that are known
        return 2 * x - matrix @ x - 2 * known @ (known.T @ x)

    size = matrix.shape[0]
    start = np.random.default_rng(0).normal(size=size)  # the same every time
    operator = LinearOperator((size, size), matvec=turned, dtype=np.float64)
    values, vectors = eigsh(operator, k=left, which="LA", v0=start, ncv=min(size, max(4 * count, 40)))
    return np.concatenate([zeros, 2 - values]), np.concatenate([known, vectors], axis=1)
