"""Each example over a training run: when it was learnt, how often it was forgotten."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import as_function, chunked_map, public
from jaxplain.program.fast import traced_fast
from jaxplain.readout import binary_cross_entropy, cross_entropy
from jaxplain.train.epoch import Batch, Program, over_batches
from jaxplain.train.feed import check_values, one_batch
from jaxplain.train.snapshot import stack_of
from jaxplain.train.trainable import as_trainable
from jaxplain.types import Array, Arrays, Pytree


@dataclasses.dataclass(frozen=True)
class LearningDynamics:
    """N examples at S checkpoints. Made by `learning_dynamics`.

    Attributes:
        steps: `[S]`, the steps of the checkpoints.
        losses: `[S, N]`.
        predicted: `[S, N]`, the class the model says.
        right: `[S, N]`, whether it is the example's.
    """

    steps: Any
    losses: Any
    predicted: Any
    right: Any

    @property
    def learnt(self) -> Array:
        """`[N]`, the first of the steps from which on an example is right to the end; -1 where its end is wrong."""
        return _since(self.steps, self.right)

    @property
    def first_learnt(self) -> Array:
        """`[N]`, the first of the steps at which an example is right; -1 where it never is."""
        return _first(self.steps, self.right)

    @property
    def settled(self) -> Array:
        """`[N]`, the first of the steps from which on the model says of an example what it says at the end."""
        return _since(self.steps, self.predicted == self.predicted[-1:])

    @property
    def forgotten(self) -> Array:
        """`[N]`, how often an example that was right is wrong at the next checkpoint."""
        return forgetting_events(self.right)

    @property
    def accuracy(self) -> Array:
        """`[S]`, the share of right examples."""
        return jnp.mean(jnp.asarray(self.right), axis=1)

    def __str__(self) -> str:
        """What happened, in one sentence."""
        learnt = np.asarray(self.learnt)
        count, known = learnt.size, learnt[learnt >= 0]
        middle = f" (half of them by step {int(np.median(known))})" if known.size else ""
        return (
            f"{count} examples at {len(self.steps)} checkpoints: {known.size} right at the end{middle}, "
            f"{count - known.size} wrong; {int((np.asarray(self.forgotten) > 0).sum())} forgotten at least once"
        )

    def __repr__(self) -> str:
        return f"LearningDynamics({self})"


jax.tree_util.register_dataclass(LearningDynamics, ["steps", "losses", "predicted", "right"], [])


@jax.jit
def _since(steps: Any, holds: Any) -> Array:
    """The first step from which on something holds to the end, for each column; -1 where it does not at the end."""
    last_without = jnp.max(jnp.where(holds, -1, jnp.arange(len(holds))[:, None]), axis=0)
    row = jnp.minimum(last_without + 1, len(holds) - 1)
    return jnp.where(holds[-1], steps[row], -1)


@jax.jit
def _first(steps: Any, holds: Any) -> Array:
    """The first step at which something holds, for each column; -1 where it never does."""
    return jnp.where(jnp.any(holds, axis=0), steps[jnp.argmax(holds, axis=0)], -1)


@jax.jit
def _events(right: Any) -> Array:
    return jnp.sum(right[:-1] & ~right[1:], axis=0, dtype=jnp.int32)


@public
def forgetting_events(right: Arrays) -> Array:
    """Count how often each example was forgotten: right at one time, wrong at the next.

    events_i = sum_t [acc_i^t > acc_i^(t+1)]

    An example without any is unforgettable if it was ever right; one that never was has none either (the source puts
    such at the end of its order), so look at `right` beside.

    Args:
        right: `[T, N]`, whether example i was answered right at time t: Booleans or 0 and 1. The source takes an
            example's own presentations; `learning_dynamics` takes snapshots, between which further events may hide.

    Returns:
        `[N]`, counts. Cost: no model pass.

    Raises:
        ValueError: Another shape, values other than 0 and 1.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> forgetting_events(np.array([[0, 1], [1, 1], [0, 1], [1, 1], [0, 1]])).tolist()
        [2, 0]

    Source: Toneva et al. 2019, "An empirical study of example forgetting during deep neural network learning",
    section 3.
    """
    check.arrays(right, "forgetting_events", "right")
    if jnp.ndim(right) != 2 or not hasattr(right, "dtype"):
        raise ValueError(f"forgetting_events: `right` is {check.short(right)}; pass an array [T, N], a row a time.")
    if check.is_concrete(right):
        other = np.argwhere((np.asarray(right) != 0) & (np.asarray(right) != 1))
        if len(other):
            raise ValueError(
                f"forgetting_events: `right` holds {np.asarray(right)[tuple(other[0])]} at {tuple(map(int, other[0]))} "
                f"(one of {len(other)} values that are neither 0 nor 1); pass whether each answer was right."
            )
    return _events(right.astype(bool))


@public
def learning_dynamics(
    apply: Callable[..., Any],
    snapshots: Any,
    data: Any,
    *,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 256,
) -> LearningDynamics:
    """Follow each example over a run's snapshots: its loss, what the model says of it, when that became right.

    All are measured in evaluation mode, in one program over checkpoints and batches. What lies between two snapshots
    is not seen: an example counts as learnt at a snapshot, and forgotten if two neighbours say so. One snapshot an
    epoch is what the sources look at.

    Args:
        apply: As in `fit`, with one answer an example: logits `[N, K]`, or one logit `[N]` or `[N, 1]`.
        snapshots: What `fit(snapshots=)` returned as `.snapshots`, or any params with a leading axis of checkpoints.
        data: `(inputs, targets)` arrays `[N, ...]`; targets are classes, `[N]` or one-hot `[N, K]`.
        loss: `loss(outputs, target) -> scalar` of one example.
        batch_size: Examples evaluated at once.

    Returns:
        `LearningDynamics` with losses, predicted and right, each `[S, N]`, and, made of them, `learnt`, `first_learnt`,
        `settled`, `forgotten` `[N]` and `accuracy` `[S]`. Cost: a forward pass over the data for each checkpoint.

    Raises:
        ValueError: Data that are empty, of unequal length or not finite, targets that are no class of the outputs,
            outputs without classes or NaN (where they are traced, `predicted` is -1 then), no snapshot.
        TypeError: An `apply`, data or snapshots of no known kind.

    Example:
        >>> import jax.numpy as jnp
        >>> path = jnp.array([[0.0, 0.0], [1.0, -1.0], [1.0, 1.0]])
        >>> apply = lambda w, x: jnp.stack([0 * (x @ w), x @ w], axis=1)
        >>> found = learning_dynamics(apply, path, (jnp.eye(2), jnp.array([1, 1])))
        >>> found.learnt.tolist(), found.forgotten.tolist()
        ([1, 2], [0, 0])

    Source: `settled` is the "iteration learned" of Baldock et al. 2021, "Deep learning through the lens of example
    difficulty", with the steps of snapshots for its iterations; `forgotten` as in `forgetting_events`.
    """
    name = "learning_dynamics"
    check.count(batch_size, name, "batch_size")
    steps, params = stack_of(snapshots, name)
    program = Program(as_trainable(apply), as_function(loss), None)
    batch = one_batch(data, name)
    check_values(program, jax.tree.map(lambda leaf: leaf[0], params), batch, name)
    batch = jax.tree.map(jnp.asarray, batch._replace(weights=None))
    outputs = jax.eval_shape(program.model, jax.tree.map(lambda leaf: leaf[0], params), *batch.inputs)
    labels = classes_of(batch.targets, batch.size, class_count(outputs, name), loss is binary_cross_entropy, name)
    losses, predicted = _measured(program, params, batch, batch_size=batch_size)
    if check.is_concrete(predicted) and bool(jnp.any(predicted < 0)):
        row, place = np.argwhere(np.asarray(predicted) < 0)[0].tolist()
        raise ValueError(
            f"{name}: the outputs at step {np.asarray(steps)[row]} (row {row} of `snapshots`) say no class of example "
            f"{place}: they are NaN. Leave out the rows that an early stop or a divergence left without params."
        )
    return LearningDynamics(jnp.asarray(steps), losses, predicted, predicted == labels[None])


def _measured_all(program: Program, params: Pytree, batch: Batch, batch_size: int) -> tuple[Array, Array]:
    def part(params: Pytree, rows: Batch) -> tuple[Array, Array]:
        outputs = program.model(params, *rows.inputs)
        return program.judge(outputs, rows.targets)[0], answers(outputs, "learning_dynamics")

    def at(params: Pytree) -> tuple[Array, Array]:
        return over_batches(lambda rows: traced_fast(part)(params, rows), batch, batch_size)

    return chunked_map(at, params, 1)


_measured = jax.jit(_measured_all, static_argnames="batch_size")


def class_count(outputs: Any, name: str) -> int:
    """How many classes a model's outputs tell apart, arrays or shapes: those of several logits, two of one."""
    shape = jnp.shape(outputs) if hasattr(outputs, "shape") else None
    if shape is None or len(shape) not in (1, 2) or not check.is_floating(outputs):
        raise ValueError(
            f"{name}: the outputs are {check.short(outputs)}; there has to be one answer for each example, logits "
            "[N, K] or one logit [N]."
        )
    return max((2, *shape[1:]))


def answers(outputs: Any, name: str) -> Array:
    """The classes that a model says, `[N]`: the largest of several logits, the sign of one; -1 of NaN."""
    class_count(outputs, name)
    rows = outputs.reshape(outputs.shape[0], -1)
    said = jnp.argmax(rows, axis=1) if rows.shape[1] > 1 else rows[:, 0] > 0
    return jnp.where(jnp.isnan(rows).any(axis=1), -1, said).astype(jnp.int32)


def classes_of(targets: Any, count: int, classes: int, single: bool, name: str) -> Array:
    """The classes of examples, `[N]`, from labels or one-hot rows; where `single` from shares in [0, 1], too.

    Targets that name no class of the model are refused where they are known: a comparison would call each wrong.
    """
    if hasattr(targets, "dtype"):
        shape, whole = targets.shape, jnp.issubdtype(targets.dtype, jnp.integer)
        if shape in ((count,), (count, 1)) and whole:
            if check.is_concrete(targets):
                check.label_range(np.asarray(targets), classes, name)
            return targets.reshape(-1)
        share = single and not (check.is_concrete(targets) and bool(jnp.any((targets < 0) | (targets > 1))))
        if shape in ((count,), (count, 1)) and (share or targets.dtype == bool):
            return (targets.reshape(-1) > 0.5).astype(jnp.int32)
        if len(shape) == 2 and shape[1] > 1:
            _check_rows(targets, classes, name)
            return jnp.argmax(targets, axis=1).astype(jnp.int32)
    raise ValueError(
        f"{name}: the targets are {check.short(targets)}; there has to be one class for each of {count} examples, "
        "whole numbers [N] or one-hot [N, K]."
    )


def _check_rows(targets: Any, classes: int, name: str) -> None:
    """Require rows with a column for each class, and one largest value: of several labels none is the example's."""
    if targets.shape[1] != classes:
        raise ValueError(
            f"{name}: the targets have {targets.shape[1]} columns, but the outputs tell {classes} classes apart."
        )
    if check.is_concrete(targets):
        rows = np.asarray(targets)
        tied = np.flatnonzero((rows == rows.max(axis=1, keepdims=True)).sum(axis=1) != 1)
        if tied.size:
            raise ValueError(
                f"{name}: row {tied[0]} of the targets has no single largest value ({tied.size} of {len(rows)} have "
                "none); each example needs one class. Of several labels an example ask for one after another."
            )
