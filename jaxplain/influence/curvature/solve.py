"""Solvers of (H + damping I) s = g for many g: the whole matrix, conjugate gradients, Krylov spaces."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.influence.curvature.matrix import matrix, product, products
from jaxplain.influence.gradients import Examples
from jaxplain.types import Array

Solve = Callable[[Array, Any], tuple[Array, dict[str, Any]]]
"""`solve(rows [Q, P], damping) -> (solutions [Q, P], what is to be said of them)`."""

TOLERANCE = 1e-6


def explicit(examples: Examples, kind: str) -> Solve:
    """Factorise the whole matrix."""
    whole = matrix(examples, kind)

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        found, ratio = _factorised(whole, rows, jnp.asarray(damping, rows.dtype), definite=kind != "hessian")
        if not bool(ratio > rows.shape[1] * jnp.finfo(rows.dtype).eps):  # NaN, too
            raise ValueError(
                f"influence_function: the curvature {kind!r} with `damping` {float(damping):.3g} is singular to "
                f"{rows.dtype} (its pivots differ by a factor of {float(ratio):.1g}; it has {rows.shape[1]} params and "
                f"{examples.count} examples). Pass a larger `damping`, the L2 penalty of the summed loss."
            )
        return found, {}

    return solve


@functools.partial(jax.jit, static_argnames="definite")
def _factorised(whole: Array, rows: Array, damping: Array, definite: bool) -> tuple[Array, Array]:
    """Solutions, and the ratio of the smallest pivot to the largest."""
    damped = whole + damping * jnp.eye(len(whole), dtype=whole.dtype)
    if definite:
        factor = jax.scipy.linalg.cho_factor(damped, lower=True)
        pivots = jnp.diag(factor[0]) ** 2
        found = jax.scipy.linalg.cho_solve(factor, rows.T).T
    else:
        lu = jax.scipy.linalg.lu_factor(damped)
        pivots = jnp.abs(jnp.diag(lu[0]))
        found = jax.scipy.linalg.lu_solve(lu, rows.T).T
    return found, jnp.min(pivots) / jnp.max(pivots)


def conjugate_gradients(examples: Examples, kind: str, steps: int | None) -> Solve:
    """Products only: as many as `steps`, or until the residual is small."""

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        found = _conjugate(examples, kind, rows, jnp.asarray(damping, rows.dtype), steps or 10 * rows.shape[1])
        rest = products(examples, kind, found) + damping * found - rows
        norms = jnp.linalg.norm(rest, axis=1) / jnp.maximum(jnp.linalg.norm(rows, axis=1), jnp.finfo(rows.dtype).tiny)
        return found, {"residual": float(jnp.max(norms))}

    return solve


@functools.partial(jax.jit, static_argnames=("kind", "steps"))
def _conjugate(examples: Examples, kind: str, rows: Array, damping: Array, steps: int) -> Array:
    tolerance = 1e-12 if rows.dtype == jnp.float64 else TOLERANCE

    def one(row: Array) -> Array:
        apply = functools.partial(product, examples, kind)
        return jax.scipy.sparse.linalg.cg(lambda v: apply(v) + damping * v, row, tol=tolerance, maxiter=steps)[0]

    return jax.vmap(one)(rows)


def krylov(examples: Examples, kind: str, steps: int | None, key: Array) -> Solve:
    """Arnoldi's iteration, of a symmetric matrix: the inverse on the space of `steps` powers of H times a vector.

    What lies outside of that space is left out, as in the source; with as many steps as params nothing is.
    """
    size = examples.vector.size
    basis, values, vectors = _arnoldi(examples, kind, key, min(steps or 200, size))

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        directions = vectors.T @ basis  # Ritz vectors, as rows
        damped = values + damping
        # A direction that the iteration did not find any more (it closed) is zero, whatever its value.
        kept = jnp.where(jnp.abs(damped) > jnp.finfo(rows.dtype).eps * jnp.max(jnp.abs(damped)), 1 / damped, 0)
        return ((rows @ directions.T) * kept[None]) @ directions, {"directions": int(basis.shape[0])}

    return solve


@functools.partial(jax.jit, static_argnames=("kind", "steps"))
def _arnoldi(examples: Examples, kind: str, key: Array, steps: int) -> tuple[Array, Array, Array]:
    """An orthonormal basis `[S, P]`, and the eigenvalues and eigenvectors of the curvature in it."""
    vector = examples.vector
    first = jax.random.normal(key, vector.shape, vector.dtype)
    basis = jnp.zeros((steps, vector.size), vector.dtype).at[0].set(first / jnp.linalg.norm(first))
    small = jnp.finfo(vector.dtype).eps * 100

    def step(index: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, table = found
        pushed = product(examples, kind, basis[index])
        table = table.at[index].set(basis @ pushed)
        rest = pushed
        for _ in range(2):  # twice is enough, in any precision
            rest = rest - (basis @ rest) @ basis
        norm = jnp.linalg.norm(rest)
        fresh = jnp.where(norm > small * jnp.linalg.norm(pushed), rest / norm, 0)
        return basis.at[index + 1].set(fresh, mode="drop"), table

    basis, table = jax.lax.fori_loop(0, steps, step, (basis, jnp.zeros((steps, steps), vector.dtype)))
    # Row i holds b_j' H b_i for the j known by then: the lower half, and by symmetry the rest.
    lower = jnp.tril(table)
    values, vectors = jnp.linalg.eigh(lower + lower.T - jnp.diag(jnp.diag(lower)))
    return basis, values, vectors


def mean_eigenvalue(examples: Examples, kind: str, key: Array) -> float:
    """The mean eigenvalue of the curvature, estimated from eight random products (Hutchinson)."""
    size = examples.vector.size
    signs = jax.random.rademacher(key, (8, size)).astype(examples.vector.dtype)
    return float(np.mean(np.sum(np.asarray(products(examples, kind, signs) * signs), axis=1)) / size)
