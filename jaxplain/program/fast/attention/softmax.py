"""A softmax, found by what it computes: exp(z - m) / sum(exp(z - m)) with m the same all along the summed axes."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxplain.program.fast.attention.axes import Axes, Label, aligned, before, flat, fresh, has_any
from jaxplain.program.fast.attention.opened import Opened, Step, Value

_SHIFTS = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "is_finite", "max", "name", "reduce_max",
    "reshape", "select_n", "squeeze", "stop_gradient", "transpose",
))  # fmt: skip
"""What the largest value, which is taken out before the exponential, may be made by."""


class Softmax(NamedTuple):
    """A softmax of the value `entry` along the axes of the labels `along`, and the places of its steps."""

    entry: Value
    along: list[Label]
    places: set[int]


def softmax(opened: Opened, step: Step, axes: Axes) -> Softmax | None:
    """The softmax whose last step this division is.

    Args:
        opened: The program.
        step: Any step.
        axes: The labels of its result.
    """
    if step.name != "div" or step.operands[0].shape != step.results[0].shape:
        return None
    places = {opened.producer[step.results[0]]}
    exponential = _uncast(opened, step.operands[0], places)
    total = step.operands[1]
    kept = aligned(total.shape, axes)
    while (source := opened.source(total)) is not None and source.name != "reduce_sum":
        below = before(source, kept)
        if below is None:
            return None
        places.add(opened.producer[total])
        total, kept = source.operands[0], below
    if source is None or _uncast(opened, source.operands[0], places) is not exponential:
        return None
    places.add(opened.producer[total])
    summed = source.params["axes"]
    along = flat(axes[axis] for axis in summed)
    if flat(labels for axis, labels in enumerate(axes) if axis not in summed) != flat(kept):
        return None
    entry = _exponent(opened, exponential, axes, along, places)
    return None if entry is None else Softmax(entry, along, places)


def _exponent(opened: Opened, value: Value, axes: Axes, along: list[Label], places: set[int]) -> Value | None:
    """The value of which the exponential is one but for a shift."""
    step = opened.source(value)
    if step is None or step.name != "exp":
        return None
    places.add(opened.producer[value])
    value = step.operands[0]
    step = opened.source(value)
    if step is None or step.name != "sub" or not _constant(opened, step.operands[1], axes, along):
        return value  # without a shift
    places.add(opened.producer[value])
    entry, shift = step.operands
    # The largest value may be taken before a move, as inside of a `vmap`.
    ends = {entry}
    while (move := opened.source(entry)) is not None and before(move, fresh(entry.shape)) is not None:
        entry = move.operands[0]
        ends.add(entry)
    whole = step.operands[0].shape == value.shape
    return step.operands[0] if whole and _absorb(opened, shift, ends, places) is not None else None


def _constant(opened: Opened, value: Value, axes: Axes, along: list[Label]) -> bool:
    """Whether a value is seen to be the same along the labels."""
    axes = aligned(value.shape, axes)
    while has_any(axes, along):
        step = opened.source(value)
        below = None if step is None else before(step, axes)
        if step is None or below is None:
            return False
        value, axes = step.operands[0], below
    return True


def _absorb(opened: Opened, value: Value, ends: set[Value], places: set[int], depth: int = 10) -> bool | None:
    """Add the steps between the ends and a shift: whether the shift depends on them; None where it is not known."""
    step = opened.source(value)
    if value in ends or step is None:
        return value in ends
    if step.name not in _SHIFTS or depth == 0:
        return None if _reaches(opened, value, ends) else False
    inside = [_absorb(opened, operand, ends, places, depth - 1) for operand in step.operands]
    if any(found is None for found in inside):
        return None
    if any(inside):
        places.add(opened.producer[value])
    return any(inside)


def _reaches(opened: Opened, value: Value, ends: set[Value]) -> bool:
    """Whether a value depends on one of the ends."""
    waiting, seen = [value], set[Value]()
    while waiting:
        value = waiting.pop()
        step = opened.source(value)
        if value in ends:
            return True
        if step is not None and value not in seen:
            seen.add(value)
            waiting += step.operands
    return False


def _uncast(opened: Opened, value: Value, places: set[int]) -> Value:
    """The value before it was cast to another floating-point dtype."""
    while (step := opened.source(value)) is not None and step.name in ("convert_element_type", "copy", "name"):
        if not is_floating(step.operands[0]):
            break
        places.add(opened.producer[value])
        value = step.operands[0]
    return value


def is_floating(value: Value) -> bool:
    """Whether a value holds real numbers."""
    return value.dtype is not None and bool(jnp.issubdtype(value.dtype, jnp.floating))
