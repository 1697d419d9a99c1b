"""Non-negative matrix factorisation on the device: hierarchical alternating least squares, with implicit derivative."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import public, shown, wide_dtype
from jaxplain.types import Array, ArrayLike


@shown
class Factorization(NamedTuple):
    """A non-negative factorisation, activations = codes @ atoms + rest.

    codes: `[N, k]`, zero or more. atoms: `[k, D]`, zero or more, of unit length (zero where fewer explain all), and
        those first that explain most, by the squared length of their codes.
    losses: `[steps + 1]`, the sum of squares of the rest at the start and after each step; they never rise, and stay
        where the steps ended. steps: how many were taken.
    """

    codes: Array
    atoms: Array
    losses: Array
    steps: Array


@public
def non_negative_factorization(
    activations: ArrayLike,
    k: int,
    *,
    key: Array | None = None,
    start: tuple[ArrayLike, ArrayLike] | None = None,
    steps: int = 500,
    tolerance: float = 1e-6,
) -> Factorization:
    """Factorise non-negative activations, minimising |A - U V|^2 over U, V >= 0 by HALS.

    Each step minimises exactly over one column of U after the other, then over one row of V after the other, so that
    the loss never rises; a step that rounding makes worse is not taken. The result has a derivative with respect to
    the activations, by the implicit function theorem: with theta the positive entries of U and V, dL/dtheta = 0 holds
    around a minimum, so that d theta = -(d2L/dtheta2)^-1 (d2L/dtheta dA) dA, by conjugate gradients; what is 0 stays 0.
    It presumes that the steps have converged (`tolerance` 0 and enough of them). Where several factors have one product
    (too few zeros) the derivative of the factors is that of a slightly damped problem, and that of the product right.

    Args:
        activations: A, `[N, D]`, zero or more: one row for each crop, place or token.
        k: How many atoms, at most the smaller of N and D.
        key: PRNG key of a random start; None starts at the singular vectors (NNDSVDa), the same always.
        start: (U, V) to start from, `[N, k]` and `[k, D]`, zero or more; then no key is used.
        steps: Most steps.
        tolerance: Ends where a step lowers the loss by less than this share of the first loss.

    Returns:
        `Factorization(codes, atoms, losses, steps)`. Cost of a step: 6 N k D operations. Computed in float32 at least.

    Raises:
        ValueError: Negative or NaN activations (their number and the first), activations that are all equal, a k above
            N or D, a start that does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> found = non_negative_factorization(jnp.array([[3.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), 2)
        >>> found.atoms.round(2).tolist(), found.codes.round(2).tolist()
        ([[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 1.0], [3.0, 1.0]])

    Source: Cichocki and Phan 2009, "Fast local algorithms for large scale nonnegative matrix and tensor
    factorizations" (HALS); Boutsidis and Gallopoulos 2008, "SVD based initialization" (NNDSVD); Fel et al. 2023,
    "CRAFT", sections 3.2 and 3.4.
    """
    name = "non_negative_factorization"
    a = non_negative_rows(activations, k, name)
    check.count(steps, name, "steps")
    check.one_number(tolerance, name, "tolerance", zero=True)
    given = None if start is None else _given(start, a, k, name)
    return factorized(a, key, given, jnp.asarray(tolerance, a.dtype), k, steps)


def rows_of(activations: Any, k: Any, name: str, argument: str = "activations", *, most: str = "both") -> Array:
    """Require finite activations `[N, D]` that are not all equal, and a k that they allow; in float32 at least."""
    check.arrays(activations, name, argument)
    a = jnp.asarray(activations)
    if a.ndim != 2:
        raise ValueError(
            f"{name}: `{argument}` has shape {a.shape}; it has to be [N, D], one row for each crop, place or token. "
            "Of values with more axes make rows: h.reshape(-1, h.shape[-1])."
        )
    check.real(a, name, argument)
    check.finite(a, name, argument)
    k = check.count(k, name, "k")
    count, width = a.shape
    if k > count:
        raise ValueError(f"{name}: `k` is {k}, but there are {count} activations. Pass at most {count}, or more rows.")
    if most == "both" and k > width:
        raise ValueError(
            f"{name}: `k` is {k}, but an activation has {width} numbers, of which no more than {width} atoms can be "
            f"made. Pass at most {width}; for more concepts than dimensions train a sparse autoencoder."
        )
    if check.is_concrete(a) and all(bool(jnp.all(rows == a[:1])) for rows in (a[1:2], a)):  # two rows mostly tell
        raise ValueError(
            f"{name}: all {count} rows of `{argument}` are equal ({check.short(np.asarray(a[0]))}), so that there is "
            "nothing to tell apart: the layer is constant on these inputs. Pass other inputs, or an earlier layer."
        )
    return a.astype(wide_dtype(a.dtype)) if check.is_floating(a) else a.astype(jnp.result_type(float))


def non_negative_rows(activations: Any, k: Any, name: str, layer: str | None = None) -> Array:
    """The same, of activations that are zero or more."""
    a = rows_of(activations, k, name)
    require_non_negative(a, name, layer)
    return a


def require_non_negative(a: Array, name: str, layer: str | None = None) -> None:
    """Require rows `[N, D]` of zeros and more."""
    if check.is_concrete(a) and bool(jnp.any(a < 0)):
        values = np.asarray(a, np.float64)
        wrong = np.argwhere(values < 0)
        row, column = (int(i) for i in wrong[0])
        where = f"the layer {layer!r}" if layer else "`activations`"
        raise ValueError(
            f"{name}: {where} has {len(wrong)} negative values of {values.size} (the first, {values[row, column]:.4g}, "
            f"in row {row}, unit {column}; the least is {values.min():.4g}; {len(set(wrong[:, 1].tolist()))} of "
            f"{values.shape[1]} units have any), of which no non-negative factorisation can be made. Cut after the "
            "ReLU, or find concepts with `principal_components`, `k_means` or a sparse autoencoder."
        )


def _given(start: Any, a: Array, k: int, name: str) -> tuple[Array, Array]:
    if not (isinstance(start, tuple | list) and len(start) == 2):
        raise TypeError(f"{name}: `start` is {check.short(start)}; pass (codes [N, k], atoms [k, D]).")
    u, v = (jnp.asarray(part) for part in start)
    if u.shape != (a.shape[0], k) or v.shape != (k, a.shape[1]):
        raise ValueError(
            f"{name}: `start` has the shapes {u.shape} and {v.shape}, but codes {(a.shape[0], k)} and atoms "
            f"{(k, a.shape[1])} are needed."
        )
    for part in (u, v):
        check.finite(part, name, "start")
        if check.is_concrete(part) and bool(jnp.any(part < 0)):
            raise ValueError(f"{name}: `start` holds negative values; both factors have to be zero or more.")
    return u.astype(a.dtype), v.astype(a.dtype)


@functools.partial(jax.jit, static_argnames=("k", "steps"))
def factorized(a: Array, key: Any, given: Any, tolerance: Array, k: int, steps: int) -> Factorization:
    """The factorisation, unchecked."""
    scale = jnp.max(jax.lax.stop_gradient(a))  # so that neither squares nor the start depend on the unit
    a = a / scale
    fixed = jax.lax.stop_gradient(a)
    begun = (
        (given[0] / scale, given[1])
        if given is not None
        else (singular_start(fixed, k) if key is None else _random_start(fixed, key, k))
    )
    (u, v), losses, taken = jax.lax.stop_gradient(_descended(fixed, begun, tolerance, steps))
    u, v = _with_derivative(a, u, v)
    lengths = _lengths(v, 1)
    u, v = u * lengths[None], v / lengths[:, None]
    order = jnp.argsort(-jnp.sum(jax.lax.stop_gradient(u) ** 2, axis=0), stable=True)
    return Factorization(scale * u[:, order], v[order], losses * scale**2, taken)


def loss_of(a: Array, u: Array, v: Array) -> Array:
    """The sum of squares of what a factorisation leaves."""
    return jnp.sum((a - u @ v) ** 2)


def _descended(a: Array, begun: tuple[Array, Array], tolerance: Array, steps: int) -> Any:
    """The factors, the losses and the number of steps."""
    first = loss_of(a, *begun)

    def step(state: Any) -> Any:
        (u, v), losses, count, _ = state
        u_new = _half(a @ v.T, v @ v.T, u)
        v_new = _half(a.T @ u_new, u_new.T @ u_new, v.T).T
        loss, former = loss_of(a, u_new, v_new), losses[count]
        better = loss < former
        kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), (u_new, v_new), (u, v))
        losses = jnp.where(jnp.arange(steps + 1) > count, jnp.where(better, loss, former), losses)
        return kept, losses, count + better, ~better | (former - loss <= tolerance * first)

    state = (begun, jnp.full(steps + 1, first), jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    factors, losses, count, _ = jax.lax.while_loop(lambda s: (s[2] < steps) & ~s[3], step, state)
    return factors, losses, count


def _half(products: Array, gram: Array, u: Array) -> Array:
    """One factor's columns, each minimised exactly in turn: products `[N, k]` and gram `[k, k]` are of the other."""

    def column(j: Array, u: Array) -> Array:
        size = gram[j, j]
        new = u[:, j] + (products[:, j] - u @ gram[:, j]) / jnp.where(size > 0, size, 1)
        return u.at[:, j].set(jnp.where(size > 0, jnp.maximum(new, 0), u[:, j]))

    return jax.lax.fori_loop(0, u.shape[1], column, u)


def singular_start(a: Array, k: int) -> tuple[Array, Array]:
    """NNDSVDa: of each pair of singular vectors the larger of its positive and negative parts, zeros by the mean."""
    left, values, right = jnp.linalg.svd(a, full_matrices=False)
    left, values, right = left[:, :k], values[:k], right[:k]

    def parts(sign: float) -> tuple[Array, Array, Array]:
        x, y = jnp.maximum(sign * left.T, 0), jnp.maximum(sign * right, 0)
        x_size, y_size = jnp.linalg.norm(x, axis=1), jnp.linalg.norm(y, axis=1)
        unit = lambda part, size: part / jnp.where(size > 0, size, 1)[:, None]  # noqa: E731
        return unit(x, x_size), unit(y, y_size), x_size * y_size

    (x, y, size), (x_minus, y_minus, size_minus) = parts(1.0), parts(-1.0)
    plus = size >= size_minus
    root = jnp.sqrt(values * jnp.maximum(size, size_minus))[:, None]
    u, v = (root * jnp.where(plus[:, None], p, m) for p, m in ((x, x_minus), (y, y_minus)))
    mean = jnp.mean(a)
    fill = lambda factor: jnp.where(factor < 1e-6, mean, factor)  # noqa: E731
    return fill(u).T, fill(v)


def _random_start(a: Array, key: Array, k: int) -> tuple[Array, Array]:
    """Absolute normal numbers whose products have the mean of the activations."""
    scale = jnp.sqrt(jnp.mean(a) / k)
    one, other = jax.random.split(key)
    u = scale * jnp.abs(jax.random.normal(one, (a.shape[0], k), a.dtype))
    return u, scale * jnp.abs(jax.random.normal(other, (k, a.shape[1]), a.dtype))


def _lengths(factor: Array, axis: int) -> Array:
    """The lengths of a factor's columns or rows, 1 of one that is zero."""
    lengths = jnp.linalg.norm(factor, axis=axis)
    return jnp.where(lengths > 0, lengths, 1)


def _with_derivative(a: Array, u: Array, v: Array) -> tuple[Array, Array]:
    """The factors, with the implicit derivative in `a` of a minimum."""
    ratio = jnp.sqrt(_lengths(v, 1) / _lengths(u, 0))  # one length for both, for the condition of what is solved
    u, v = u * ratio[None], v / ratio[:, None]
    free = (u > 0).astype(a.dtype), (v > 0).astype(a.dtype)
    slope = jax.grad(loss_of, argnums=(1, 2))
    eps = float(jnp.finfo(a.dtype).eps)
    # directions that leave the loss as it is (factors that are not unique) would grow without bound
    damping = max(1e-6, eps**0.5) * (jnp.sum(u**2) + jnp.sum(v**2)) / u.shape[1]
    fixed = jax.lax.stop_gradient(a)

    def curved(moved: tuple[Array, Array]) -> tuple[Array, Array]:
        inside = jax.tree.map(jnp.multiply, moved, free)
        bent = jax.jvp(lambda *at: slope(fixed, *at), (u, v), inside)[1]
        # a longer column and a shorter row leave the product: the direction is no solution's and is made definite
        scaled = jnp.sum(inside[0] * u, axis=0) - jnp.sum(inside[1] * v, axis=1)
        bent = bent[0] + u * scaled[None], bent[1] - v * scaled[:, None]
        bent = jax.tree.map(lambda b, m: b + damping * m, bent, inside)
        return jax.tree.map(lambda b, f, m: b * f + m * (1 - f), bent, free, moved)

    def solve(matvec: Any, rest: Any) -> Any:
        return jax.scipy.sparse.linalg.cg(matvec, rest, tol=eps**0.5, maxiter=1000)[0]

    rest = jax.tree.map(jnp.multiply, slope(a, u, v), free)
    rest = jax.tree.map(lambda r: r - jax.lax.stop_gradient(r), rest)  # zero in value at a minimum, and taken for it
    moved = jax.lax.custom_linear_solve(curved, rest, solve, symmetric=True)
    return u - moved[0], v - moved[1]
