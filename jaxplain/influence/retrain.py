"""The ground truth: query scores after training again with other weights, many trainings as one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.result import Influence, better_when_higher, checked_queries, masks_of
from jaxplain.influence.smoothness import leave_out, name_what_diverged, train_all
from jaxplain.program import Function, as_function, public
from jaxplain.train import TrainingRun
from jaxplain.types import Array, ArrayLike


class Retraining(Function):
    """The scores after one training with given weights: `e(weights [N]) -> scores [Q]`. Made by `retraining`."""

    run: TrainingRun
    queries: Any

    def __call__(self, weights: Array) -> Array:
        """Train, and score the queries."""
        return self.queries(self.run(weights.astype(self.run.data.weights.dtype)))


@public
def retraining(run: TrainingRun, queries: Any) -> Retraining:
    """Make one retraining a function of its weights: `e(weights [N]) -> scores [Q]`.

    It is what the drivers take: `explain_dataset(retraining(run, queries), weights, out=folder)` does many trainings
    over devices and processes, in chunks that are written as they are done and resumed.

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`.

    Returns:
        The function, a pytree. Cost of a call: one training.

    Raises:
        ValueError: Queries that do not depend on the params.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> retraining(run, lambda w: w)(jnp.zeros(2)).tolist()
        [0.0]
    """
    checked_queries(queries, run.params, "retraining")
    return Retraining(run, as_function(queries))


@public
def retrain(run: TrainingRun, weights: ArrayLike, queries: Any, *, batch_size: int = 1) -> Array:
    """Train with every row of weights, from the same start and in the same order, and score: the ground truth.

    Every training is that of `run`, whose batches keep their size: sum_i w_i loss_i / B.

    Args:
        run: What `train.training_run` returned.
        weights: `[M, N]`, masks of 0 and 1 or any weights, one row a training.
        queries: `queries(params) -> scores [Q]`.
        batch_size: Trainings side by side in one program.

    Returns:
        Scores `[M, Q]`. Cost: M trainings; memory for `batch_size` of them.

    Raises:
        ValueError: Weights of another length, NaN, a row without any weight; queries that do not depend on the params;
            an example whose gradient is not finite at the start (a training that diverges later scores NaN).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> retrain(run, jnp.array([[1.0, 0.0], [0.0, 1.0]]), lambda w: w).shape
        (2, 1)

    Source: Ilyas et al. 2022, "Datamodels: predicting predictions from training data", section 2.
    """
    check.count(batch_size, "retrain", "batch_size")
    weights = masks_of(weights, run.count, "retrain", "weights")
    checked_queries(queries, run.params, "retrain")
    scores = train_all(run, as_function(queries), weights, min(batch_size, len(weights)))
    name_what_diverged(run, scores, "retrain")
    return scores


@public
def random_masks(key: Array, masks: int, count: int, *, fraction: float = 0.5) -> Array:
    """Draw masks that each leave out the same share of the training examples.

    Args:
        key: PRNG key.
        masks: M, how many.
        count: N, the training examples.
        fraction: The share left out, above 0 and below 1; at least one example.

    Returns:
        `[M, N]` of 0 (left out) and 1. Cost: M sorts.

    Raises:
        ValueError: A fraction out of range, or one that leaves no example.

    Example:
        >>> import jax
        >>> random_masks(jax.random.key(0), 2, 4, fraction=0.25).sum(1).tolist()
        [3.0, 3.0]
    """
    check.count(masks, "random_masks", "masks")
    check.count(count, "random_masks", "count")
    return leave_out(key, masks, count, fraction, "random_masks")


@public
def leave_one_out(
    run: TrainingRun, queries: Any, *, rows: Sequence[int] | None = None, batch_size: int = 1
) -> Influence:
    """Train again without each example: values[q, i] = score_q(all) - score_q(all but i).

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`.
        rows: Training examples to leave out, whole numbers; None is each of them.
        batch_size: Trainings side by side.

    Returns:
        `Influence` with values `[Q, N]` (or `[Q, rows]`), in units of the score. Cost: N + 1 trainings.

    Raises:
        ValueError: Rows outside of the examples; and as `retrain`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> leave_one_out(run, lambda w: w).values.shape
        (1, 2)
    """
    left = np.arange(run.count) if rows is None else np.asarray(rows)
    if left.ndim != 1 or not left.size or not np.issubdtype(left.dtype, np.integer):
        raise ValueError(f"leave_one_out: `rows` is {check.short(rows)}; pass whole numbers, one for each example.")
    if left.min() < 0 or left.max() >= run.count:
        raise ValueError(f"leave_one_out: `rows` run to {left.max()} or below 0, but there are {run.count} examples.")
    own = run.data.weights
    weights = jnp.concatenate([own[None], own[None] * (jnp.arange(run.count)[None] != left[:, None])])
    scores = retrain(run, weights, queries, batch_size=batch_size)
    values = (scores[:1] - scores[1:]).T
    return Influence(values, scores[0], "score", better_when_higher(queries), "leave_one_out", {"rows": left})
