"""Affine layers: a product with weights and the scales and shifts behind it, a BatchNorm among them, as one layer.

y = s (W x) + b, with s for each output feature, so the layer is linear in x with the weights s W: BatchNorm in
evaluation folds into the layer before it, without names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
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
    weights = weights_of(node)
    weight = weights.number if weights.number is not None else known[weights]

    def linear(x: Any, w: Any) -> Any:
        (result,) = first.evaluate([x, w] if side == 1 else [w, x])
        return _moved(node, result)

    if any(step.name in (*_SCALES, "sub") for step in node.steps[1:]):  # c - W x has the weights -W
        weight = weight * _scale(node, known)
    bias = _follow(node.steps[1:], jnp.zeros(first.results[0].shape, zeros.dtype), known)
    return Layer(linear, weight, bias)


def _scale(node: Any, known: dict[Value, Any]) -> Any:
    """The scale of each output feature, in the shape of the weights."""
    first = node.steps[0].results[0]
    return in_weights(node, _follow(node.steps[1:], jnp.ones(first.shape, first.dtype), known, shifts=False))


def shared_sum(node: Any, values: Any) -> Any:
    """Values at a layer's outputs, each replaced by the sum over those outputs that the same weights make.

    For a convolution these are the places of a channel.
    """
    ahead = _unmoved(node, values)
    features = _neurons(node)[0]
    total = ahead.sum([axis for axis in range(ahead.ndim) if axis not in features], keepdims=True)
    return _moved(node, jnp.broadcast_to(total, ahead.shape))


def in_weights(node: Any, values: Any) -> Any:
    """Values at a layer's outputs that are the same for the same weights, in a shape that broadcasts to the weights."""
    features, axes = _neurons(node)
    ahead = _unmoved(node, values)
    ahead = ahead[tuple(slice(None) if axis in features else 0 for axis in range(ahead.ndim))]
    order = sorted(range(len(features)), key=features.__getitem__)  # the axes that are left, as features
    ahead = ahead.transpose(np.argsort(order)).transpose(np.argsort(axes))
    shape = weights_of(node).shape
    return ahead.reshape([size if axis in axes else 1 for axis, size in enumerate(shape)])


def weights_of(node: Any) -> Value:
    """The weights of an affine node's product."""
    first, (entry,) = node.steps[0], node.active
    weights: Value = first.operands[1 if first.operands[0] is entry else 0]
    return weights


def _neurons(node: Any) -> tuple[list[int], list[int]]:
    """The axes along which weights differ: of the product's output, and of the weights, in one order."""
    first, (entry,) = node.steps[0], node.active
    features, axes = [*output_features(first, entry)], _weight_axes(first, entry)
    if first.name == "dot_general":
        _, batch = first.params["dimension_numbers"]
        side = 1 if first.operands[0] is entry else 0
        features, axes = [*range(len(batch[0])), *features], [*batch[side], *axes]
    return features, axes


def _moved(node: Any, value: Any) -> Any:
    """A value at the outputs of a layer's product, at those of the layer."""
    for step in node.steps[1:]:
        if step.name in _MOVES:
            (value,) = step.evaluate([value])
    return value


def _unmoved(node: Any, value: Any) -> Any:
    """The reverse of `_moved`."""
    product = jax.ShapeDtypeStruct(node.steps[0].results[0].shape, value.dtype)
    return jax.linear_transpose(lambda ahead: _moved(node, ahead), product)(value)[0]


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
