"""Softmax attentions in a list of steps: weights, what they are made of and what they weigh, with the axes' meaning.

A step is anything with `name`, `params`, `operands` and `results`, whose values have a `shape` and are compared by
identity: the opened program of `trace/opened.py`, or the flat one of `node`. An attention is a softmax along one axis
whose weights, moved and scaled perhaps, are contracted along that axis by a matrix product with the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

FEATURE = -1
"""The axis of a part that is no axis of the weights: what heads compute with."""

Axes = tuple[int | None, ...]
"""For each axis of a value the axis of the weights that it is; `FEATURE`; None where that cannot be told."""

_SAME = frozenset((
    "add", "add_any", "convert_element_type", "copy", "copy_p", "div", "max", "min", "mul", "neg",
    "optimization_barrier", "reduce_precision", "select_n", "stop_gradient", "sub", "tanh",
))  # fmt: skip
"""What keeps each number in its place."""

_CASTS = ("convert_element_type", "copy", "copy_p", "reduce_precision")
_FAR = 40
"""How many steps are followed from the softmax to a matrix product."""


class Part(NamedTuple):
    """A value of an attention and what its axes are."""

    value: Any
    axes: Axes


class Attention(NamedTuple):
    """A softmax attention: `heads = weights @ values`, `weights = softmax(logits)`, logits of `queries @ keys`.

    last: the step that ends the softmax; key, query: axes of the weights; head: its axes of heads (the batch among
    them, where there is one), in the order of the queries. Queries and keys are None where no product is found.
    """

    last: int
    weights: Part
    logits: Part
    values: Part
    heads: Part
    queries: Part | None
    keys: Part | None
    key: int
    query: int
    head: tuple[int, ...]


def find_attentions(steps: Sequence[Any]) -> list[Attention]:
    """Every softmax attention, in the order of a run."""
    search = _Search(steps)
    return [found for index, step in enumerate(steps) if (found := search.at(index, step)) is not None]


def unread_attentions(steps: Sequence[Any]) -> list[int]:
    """Where an exponential weighs values along an axis that it is normalised over, and is no attention that is found.

    Such as weights that are divided by their sum after the product, or made of a logarithm of softmax: an attention in
    a form that is not read, and that may not be left out without a word.
    """
    search = _Search(steps)
    read = {search.exponential(step) for index, step in enumerate(steps) if search.at(index, step) is not None}
    powers = [index for index, step in enumerate(steps) if step.name in ("exp", "exp2", "pow")]
    return [index for index in powers if index not in read and search.weighs(steps[index])]


class _Search:
    """Where values come from, and what takes them."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = steps
        self.producer: dict[Any, int] = {}
        self.uses: dict[Any, list[int]] = {}
        for index, step in enumerate(steps):
            self.producer.update((value, index) for value in step.results)
            for value in step.operands:
                self.uses.setdefault(value, []).append(index)

    def at(self, index: int, step: Any) -> Attention | None:
        """The attention whose softmax ends at a step."""
        if step.name != "div":
            return None
        total = self._source(self._stripped(step.operands[1]))
        if total is None or total.name != "reduce_sum" or len(total.params["axes"]) != 1:
            return None
        exponential = self._stripped(step.operands[0], _CASTS)
        inner = self._source(exponential)
        if inner is None or inner.name != "exp" or self._stripped(total.operands[0], _CASTS) is not exponential:
            return None
        weights, key = step.results[0], int(total.params["axes"][0])
        logits = self._unshifted(inner.operands[0])
        if logits.shape != weights.shape or weights.shape != exponential.shape:
            return None
        own = tuple(range(len(weights.shape)))
        product = self._product_after(weights, own, key)
        if product is None:
            return None
        values, heads, free = product
        before = self._product_before(logits, own, key, _FAR)
        queries, keys = before if before is not None else (None, None)
        query = max(free, default=None)
        if query is None:
            return None
        order = [axis for axis in (queries.axes if queries else own) if axis in own and axis not in (key, query)]
        order += [axis for axis in own if axis not in (key, query, *order)]
        return Attention(
            index, Part(weights, own), Part(logits, own), values, heads, queries, keys, key, query, tuple(order)
        )

    def exponential(self, step: Any) -> int | None:
        """The place of the exponential that a softmax ends with."""
        return self.producer.get(self._stripped(step.operands[0], _CASTS))

    def weighs(self, step: Any) -> bool:
        """Whether a matrix product contracts an axis of an exponential over which that is normalised."""
        summed, contracted = set[int](), set[int]()
        frontier: list[tuple[Any, Axes]] = [(step.results[0], tuple(range(len(step.results[0].shape))))]
        followed = 0
        while frontier and followed < _FAR:
            (value, axes), followed = frontier.pop(0), followed + 1
            for index in self.uses.get(value, ()):
                user = self.steps[index]
                if user.name == "reduce_sum":
                    summed.update(axis for place in user.params["axes"] if (axis := axes[place]) is not None)
                elif user.name == "dot_general":
                    for own, (along, _, _) in zip(user.operands, _sides(user), strict=True):
                        kept = [axes[place] for place in along] if own is value else []
                        contracted.update(axis for axis in kept if axis is not None)
                moved = _after(user, value, axes)
                if moved is not None:
                    frontier.append((user.results[0], moved))
        shift = self._source(step.operands[0])
        if shift is not None and shift.name == "sub" and self._is_log_sum(shift.operands[1]):
            return bool(contracted)
        return bool(summed & contracted)

    def _is_log_sum(self, value: Any) -> bool:
        """Whether a value is the logarithm of a sum, with a largest value put back perhaps."""
        step = self._source(self._stripped(value))
        if step is not None and step.name in ("add", "select_n"):
            return any(self._is_log_sum(operand) for operand in step.operands)
        if step is None or step.name != "log":
            return step is not None and step.name == "sub" and self._is_log_sum(step.operands[1])
        total = self._source(self._stripped(step.operands[0], (*_CASTS, "broadcast_in_dim", "reshape", "abs")))
        return total is not None and total.name == "reduce_sum"

    def _source(self, value: Any) -> Any:
        index = self.producer.get(value)
        return None if index is None else self.steps[index]

    def _stripped(
        self, value: Any, names: Sequence[str] = (*_CASTS, "broadcast_in_dim", "reshape", "expand_dims")
    ) -> Any:
        while (step := self._source(value)) is not None and step.name in names:
            value = step.operands[0]
        return value

    def _unshifted(self, exponent: Any) -> Any:
        """What a softmax is of, before the largest was subtracted."""
        shift = self._source(exponent)
        if shift is None or shift.name != "sub":
            return exponent
        largest = self._stripped(shift.operands[1], (*_CASTS, "broadcast_in_dim", "reshape", "stop_gradient", "max"))
        step = self._source(shift.operands[1])
        while step is not None and step.name != "reduce_max":
            candidates = [self._source(value) for value in step.operands]
            step = next((inner for inner in candidates if inner is not None), None)
        return shift.operands[0] if step is not None and largest is not None else exponent

    def _product_after(self, weights: Any, own: Axes, key: int) -> tuple[Part, Part, list[int]] | None:
        """The matrix product that contracts the weights with values: those, its result, and the weights' free axes."""
        frontier = [(weights, own)]
        for _ in range(_FAR):
            if not frontier:
                return None
            value, axes = frontier.pop(0)
            for index in self.uses.get(value, ()):
                step = self.steps[index]
                if step.name == "dot_general":
                    found = _contracted(step, value, axes, key)
                    if found is not None:
                        return found
                moved = _after(step, value, axes)
                if moved is not None and key in moved:
                    frontier.append((step.results[0], moved))
        return None

    def _product_before(self, value: Any, axes: Axes, key: int, left: int) -> tuple[Part, Part] | None:
        """The matrix product that logits are made of: queries and keys."""
        step = self._source(value)
        if step is None or left == 0:
            return None
        if step.name == "dot_general":
            return _multiplied(step, axes, key)
        for operand in step.operands[1 if step.name == "select_n" else 0 :]:
            before = _before(step, operand, axes)
            found = None if before is None else self._product_before(operand, before, key, left - 1)
            if found is not None:
                return found
        return None


def _sides(step: Any) -> tuple[tuple[list[int], list[int], list[int]], tuple[list[int], list[int], list[int]]]:
    """Of a matrix product, for both operands: contracted, batch and free axes."""
    (left, right), (left_batch, right_batch) = step.params["dimension_numbers"]
    sides = []
    for operand, contracted, batch in zip(step.operands, (left, right), (left_batch, right_batch), strict=True):
        free = [axis for axis in range(len(operand.shape)) if axis not in (*contracted, *batch)]
        sides.append(([int(a) for a in contracted], [int(a) for a in batch], free))
    return sides[0], sides[1]


def _contracted(step: Any, value: Any, axes: Axes, key: int) -> tuple[Part, Part, list[int]] | None:
    sides = _sides(step)
    for own, other in ((0, 1), (1, 0)):
        contracted, batch, free = sides[own]
        if step.operands[own] is not value or [axes[axis] for axis in contracted] != [key]:
            continue
        others: list[int | None] = [FEATURE] * len(step.operands[other].shape)
        others[sides[other][0][0]] = key
        for mine, theirs in zip(batch, sides[other][1], strict=True):
            others[theirs] = axes[mine]
        ends = [axes[axis] for axis in free], [FEATURE] * len(sides[other][2])
        out = [axes[axis] for axis in batch] + [axis for end in (ends if own == 0 else ends[::-1]) for axis in end]
        known = [axis for axis in ends[0] if axis is not None]
        return Part(step.operands[other], tuple(others)), Part(step.results[0], tuple(out)), known
    return None


def _multiplied(step: Any, axes: Axes, key: int) -> tuple[Part, Part] | None:
    sides = _sides(step)
    parts: list[Part] = []
    place = len(sides[0][1])
    for (contracted, batch, free), operand in zip(sides, step.operands, strict=True):
        own: list[int | None] = [None] * len(operand.shape)
        for axis in contracted:
            own[axis] = FEATURE
        for position, axis in enumerate(batch):
            own[axis] = axes[position]
        for axis in free:
            own[axis] = axes[place]
            place += 1
        parts.append(Part(operand, tuple(own)))
    with_key = [key in part.axes for part in parts]
    if with_key == [False, True]:
        return parts[0], parts[1]
    return (parts[1], parts[0]) if with_key == [True, False] else None


def _scaled(step: Any, value: Any, axes: Axes) -> Axes | None:
    """The axes of a product that contracts nothing, as where each head is scaled by a mask of heads."""
    sides = _sides(step)
    own = 0 if step.operands[0] is value else 1
    contracted, batch, free = sides[own]
    if contracted:
        return None
    ends: list[list[int | None]] = [[axes[axis] for axis in free], [None] * len(sides[1 - own][2])]
    return tuple([axes[axis] for axis in batch] + [axis for end in (ends if own == 0 else ends[::-1]) for axis in end])


def _after(step: Any, value: Any, axes: Axes) -> Axes | None:
    """The axes of what a step makes of a value; None for a step that does more than move or scale it."""
    if len(step.results) != 1:
        return None
    result = step.results[0]
    if step.name in _SAME:
        return axes if result.shape == value.shape else None
    if step.name == "dot_general":
        return _scaled(step, value, axes)
    if step.name == "transpose":
        return tuple(axes[axis] for axis in step.params["permutation"])
    if step.name in ("reshape", "squeeze", "expand_dims"):
        return tuple(None if axis is None else axes[axis] for axis in _aligned(value.shape, result.shape))
    if step.name == "broadcast_in_dim":
        found: list[int | None] = [None] * len(result.shape)
        for axis, place in enumerate(step.params["broadcast_dimensions"]):
            found[place] = axes[axis] if value.shape[axis] == result.shape[place] else None
        return tuple(found)
    return None


def _before(step: Any, operand: Any, axes: Axes) -> Axes | None:
    """The axes of an operand of a step, from those of its result."""
    if len(step.results) != 1 or not operand.shape:
        return None
    result = step.results[0]
    if step.name in _SAME:
        return axes if result.shape == operand.shape else None
    if step.name == "transpose":
        order = list(step.params["permutation"])
        return tuple(axes[order.index(axis)] for axis in range(len(order)))
    if step.name in ("reshape", "squeeze", "expand_dims"):
        return tuple(None if axis is None else axes[axis] for axis in _aligned(result.shape, operand.shape))
    if step.name == "broadcast_in_dim":
        return tuple(axes[place] for place in step.params["broadcast_dimensions"])
    return None


def _aligned(old: tuple[int, ...], new: tuple[int, ...]) -> list[int | None]:
    """For each axis of a reshaped array the axis that it was, None where axes were merged, divided or added."""
    found: list[int | None] = [None] * len(new)
    i = j = 0
    while i < len(old) and j < len(new):
        if old[i] == new[j]:
            found[j] = i
            i, j = i + 1, j + 1
        elif old[i] == 1:
            i += 1
        elif new[j] == 1:
            j += 1
        else:
            size, other = old[i], new[j]
            while size != other:
                if size < other:
                    i += 1
                    size *= old[i]
                else:
                    j += 1
                    other *= new[j]
            i, j = i + 1, j + 1
    return found
