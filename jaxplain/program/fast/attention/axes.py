"""Where the axes of an array come from: labels that keep their meaning through transposes and reshapes."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import jax.numpy as jnp
from jax import lax

from jaxplain.program.fast.attention.opened import Step
from jaxplain.types import Array


class Label:
    """A meaning of an axis longer than one, compared by identity; divided in two where a reshape divides it."""

    __slots__ = ("parts", "size")

    def __init__(self, size: int) -> None:
        self.size, self.parts = size, tuple[Label, ...]()


Axes = tuple[tuple[Label, ...], ...]
"""The labels of each axis, the slowest first; none for an axis of length one."""


def fresh(shape: Sequence[int]) -> Axes:
    """A new label for each axis."""
    return tuple((Label(size),) if size != 1 else () for size in shape)


def flat(axes: Iterable[Iterable[Label]]) -> list[Label]:
    """All labels in order, those that were divided as their parts."""
    found = list[Label]()
    for labels in axes:
        for label in labels:
            found += flat([label.parts]) if label.parts else [label]
    return found


def regrouped(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes of an array of these axes after a reshape; None where it cuts through a label unevenly."""
    waiting, found = flat(axes), list[tuple[Label, ...]]()
    for size in shape:
        labels, rest = list[Label](), size
        while rest != 1:
            if not waiting or math.gcd(waiting[0].size, rest) in (0, 1):
                return None
            label = waiting.pop(0)
            if rest % label.size:
                if label.size % rest:
                    return None
                label.parts = Label(rest), Label(label.size // rest)
                label, left = label.parts
                waiting.insert(0, left)
            labels.append(label)
            rest //= label.size
        found.append(tuple(labels))
    return None if waiting else tuple(found)


def aligned(shape: Sequence[int], axes: Axes) -> Axes:
    """The axes of an operand of an elementwise step, whose axes of length one (or all) it may repeat along."""
    return tuple(labels if size != 1 else () for labels, size in zip(axes, shape, strict=True)) if shape else ()


MOVES = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "copy_p", "expand_dims", "name", "reshape", "squeeze",
    "stop_gradient", "transpose",
))  # fmt: skip
"""Operations that give the numbers of one array in other places, repeated, or in another dtype."""


def before(step: Step, axes: Axes) -> Axes | None:
    """The axes of a move's operand, from those of its result; None where it is no move or repeats what it takes."""
    if step.name not in MOVES or len(step.operands) != 1:
        return None
    name, params, shape = step.name, step.params, step.operands[0].shape
    if name in ("convert_element_type", "copy", "copy_p", "name", "stop_gradient"):
        return axes
    if name == "transpose":
        order = list(params["permutation"])
        return tuple(axes[order.index(axis)] for axis in range(len(order)))
    if name in ("squeeze", "expand_dims") or (name == "reshape" and params.get("dimensions") is None):
        return regrouped(axes, shape)
    if name == "broadcast_in_dim":
        places = params["broadcast_dimensions"]
        return tuple(axes[place] if size != 1 else () for place, size in zip(places, shape, strict=True))
    return None


def arranged(value: Array, axes: Axes, groups: Sequence[Sequence[Label]], spread: bool) -> Array:
    """An array with one axis for each group of labels, in this order.

    Args:
        value: An array.
        axes: Its axes, whose labels are all in the groups.
        groups: The labels of each axis of the result.
        spread: Whether the array is repeated along a group of which it has no label at all; else that axis has length
            one. Along a part of a group it is repeated in any case.
    """
    labels = flat(axes)
    order = [label for group in groups for label in group if label in labels]
    value = value.reshape([label.size for label in labels])
    value = lax.transpose(value, [labels.index(label) for label in order])
    partly = [bool(spread or set(group) & set(labels)) for group in groups]
    sizes = [label.size for group, whole in zip(groups, partly, strict=True) if whole for label in group]
    wanted = [label for group, whole in zip(groups, partly, strict=True) if whole for label in group]
    if len(wanted) > len(order):
        value = lax.broadcast_in_dim(value, sizes, [wanted.index(label) for label in order])
    return value.reshape(
        [math.prod(label.size for label in group) if whole else 1 for group, whole in zip(groups, partly, strict=True)]
    )


def rearranged(value: Array, groups: Sequence[Sequence[Label]], axes: Axes, shape: Sequence[int]) -> Array:
    """Undo `arranged` for an array that has all labels."""
    labels = [label for group in groups for label in group]
    value = value.reshape([label.size for label in labels])
    return jnp.reshape(lax.transpose(value, [labels.index(label) for label in flat(axes)]), shape)


def has_any(axes: Axes, labels: Collection[Label]) -> bool:
    """Whether an array varies along any of these labels."""
    return any(label in labels for label in flat(axes))
