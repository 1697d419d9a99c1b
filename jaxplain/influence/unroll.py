"""The exact derivative of query scores through a whole training run, with respect to what the run rests on."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.gradients import all_finite
from jaxplain.influence.result import (
    Influence,
    better_when_higher,
    checked_queries,
    differentiate_queries,
    split_floating,
)
from jaxplain.influence.smoothness import name_what_diverged, run_checks
from jaxplain.program import as_function, public
from jaxplain.train import TrainingRun
from jaxplain.types import Array, Pytree

CHECKS = 2**32 - 3  # folded into the run's key, apart from its own streams
WRT = ("weights", "inputs", "targets", "params", "settings")


@public
def unrolled(
    run: TrainingRun,
    queries: Any,
    *,
    key: Array | None = None,
    wrt: str = "weights",
    batch_size: int = 64,
    masks: int = 8,
    fraction: float = 0.01,
) -> Influence:
    """Differentiate query scores through the whole of training, exactly: d score_q / d w_i at the run's weights.

    values[q, i] = d q(theta_T) / d w_i, where theta_T is what T steps on sum_i w_i loss_i / B make of theta_0: through
    any optimizer, momentum, schedules, dropout (whose draws stay as they are) and carried statistics. Weights do not
    enter the statistics of a batch (BatchNorm): what an example does there is not attributed to it.

    The derivative is exact for the run as it is; how far it foretells a retraining depends on how smooth training is.
    Beside the values stand the run's metasmoothness and what its predictions were worth on a few held-out masks; a run
    of low metasmoothness (large steps, ReLU, small batches) is a warning.

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`, such as `query_scores(apply, data)`.
        key: PRNG key of the checks (their directions and masks); None folds one from the run's.
        wrt: "weights", "inputs", "targets", "params" (the initial ones), "settings", or the name of one setting such as
            "learning_rate".
        batch_size: Queries that go back through the run together.
        masks: Held-out retrainings with a share of the examples left out, from which linearity is measured; 0 leaves
            both checks out. With another `wrt` there are none.
        fraction: The share of examples that a mask leaves out.

    Returns:
        `Influence` with values `[Q, N]` (for another `wrt` a pytree, `[Q, *shape]` for each leaf) in units of the
        score, and checks `metasmoothness`, `linearity` (correlation of predicted and actual changes) and `slope`.
        Cost: one training, and for each block of queries about as much as one further training for its recomputation
        and two trainings a query; forward mode, three trainings a direction, where `wrt` has fewer numbers than there
        are queries. The checks train 2 + `masks` times. Memory: about 2 sqrt(T) states, and one of them a query.

    Raises:
        ValueError: Queries that do not depend on the params, half precision, a derivative that is not finite (the
            first training example with such a gradient is named). Adam's square root has none at a gradient of 0:
            pass it `eps_root=1e-8`.
        TypeError: No `TrainingRun`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.0]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error,
        ...     epochs=1, batch_size=2)
        >>> unrolled(run, lambda w: w, masks=0).values.round(4).tolist()  # the score is the weight itself
        [[0.009999999776482582, 0.0]]

    Source: Ilyas and Engstrom 2025, "MAGIC: near-optimal data attribution for deep learning", section 3; Engstrom et
    al. 2025, "Optimizing ML training with metagradient descent", sections 2 (the derivative) and 3 (metasmoothness).
    """
    check.count(batch_size, "unrolled", "batch_size")
    check.count(masks, "unrolled", "masks", least=0)
    names = (*WRT, *run.settings)
    check.choice(wrt, names, "unrolled", "wrt")
    if not 0 < check.one_number(fraction, "unrolled", "fraction") < 1:
        raise ValueError(
            f"unrolled: `fraction` is the share that a mask leaves out, above 0 and below 1, not {fraction}."
        )
    key = jax.random.fold_in(run.key, CHECKS) if key is None else key
    count = checked_queries(queries, run.params, "unrolled")
    at, _ = split_floating(run.read(wrt))
    if not at:
        raise ValueError(f"unrolled: `wrt` is {wrt!r}, of which the run has no floating-point values to move.")
    queries, forward = as_function(queries), sum(leaf.size for leaf in at) < count
    compute = _forward if forward else functools.partial(_reverse, batch_size=min(batch_size, count))
    scores, values = compute(run, queries, wrt=wrt)
    _require_finite(run, scores, values)
    values = _shaped(run.read(wrt), values)
    higher = better_when_higher(queries)
    found = Influence(values, scores, "score", higher, "unrolled", {"forward_mode": forward})
    if wrt != "weights" or not masks:
        return found
    return found._replace(checks={**found.checks, **run_checks(run, queries, found, key, masks, fraction)})


def _end(run: TrainingRun, wrt: str) -> tuple[list[Array], Any, Any]:
    """Where the run stands, and the floating-point params at its end as a function of it, with what merges them."""
    at, rebuild = split_floating(run.read(wrt))
    fixed = jax.eval_shape(lambda: run.train().params)
    moving = [check.is_floating(leaf) for leaf in jax.tree.leaves(fixed)]

    def end(values: list[Array]) -> tuple[list[Array], list[Array]]:
        leaves = jax.tree.leaves(run.replace(wrt, rebuild(values)).train().params)
        parts = list(zip(leaves, moving, strict=True))
        return [leaf for leaf, move in parts if move], [leaf for leaf, move in parts if not move]

    def merge(floating: list[Array], others: list[Array]) -> Pytree:
        supply, rest = iter(floating), iter(others)
        leaves = [next(supply) if move else next(rest) for move in moving]
        return jax.tree.unflatten(jax.tree.structure(fixed), leaves)

    return at, end, merge


@functools.partial(jax.jit, static_argnames=("wrt", "batch_size"))
def _reverse(run: TrainingRun, queries: Any, *, wrt: str, batch_size: int) -> tuple[Array, list[Array]]:
    at, end, merge = _end(run, wrt)
    floating, pull, others = jax.vjp(end, at, has_aux=True)
    scores, back = differentiate_queries(queries, merge(floating, others))

    def one(row: Array) -> list[Array]:
        return pull(back(row))[0]

    rows = jnp.eye(scores.shape[0], dtype=scores.dtype)
    if batch_size == scores.shape[0]:
        return scores, jax.vmap(one)(rows)
    return scores, jax.lax.map(one, rows, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=("wrt",))
def _forward(run: TrainingRun, queries: Any, *, wrt: str) -> tuple[Array, list[Array]]:
    at, end, merge = _end(run, wrt)
    sizes = [leaf.size for leaf in at]
    cuts = list(np.cumsum(sizes)[:-1])
    flat = jnp.concatenate([leaf.reshape(-1) for leaf in at])

    def score(numbers: Array) -> Array:
        parts = jnp.split(numbers, cuts)
        values = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, at, strict=True)]
        return queries(merge(*end(values)))

    scores, columns = jax.vmap(lambda d: jax.jvp(score, (flat,), (d,)), out_axes=(None, 1))(
        jnp.eye(flat.size, dtype=flat.dtype)
    )
    parts = jnp.split(columns, cuts, axis=1)
    return scores, [part.reshape(-1, *leaf.shape) for part, leaf in zip(parts, at, strict=True)]


def _shaped(at: Pytree, values: list[Array]) -> Pytree:
    """Derivatives in the structure of what they are with respect to; None at leaves that do not move."""
    supply = iter(values)
    leaves = [next(supply) if check.is_floating(leaf) else None for leaf in jax.tree.leaves(at)]
    found = jax.tree.unflatten(jax.tree.structure(at), leaves)
    return found[0] if isinstance(found, tuple) and len(found) == 1 else found


def _require_finite(run: TrainingRun, scores: Array, values: list[Array]) -> None:
    if all_finite([scores, values]):
        return
    name_what_diverged(run, [scores, values], "unrolled")
    raise ValueError(
        "unrolled: the derivative through training is not finite, though every training example's gradient is at its "
        "start: training diverges, or a step has no derivative. Adam and its kin have none where a gradient is "
        "exactly 0 (an empty pixel, a dead unit): pass optax.adam(..., eps_root=1e-8). Else lower the learning rate."
    )
