"""One step, one epoch and a whole run of training as pure functions of arrays; `train` puts the public face on them.

The last short batch is a step of its own, traced beside the loop over the full ones: nothing is padded, so that it
counts exactly for every model, whatever its examples share (BatchNorm statistics included).
"""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import check
from jaxplain.data import batch_indices
from jaxplain.program import Function, Static, html_table, map_floating, setting, shown
from jaxplain.program.fast import traced_fast
from jaxplain.readout import binary_cross_entropy, cross_entropy, squared_error
from jaxplain.train.layer import LayerHistory, layer_history, recorded_columns, take, without_record
from jaxplain.train.snapshot import Album, Snapshots, empty_album, filled_rows, record
from jaxplain.types import Array, Pytree

DROPOUT, STREAMS = 2**32 - 1, 2**32 - 2  # folded into the run's key, apart from every epoch's number
PENALTY = 2**32 - 3  # folded into a step's key, apart from the streams that the model makes of it
COLUMNS = ("loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy")


@shown
class Batch(NamedTuple):
    """Examples: inputs (a tuple of pytrees `[B, ...]`), targets `[B, ...]` and weights `[B]` or None."""

    inputs: tuple[Any, ...]
    targets: Pytree
    weights: Any = None

    @property
    def size(self) -> int:
        """The number of examples."""
        return jnp.shape(jax.tree.leaves(self.inputs)[0])[0]


@shown
class TrainState(NamedTuple):
    """What a training step changes: `params` (all that `apply` needs), the optimizer's state, the step's number.

    `key` stays: the key of a step's dropout is `fold_in(key, step)`.
    """

    params: Pytree
    opt_state: Pytree
    step: Array
    key: Array


@shown
class Metrics(NamedTuple):
    """Means over the examples of a batch; `gradient_norm` is the L2 norm of the batch's whole gradient."""

    loss: Array
    accuracy: Array
    gradient_norm: Array


class Run(NamedTuple):
    """What an epoch changes: the state, the best params so far (None without validation), epochs since they were."""

    state: TrainState
    best: Pytree
    best_loss: Array
    stale: Array


class Program(Function):
    """The code of a training run, equal for equal code: model, loss, accuracy, optimizer and penalty."""

    model: Any
    loss: Any
    accuracy: Any
    optimizer: Static = setting(default=Static(None))
    penalty: Any = None

    def start(self, params: Pytree, key: Array) -> TrainState:
        """Initialise: the optimizer's state for the trained part of params, random streams from the key.

        Carried state is kept in float32 or wider: in half precision a running average stops moving.
        """
        trained, rest = self.model.partition(params)
        params = self.model.combine(trained, jax.tree.map(_wide, rest))
        params = self.model.reseed(params, jax.random.fold_in(key, STREAMS))
        opt_state = self.optimizer.value.init(self.model.partition(params)[0])
        return TrainState(params, opt_state, jnp.zeros((), jnp.int32), jax.random.fold_in(key, DROPOUT))

    def judge(self, outputs: Pytree, targets: Pytree) -> tuple[Array, Array]:
        """Loss and accuracy of each example, both `[B]`."""
        accuracy = self.accuracy or functools.partial(default_accuracy, loss=getattr(self.loss, "value", self.loss))
        losses, hits = jax.vmap(self.loss)(outputs, targets), jax.vmap(accuracy)(outputs, targets)
        return check.answered(losses, "training", "loss"), check.answered(hits, "training", "accuracy")

    def penalties(self, params: Pytree, batch: Batch, key: Array) -> Array:
        """The penalty of each example of a step, `[B]`; each draws from the step's key with its place folded in."""
        key = jax.random.fold_in(key, PENALTY)

        def one(place: Array, target: Pytree, x: Pytree, *inputs: Any) -> Array:
            value = self.penalty(params, x, target, jax.random.fold_in(key, place), *inputs)
            return jnp.asarray(check.answered(value, "fit", "penalty"))

        return jax.vmap(one)(jnp.arange(batch.size), batch.targets, *batch.inputs)

    def objective(self, trained: Pytree, rest: Pytree, batch: Batch, key: Array) -> tuple[Array, tuple[Pytree, Array]]:
        """Forward and error: the mean of weight times loss, the params with changed state, the mean accuracy.

        A loss takes in the example's penalty. That is of the params before the step, in evaluation mode.
        """
        before = self.model.combine(trained, rest)
        outputs, params = self.model.train(before, batch.inputs, key)
        losses, hits = self.judge(outputs, batch.targets)
        if self.penalty is not None:
            losses = losses + self.penalties(before, batch, key)
        losses = losses if batch.weights is None else losses * batch.weights
        return jnp.mean(losses), (self.model.partition(params)[1], jnp.mean(hits))

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Forward, error, backpropagate, update; in the backend's fast layout where it is compiled."""
        return traced_fast(self._step)(state, batch)

    def _step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        trained, rest = self.model.partition(state.params)
        key = jax.random.fold_in(state.key, state.step)
        value_and_gradient = jax.value_and_grad(self.objective, has_aux=True)
        (loss, (rest, accuracy)), gradient = value_and_gradient(trained, rest, batch, key)
        optimizer = optax.with_extra_args_support(self.optimizer.value)
        updates, opt_state = optimizer.update(gradient, state.opt_state, trained, value=loss)
        rest = jax.tree.map(lambda new, old: new.astype(old.dtype), rest, self.model.partition(state.params)[1])
        params = self.model.combine(optax.apply_updates(trained, updates), rest)
        return state._replace(params=params, opt_state=opt_state, step=state.step + 1), Metrics(
            loss, accuracy, _norm(gradient)
        )

    def evaluate(self, params: Pytree, batch: Batch) -> tuple[Array, Array]:
        """Loss and accuracy of each example in evaluation mode, both `[B]`."""
        return traced_fast(self._evaluate)(params, batch)

    def _evaluate(self, params: Pytree, batch: Batch) -> tuple[Array, Array]:
        return self.judge(self.model(params, *batch.inputs), batch.targets)


def _wide(leaf: Any) -> Any:
    """A floating leaf in float32 or wider."""
    floating = jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if floating else leaf


def _norm(gradient: Pytree) -> Array:
    # Not differentiated: the square root has no derivative at a gradient of zero, and a history is read, not trained.
    leaves = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(gradient)]
    return jnp.sqrt(jax.lax.stop_gradient(sum(leaves[1:], leaves[0])))


def default_accuracy(outputs: Any, target: Any, loss: Any) -> Array:
    """The share of right answers of one example: argmax among classes, sign of one unit, NaN where neither applies."""
    nothing = jnp.full((), jnp.nan, jnp.float32)
    if loss is squared_error or not isinstance(outputs, jax.Array) or not isinstance(target, jax.Array):
        return nothing
    whole = not jnp.issubdtype(target.dtype, jnp.inexact)
    known = loss is cross_entropy or loss is binary_cross_entropy
    if loss is binary_cross_entropy or outputs.ndim == 0 or outputs.shape[-1] == 1:
        right = (outputs.reshape(-1) > 0) == (target.reshape(-1) > 0.5) if outputs.size == target.size else None
        return jnp.mean(right.astype(jnp.float32)) if right is not None and (whole or known) else nothing
    answers = jnp.argmax(outputs, axis=-1)
    if whole and target.shape == answers.shape:
        return jnp.mean((answers == target).astype(jnp.float32))
    if loss is cross_entropy and target.shape == outputs.shape:
        return jnp.mean((answers == jnp.argmax(target, axis=-1)).astype(jnp.float32))
    return nothing


def over_batches(function: Callable[[Any], Any], data: Pytree, batch_size: int) -> Pytree:
    """Apply a batch function to data `[N, ...]` in order, `batch_size` examples at a time; results `[N, ...]`."""
    count = jax.tree.leaves(data)[0].shape[0]
    size = min(batch_size, count)
    full, short = divmod(count, size)

    def block(index: Array) -> Any:
        return function(jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, index * size, size), data))

    results = jax.lax.map(block, jnp.arange(full))
    results = jax.tree.map(lambda a: a.reshape(full * size, *a.shape[2:]), results)
    if not short:
        return results
    last = function(jax.tree.map(lambda a: a[full * size :], data))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, last)


def train_epoch(
    program: Program, state: TrainState, data: Batch, key: Array, batch_size: int, album: Album | None
) -> tuple[TrainState, Array, Album | None]:
    """One pass over shuffled data on the device; the new state, the means of `Metrics` over examples, `[3]`.

    The params after the steps of `album`, where there is one, are written into it.
    """
    count = data.size
    size = min(batch_size, count)
    full, short = divmod(count, size)
    indices, _ = batch_indices(key, count, size)

    def step(carry: tuple[TrainState, Album | None], rows: Array) -> tuple[tuple[TrainState, Album | None], Array]:
        state, album = carry
        batch = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), data)
        state, metrics = program.step(state, batch)
        album = album if album is None else record(album, state.params, state.step)
        return (state, album), jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics])

    (state, album), rows = jax.lax.scan(step, (state, album), indices[:full])
    sizes = [size] * full
    if short:
        (state, album), last = step((state, album), indices[full, :short])
        rows, sizes = jnp.concatenate([rows, last[None]]), [*sizes, short]
    return state, mean_metrics(rows, jnp.array(sizes)), album


def mean_metrics(rows: Array, sizes: Array) -> Array:
    """Means over examples of batch means `[S, 3]` (over steps for the gradient norm)."""
    totals = jnp.sum(sizes.astype(jnp.float32)[:, None] * rows[:, :2], axis=0)
    return jnp.concatenate([totals / jnp.sum(sizes), jnp.mean(rows[:, 2:], axis=0)])


def close_epoch(
    program: Program, run: Run, state: TrainState, means: Array, validation: Array | None
) -> tuple[Run, Array]:
    """Keep the best params by validation loss; the run after the epoch and its row: `COLUMNS`, then of the layers."""
    layers, opt_state = take(state.opt_state)
    state = state._replace(opt_state=opt_state)
    if validation is None:
        return run._replace(state=state), jnp.concatenate([means, jnp.full(2, jnp.nan), layers])
    better = validation[0] < run.best_loss
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, run.best)
    best_loss = jnp.where(better, validation[0], run.best_loss)
    stale = jnp.where(better, 0, run.stale + 1)
    return Run(state, best, best_loss, stale), jnp.concatenate([means, validation, layers])


def row_length(run: Run) -> int:
    """How many numbers an epoch's row holds."""
    return len(COLUMNS) + recorded_columns(run.state.opt_state)


def sound(program: Program, before: Run, after: Run, row: Array) -> Array:
    """Whether an epoch's losses are finite, and every trained number that was finite before it still is."""
    measured = row[:1] if before.best is None else row[jnp.array([0, 3])]
    old, new = (jax.tree.leaves(program.model.partition(run.state.params)[0]) for run in (before, after))
    kept = [jnp.all(jnp.isfinite(b) | ~jnp.isfinite(a)) for a, b in zip(old, new, strict=True)]
    return jnp.all(jnp.isfinite(measured)) & jnp.all(jnp.stack(kept))


def validate(program: Program, params: Pytree, data: Batch, batch_size: int) -> Array:
    """Mean loss and accuracy over data on the device, `[2]`."""
    losses, hits = over_batches(functools.partial(program.evaluate, params), data, batch_size)
    return jnp.stack([jnp.mean(losses.astype(jnp.float32)), jnp.mean(hits)])


def epoch(
    program: Program, run: Run, data: Batch, validation: Batch | None, key: Array, batch_size: int, album: Album | None
) -> tuple[Run, Array, Album | None]:
    """Train for one epoch, validate, keep the best: one program."""
    state, means, album = train_epoch(program, run.state, data, key, batch_size, album)
    measured = None if validation is None else validate(program, state.params, validation, batch_size)
    return *close_epoch(program, run, state, means, measured), album


def start_run(program: Program, params: Pytree, key: Array, validated: bool) -> Run:
    """The run before its first epoch."""
    state = program.start(params, key)
    best = state.params if validated else None
    return Run(state, best, jnp.full((), jnp.inf, jnp.float32), jnp.zeros((), jnp.int32))


_Carry = tuple[Run, Album | None]


def run_epochs(
    program: Program,
    run: Run,
    data: Batch,
    validation: Batch | None,
    key: Array,
    *,
    epochs: int,
    batch_size: int,
    patience: int | None,
    snapshots: tuple[int, ...] | None = None,
) -> tuple[Run, Array, Snapshots | None]:
    """All epochs as one traced loop, for transformations; rows and snapshots after an early stop are NaN."""
    album = None
    if snapshots is not None:
        album = empty_album(jnp.array(snapshots, jnp.int32), run.state.params)
        album = record(album, run.state.params, run.state.step)

    def train(carry: _Carry, index: Array) -> tuple[_Carry, Array]:
        run, album = carry
        run, row, album = epoch(program, run, data, validation, jax.random.fold_in(key, index), batch_size, album)
        return (run, album), row

    def stay(carry: _Carry, index: Array) -> tuple[_Carry, Array]:
        return carry, jnp.full(row_length(carry[0]), jnp.nan, jnp.float32)

    def body(carry: _Carry, index: Array) -> tuple[_Carry, Array]:
        if patience is None:
            return train(carry, index)
        return jax.lax.cond(carry[0].stale < patience, train, stay, carry, index)

    (run, album), rows = jax.lax.scan(body, (run, album), jnp.arange(epochs))
    return run, rows, None if album is None else Snapshots(album.steps, filled_rows(album))


@shown
class History(NamedTuple):
    """What training measured, one row an epoch: arrays `[E]`, the validation's None where there was none.

    `loss` is the mean (weighted) loss and `accuracy` the share of right answers while the epoch ran, with dropout and
    before its later updates; `gradient_norm` the mean over steps of the gradient's L2 norm; the validation's are
    measured after the epoch in evaluation mode. Accuracy is NaN for regression. `epochs` is the number of epochs that
    were run; where an early stop was traced, later rows are NaN. `layers` is what each layer did, where `fit` was to
    record it.
    """

    loss: Array
    accuracy: Array
    gradient_norm: Array
    validation_loss: Array | None = None
    validation_accuracy: Array | None = None
    epochs: Any = None
    layers: LayerHistory | None = None


class Fit(NamedTuple):
    """What `fit` returns.

    `params` are the best by validation loss (the last without validation), `state` is the last training state
    (`state.params` the last parameters), `history` the curves, `snapshots` the params at the steps that were asked for
    (None where none were).
    """

    params: Pytree
    state: TrainState
    history: History
    snapshots: Snapshots | None = None

    def _repr_html_(self) -> str:
        curves = [name for name in History._fields[:5] if getattr(self.history, name, None) is not None]
        found = [getattr(self.history, name) for name in curves]
        numbers = [isinstance(curve, np.ndarray | jax.Array) and check.is_concrete(curve) for curve in found]
        if not found or not all(numbers) or not np.ndim(found[0]) or not check.is_concrete(self.history.epochs):
            return (
                f"<pre>{html.escape(repr(self))}</pre>"  # a tree of shapes, specs or traced values bears this type too
            )
        epochs = self.history.epochs if self.history.epochs is not None else np.shape(found[0])[-1]
        epochs = np.broadcast_to(epochs, np.shape(found[0])[:-1]).ravel()
        rows = [(name.replace("_", " "), *_ends(curve, epochs)) for name, curve in zip(curves, found, strict=True)]
        sizes = [np.size(leaf) for leaf in jax.tree.leaves(self.params)]
        runs = f"{len(epochs)} runs, curves are their means; " if len(epochs) > 1 else ""
        ran = " to ".join(dict.fromkeys((str(epochs.min()), str(epochs.max()))))
        note = f"{runs}{ran} epochs; params of {sum(sizes):,} numbers in {len(sizes)} arrays"
        return html_table(("", "first epoch", "last epoch", "least", "largest"), rows, note)


def _ends(curve: Any, epochs: np.ndarray) -> list[str]:
    """First, last, least and largest of a curve, as texts; of several runs the means of those that still ran."""
    values = np.asarray(curve, float).reshape(len(epochs), -1)
    ran = np.arange(values.shape[1]) < epochs[:, None]
    mean = np.where(ran, values, 0.0).sum(axis=0)[ran.any(axis=0)] / ran.sum(axis=0)[ran.any(axis=0)]
    known = mean[np.isfinite(mean)] if np.isfinite(mean).any() else np.array([np.nan])
    last = values[np.arange(len(epochs)), epochs - 1].mean()
    return [f"{value:.4g}" for value in (mean[0], last, known.min(), known.max())]


def as_fit(run: Run, rows: Any, validated: bool, epochs: Any, snapshots: Snapshots | None = None) -> Fit:
    """A run and its rows as `fit` returns them."""
    columns = [rows[:, index] for index in range(len(COLUMNS) if validated else 3)]
    best = run.best
    if validated and not check.is_concrete(run.best_loss):  # nothing can be raised: what was never good is marked
        best = map_floating(lambda leaf: jnp.where(jnp.isfinite(run.best_loss), leaf, jnp.nan), best)
    opt_state, groups = without_record(run.state.opt_state)
    history = History(*columns)._replace(epochs=epochs, layers=layer_history(rows[:, len(COLUMNS) :], groups))
    state = run.state._replace(opt_state=opt_state)
    return Fit(best if validated else run.state.params, state, history, snapshots)
