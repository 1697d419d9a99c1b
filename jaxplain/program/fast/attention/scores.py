"""What stands between the product of queries and keys and a softmax: a scale, masks, one additive bias."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain.program.fast.attention.axes import MOVES, Axes, aligned, before, flat
from jaxplain.program.fast.attention.opened import Opened, Step, Value
from jaxplain.program.fast.attention.softmax import is_floating

BARRED = -9999.0
"""What is filled or added where a mask bars a key, at most: beside any allowed key such a score has no weight."""


class Unsure(Exception):
    """Why something is not taken for an attention that can be rewritten."""


class Part(NamedTuple):
    """A value that goes into an attention, and where its axes come from."""

    value: Value
    axes: Axes


class Mask(NamedTuple):
    """Which keys a query may read: `part` is True (or, not `keep`, False) there; `infinite`: others are filled -inf."""

    part: Part
    keep: bool
    infinite: bool


class Scores(NamedTuple):
    """The scores of an attention before its softmax: scale * (queries @ keys), plus or minus a bias, masked.

    product: the place of the product; axes: the labels of its result; places: the steps behind it.
    """

    product: int
    axes: Axes
    places: frozenset[int]
    scale: float = 1.0
    bias: Part | None = None
    sign: int = 1
    masks: tuple[Mask, ...] = ()


def scores(opened: Opened, value: Value, axes: Axes, factor: float = 1.0) -> Scores:
    """The scores that a value is, found backwards.

    Args:
        opened: The program.
        value: What a softmax is taken of, or what leads to it.
        axes: Its labels.
        factor: What the value is multiplied by on the way to the softmax.

    Raises:
        Unsure: It is something else, or more.
    """
    step = opened.source(value)
    if step is None:
        raise Unsure("its scores are no product of queries and keys")
    place = opened.producer[value]
    if step.name == "dot_general":
        return Scores(place, axes, frozenset(), factor)
    if step.name in ("mul", "div"):
        moving, number = _scaled(opened, step)
        inner, found = scores(opened, *_whole(step, moving, axes), factor * number), None
    elif step.name in ("add", "add_any", "sub", "select_n"):
        inner, found = _joined(opened, step, axes, factor)
    else:
        inner, found = scores(opened, step.operands[0], moved(step, axes, "its scores"), factor), None
    return _with(inner, found, place)


def moved(step: Step, axes: Axes, what: str) -> Axes:
    """The labels of a move's operand, which keeps every number.

    Raises:
        Unsure: It is no such move.
    """
    kept = step.operands and is_floating(step.operands[0]) and step.name != "stop_gradient"
    below = before(step, axes) if kept else None
    if below is None or len(flat(below)) < len(flat(axes)):
        raise Unsure(f"`{step.name}` changes {what} on their way")
    return below


def _with(inner: Scores, found: Mask | tuple[Part, int] | None, place: int) -> Scores:
    inner = inner._replace(places=inner.places | {place})
    if isinstance(found, Mask):
        return inner._replace(masks=(*inner.masks, found))
    if found is None:
        return inner
    if inner.bias is not None:
        raise Unsure("more than one bias is added to its scores")
    return inner._replace(bias=found[0], sign=found[1])


def _operand(step: Step, place: int, axes: Axes) -> Part:
    """An operand of an elementwise step, from the labels of its result."""
    value = step.operands[place]
    return Part(value, aligned(value.shape, axes))


def _whole(step: Step, place: int, axes: Axes) -> Part:
    """The operand that holds the scores: all of them.

    Raises:
        Unsure: The step repeats them.
    """
    part = _operand(step, place, axes)
    if len(flat(part.axes)) < len(flat(axes)):
        raise Unsure(f"`{step.name}` repeats its scores")
    return part


def _scaled(opened: Opened, step: Step) -> tuple[int, float]:
    """The place of what is scaled, and the number by which."""
    for moving, other in ((0, 1), (1, 0)) if step.name == "mul" else ((0, 1),):
        number = uniform(opened, step.operands[other])
        if number is not None and number != 0 and math.isfinite(number):
            return moving, 1 / number if step.name == "div" else number
    raise Unsure("its scores are scaled by what is no number in the program")


def _joined(opened: Opened, step: Step, axes: Axes, factor: float) -> tuple[Scores, Mask | tuple[Part, int] | None]:
    """The scores, and what is added to them or chosen instead of them."""
    reasons = list[str]()
    for moving, other in _sides(step):
        try:
            inner = scores(opened, *_whole(step, moving, axes), factor)
        except Unsure as unsure:
            reasons.append(str(unsure))
            continue
        if step.name == "select_n":
            return inner, _filled(opened, step, axes, moving, uniform(opened, step.operands[other]))
        return inner, _added(opened, _operand(step, other, axes), -1 if step.name == "sub" else 1, factor)
    raise Unsure(reasons[0] if reasons else f"`{step.name}` changes its scores on their way")


def _sides(step: Step) -> tuple[tuple[int, int], ...]:
    if step.name == "sub":
        return ((0, 1),)
    if step.name == "select_n":
        boolean = len(step.operands) == 3 and step.operands[0].dtype == np.bool_
        return ((2, 1), (1, 2)) if boolean else ()
    return (0, 1), (1, 0)


def _filled(opened: Opened, step: Step, axes: Axes, moving: int, fill: float | None) -> Mask:
    if fill is None or not fill <= BARRED:
        raise Unsure("where its mask bars a key, something else than a large negative number is filled in")
    predicate = step.operands[0]
    return Mask(compact(opened, Part(predicate, aligned(predicate.shape, axes))), moving == 2, fill == -math.inf)


def _added(opened: Opened, part: Part, sign: int, factor: float) -> Mask | tuple[Part, int]:
    """A bias, or the mask that it stands for."""
    part = compact(opened, part)
    mask = _mask_of(opened, part, sign)
    if mask is not None:
        return mask
    if factor != 1.0:
        raise Unsure("its scores are scaled after a bias was added to them")
    return part, sign


def _mask_of(opened: Opened, part: Part, sign: int) -> Mask | None:
    """The mask that a bias stands for which is zero or a large negative number everywhere."""
    array = opened.array(part.value)
    if array is not None:
        array = sign * array.astype(np.float64)
        if np.all((array == 0) | (array <= BARRED)):
            known = Value(part.value.shape, np.dtype(bool), array == 0)
            return Mask(Part(known, part.axes), True, bool(np.any(array == -np.inf)))
        return None
    step = opened.source(part.value)
    if step is None or step.name != "select_n" or len(step.operands) != 3 or step.operands[0].dtype != np.bool_:
        return None
    numbers = [uniform(opened, operand) for operand in step.operands[1:]]
    for keep in (True, False):
        allowed, barred = numbers[keep], numbers[not keep]
        if allowed == 0 and barred is not None and sign * barred <= BARRED:
            below = aligned(step.operands[0].shape, part.axes)
            return Mask(compact(opened, Part(step.operands[0], below)), keep, sign * barred == -math.inf)
    return None


def compact(opened: Opened, part: Part) -> Part:
    """The value that this one repeats along further axes, in as few digits as it has."""
    best = part
    while (step := opened.source(part.value)) is not None:
        below = before(step, part.axes)
        if below is None or not _same_numbers(step):
            break
        part = Part(step.operands[0], below)
        if _elements(part) <= _elements(best):
            best = part
    return best


def _same_numbers(step: Step) -> bool:
    """Whether a move loses nothing: a cast does to fewer digits or to another kind of number."""
    source, result = step.operands[0], step.results[0]
    if step.name == "stop_gradient" or step.name != "convert_element_type" or source.dtype == result.dtype:
        return step.name != "stop_gradient"
    if not (is_floating(source) and is_floating(result)):
        return False
    return bool(jnp.promote_types(source.dtype, result.dtype) == result.dtype)


def _elements(part: Part) -> int:
    return math.prod(part.value.shape)


def uniform(opened: Opened, value: Value) -> float | None:
    """The number that a value is everywhere, in the digits that it has there; None where it is no such number."""
    casts = [value.dtype]
    while (step := opened.source(value)) is not None and before_any(step):
        value = step.operands[0]
        casts.append(value.dtype)
    array = opened.array(value)
    if array is None or array.size == 0 or not np.all(array == array.flat[0]):
        return None
    number: Any = array.flat[0]
    for dtype in reversed(casts):
        number = np.asarray(number).astype(dtype)
    return float(number)


def before_any(step: Step) -> bool:
    """Whether a step repeats, moves or casts the numbers of one value."""
    return step.name in MOVES and len(step.operands) == 1
