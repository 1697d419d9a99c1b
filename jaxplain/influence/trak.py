"""TRAK: a linear model in projected gradients of the margin."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.influence.gradients import Examples, examples_of, require_finite
from jaxplain.influence.result import Influence, labels_inside, log_odds
from jaxplain.program import as_function, public
from jaxplain.types import Array, Number, Pytree

CHUNK = 1024  # rows of the projection that exist at once


@public
def trak(
    apply: Callable[..., Any],
    checkpoints: Pytree,
    data: Any,
    queries: tuple[Any, Any],
    *,
    key: Array,
    dimension: int | None = 512,
    damping: Number | None = None,
    criterion: Callable[[Array, Any], Array] = log_odds,
    batch_size: int = 64,
) -> Influence:
    """Attribute by TRAK: phi_q' (Phi' Phi + lambda I)^-1 Phi' Q, with phi the projected gradients of the margin.

    Phi `[N, k]` holds the gradients of `criterion` (log-odds of the label) of the training examples at a checkpoint,
    times a random matrix of signs / sqrt(k); Q is diagonal with 1 - p_i. Over an ensemble the mean of the first part is
    multiplied by the mean of Q.

    Args:
        apply: As in `influence_function`.
        checkpoints: Params of one or several trained models, stacked: each leaf `[C, ...]`.
        data: `(inputs, targets)`, the training examples, `[N, ...]`, with integer labels.
        queries: `(inputs, targets)`, `[Q, ...]`.
        key: PRNG key of the projection. A row of it belongs to one trained number, by the leaf's and its own place, so
            that neither chunks nor batches change it.
        dimension: k, numbers that a gradient is projected to; None takes the gradients as they are, `[N, P]`.
        damping: lambda, zero or more; None is 1e-6 trace(Phi' Phi) / k.
        criterion: `(outputs, target) -> scalar`, the margin m with p = 1 / (1 + exp(-m)).
        batch_size: Examples at once; each block draws the projection again.

    Returns:
        `Influence` with values `[Q, N]`, units None, of the query's margin (higher is better). Cost for each
        checkpoint: one forward and backward pass for each example and query, and P k (N + Q) operations to project.

    Raises:
        ValueError, TypeError: Checkpoints of another model, labels outside the classes, and as `influence_function`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, y = jnp.eye(2), jnp.array([0, 1])
        >>> apply, checkpoints = lambda w, x: x @ w, jnp.zeros((1, 2, 2))
        >>> found = trak(apply, checkpoints, (x, y), (x, y), key=jax.random.key(0), dimension=None)
        >>> bool(found.values[0, 0] > found.values[0, 1])
        True

    Source: Park et al. 2023, "TRAK: attributing model behavior at scale", equation 17 and algorithm 1.
    """
    count = check.batch_length(checkpoints, "trak", "checkpoints")
    if dimension is not None:
        check.count(dimension, "trak", "dimension")
    if damping is not None:
        check.one_number(damping, "trak", "damping", zero=True)
    if not (isinstance(queries, tuple) and len(queries) == 2):
        raise TypeError(f"trak: `queries` is {check.short(queries)}; pass (inputs, targets), arrays [Q, ...].")
    criterion = as_function(criterion)
    maps: Any = 0.0
    shares: Any = 0.0
    margins: Any = 0.0
    for index in range(count):
        params = jax.tree.map(lambda a, index=index: jnp.asarray(a)[index], checkpoints)
        if index == 0:
            learnt, asked = (
                examples_of(apply, params, rows, criterion, None, batch_size, "trak", "checkpoints")
                for rows in (data, queries)
            )
            for one in (learnt, asked):
                labels_inside(one.model, params, one.data.inputs, one.data.targets, criterion, "trak")
            _refuse_singular(learnt, dimension, damping)
        learnt = Examples(learnt.model, criterion, params, learnt.data, batch_size)
        asked = Examples(asked.model, criterion, params, asked.data, batch_size)
        own, phi = projected(learnt, key, dimension)
        score, query = projected(asked, key, dimension)
        require_finite(learnt, phi, "trak")
        maps = maps + _weights(phi, query, damping) / count
        shares, margins = shares + jax.nn.sigmoid(-own) / count, margins + score / count
    values = maps * shares[None]
    require_finite(learnt, values, "trak")
    return Influence(values, margins, None, True, f"trak ({count})", {"dimension": dimension, "checkpoints": count})


def _refuse_singular(examples: Examples, dimension: int | None, damping: Any) -> None:
    """Without damping, a Gram matrix larger than the number of params is singular."""
    size = jax.eval_shape(lambda e: e.vector, examples).size
    gram = min(examples.count, size if dimension is None else dimension)
    if damping is not None and float(damping) == 0 and gram > size:
        raise ValueError(
            f"trak: with `damping` 0 the Gram matrix of {examples.count} examples in {dimension} dimensions is "
            f"singular: the model has {size} params. Pass a positive `damping`, or dimension=None."
        )


@functools.partial(jax.jit, static_argnames="dimension")
def projected(examples: Examples, key: Array, dimension: int | None) -> tuple[Array, Array]:
    """The value of each example's criterion, `[N]`, and its projected gradient, `[N, k]`."""
    vector = examples.vector
    one = jax.value_and_grad(examples.example_loss)
    if dimension is None:
        return jax.lax.map(lambda row: one(vector, *row), examples.data[:2], batch_size=examples.batch_size)

    def block(rows: Any) -> tuple[Array, Array]:
        values, gradients = jax.vmap(lambda row: one(vector, *row))(rows)
        return values, project(gradients, key, dimension)

    size = min(examples.batch_size, examples.count)
    full = examples.count // size * size
    grouped = jax.tree.map(lambda a: a[:full].reshape(-1, size, *a.shape[1:]), examples.data[:2])
    found = jax.tree.map(lambda a: a.reshape(full, *a.shape[2:]), jax.lax.map(block, grouped))
    if full == examples.count:
        return found
    last = block(jax.tree.map(lambda a: a[full:], examples.data[:2]))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, last)


def project(gradients: Array, key: Array, dimension: int, chunk: int = CHUNK) -> Array:
    """Rows `[B, P]` times a matrix of random signs `[P, k]` / sqrt(k), of which `chunk` rows exist at once.

    Each row of the matrix has a key of its own, folded from its place.
    """
    size = gradients.shape[1]
    chunk = min(chunk, size)

    def rows(start: Array, length: int) -> Array:
        keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(start + jnp.arange(length))
        return jax.vmap(lambda k: jax.random.rademacher(k, (dimension,), gradients.dtype))(keys)

    def add(total: Array, start: Array) -> tuple[Array, None]:
        return total + jax.lax.dynamic_slice_in_dim(gradients, start, chunk, 1) @ rows(start, chunk), None

    full, rest = divmod(size, chunk)
    total = jnp.zeros((len(gradients), dimension), gradients.dtype)
    total, _ = jax.lax.scan(add, total, jnp.arange(full) * chunk)
    if rest:
        total = total + gradients[:, full * chunk :] @ rows(jnp.asarray(full * chunk), rest)
    return total / jnp.sqrt(jnp.asarray(dimension, gradients.dtype))


@jax.jit
def _weights(phi: Array, query: Array, damping: Any) -> Array:
    """phi_q' (Phi' Phi + damping)^-1 Phi', `[Q, N]`, from the smaller of the two Gram matrices."""
    count, size = phi.shape
    damping = 1e-6 * jnp.sum(phi**2) / size if damping is None else damping
    if size <= count:
        gram = phi.T @ phi + damping * jnp.eye(size, dtype=phi.dtype)
        return jnp.linalg.solve(gram, query.T).T @ phi.T
    gram = phi @ phi.T + damping * jnp.eye(count, dtype=phi.dtype)
    return jnp.linalg.solve(gram, phi @ query.T).T
