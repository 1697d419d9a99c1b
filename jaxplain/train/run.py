"""A whole training run as one function of the weights of its examples, differentiable in memory O(sqrt(steps)).

It takes the very steps of `fit`, in the same order and with the same keys, as one nested loop whose turns are computed
again on the way back: only the states between segments are kept, and within one segment those between its steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.data import batch_indices
from jaxplain.program import Function, Static, as_function, public, setting
from jaxplain.readout import cross_entropy
from jaxplain.train.epoch import Batch, Program, TrainState
from jaxplain.train.feed import as_batch, check_values
from jaxplain.train.fit import SGD, Loss
from jaxplain.train.trainable import as_trainable, trained_leaves
from jaxplain.types import Array, Number, Pytree


class TrainingRun(Function):
    """A training run that can be traced: `run(weights) -> params` after the last step. Made by `training_run`.

    Its arrays (params, data, key, settings) are leaves, so `jax.jit`, `jax.grad` and `jax.vmap` take it as an argument.
    """

    model: Any
    loss: Any
    optimizer: Static
    settings: Any  # numbers that `optimizer` is made from; empty where it is a transformation
    params: Pytree
    data: Batch  # with weights
    key: Array
    epochs: int = setting()
    batch_size: int = setting()
    every: int | None = setting(default=None)

    @staticmethod
    def checked(
        apply: Callable[..., Any], params: Pytree, data: Any, loss: Loss, weights: Any, name: str
    ) -> tuple[Any, Any, Batch]:
        """Model, loss and weighted examples of what a function called `name` was given; all errors before compute."""
        batch = as_batch(data, name)
        if batch is None:
            raise TypeError(
                f"{name}: `data` is {type(data).__name__}; pass arrays (inputs, targets), [N, ...]. "
                "Of batches from the host stack the examples first: jnp.concatenate of all inputs and of all targets."
            )
        batch = batch._replace(weights=_weights(weights if weights is not None else batch.weights, batch, name))
        model, criterion = as_trainable(apply), as_function(loss)
        trained_leaves(model, params)
        refuse_half(model.partition(params)[0], name, "params")
        check_values(Program(model, criterion, None), params, batch, name)
        check.finite(params, name, "params")
        return model, criterion, jax.tree.map(jnp.asarray, batch)

    @property
    def count(self) -> int:
        """The number of training examples, N."""
        return self.data.size

    @property
    def steps(self) -> int:
        """The number of optimizer steps, T."""
        return self.epochs * -(-self.count // self.batch_size)

    @property
    def segment(self) -> int:
        """Steps between two states that are kept: `every`, or a divisor of the number of steps near its root."""
        if self.every is not None:
            return min(self.every, self.steps)
        root = math.isqrt(self.steps - 1) + 1
        return next((k for k in range(root, 2 * root) if self.steps % k == 0), root)

    def __call__(self, weights: Any = None) -> Pytree:
        """Train with these weights `[N]` (None: the run's own) and return the params after the last step."""
        if weights is not None and jnp.shape(weights) != (self.count,):
            raise ValueError(
                f"training_run: the run is called with `weights` of shape {jnp.shape(weights)}, but there are "
                f"{self.count} training examples; pass one number for each, shape ({self.count},)."
            )
        run = self if weights is None else self.replace("weights", weights)
        return _trained(run)

    def read(self, name: str) -> Pytree:
        """What a run rests on: "weights", "params", "inputs", "targets", "settings", or a setting by its name."""
        if name in ("weights", "inputs", "targets"):
            return getattr(self.data, name)
        return self.settings[name] if name in self.settings else getattr(self, name)

    def replace(self, name: str, value: Any) -> TrainingRun:
        """The run with something else in the place that `read` reads."""
        if name in ("weights", "inputs", "targets"):
            return dataclasses.replace(self, data=self.data._replace(**{name: value}))
        if name in self.settings:
            return dataclasses.replace(self, settings={**self.settings, name: value})
        return dataclasses.replace(self, **{name: value})

    def program(self) -> Program:
        """The code of a step."""
        make = self.optimizer.value
        optimizer = make(**self.settings) if self.settings else make
        return Program(self.model, self.loss, None, Static(optimizer))

    def train(self) -> TrainState:
        """All steps; the last state. Its derivative keeps O(sqrt(steps)) states."""
        return self._loop(keep=False)[0]

    def trajectory(self) -> tuple[TrainState, Pytree]:
        """All steps; the last state, and the params before each segment, stacked `[ceil(steps / segment), ...]`."""
        return self._loop(keep=True)

    def order(self) -> Array:
        """The rows of every step `[T, B]` int32; of an epoch's short last batch the first N mod B count."""
        size = min(self.batch_size, self.count)
        epochs = jax.lax.map(
            lambda e: batch_indices(jax.random.fold_in(self.key, e), self.count, size)[0], jnp.arange(self.epochs)
        )
        return epochs.reshape(-1, size)

    def _loop(self, keep: bool) -> tuple[TrainState, Pytree]:
        rows, length = self.order(), self.segment
        full, rest = divmod(self.steps, length)
        places = jnp.arange(self.steps)

        def segment(state: TrainState, turn: tuple[Array, Array]) -> tuple[TrainState, Pytree]:
            # Weights are gathered once a segment: gathered step by step, each step's cotangent would be an array [N].
            return jax.lax.scan(self._step, state, (*turn, self.data.weights[turn[0]]))[0], (
                state.params if keep else None
            )

        segment = jax.checkpoint(segment, prevent_cse=False)
        state = self.program().start(self.params, self.key)
        split = full * length
        grouped = (rows[:split].reshape(full, length, -1), places[:split].reshape(full, length))
        state, kept = jax.lax.scan(segment, state, grouped)
        if rest:
            state, last = segment(state, (rows[split:], places[split:]))
            kept = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), kept, last)
        return state, kept

    def _step(self, state: TrainState, turn: tuple[Array, Array, Array]) -> tuple[TrainState, None]:
        program, size = self.program(), min(self.batch_size, self.count)
        short, steps = self.count % size, -(-self.count // size)
        examples = self.data._replace(weights=None)

        def step(state: TrainState, rows: Array, weights: Array) -> TrainState:
            batch = jax.tree.map(lambda a: a.at[rows].get(mode="promise_in_bounds"), examples)
            return program.step(state, batch._replace(weights=weights))[0]

        def any_step(state: TrainState, rows: Array, place: Array, weights: Array) -> TrainState:
            if not short:
                return step(state, rows, weights)
            last = place % steps == steps - 1  # a step of its own size, as in an epoch of `fit`
            return jax.lax.cond(
                last, lambda: step(state, rows[:short], weights[:short]), lambda: step(state, rows, weights)
            )

        return jax.checkpoint(any_step, prevent_cse=False)(state, *turn), None


@jax.jit  # one program for all weights of a run, where it is called outside of another
def _trained(run: TrainingRun) -> Pytree:
    return run.train().params


@public
def training_run(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    key: Array,
    loss: Loss = cross_entropy,
    optimizer: Any = SGD,
    epochs: int = 10,
    batch_size: int = 32,
    weights: Any = None,
    settings: dict[str, Number] | None = None,
    every: int | None = None,
    patience: int | None = None,
) -> TrainingRun:
    """Describe the run that `fit` would do, as a function of its examples' weights: `run(weights) -> params`.

    The steps, their order, their dropout keys and their short last batches are those of `fit` with the same arguments:
    each minimises sum_i w_i loss_i / B with B the batch's size, whatever the weights. Weights do not enter BatchNorm's
    statistics: an example of weight 0 still counts in the means and variances of its batch.

    Args:
        apply: As in `fit`.
        params: As in `fit`, in float32 or wider.
        data: `(inputs, targets)` arrays `[N, ...]`, as in `fit`; they are on the device as a whole.
        key: As in `fit`.
        loss: As in `fit`.
        optimizer: Any optax transformation; with `settings`, a function that makes one of them, such as `optax.adamw`.
        epochs: Passes over the data.
        batch_size: Examples in a step.
        weights: `[N]`, a weight for each example's loss; None is 1 for each.
        settings: Numbers that make the optimizer, `optimizer(**settings)`, and may be differentiated:
            `{"learning_rate": 0.1}`.
        every: Steps between two states that are kept for the way back; by default about the root of their number.
        patience: Has to be None: the number of steps of a traced run is fixed. For a run that stopped early, pass
            `epochs=` the number it took, `int(fit(...).history.epochs)`.

    Returns:
        The run. A call costs what `fit` costs; its derivative one more run and two more forward passes a step, memory
        for about 2 sqrt(steps) states (params and the optimizer's state) and one step's activations.

    Raises:
        ValueError: Empty or unequal data, NaN, labels outside the classes, weights of another length, half precision,
            `patience`.
        TypeError: Batches from the host, which cannot be traced; an `apply` or `params` that cannot be trained.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> x = jnp.array([[1.0], [2.0]])
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros((1, 1)), (x, jnp.array([0, 1])), key=jax.random.key(0))
        >>> run(jnp.ones(2)).shape, run.steps
        ((1, 1), 10)

    Source: the checkpointed loop is that of Griewank and Walther, "Evaluating Derivatives" (2008), section 12.2, with
    one level.
    """
    check.arrays(params, "training_run", "params")
    check.count(epochs, "training_run", "epochs")
    check.count(batch_size, "training_run", "batch_size")
    if every is not None:
        check.count(every, "training_run", "every")
    if patience is not None:
        raise ValueError(
            "training_run: a run with early stopping (`patience`) has no fixed number of steps and cannot be traced. "
            "Find the number with fit(..., patience=...) and pass epochs=int(result.history.epochs)."
        )
    model, criterion, batch = TrainingRun.checked(apply, params, data, loss, weights, "training_run")
    numbers = _settings(settings, optimizer)
    run = TrainingRun(
        *(model, criterion, Static(optimizer), numbers, params, batch, key),
        *(epochs, min(batch_size, batch.size), every),
    )
    run.program()  # the optimizer is made once, so that settings it does not take are told here
    return run


def refuse_half(tree: Pytree, name: str, argument: str, what: str = "a derivative through training") -> None:
    """Require floating-point leaves of at least 32 bits: a derivative through many steps drowns in less."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and jnp.finfo(jnp.result_type(leaf)).bits < 32:
            raise ValueError(
                f"{name}: `{argument}{jax.tree_util.keystr(path)}` has dtype {jnp.result_type(leaf)}; {what} is lost "
                f"in half precision. Convert it: jax.tree.map(lambda a: a.astype('float32'), {argument})."
            )


def _weights(weights: Any, batch: Batch, name: str) -> Array:
    if weights is None:
        inputs = [leaf for leaf in jax.tree.leaves(batch.inputs) if check.is_floating(leaf)]
        return jnp.ones(batch.size, jnp.result_type(jnp.float32, *inputs))
    check.arrays(weights, name, "weights")
    if jnp.shape(weights) != (batch.size,):
        raise ValueError(
            f"{name}: `weights` has shape {jnp.shape(weights)}, but there are {batch.size} training examples; pass one "
            f"number for each, shape ({batch.size},)."
        )
    check.finite(weights, name, "weights")
    return jnp.asarray(weights, jnp.result_type(jnp.float32, weights))


def _settings(settings: Any, optimizer: Any) -> dict[str, Array]:
    made = hasattr(optimizer, "init") and hasattr(optimizer, "update")
    if not settings:
        if not made:
            raise TypeError(
                f"training_run: `optimizer` is {check.short(optimizer)}, not an optax transformation like "
                "optax.sgd(0.1). A function that makes one goes with `settings=`, the numbers it takes."
            )
        return {}
    if made or not callable(optimizer):
        raise TypeError(
            "training_run: with `settings`, `optimizer` is the function that makes the transformation, "
            "optimizer=optax.adamw, not a transformation or anything else."
        )
    for name, value in settings.items():
        check.numbers(value, "training_run", f"settings[{name!r}]")
    return {name: jnp.asarray(value, jnp.result_type(float, value)) for name, value in settings.items()}
