"""Scores: `f(x, target, *inputs) -> scalar`, what an explanation explains, from a batch-first `apply(params, batch)`.

Every score adds a batch axis of length one to `x` and `inputs`, applies the model, selects the output, removes the
axis, and picks one number. They are pytrees: the parameters are leaves, the code is static.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import Function, Static, as_function, as_model, is_array, kept, public, setting
from jaxplain.program.node import LastOperations
from jaxplain.program.trace import ByShape, add_batch_axis, batch_axis_length
from jaxplain.readout import (
    Pick,
    Select,
    binary_cross_entropy,
    check_labels,
    cross_entropy,
    index_range,
    selector,
    wide,
)
from jaxplain.types import Array, Pytree, linen_module

__all__ = [
    "ModelScore",
    "log_probability",
    "logit",
    "loss",
    "margin",
    "output",
    "probability",
]


class ModelScore(Function):
    """A score of a model: `f(x, target=None, *inputs) -> scalar` for one example.

    Made by `logit`, `probability`, `log_probability`, `margin`, `output` and `loss`.
    """

    apply: Any
    params: Pytree
    select: Any
    reduce: Any
    name: str = setting(default="score")

    def outputs(self, x: Pytree, *inputs: Any) -> Array:
        """The selected output for one example, without the batch axis."""
        check.arrays(x, self.name)
        value = self.select(_run(self.apply, self.params, add_batch_axis((x, *inputs)), self.name))
        if not is_array(value):
            raise TypeError(
                f"{self.name}: the model returned {type(value).__name__}, not an array. Name the part to score with "
                "`select=`, for example select='logits' (a key, an attribute, an index, or a function)."
            )
        if jnp.shape(value)[:1] != (batch_axis_length(),):
            raise ValueError(
                f"{self.name}: for a batch of one, `apply` returned shape {jnp.shape(value)}; the first axis has to be "
                "the batch (length 1)."
            )
        return value[0]

    def __call__(self, x: Pytree, target: Any = None, *inputs: Any) -> Array:
        """Score one example: x of the model's input shape without the batch axis; a scalar in float32 or wider."""
        outputs = self.outputs(x, *inputs)
        if self.reduce.makes_again("sigmoid", outputs):
            self._refuse_probabilities(x, inputs, outputs)
        return self.reduce(wide(outputs), target, self.name)

    def _refuse_probabilities(self, x: Pytree, inputs: tuple[Any, ...], outputs: Array) -> None:
        """Raise where the model itself ends in a softmax or sigmoid: read from its program, once for each score."""
        word = kept(self, "_ends", LastOperations)(_outputs, self, x, inputs)
        if word is not None and self.reduce.makes_again(word, outputs):
            raise ValueError(
                f"{self.name}: the model's outputs are probabilities already (it ends in a {word}), and {self.name} "
                "would make probabilities of them again. Score them as they are with jaxplain.output(apply, params), "
                "or return the logits before it."
            )

    def check_call(self, x: Pytree, target: Any = None, *inputs: Any) -> None:
        """Raise for concrete batched targets outside the classes (used by drivers, which see whole batches)."""
        if isinstance(self.reduce, _Criterion) and target is not None:
            self._check_criterion(x, target, inputs)
        if not isinstance(self.reduce, Pick) or target is None or not _indices_only(target):
            return
        sizes = kept(self, "_sizes", ByShape)(lambda *_: _SIZES(_index_sizes, self, x, inputs), x, inputs)
        index_range(target, sizes, self.name)

    def _check_criterion(self, x: Pytree, target: Any, inputs: tuple[Any, ...]) -> None:
        """Raise for labels that the package's own losses cannot take, such as the values of a regression."""
        criterion = getattr(self.reduce.criterion, "value", None)
        if criterion in (cross_entropy, binary_cross_entropy) and check.is_concrete(target):
            shape = kept(self, "_sizes", ByShape)(lambda *_: _SIZES(_index_sizes, self, x, inputs), x, inputs)
            check_labels(criterion, (len(target), *shape), target, self.name)


def _outputs(score: ModelScore, x: Pytree, inputs: tuple[Any, ...]) -> Array:
    return score.outputs(x, *inputs)


def _run(apply: Any, params: Pytree, batch: tuple[Any, ...], name: str) -> Any:
    """The model's result; one that is in training mode is refused, since BatchNorm of one example makes it zero."""
    try:
        result = apply(params, *batch)
    except Exception as error:
        if type(error).__name__ != "ModifyScopeVariableError":  # Flax's, which is not imported for it
            raise
        raise ValueError(f"{name}: the model changes its state while it runs. {_EVALUATION}") from error
    changed = result[1] if isinstance(result, tuple) and len(result) == 2 else None
    if isinstance(changed, Mapping) and "batch_stats" in changed and not _kept_statistics(params, changed):
        raise ValueError(
            f"{name}: the model returned new `batch_stats` beside its output, as it does in training, where BatchNorm "
            f"subtracts from one example its own values. {_EVALUATION}"
        )
    return result


def _kept_statistics(params: Pytree, changed: Mapping[str, Any]) -> bool:
    """Whether the statistics that came back are the very ones that went in, as in evaluation mode."""
    before = params.get("batch_stats") if isinstance(params, Mapping) else None
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(changed["batch_stats"]), strict=False)
    return before is not None and all(old is new for old, new in pairs)


_EVALUATION = (
    "Score it in evaluation mode, for example apply=lambda params, x: model.apply(params, x, train=False) "
    "(use_running_average=True of BatchNorm, deterministic=True of Dropout)."
)

_SIZES = ByShape[tuple[int, ...]]()
"""Of scores of one structure, such as those of each step of training; of one score it is kept with it."""


def _index_sizes(score: Any, x: Pytree, inputs: Pytree) -> tuple[int, ...]:
    """The shape of what a target is compared with; kept, since a trace a call costs as much as a small batch."""
    x, inputs = jax.tree.map(lambda rows: jax.ShapeDtypeStruct(rows.shape[1:], rows.dtype), (x, inputs))
    return jax.eval_shape(_compared, score, x, inputs).shape


def _compared(score: ModelScore, x: Pytree, inputs: tuple[Any, ...]) -> Array:
    outputs = score.outputs(x, *inputs)
    return score.reduce.transformed(outputs) if isinstance(score.reduce, Pick) else outputs


def _indices_only(target: Any) -> bool:
    """Whether a target is one integer or a tuple of integers, of any batch shape."""
    return all(jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in jax.tree.leaves(target))


def _score(name: str, apply: Callable[..., Any], params: Pytree, select: Select, reduce: Any) -> ModelScore:
    if not callable(apply):
        raise TypeError(
            f"{name}: `apply` has to be a function (params, batch) -> outputs, such as a Flax module's `apply`, not "
            f"{type(apply).__name__}. For an NNX model use `apply, params = jaxplain.from_nnx(model)`."
        )
    if linen_module(apply) is not None and not (hasattr(apply, "__self__") or isinstance(apply, functools.partial)):
        raise TypeError(f"{name}: `apply` is {linen_module(apply)}; pass its method: {name}(model.apply, params).")
    return ModelScore(*as_model(apply, params), selector(select, name), reduce, name)


@public
def logit(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> ModelScore:
    """Score by the model's raw output of the target: f(x, target) = z[target].

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`, batch first. `functools.partial` and bound methods are taken
            apart, so that equal code compiles once.
        params: The model's variables, any pytree; they stay leaves of the score. Functions and truths among its leaves,
            such as those of an Equinox module passed whole, are part of what is compiled.
        select: Which part of the output is scored: a key or attribute name ('logits', dots go deeper), an index, or a
            function. None takes the output itself.

    Returns:
        `f(x, target=None, *inputs) -> scalar` (float32 or wider). `target` is an integer, a tuple of integers with one
        for each output axis (`(t, k)` of a sequence, `(h, w, k)` of a segmentation), an array of weights of the
        outputs' shape (their weighted sum is returned), or absent where the model has one output.
        Cost: one forward pass.

    Raises:
        ValueError: A concrete target outside the outputs (a traced one gives NaN), or of a shape that does not fit.
        TypeError: `apply` is not callable, or the output is no array.

    Example:
        >>> import jax.numpy as jnp
        >>> f = logit(lambda params, x: x @ params, jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> float(f(jnp.array([1.0, 1.0]), 1))
        6.0
    """
    return _score("logit", apply, params, select, Pick("logit"))


@public
def output(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> ModelScore:
    """Score by an output as it is, the word for regression: f(x, target) = y[target].

    The same numbers as `logit`, under the name that fits a model without classes; a model with one output needs no
    target.

    Args:
        apply: As in `logit`.
        params: As in `logit`.
        select: As in `logit`.

    Returns:
        `f(x, target=None, *inputs) -> scalar`. Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `logit`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = output(lambda params, x: x @ params, jnp.array([1.0, 2.0]))
        >>> float(f(jnp.array([3.0, 4.0])))
        11.0
    """
    return _score("output", apply, params, select, Pick("logit"))


@public
def probability(
    apply: Callable[..., Any], params: Pytree, *, select: Select = None, activation: str = "softmax"
) -> ModelScore:
    """Score by the probability of the target: f(x, k) = softmax(z)[k].

    A head of one unit is a classifier of two classes, 0 and 1: f(x, 1) = sigmoid(z), f(x, 0) = 1 - sigmoid(z), and
    without a target f(x) = sigmoid(z). With activation='sigmoid' each output is a label of its own (multi-label):
    f(x, k) = sigmoid(z[k]).

    Args:
        apply: As in `logit`; it has to return logits.
        params: As in `logit`.
        select: As in `logit`.
        activation: 'softmax' over the last axis, or 'sigmoid' for each output.

    Returns:
        `f(x, target=None, *inputs) -> scalar` in [0, 1] (a weighted sum where the target is an array of weights).
        Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `logit`; an unknown activation.

    Example:
        >>> import jax.numpy as jnp
        >>> f = probability(lambda params, x: x * params, jnp.zeros((1, 2)))
        >>> float(f(jnp.ones(2), 0))
        0.5
    """
    return _probability_like("probability", apply, params, select, activation)


@public
def log_probability(
    apply: Callable[..., Any], params: Pytree, *, select: Select = None, activation: str = "softmax"
) -> ModelScore:
    """Score by the log-probability of the target: f(x, k) = log softmax(z)[k], computed without overflow.

    Args:
        apply: As in `probability`.
        params: As in `logit`.
        select: As in `logit`.
        activation: As in `probability`.

    Returns:
        `f(x, target=None, *inputs) -> scalar`, at most 0 (in nats). Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `probability`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = log_probability(lambda params, x: x * params, jnp.ones((1, 2)))
        >>> bool(jnp.isclose(f(jnp.ones(2), 0), -jnp.log(2.0)))
        True
    """
    return _probability_like("log_probability", apply, params, select, activation)


@public
def margin(
    apply: Callable[..., Any], params: Pytree, *, select: Select = None, activation: str = "softmax"
) -> ModelScore:
    """Score by how far the target leads: f(x, k) = z[k] - max over j != k of z[j].

    Positive exactly where the model predicts the target. A head of one unit gives z for class 1 and -z for class 0;
    with activation='sigmoid' the margin of a label is its logit.

    Args:
        apply: As in `probability`.
        params: As in `logit`.
        select: As in `logit`.
        activation: As in `probability`.

    Returns:
        `f(x, target=None, *inputs) -> scalar` in logits. Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `probability`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = margin(lambda params, x: x * params, jnp.ones((1, 3)))
        >>> float(f(jnp.array([1.0, 5.0, 2.0]), 1))
        3.0
    """
    return _probability_like("margin", apply, params, select, activation)


def _probability_like(
    name: str, apply: Callable[..., Any], params: Pytree, select: Select, activation: str
) -> ModelScore:
    check.choice(activation, ("softmax", "sigmoid"), name, "activation")
    return _score(name, apply, params, select, Pick(name, activation))


class _Criterion(Function):
    """Reduces outputs by a per-example loss."""

    criterion: Any

    def makes_again(self, word: str, outputs: Array) -> bool:
        """Whether the loss takes logits, as the package's own do, where the outputs are a 'softmax' or 'sigmoid'."""
        return isinstance(self.criterion, Static) and self.criterion.value in (cross_entropy, binary_cross_entropy)

    def __call__(self, outputs: Array, target: Any, name: str) -> Array:
        if target is None:
            raise ValueError(f"{name}: a target is needed: f(x, target).")
        return self.criterion(outputs, target)


@public
def loss(
    apply: Callable[..., Any],
    params: Pytree,
    criterion: Callable[[Array, Any], Array] | None = None,
    *,
    select: Select = None,
) -> ModelScore:
    """Score by the loss of one example: f(x, target) = criterion(outputs, target).

    Args:
        apply: As in `logit`.
        params: As in `logit`.
        criterion: `(outputs, target) -> scalar` for one example; None takes `cross_entropy`.
        select: As in `logit`.

    Returns:
        `f(x, target, *inputs) -> scalar`. Cost: one forward pass.

    Raises:
        ValueError: No target.
        TypeError: As in `logit`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = loss(lambda params, x: x * params, jnp.ones((1, 2)))
        >>> bool(jnp.isclose(f(jnp.ones(2), 0), jnp.log(2.0)))
        True
    """
    return _score(
        "loss", apply, params, select, _Criterion(as_function(cross_entropy if criterion is None else criterion))
    )
