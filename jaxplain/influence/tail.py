"""A cheap check of an attribution: one more step on the examples that it names, and what becomes of the score."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.judge import values_of
from jaxplain.influence.result import Influence, checked_queries
from jaxplain.program import as_function, public
from jaxplain.train import TrainingRun
from jaxplain.types import Array


@public
def tail_patch(
    run: TrainingRun,
    queries: Any,
    influence: Influence,
    *,
    k: int = 5,
    step_size: float = 0.01,
    key: Array | None = None,
) -> dict[str, Array]:
    """Take one step of gradient descent, at the end of training, on the k examples that raise each query's score most.

    The change of the score is score_q(theta - step_size sum_i grad loss_i / k) - score_q(theta). A check of direction,
    not of what training did: products of gradients are best at it by construction.

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`, those that `influence` is of.
        influence: What a method returned, `[Q, N]`.
        k: Examples in the step.
        step_size: The learning rate of the step.
        key: PRNG key of the random row; None is jax.random.key(0).

    Returns:
        `{"method": [Q], "random": [Q]}`: the change of each score by the named examples, and by as many random ones.
        Cost: one training, and 2 Q steps of k examples.

    Raises:
        ValueError: Values of another shape, k out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 2.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> found = Influence(jnp.array([[-0.1, 0.3]]), None, "score", True, "by hand", {})
        >>> bool(tail_patch(run, lambda w: w, found, k=1)["method"][0] > 0)
        True

    Source: Chang et al. 2024, "Scalable influence and fact tracing for large language model pretraining", section 5.1.
    """
    check.count(k, "tail_patch", "k")
    check.one_number(step_size, "tail_patch", "step_size")
    values = values_of(influence, "tail_patch")
    size = checked_queries(queries, run.params, "tail_patch")
    if values.shape != (size, run.count):
        raise ValueError(f"tail_patch: `influence` has shape {values.shape}; it has to be ({size}, {run.count}).")
    if k > run.count:
        raise ValueError(f"tail_patch: `k` is {k}, but there are {run.count} training examples.")
    draws = jax.random.normal(jax.random.key(0) if key is None else key, values.shape)
    params, rate = run(), jnp.asarray(step_size, run.data.weights.dtype)
    return {
        name: _changes(
            run, as_function(queries), params, jnp.asarray(np.argsort(-np.asarray(order), axis=1)[:, :k]), rate
        )
        for name, order in {"method": values, "random": draws}.items()
    }


@jax.jit
def _changes(run: TrainingRun, queries: Any, params: Any, rows: Array, rate: Array) -> Array:
    trained, rest = run.model.partition(params)
    before = queries(params)

    def one(turn: tuple[Array, Array]) -> Array:
        query, own = turn
        inputs, targets = jax.tree.map(lambda a: a[own], (run.data.inputs, run.data.targets))

        def loss(trained: Any) -> Array:
            return jnp.mean(jax.vmap(run.loss)(run.model(run.model.combine(trained, rest), *inputs), targets))

        moved = jax.tree.map(lambda a, g: a - rate.astype(a.dtype) * g, trained, jax.grad(loss)(trained))
        return (queries(run.model.combine(moved, rest)) - before)[query]

    return jax.lax.map(one, (jnp.arange(len(rows)), rows))
