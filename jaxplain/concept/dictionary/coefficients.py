"""Non-negative least squares: the codes of activations in fixed non-negative atoms, with their implicit derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import public, wide_dtype
from jaxplain.types import Array, ArrayLike

SWEEPS = 8  # coordinate descents between two trials of the exact solution on the support
TURNS = 125  # most trials
NUMBERS = 1 << 22  # of the matrices that are solved at once


@public
def non_negative_coefficients(activations: ArrayLike, atoms: ArrayLike) -> Array:
    """Find the non-negative combination of atoms that is nearest to each activation: argmin |a - u V|^2 over u >= 0.

    Coordinate descent until the conditions of Karush, Kuhn and Tucker hold, with the equations of the support solved
    exactly. The derivative is the implicit one: where V_S are the atoms with positive codes,
    V_S V_S' u_S = V_S a holds around the solution, so that du_S = (V_S V_S')^-1 (V_S da + dV_S a - d(V_S V_S') u_S) and
    the other codes stay 0. At a point where a code is about to become positive it is one of two one-sided derivatives.

    Args:
        activations: `[..., D]`, of any sign.
        atoms: V, `[k, D]`.

    Returns:
        Codes `[..., k]`, zero or more; each row depends on no other. Cost: of each row k D operations, and k^3 for
        each of a few solutions. Memory is bounded: rows are solved in blocks.

    Raises:
        ValueError: Shapes that do not fit, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> atoms = jnp.array([[1.0, 0.0], [1.0, 1.0]])
        >>> non_negative_coefficients(jnp.array([[3.0, 1.0], [1.0, 3.0]]), atoms).round(3).tolist()
        [[2.0, 1.0], [0.0, 2.0]]

    Source: Fel et al. 2023, "CRAFT: concept recursive activation factorization for explainability", section 3.4
    (the derivative); Franc et al. 2005, "Sequential coordinate-wise algorithm for the non-negative least squares
    problem".
    """
    name = "non_negative_coefficients"
    for argument, value in (("activations", activations), ("atoms", atoms)):
        check.arrays(value, name, argument)
        check.finite(value, name, argument)
    h, v = jnp.asarray(activations), jnp.asarray(atoms)
    if v.ndim != 2 or h.ndim < 1 or h.shape[-1] != v.shape[1]:
        raise ValueError(
            f"{name}: `activations` has shape {h.shape} and `atoms` {v.shape}; they have to be [..., D] and [k, D]."
        )
    return coefficients(h, v)


@jax.jit
def coefficients(h: Array, atoms: Array) -> Array:
    """Codes `[..., k]` of activations `[..., D]`, unchecked; computed in float32 at least, of the wider dtype."""
    dtype = wide_dtype(jnp.result_type(h, atoms))
    out = jnp.result_type(h, atoms) if jnp.issubdtype(jnp.result_type(h, atoms), jnp.floating) else dtype
    atoms = atoms.astype(dtype)
    squares = jnp.sum(atoms**2, axis=1)  # of atoms of length 1: what keeps parallel ones apart is then small for each
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1))
    atoms = atoms / length[:, None]
    rows = h.reshape(-1, h.shape[-1]).astype(dtype)
    gram, size = atoms @ atoms.T, atoms.shape[0]
    block = max(1, NUMBERS // max(1, size * size))
    solve = lambda row: _solved(gram, atoms @ row)  # noqa: E731
    found = jax.lax.map(solve, rows, batch_size=block) if rows.shape[0] > block else jax.vmap(solve)(rows)
    return (found / length[None]).reshape(*h.shape[:-1], size).astype(out)


def _solved(gram: Array, target: Array) -> Array:
    """argmin u G u / 2 - t u over u >= 0, differentiable in both."""
    support, rough = jax.lax.stop_gradient(_descended(*jax.lax.stop_gradient((gram, target))))
    exact = on_support(gram, target, support)
    # the value is what descended; what is linear in (gram, target) on the support has its derivative
    return rough + (exact - jax.lax.stop_gradient(exact))


def on_support(gram: Array, target: Array, support: Array) -> Array:
    """The solution of the equations of a support, zero elsewhere; parallel atoms are kept apart by rounding's size."""
    size = gram.shape[0]
    inside = support[:, None] & support[None, :]
    ridge = size * jnp.finfo(gram.dtype).eps * jnp.max(jnp.diag(gram))
    matrix = jnp.where(inside, gram, 0) + jnp.diag(jnp.where(support, ridge, 1))
    return jnp.where(support, jnp.linalg.solve(matrix, jnp.where(support, target, 0)), 0)


def _descended(gram: Array, target: Array) -> tuple[Array, Array]:
    """The support and the codes, by coordinate descent until the equations of its support hold everywhere."""
    size, eps = gram.shape[0], jnp.finfo(gram.dtype).eps
    diagonal = jnp.diag(gram)
    alive = diagonal > 0
    most = jnp.max(jnp.abs(target))

    def one(j: Array, u: Array) -> Array:
        value = u[j] - (jnp.sum(gram[j] * u) - target[j]) / jnp.where(alive[j], diagonal[j], 1)
        return u.at[j].set(jnp.where(alive[j], jnp.maximum(value, 0), 0))

    def turn(state: Any) -> Any:
        u, _, count = state
        u = jax.lax.fori_loop(0, SWEEPS * size, lambda i, u: one(i % size, u), u)
        exact = on_support(gram, target, u > 0)
        slope = target - jnp.sum(gram * exact[None, :], axis=1)  # zero or less where a code is 0
        right = jnp.all(exact >= 0) & jnp.all((u > 0) | ~alive | (slope <= 8 * size * eps * most))
        return jnp.where(right, exact, u), right, count + 1

    start = (jnp.zeros_like(target), jnp.all(target <= 0), 0)
    u, _, _ = jax.lax.while_loop(lambda state: ~state[1] & (state[2] < TURNS), turn, start)
    return u > 0, u
