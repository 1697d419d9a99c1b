"""A detector's answer as one number: a class at a place, or the likeness to a detection; and D-RISE of the latter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.perturbation import rise
from jaxplain.explain.vision.boxes import has_area, joined, overlap
from jaxplain.explain.vision.pair import PairScore, pair
from jaxplain.program import Function, as_model, is_array, public, setting
from jaxplain.readout import Pick, Select, selector, wide
from jaxplain.types import Array, Pytree

FIRST_CLASS = 5
"""Columns of a read detection: its box, its objectness, then its classes."""


class _Read(Function):
    """A batch of a model's detections as one array `[B, N, 5 + K]`."""

    part: Any
    name: str = setting(default="box_score")

    def __repr__(self) -> str:
        return repr(self.part)

    def __call__(self, outputs: Any) -> Array:
        found = self.part(outputs)
        parts = list(found) if isinstance(found, tuple | list) else []
        if len(parts) not in (2, 3) or not all(map(is_array, parts)):
            raise TypeError(
                f"{self.name}: the model has to return (boxes, classes) or (boxes, classes, objectness), not "
                f"{check.short(found)}. Take them out of its output with `select=`, for example "
                "select=lambda output: (output['boxes'], output['logits'])."
            )
        boxes, classes = map(wide, parts[:2])
        if boxes.ndim != 3 or boxes.shape[2] != 4 or classes.ndim != 3 or classes.shape[:2] != boxes.shape[:2]:
            raise ValueError(
                f"{self.name}: the model's boxes have shape {boxes.shape} and its classes {classes.shape}, but a batch "
                "of detections is [B, N, 4] and [B, N, K]. `select=` can reorder them."
            )
        if boxes.shape[1] == 0:
            raise ValueError(f"{self.name}: the model returned no detections: its boxes have shape {boxes.shape}.")
        objectness = wide(parts[2]) if len(parts) == 3 else jnp.ones(boxes.shape[:2], boxes.dtype)
        if objectness.size != boxes.shape[0] * boxes.shape[1]:
            raise ValueError(
                f"{self.name}: the model's objectness has shape {objectness.shape}, but one number for each of the "
                f"{boxes.shape[1]} detections is [B, N]."
            )
        dtype = jnp.promote_types(boxes.dtype, classes.dtype)
        columns = (boxes, objectness.reshape(*boxes.shape[:2], 1), classes)
        return jnp.concatenate([column.astype(dtype) for column in columns], axis=-1)


class _AtBox(Function):
    """One number of detections `[N, 5 + K]`: their overlaps with a box, times objectness and what `of` reads."""

    of: Any
    temperature: Any = None
    fixed_boxes: bool = setting(default=False)

    place: ClassVar[str] = "box"
    first_class: ClassVar[int] = FIRST_CLASS

    def check_batch(self, boxes: Any, labels: Any, name: str) -> None:
        """Require concrete boxes `[B, 4]` to have an area, and probabilities `[B, K]` to be some."""
        joined(boxes, name)
        if isinstance(self.of, _Cosine) and jnp.ndim(labels) > 1:
            _probabilities(labels, name)

    def makes_again(self, word: str, outputs: Array) -> bool:
        """Never: the outputs that it sees are no longer the model's own."""
        return False

    def __call__(self, outputs: Array, target: Any, name: str) -> Array:
        box, label = pair(target, name, "box")
        box = joined(box, name)
        if jnp.ndim(box) > 1:
            raise ValueError(
                f"{name}: the `target`'s box has shape {jnp.shape(box)}, but a score is of one box [4]; a batch goes "
                "through `jax.vmap` or `explain_batch`."
            )
        box = jnp.asarray(box, outputs.dtype)
        shared = overlap(outputs[:, :4], box) * outputs[:, 4]
        if self.fixed_boxes:
            shared = jax.lax.stop_gradient(shared)
        values = shared * self.of(outputs[:, FIRST_CLASS:], label, name)
        value = values.max() if self.temperature is None else _soft_maximum(values, self.temperature)
        # A traced box cannot be read here: one without an area makes the score NaN.
        return value if check.is_concrete(box) else jnp.where(has_area(box), value, jnp.nan)


def _soft_maximum(values: Array, temperature: Any) -> Array:
    """The mean of values, weighted by how high they are."""
    return (jax.nn.softmax(values / temperature) * values).sum()


class _OfClass(Function):
    """Each detection's number of one class."""

    def __call__(self, classes: Array, label: Any, name: str) -> Array:
        return jax.vmap(lambda row: Pick("logit")(row, label, name))(classes)


class _Cosine(Function):
    """The cosine of each detection's probabilities with wanted ones; a class is sure of itself."""

    activation: str | None = setting(default="softmax")

    def __call__(self, classes: Array, label: Any, name: str) -> Array:
        if self.activation is not None:
            classes = (jax.nn.softmax if self.activation == "softmax" else jax.nn.sigmoid)(classes)
        if jnp.ndim(label):
            if jnp.shape(label) != classes.shape[1:]:
                raise ValueError(
                    f"{name}: the `target`'s probabilities have shape {jnp.shape(label)}, but the model has "
                    f"{classes.shape[1]} classes. Pass one for each of them, or the index of a class."
                )
            _probabilities(label, name)
            wanted = jnp.asarray(label, classes.dtype)
            return _unit(classes) @ _unit(wanted)
        return _OfClass()(_unit(classes), label, name)


def _probabilities(label: Any, name: str) -> None:
    """Refuse concrete probabilities `[..., K]` that are negative or all 0."""
    if not check.is_concrete(label):
        return
    rows = np.asarray(label).reshape(-1, np.shape(label)[-1])
    wrong = rows[(rows < 0).any(axis=1) | ~rows.any(axis=1)]
    if len(wrong):
        raise ValueError(
            f"{name}: the `target`'s probabilities are {wrong[0].tolist()}; they have to be 0 or more and not all 0. "
            "Of logits take jax.nn.softmax (or sigmoid), or pass the index of a class."
        )


def _unit(rows: Array) -> Array:
    """Rows of length 1; zeros stay."""
    largest = jax.lax.stop_gradient(jnp.abs(rows).max(axis=-1, keepdims=True))
    rows = rows / jnp.where(largest > 0, largest, 1)  # squares of numbers below 1e-19 are zero in float32
    squares = (rows**2).sum(axis=-1, keepdims=True)
    return rows * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)


def _detector(name: str, apply: Callable[..., Any], params: Pytree, select: Select, reduce: Any) -> PairScore:
    check.function(apply, name, "apply", "(params, batch) -> (boxes, classes)")
    return PairScore(*as_model(apply, params), _Read(selector(select, name), name), reduce, name)


@public
def box_score(
    apply: Callable[..., Any],
    params: Pytree,
    *,
    select: Select = None,
    temperature: float | None = None,
    fixed_boxes: bool = False,
) -> PairScore:
    """Score a detector by a class at a place: f(x, (b, k)) = max over detections j of IoU(b_j, b) o_j z_j[k].

    IoU is the area that two boxes share over the area that they cover together: 0 where they do not meet, 1 for the
    same box; o_j is the objectness, 1 where the model has none. The numbers z_j[k] are those of the model: of logits,
    a negative one at the place counts less than a detection elsewhere (0); return probabilities by `select=` where
    that matters. Where no detection meets the box the score is 0 and so is its gradient. Detections that are equally
    high share the gradient.

    Args:
        apply: `apply(params, batch, *inputs) -> (boxes, classes)` or `(boxes, classes, objectness)`: `[B, N, 4]` as
            (x0, y0, x1, y1) in any unit, `[B, N, K]`, `[B, N]`. All N detections, before any suppression.
        params: As in `jaxplain.logit`.
        select: Where in the output these are: a function that returns them as a tuple, or as in `jaxplain.logit`.
        temperature: None takes the largest value v_j; a number takes their mean, weighted by softmax(v / temperature),
            which is smooth and lies at most log(N) temperatures below the largest.
        fixed_boxes: Hold overlaps and objectness constant in derivatives and backward rules, so that only the class is
            explained and not where the box is: relevance then adds up to the score, where it otherwise goes to the
            factors of products (as it does to the weights of a `temperature`), but integrated gradients no longer do.

    Returns:
        `f(x, (box, class), *inputs) -> scalar`, in the units of the class. `class` is as in `jaxplain.logit`: an
        integer or weights `[K]`. In `explain_batch` the target is `(boxes [B, 4], classes [B])`.
        Cost: one forward pass.

    Raises:
        ValueError: A concrete box without an area (a traced one gives NaN), a class outside the model's, outputs of
            other shapes, no detections, a temperature that is not positive.
        TypeError: Outputs that are no such tuple, a target that is no pair, an `apply` that is not callable.

    Example:
        >>> import jax.numpy as jnp
        >>> detect = lambda params, x: (jnp.array([[[0.0, 0.0, 2.0, 2.0]]]), x[:, None])
        >>> float(box_score(detect, None)(jnp.array([3.0, 5.0]), ((0.0, 0.0, 2.0, 1.0), 1)))
        2.5
    """
    if temperature is not None:
        check.one_number(temperature, "box_score", "temperature")
    if not isinstance(fixed_boxes, bool):
        raise TypeError(f"box_score: `fixed_boxes` has to be True or False, not {check.short(fixed_boxes)}.")
    return _detector("box_score", apply, params, select, _AtBox(_OfClass(), temperature, fixed_boxes))


@public
def d_rise(
    apply: Callable[..., Any],
    params: Pytree,
    *,
    select: Select = None,
    activation: str | None = "softmax",
    cells: int | tuple[int, ...] = 16,
    probability: float = 0.5,
    samples: int = 5000,
    baseline: Any = 0,
    batch_size: int | None = None,
) -> Any:
    """Average random masks, weighted by the likest detection behind each: D-RISE.

    It is `rise` of the score s(x, (b, P)) = max over detections j of IoU(b_j, b) cos(P_j, P) o_j, with b and P the box
    and the class probabilities of the detection that is explained, and o_j the objectness, 1 where there is none. (The
    source sums where `rise` divides by n p, and its masks are stretched a little beyond the image: the same map up to
    a factor.) The score itself, for deletion and insertion, is `d_rise(...).score`.

    Args:
        apply: As in `box_score`.
        params: As in `jaxplain.logit`.
        select: As in `box_score`.
        activation: What makes probabilities of the model's classes: 'softmax', 'sigmoid', or None where they are.
        cells: As in `rise`.
        probability: As in `rise`.
        samples: As in `rise`.
        baseline: As in `rise`.
        batch_size: As in `rise`.

    Returns:
        `e(key, x, (box, P), *inputs) -> attribution` of x's structure. P is `[K]`, or an integer for a class that is
        certain. Cost: `samples` forward passes.

    Raises:
        ValueError, TypeError: As in `box_score` and `rise`; an unknown activation.

    Example:
        >>> import jax.numpy as jnp
        >>> detect = lambda params, x: (jnp.array([[[0.0, 0.0, 1.0, 1.0]]]), jnp.stack([x[:, :1], 1 - x[:, :1]], -1))
        >>> e = d_rise(detect, None, activation=None, cells=2, samples=500, batch_size=500)
        >>> a = e(jax.random.key(0), jnp.ones(2), ((0.0, 0.0, 1.0, 1.0), 0))
        >>> bool(a[0] > a[1] + 0.4)
        True

    Source: Petsiuk et al. 2021, "Black-box explanation of object detectors via saliency maps", equations 2 to 4.
    """
    if activation is not None:
        check.choice(activation, ("softmax", "sigmoid"), "d_rise", "activation")
    score = _detector("d_rise", apply, params, select, _AtBox(_Cosine(activation)))
    masks = {"cells": cells, "probability": probability, "samples": samples, "batch_size": batch_size}
    return rise(score, baseline=baseline, **masks)  # type: ignore[operator]  # a checker takes the file of that name
