"""One direction from the examples with and without a concept, in closed form or by Newton steps; and many of them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.types import Array

EXACT = jax.lax.Precision.HIGHEST


class Recipe(NamedTuple):
    """How a direction is fitted; hashable, so that it is part of what is compiled."""

    how: str
    penalty: float
    steps: int


def fit(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """The unit vector `[D]` and the bias for which v . x + bias is positive on the side of the concept.

    Args:
        rows: `[m, D]`; rows whose sign is 0 do not count.
        signs: `[m]`, 1, -1 or 0.
        recipe: How.

    Returns:
        The vector and the bias. Where m < D all but the difference of means is computed in the m dimensions that the
        examples span, in which each of these solutions lies.
    """
    used = jnp.abs(signs)
    centre = (used @ rows) / used.sum()
    moved = (rows - centre[None]) * used[:, None]
    turned = rows.shape[0] < rows.shape[1] and recipe.how != "mean"
    basis, inner = jnp.linalg.qr(moved.T) if turned else (None, None)
    small = inner.T if turned else moved
    ratio = small.shape[1] / rows.shape[1]  # a trace over fewer dimensions means more for each of them
    vector, offset = _SOLVERS[recipe.how](small, signs, recipe._replace(penalty=recipe.penalty * ratio))
    vector = vector if basis is None else jnp.matmul(basis, vector, precision=EXACT)
    size = jnp.linalg.norm(vector)
    return vector / size, (offset - jnp.dot(vector, centre, precision=EXACT)) / size


def _means(rows: Array, signs: Array) -> tuple[Array, Array]:
    """Of the examples with and without the concept."""
    with_it, without = jnp.maximum(signs, 0), jnp.maximum(-signs, 0)
    dot = functools.partial(jnp.matmul, precision=EXACT)
    return dot(with_it, rows) / with_it.sum(), dot(without, rows) / without.sum()


def _mean(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    first, second = _means(rows, signs)
    return first - second, -jnp.dot(first - second, first + second, precision=EXACT) / 2


def _lda(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """S^-1 (mu1 - mu0), S the pooled covariance within classes plus penalty tr(S) / D; the border half-way."""
    first, second = _means(rows, signs)
    own = jnp.where(signs[:, None] > 0, first[None], second[None])
    inside = (rows - own) * jnp.abs(signs)[:, None]
    covariance = jnp.matmul(inside.T, inside, precision=EXACT) / (jnp.abs(signs).sum() - 2)
    vector = _solve(_damped(covariance, recipe.penalty), first - second)
    return vector, -jnp.dot(vector, first + second, precision=EXACT) / 2


def _ridge(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """The least squares of 1 / -1 with an intercept that is not penalised; of least norm without a penalty."""
    used = jnp.abs(signs)
    level = signs.sum() / used.sum()
    scatter = jnp.matmul(rows.T, rows, precision=EXACT)
    right = jnp.matmul((signs - level * used), rows, precision=EXACT)
    if recipe.penalty == 0:
        return jnp.linalg.pinv(scatter, hermitian=True) @ right, level
    return _solve(_damped(scatter, recipe.penalty), right), level


def _logistic(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """Newton's method on the summed logistic loss plus the penalty; each step is the best of five lengths."""
    used, count = jnp.abs(signs), rows.shape[1]
    wide = jnp.concatenate([rows, used[:, None]], axis=1)
    damping = recipe.penalty * jnp.sum(rows**2) / count
    damped = damping * jnp.append(jnp.ones(count, rows.dtype), 0)
    lengths = jnp.asarray([1.0, 0.5, 0.2, 0.05, 0.0], rows.dtype)

    def loss(theta: Array) -> Array:
        margins = signs * jnp.matmul(wide, theta, precision=EXACT)
        return jnp.sum(used * jax.nn.softplus(-margins)) + jnp.sum(damped * theta**2) / 2

    def step(theta: Array, _: Any) -> tuple[Array, None]:
        odds = jax.nn.sigmoid(-signs * jnp.matmul(wide, theta, precision=EXACT)) * used
        slope = -jnp.matmul(signs * odds, wide, precision=EXACT) + damped * theta
        weight = odds * (1 - odds) + jnp.finfo(rows.dtype).eps * used
        bent = jnp.matmul(wide.T * weight[None], wide, precision=EXACT) + jnp.diag(damped)
        move = _solve(bent, slope)
        tried = theta[None] - lengths[:, None] * move[None]
        return tried[jnp.nanargmin(jax.vmap(loss)(tried))], None

    theta = jax.lax.scan(step, jnp.zeros(count + 1, rows.dtype), None, recipe.steps)[0]
    return theta[:-1], theta[-1]


_SOLVERS = {"ridge": _ridge, "lda": _lda, "mean": _mean, "logistic": _logistic}


def _damped(matrix: Array, penalty: float) -> Array:
    """A matrix plus `penalty` times the mean of its eigenvalues on the diagonal."""
    return matrix + penalty * jnp.trace(matrix) / len(matrix) * jnp.eye(len(matrix), dtype=matrix.dtype)


def _solve(matrix: Array, right: Array) -> Array:
    return jax.scipy.linalg.solve(matrix, right, assume_a="pos")


@functools.partial(jax.jit, static_argnames=("recipe", "batch_size", "measured"))
def fit_all(
    values: Array, index: Array, signs: Array, kept: Array, recipe: Recipe, batch_size: int, measured: bool
) -> tuple[Array, Array, Array]:
    """Vectors `[C, D]`, biases `[C]` and the balanced accuracy `[C]` on what a second fit held out: one program."""

    def one(row: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        where, sign, keep = row
        sign, keep = sign.astype(values.dtype), keep.astype(values.dtype)
        rows = values[where]
        vector, bias = fit(rows, sign, recipe)
        if not measured:
            return vector, bias, jnp.full((), jnp.nan, values.dtype)
        other, offset = fit(rows, sign * keep, recipe)
        answer = jnp.matmul(rows, other, precision=EXACT) + offset
        right, aside = (answer * sign > 0).astype(values.dtype), 1 - keep
        shares = [jnp.sum(right * aside * side) / jnp.sum(aside * side) for side in (sign > 0, sign < 0)]
        return vector, bias, jnp.where(jnp.isfinite(answer).all(), (shares[0] + shares[1]) / 2, jnp.nan)

    return jax.lax.map(one, (index, signs, kept), batch_size=batch_size)
