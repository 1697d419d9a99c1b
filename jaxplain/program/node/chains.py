"""Affine layers: a product with weights and the scales and shifts behind it, a BatchNorm among them, as one layer.

y = s (W x) + b, with s for each output feature, so the layer is linear in x with the weights s W: BatchNorm in
evaluation folds into the layer before it, without names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain.program.node.facts import Facts, Group
from jaxplain.program.node.flat import Step, Value

PRODUCTS = {"dot_general": "dense", "conv_general_dilated": "convolution"}
_SHIFTS = ("add", "sub", "add_any")
_SCALES = ("mul", "div")
_MOVES = ("reshape", "transpose", "squeeze", "expand_dims")

Axes = tuple[int, ...] | None


def find_chains(facts: Facts, taken: set[int]) -> list[Group]:
    """Layers with weights, and scales and shifts that stand alone (a BatchNorm that follows no layer)."""
    groups = [*_layers(facts, taken)]
    taken = taken | {index for group in groups for index in group.indices}
    return [*groups, *_scale_shifts(facts, taken)]


def _layers(facts: Facts, taken: set[int]) -> Iterator[Group]:
    for index, step in enumerate(facts.steps):
        varying = [value for value in step.operands if value in facts.depends]
        if step.name not in PRODUCTS or len(varying) != 1 or index in taken:
            continue
        if step.name == "conv_general_dilated" and step.operands[0] is not varying[0]:
            continue
        features = output_features(step, varying[0])
        indices, output = _chain(facts, taken, [index], step.results[0], features)
        yield Group("affine", PRODUCTS[step.name], tuple(indices), varying[0], output)


def _scale_shifts(facts: Facts, taken: set[int]) -> Iterator[Group]:
    used: set[int] = set()
    for index, step in enumerate(facts.steps):
        if index in taken | used or not _extends(facts, step, None):
            continue
        entry = facts.varying(step)[0]
        indices, output = _chain(facts, taken, [index], step.results[0], None)
        names = {facts.steps[i].name for i in indices}
        if names & {*_SHIFTS} and names & {*_SCALES} and entry.is_floating:
            used.update(indices)
            yield Group("affine", "scale_shift", tuple(indices), entry, output)


def _chain(facts: Facts, taken: set[int], indices: list[int], output: Value, features: Axes) -> tuple[list[int], Value]:
    """Follow an output through the single uses that keep the layer affine."""
    kept, end, merged = list(indices), output, False
    while (index := facts.sole_user(output)) is not None and index not in taken:
        step = facts.steps[index]
        if _extends(facts, step, features) and not (merged and step.name in _SCALES):
            output = step.results[0]
            indices = [*indices, index]
            kept, end = indices, output
        elif features is not None and step.name in _MOVES:
            places = moved(step, features)
            merged, features = merged or len(places) < len(features), places
            # Kept only where a shift or scale follows, as behind an einsum's transpose.
            output, indices = step.results[0], [*indices, index]
        else:
            break
    return kept, end


def _extends(facts: Facts, step: Step, features: Axes) -> bool:
    """Whether a step scales or shifts its one varying operand by values that do not vary.

    A scale has to be one number for each feature, at the axes `features` of the operand (None: any scale will do).
    """
    varying = [value for value in step.operands if value in facts.depends]
    if step.name not in (*_SHIFTS, *_SCALES) or len(varying) != 1 or step.results[0].shape != varying[0].shape:
        return False
    if step.name in _SHIFTS:
        return True
    if step.name == "div" and step.operands[0] is not varying[0]:
        return False
    (other,) = (value for value in step.operands if value is not varying[0])
    return features is None or facts.constant_along(other, [a for a in range(len(other.shape)) if a not in features])


def moved(step: Step, features: tuple[int, ...]) -> tuple[int, ...]:
    """Where a move puts the axes of features; () where they merge with others: behind that no scale is folded."""
    before, after = step.operands[0].shape, step.results[0].shape
    if step.name == "transpose":
        return tuple(step.params["permutation"].index(axis) for axis in features)
    places = []
    for axis in features:
        ahead, found = math.prod(before[:axis]), None
        for place, size in enumerate(after):
            if size == before[axis] and math.prod(after[:place]) == ahead:
                found = place
        if found is None:
            return ()
        places.append(found)
    return tuple(places) if len(set(places)) == len(places) else ()


def output_features(step: Step, active: Value) -> tuple[int, ...]:
    """The axes of a product's output along which its weights differ."""
    if step.name == "conv_general_dilated":
        return (step.params["dimension_numbers"].out_spec[1],)
    (contracted, batch), free = step.params["dimension_numbers"], []
    for side in (0, 1):
        value = step.operands[side]
        free.append([axis for axis in range(len(value.shape)) if axis not in (*contracted[side], *batch[side])])
    first = len(batch[0])
    if step.operands[0] is active:
        return tuple(range(first + len(free[0]), first + len(free[0]) + len(free[1])))
    return tuple(range(first, first + len(free[0])))


def _weight_axes(step: Step, active: Value) -> list[int]:
    """The axes of the weights that go to the output, in the order of `output_features`."""
    if step.name == "conv_general_dilated":
        return [step.params["dimension_numbers"].rhs_spec[0]]
    side = 1 if step.operands[0] is active else 0
    contracted, batch = step.params["dimension_numbers"]
    axes = range(len(step.operands[side].shape))
    return [axis for axis in axes if axis not in (*contracted[side], *batch[side])]


class Layer(NamedTuple):
    """An affine node in one form: y = linear(x, weight) + bias.

    `linear` is linear in x and in the weight, and takes other weights of the same shape; scales (BatchNorm) are folded
    into `weight` and `bias`.
    """

    linear: Any
    weight: Any
    bias: Any


def layer_of(node: Any, fixed: Sequence[Any]) -> Layer:
    """Bring an affine node into one form, for the values of its fixed operands."""
    known = dict(zip(node.fixed, fixed, strict=True))
    first, (entry,) = node.steps[0], node.active
    zeros = jnp.zeros(node.outputs[0].shape, node.outputs[0].dtype)
    if node.name == "scale_shift":
        weight = _follow(node.steps, jnp.ones_like(zeros), known, shifts=False)
        return Layer(lambda x, w: x * w, weight, _follow(node.steps, zeros, known))
    side = 1 if first.operands[0] is entry else 0
    weights = first.operands[side]
    weight = weights.number if weights.number is not None else known[weights]

    def linear(x: Any, w: Any) -> Any:
        (result,) = first.evaluate([x, w] if side == 1 else [w, x])
        for step in node.steps[1:]:
            if step.name in _MOVES:
                (result,) = step.evaluate([result])
        return result

    if any(step.name in (*_SCALES, "sub") for step in node.steps[1:]):  # c - W x has the weights -W
        weight = weight * _scale(node, known)
    bias = _follow(node.steps[1:], jnp.zeros(first.results[0].shape, zeros.dtype), known)
    return Layer(linear, weight, bias)


def _scale(node: Any, known: dict[Value, Any]) -> Any:
    """The scale of each output feature, in the shape of the weights."""
    first, (entry,) = node.steps[0], node.active
    features, axes = output_features(first, entry), _weight_axes(first, entry)
    sizes = [first.results[0].shape[axis] for axis in features]
    scale = _follow(node.steps[1:], jnp.ones(first.results[0].shape, first.results[0].dtype), known, shifts=False)
    for step in node.steps[1:]:
        features = moved(step, features) if step.name in _MOVES else features
    scale = scale[tuple(slice(None) if axis in features else 0 for axis in range(scale.ndim))]
    order = sorted(range(len(features)), key=features.__getitem__)  # the axes that are left, as features
    scale = scale.transpose(np.argsort(order)).reshape(sizes)
    shape = first.operands[1 if first.operands[0] is entry else 0].shape
    return scale.transpose(np.argsort(axes)).reshape([n if axis in axes else 1 for axis, n in enumerate(shape)])


def _follow(steps: Sequence[Step], value: Any, known: dict[Value, Any], shifts: bool = True) -> Any:
    """Put a value through a chain; without `shifts` only what multiplies it is applied."""
    for step in steps:
        place = next(i for i, v in enumerate(step.operands) if v.number is None and v not in known)
        operands = [v.number if v.number is not None else known.get(v) for v in step.operands]
        operands[place] = value
        if shifts or step.name not in _SHIFTS:
            (value,) = step.evaluate(operands)
        elif step.name == "sub" and place == 1:
            value = -value
    return value
