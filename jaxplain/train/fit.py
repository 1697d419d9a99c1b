"""Training as pure functions: initialise, forward, error, backpropagate, update; and `fit`, which runs them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import check
from jaxplain.program import Static, as_folder, as_function, public
from jaxplain.readout import cross_entropy
from jaxplain.train.epoch import Batch, Fit, Metrics, Program, TrainState, as_fit, run_epochs, start_run
from jaxplain.train.feed import as_batch, check_values, fits_on_device, host_batches, one_batch, source
from jaxplain.train.host_loop import DIVERGED, HostLoop
from jaxplain.train.layer import groups_of, recording
from jaxplain.train.penalty import check_penalty
from jaxplain.train.snapshot import as_steps
from jaxplain.train.trainable import as_trainable, trained_leaves
from jaxplain.types import Array, Pytree

Loss = Callable[[Any, Any], Any]
SGD = optax.sgd(0.01)


@public
def init(
    apply: Callable[..., Any], params: Pytree, *, key: Array, optimizer: optax.GradientTransformation = SGD
) -> TrainState:
    """Make the state of training before its first step.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`: a Linen module's `apply` or a partial of it, an apply of
            `from_nnx`, or a plain function.
        params: All that `apply` needs; Linen's whole variables.
        key: PRNG key of the run.
        optimizer: Any optax transformation.

    Returns:
        The state. Cost: no model pass.

    Raises:
        TypeError, ValueError: An `apply` or `params` that cannot be trained.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> state = init(lambda params, x: x @ params["w"], {"w": jnp.zeros((2, 1))}, key=jax.random.key(0))
        >>> int(state.step)
        0
    """
    program = _program(apply, params, cross_entropy, optimizer, None)
    check.finite(params, "init", "params")
    return program.start(params, key)


@public
def train_step(
    apply: Callable[..., Any],
    state: TrainState,
    batch: Any,
    *,
    loss: Loss = cross_entropy,
    optimizer: optax.GradientTransformation = SGD,
) -> tuple[TrainState, Metrics]:
    """Run one step on one batch: forward, error, backpropagate, update.

    The objective is sum_i w_i loss_i / B with weights w_i = 1 unless the batch brings its own. Batch statistics are
    updated, and dropout draws from `fold_in(state.key, state.step)`. Wrap it in `jax.jit` with the rest fixed.

    Args:
        apply: As in `init`.
        state: From `init` or the last step.
        batch: `(inputs, targets)` or `(inputs, targets, weights)`, arrays `[B, ...]`.
        loss: `loss(outputs, target) -> scalar` of one example.
        optimizer: The one the state was made with.

    Returns:
        The new state, and loss, accuracy and gradient norm of the batch before the update. Cost: one forward and one
        backward pass.

    Raises:
        TypeError, ValueError: As `fit`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> apply = lambda params, x: x @ params["w"]
        >>> state = init(apply, {"w": jnp.zeros((2, 2))}, key=jax.random.key(0))
        >>> state, metrics = train_step(apply, state, (jnp.eye(2), jnp.array([0, 1])))
        >>> round(float(metrics.loss), 4), int(state.step)
        (0.6931, 1)
    """
    return _program(apply, state.params, loss, optimizer, None).step(state, one_batch(batch, "train_step", "batch"))


@public
def eval_step(
    apply: Callable[..., Any], params: Pytree, batch: Any, *, loss: Loss = cross_entropy
) -> tuple[Array, Array]:
    """Measure one batch in evaluation mode (no dropout, running averages).

    Args:
        apply: As in `init`.
        params: All that `apply` needs.
        batch: `(inputs, targets)`, arrays `[B, ...]`.
        loss: `loss(outputs, target) -> scalar` of one example.

    Returns:
        Loss and accuracy of each example, both `[B]`. Cost: one forward pass.

    Raises:
        TypeError, ValueError: As `fit`.

    Example:
        >>> import jax.numpy as jnp
        >>> losses, hits = eval_step(lambda params, x: x, (), (jnp.eye(2), jnp.array([0, 0])))
        >>> hits.tolist()
        [1.0, 0.0]
    """
    program = Program(as_trainable(apply), as_function(loss), None)
    return program.evaluate(params, one_batch(batch, "eval_step", "batch"))


@public
def fit(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    key: Array,
    loss: Loss = cross_entropy,
    penalty: Callable[..., Any] | None = None,
    optimizer: optax.GradientTransformation = SGD,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Any = None,
    weights: Any = None,
    patience: int | None = None,
    accuracy: Callable[[Any, Any], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    on_device: bool | None = None,
    on_divergence: str = "raise",
    snapshots: Sequence[int] | None = None,
    record_layers: bool = False,
) -> Fit:
    """Train a model: epochs of shuffled batches, each epoch one compiled program with the data on the device.

    Each step minimises sum_i w_i loss_i / B over its batch, each loss with its example's penalty. Epoch e visits the
    examples in the order that `fold_in(key, e)` gives; the last short batch is a step of its own size, so it counts
    exactly and changes nothing in BatchNorm's statistics but what its examples are worth. Same key and data, same
    bits; the result is differentiable with respect to `weights`, `params` and the data, and `jax.vmap` over `key` (and
    `params`) trains an ensemble: then the whole run is one traced loop, without checkpoints or progress.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`: a Linen module's `apply` or a partial of it, an apply of
            `from_nnx`, or a plain function `(params, x)`. Training mode, changing collections and dropout keys are
            passed as its type and signature say.
        params: All that `apply` needs; Linen's whole variables.
        data: `(inputs, targets)` arrays `[N, ...]` (inputs may be a pytree; a tuple becomes several arguments), an
            object with `.inputs` and `.targets`, or an iterable of such batches or a function of a key that makes
            one (then the host feeds the device batch by batch).
        key: PRNG key.
        loss: `loss(outputs, target) -> scalar` of one example.
        penalty: `penalty(params, x, target, key, *inputs) -> scalar` of one example, added to its loss in training and
            in `history.loss`, not in validation: any function of the params, such as one of an explanation
            (`right_for_the_right_reasons`, `attribution_prior` and others of this namespace). `inputs` are what the
            model takes after `x`. Scores inside of it run in evaluation mode.
        optimizer: Any optax transformation; schedules count steps.
        epochs: Passes over the data.
        batch_size: Examples in a step.
        validation: Data measured after each epoch, like `data`.
        weights: `[N]`, a weight for each example's loss.
        patience: Stop after so many epochs without a better validation loss.
        accuracy: `accuracy(outputs, target) -> scalar` of one example; the default is the argmax among classes, the
            sign of a one-unit classifier, NaN otherwise.
        checkpoint: A directory in which each finished epoch is saved (the last is kept); `~` is the home folder.
        resume: Continue the run in `checkpoint`, if there is one; bit for bit what an uninterrupted run gives. It has
            to be the same run: model, loss, optimizer, initial params, data, weights, validation, key and batch size
            are compared (of data in batches the first batch), and what differs is named. `epochs` may grow.
        progress: Show a bar; by default on a terminal and in a notebook.
        on_device: Whether arrays are moved to the device as a whole; by default if they take at most half of it.
        on_divergence: After an epoch with a loss, a validation loss or trained numbers that are not finite, "raise"
            ends with an error, "warn" warns and returns what was there after the epoch before. Both name the epoch.
            Inside a transformation neither can be done: NaN in the history shows it, and params without any finite
            validation loss are NaN.
        snapshots: Steps whose params are kept, rising whole numbers: 0 is the start, and E epochs of B batches end with
            step E B. Training is the same without them. They stay on the device; with `checkpoint` each is saved in
            its folder as `snapshot_NNNNNNN` as soon as its epoch is over (`load(path, params, at="params")` reads one)
            and they come back as NumPy arrays. Steps that an early stop left out are missing (NaN, where traced).
        record_layers: Whether `history.layers` says what each layer did in each epoch: norms of gradient, update and
            weights, and dead units, for `diagnose` and `plot.gradient_flow`. It costs one more reading of gradient,
            update and params a step, and changes nothing else (results are equal to rounding).

    Returns:
        `Fit(params, state, history, snapshots)`. Cost: `epochs` times a forward and a backward pass over the data, and
        a forward pass over `validation`; memory for two copies of the params, three with validation, and one for each
        snapshot. With snapshots each step copies the params once more.

    Raises:
        ValueError: Empty or unequal data, NaN, labels outside the classes, settings out of range, a checkpoint that
            does not fit or is damaged, a penalty without a derivative by the params, snapshots that do not rise or lie
            beyond the last step; all before any compute. An epoch that diverged; an infinite penalty is named with its
            step and example.
        OSError: A checkpoint that cannot be written; a full disk is named, and the epoch before stays.
        TypeError: Data or an `apply` of no known kind.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> x = jax.random.normal(jax.random.key(0), (64, 2))
        >>> apply = lambda params, x: x @ params["w"]
        >>> data = (x, (x[:, 0] > 0).astype(int))
        >>> result = fit(apply, {"w": jnp.zeros((2, 2))}, data, key=jax.random.key(1), optimizer=optax.sgd(1.0))
        >>> float(result.history.accuracy[-1]) > 0.95
        True
    """
    check.count(epochs, "fit", "epochs")
    check.count(batch_size, "fit", "batch_size")
    check.choice(on_divergence, DIVERGED, "fit", "on_divergence")
    directory = None if checkpoint is None else as_folder(checkpoint, "fit", "checkpoint")
    program = _program(apply, params, loss, optimizer, accuracy)
    program = program if penalty is None else dataclasses.replace(program, penalty=as_function(penalty))
    data = _examples(program, params, data, "fit", weights)
    if penalty is not None:
        check_penalty(program, params, data, key)
    program = _recorded(program, params, data, key) if record_layers else program
    validation = None if validation is None else _examples(program, params, validation, "fit: validation", None)
    if patience is not None:
        check.count(patience, "fit", "patience")
        if validation is None:
            raise ValueError("fit: `patience` counts epochs without a better validation loss; pass `validation` too.")
    if resume and checkpoint is None:
        raise ValueError("fit: `resume=True` needs `checkpoint=`, the directory of the run to continue.")
    kept = None if snapshots is None else _kept(snapshots, data, epochs, batch_size)
    if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((params, data, validation, key))):
        if checkpoint is not None or progress or not isinstance(data, Batch) or on_device is False:
            raise ValueError(
                "fit: inside a JAX transformation (jit, vmap, grad) the run is one traced loop over arrays, which can "
                "neither save checkpoints, show progress nor read host batches. Leave those settings out."
            )
        run = start_run(program, params, key, validation is not None)
        whole = (program, run, _to_device(data), _to_device(validation), key)
        run, rows, found = run_epochs(*whole, epochs=epochs, batch_size=batch_size, patience=patience, snapshots=kept)
        return as_fit(run, rows, validation is not None, run.state.step // -(-data.size // batch_size), found)
    arrays = [part for part in (data, validation) if part is not None]
    resident = all(isinstance(part, Batch) for part in arrays) and (
        all(map(fits_on_device, arrays)) if on_device is None else on_device
    )
    data, validation = (_to_device(part) if resident else part for part in (data, validation))
    shown = (patience, progress, resident, on_divergence)
    loop = HostLoop(program, data, validation, key, batch_size, epochs, *shown, kept)
    return loop.run(params, directory, resume)


def _kept(snapshots: Any, data: Any, epochs: int, batch_size: int) -> tuple[int, ...]:
    """The steps to keep; how many there are is known of arrays and of what has a length."""
    sized = isinstance(data, Batch) or hasattr(data, "__len__")
    per_epoch = (-(-data.size // batch_size) if isinstance(data, Batch) else len(data)) if sized else None
    run = f"`epochs`={epochs} of {per_epoch} batches"
    return as_steps(snapshots, None if per_epoch is None else epochs * per_epoch, run)


def _examples(program: Program, params: Pytree, data: Any, name: str, weights: Any) -> Any:
    """Arrays, checked, as a `Batch`; anything else as a source of batches."""
    batch = as_batch(data, name)
    if batch is None:
        if weights is not None:
            raise ValueError("fit: `weights` go with arrays; batches from the host bring their own: (x, y, weights).")
        return source(data, name)
    if weights is not None:
        check.arrays(weights, name, "weights")
        batch = as_batch((batch.inputs, batch.targets, weights), name)
        assert batch is not None
    check_values(program, params, batch, name)
    return batch


def _recorded(program: Program, params: Pytree, data: Any, key: Array) -> Program:
    """The program with an optimizer that sums up what the layers do, in the order in which the model uses them."""
    batch = data if isinstance(data, Batch) else next(host_batches(data, key, 1, "fit"), None)
    if batch is None:
        raise ValueError("fit: `data` gave no batch.")
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *jnp.shape(a)[1:]), jnp.result_type(a)), batch.inputs)
    trained, rest = program.model.partition(params)

    def run(trained: Pytree, *inputs: Any) -> Any:
        return program.model(program.model.combine(trained, rest), *inputs)

    return dataclasses.replace(
        program, optimizer=Static(recording(program.optimizer.value, groups_of(trained, run, *one)))
    )


def _to_device(batch: Any) -> Any:
    return jax.tree.map(jnp.asarray, batch)


def _program(apply: Any, params: Pytree, loss: Any, optimizer: Any, accuracy: Any) -> Program:
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"`optimizer` is {type(optimizer).__name__}, not an optax transformation like optax.sgd(0.1).")
    model = as_trainable(apply)
    odd = [leaf for leaf in jax.tree.leaves(params) if not (hasattr(leaf, "dtype") or isinstance(leaf, int | float))]
    if odd or getattr(params, "dtype", None) == np.dtype(object):
        raise TypeError(f"`params` holds {check.short(odd[0] if odd else params)}; pass what `apply` takes, arrays.")
    trained_leaves(model, params)
    return Program(model, as_function(loss), None if accuracy is None else as_function(accuracy), Static(optimizer))
