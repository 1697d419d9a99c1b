"""One direction from the examples with and without a concept, in closed form or by Newton steps; and many of them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program import chunked_map
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
        The vector and the bias. Where m < D all but the difference of means is solved for m weights of the examples, in
        whose span each of these solutions lies. By Cholesky: on few cores XLA's batched QR waits for itself for ever.
    """
    used = jnp.abs(signs)
    centre = (used @ rows) / used.sum()
    moved = (rows - centre[None]) * used[:, None]
    solve = _WIDE.get(recipe.how) if rows.shape[0] < rows.shape[1] else None
    vector, offset = (solve or _SOLVERS[recipe.how])(moved, signs, recipe)
    size = jnp.linalg.norm(jnp.where(_told_apart(rows, signs), vector, jnp.nan))
    return vector / size, (offset - jnp.dot(vector, centre, precision=EXACT)) / size


def _told_apart(rows: Array, signs: Array) -> Array:
    """Whether the means of the two kinds differ in a unit by more than they are rounded."""
    first, second = _means(rows, signs)
    return jnp.any(jnp.abs(first - second) > 4 * jnp.finfo(rows.dtype).eps * jnp.max(jnp.abs(rows), axis=0))


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
    vector = _solve_regular(_damped(covariance, recipe.penalty), first - second)
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


def _ridge_of_many(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """`_ridge` for more values than examples: v = X' (X X' + penalty)^-1 y."""
    used = jnp.abs(signs)
    level = signs.sum() / used.sum()
    alike = jnp.matmul(rows, rows.T, precision=EXACT)
    right = signs - level * used
    if recipe.penalty == 0:
        weights = jnp.linalg.pinv(alike, hermitian=True) @ right
    else:
        weights = _solve(alike + _damping(alike, rows, recipe) * jnp.eye(len(rows), dtype=rows.dtype), right)
    return jnp.matmul(weights, rows, precision=EXACT), level


def _lda_of_many(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """`_lda` for more values than examples, by Woodbury's identity; it has a penalty."""
    first, second = _means(rows, signs)
    inside = (rows - jnp.where(signs[:, None] > 0, first[None], second[None])) * jnp.abs(signs)[:, None]
    alike = jnp.matmul(inside, inside.T, precision=EXACT)
    apart = first - second
    damped = alike + _damping(alike, rows, recipe) * jnp.eye(len(rows), dtype=rows.dtype)
    inner = _solve(damped, jnp.matmul(inside, apart, precision=EXACT))
    vector = apart - jnp.matmul(inner, inside, precision=EXACT)
    return vector, -jnp.dot(vector, first + second, precision=EXACT) / 2


def _logistic_of_many(rows: Array, signs: Array, recipe: Recipe) -> tuple[Array, Array]:
    """`_logistic` for more values than examples: each step is a weighted ridge regression in the examples' weights."""
    used = jnp.abs(signs)
    alike = jnp.matmul(rows, rows.T, precision=EXACT)
    damping = _damping(alike, rows, recipe)
    lengths = jnp.asarray([1.0, 0.5, 0.2, 0.05, 0.0], rows.dtype)
    dot = functools.partial(jnp.matmul, precision=EXACT)

    def loss(theta: Array) -> Array:
        weights, values = theta[:-1], dot(alike, theta[:-1])
        return jnp.sum(used * jax.nn.softplus(-signs * (values + theta[-1]))) + damping * dot(weights, values) / 2

    def step(theta: Array, _: Any) -> tuple[Array, None]:
        values = dot(alike, theta[:-1]) + theta[-1]
        odds = jax.nn.sigmoid(-signs * values) * used
        root = jnp.sqrt(odds * (1 - odds) + jnp.finfo(rows.dtype).eps * used)
        target = root * values + jnp.where(used > 0, signs * odds / jnp.where(root > 0, root, 1), 0)
        matrix = root[:, None] * alike * root[None] + damping * jnp.eye(len(rows), dtype=rows.dtype)
        both = _solve(matrix, jnp.stack([target, root], axis=1))
        offset = dot(root, both[:, 0]) / dot(root, both[:, 1])
        found = jnp.append(root * (both[:, 0] - offset * both[:, 1]), offset)
        tried = theta[None] + lengths[:, None] * (found - theta)[None]
        return tried[jnp.nanargmin(jax.vmap(loss)(tried))], None

    theta = jax.lax.scan(step, jnp.zeros(len(rows) + 1, rows.dtype), None, recipe.steps)[0]
    return dot(theta[:-1], rows), theta[-1]


def _damping(alike: Array, rows: Array, recipe: Recipe) -> Array:
    """`penalty` times the mean eigenvalue of the scatter matrix, over all dimensions."""
    return recipe.penalty * jnp.trace(alike) / rows.shape[1]


_WIDE = {"ridge": _ridge_of_many, "lda": _lda_of_many, "logistic": _logistic_of_many}
_SOLVERS = {"ridge": _ridge, "lda": _lda, "mean": _mean, "logistic": _logistic}


def _damped(matrix: Array, penalty: float) -> Array:
    """A matrix plus `penalty` times the mean of its eigenvalues on the diagonal."""
    return matrix + penalty * jnp.trace(matrix) / len(matrix) * jnp.eye(len(matrix), dtype=matrix.dtype)


def _solve_regular(matrix: Array, right: Array) -> Array:
    """As `_solve`, and NaN where a unit is a sum of others to rounding: Cholesky leaves nothing of its variance."""
    lower = jnp.linalg.cholesky(matrix)
    left = jnp.diag(lower) ** 2 / jnp.diag(matrix)
    regular = jnp.all(left > 8 * len(matrix) * jnp.finfo(matrix.dtype).eps)
    return jnp.where(regular, jax.scipy.linalg.cho_solve((lower, True), right), jnp.nan)


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
        if not measured:
            return *fit(rows, sign, recipe), jnp.full((), jnp.nan, values.dtype)
        # Side by side, not one beside the other: two LAPACK calls at once can wait for each other on few cores.
        both = jnp.stack([sign, sign * keep])
        (vector, other), (bias, offset) = jax.vmap(lambda own: fit(rows, own, recipe))(both)
        answer = jnp.matmul(rows, other, precision=EXACT) + offset
        right, aside = (answer * sign > 0).astype(values.dtype), 1 - keep
        shares = [jnp.sum(right * aside * side) / jnp.sum(aside * side) for side in (sign > 0, sign < 0)]
        return vector, bias, jnp.where(jnp.isfinite(answer).all(), (shares[0] + shares[1]) / 2, jnp.nan)

    # One scan of whole chunks: `lax.map` would fit the rest beside it, and two LAPACK calls wait for each other.
    return chunked_map(one, (index, signs, kept), batch_size)
