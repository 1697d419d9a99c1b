"""Finds attentions in a traced program by what they compute: softmax(scale * queries @ keys + bias, masked) @ values.

A walk from the product with the values, backwards through casts and moves to a softmax, through scale, mask and bias to
the product of queries and keys. The axes carry labels on the way, so that any order of them is known, and every step
between the two products has to be met: what nobody else reads and nothing else changes is an attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxplain.program.fast.attention.axes import Axes, Label, flat, fresh
from jaxplain.program.fast.attention.opened import Opened, Step, Value
from jaxplain.program.fast.attention.scores import Mask, Part, Scores, Unsure, moved, scores, uniform
from jaxplain.program.fast.attention.softmax import Softmax, softmax


class Groups(NamedTuple):
    """Which labels are an axis of the canonical form: queries `[batch, rows, heads + shared, depth]` and so on.

    batch, heads: what keys or values have too; shared: what has keys in common (grouped queries).
    """

    batch: list[Label]
    rows: list[Label]
    heads: list[Label]
    shared: list[Label]
    keys: list[Label]
    depth: list[Label]
    width: list[Label]


class Attention(NamedTuple):
    """An attention: `output` is computed from its parts by the steps at `places`."""

    output: Part
    query: Part
    key: Part
    value: Part
    scale: float
    bias: Part | None
    sign: int
    masks: tuple[Mask, ...]
    causal: bool
    groups: Groups
    places: list[int]
    last: Step
    precision: Any

    def sizes(self) -> dict[str, int]:
        """The length of each axis of the canonical form."""
        return {name: math.prod(label.size for label in group) for name, group in self.groups._asdict().items()}


class Left(NamedTuple):
    """A softmax whose weights multiply values and that stays as it is, with the reason."""

    last: Step
    reason: str


def attentions(opened: Opened) -> Iterator[Attention | Left]:
    """The attentions of a program (not of the loops and branches in it), in order."""
    for step in list(opened.steps):
        if step.name != "dot_general":
            continue
        for side in (0, 1):
            try:
                found = _Weights(opened, step, side).find()
            except Unsure as unsure:
                yield Left(step, str(unsure))
                break
            if found is not None:
                yield found
                break


class _Weights:
    """The operand of a product that may be the weights of an attention."""

    def __init__(self, opened: Opened, product: Step, side: int) -> None:
        self.opened, self.product, self.side = opened, product, side
        self.axes = fresh(product.operands[side].shape)
        self.places = {opened.producer[product.results[0]]}

    def find(self) -> Attention | None:
        """The attention; None where the operand is no softmax."""
        found = self._softmax(self.product.operands[self.side], self.axes)
        if found is None:
            return None
        (contracted, _), _ = self._dimensions()
        if set(flat(self.axes[axis] for axis in contracted)) != set(flat([found.along])):
            return None  # the product of a derivative, or of something else
        self.places |= found.places
        inner = scores(self.opened, found.entry, self._entry_axes)
        self.places |= inner.places | {inner.product}
        return self._attention(found, inner)

    def _softmax(self, value: Value, axes: Axes) -> Softmax | None:
        """The softmax that a value is after casts and moves."""
        while (step := self.opened.source(value)) is not None:
            found = softmax(self.opened, step, axes)
            if found is not None:
                self._entry_axes = axes
                return found
            below = _by_ones(self.opened, step, axes)
            if below is None:
                try:
                    below = step.operands[0], moved(step, axes, "its weights")
                except Unsure as unsure:
                    product = step.name == "dot_general" and any(step.params["dimension_numbers"][0])
                    if product or not any(_is_softmax(self.opened, operand) for operand in step.operands):
                        return None
                    raise Unsure(f"{unsure}, as dropout does") from None
            self.places.add(self.opened.producer[value])
            value, axes = below
        return None

    def _dimensions(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Contracted axes and batch axes of the product: of the weights, of the values."""
        contracted, batch = self.product.params["dimension_numbers"]
        order = (self.side, 1 - self.side)
        return (contracted[order[0]], contracted[order[1]]), (batch[order[0]], batch[order[1]])

    def _attention(self, found: Softmax, inner: Scores) -> Attention:
        along = flat([found.along])
        query, key, depth = _operands(self.opened.steps[inner.product], inner.axes, along)
        value, output, width = self._values()
        masks = tuple(mask for mask in inner.masks if not self._allows_all(mask))
        named = [part.axes for part in (*(mask.part for mask in masks), inner.bias) if part is not None]
        groups = _grouped(query.axes, key.axes, value.axes, flat(inner.axes), along, named)
        groups = groups._replace(depth=depth, width=flat([width]))
        # Beside a bias or another mask it stays a mask: a row that is barred as a whole is another matter for a flag.
        causal = inner.bias is None and len(masks) == 1 and self._is_causal(masks[0], groups)
        masks = () if causal else masks
        self._check(output.value, (query.value, key.value, value.value))
        precision = self.opened.steps[inner.product].params.get("precision")
        return Attention(
            output, query, key, value, inner.scale, inner.bias, inner.sign, masks, causal, groups,
            sorted(self.places), self.product, precision,
        )  # fmt: skip

    def _values(self) -> tuple[Part, Part, list[Label]]:
        """The values, the output, and the labels of what both have and the weights have not."""
        (contracted, contracted_v), (batch, batch_v) = self._dimensions()
        operand, result = self.product.operands[1 - self.side], self.product.results[0]
        axes = list(fresh(operand.shape))
        for own, other in zip((*contracted, *batch), (*contracted_v, *batch_v), strict=True):
            axes[other] = self.axes[own]
        free = [axes[axis] for axis in range(len(axes)) if axis not in (*contracted_v, *batch_v)]
        rows = [labels for axis, labels in enumerate(self.axes) if axis not in (*contracted, *batch)]
        behind = (*rows, *free) if self.side == 0 else (*free, *rows)
        output = (*(self.axes[axis] for axis in batch), *behind)
        return Part(operand, tuple(axes)), Part(result, output), flat(free)

    def _allows_all(self, mask: Mask) -> bool:
        array = self.opened.array(mask.part.value)
        return array is not None and bool(np.all(array == mask.keep))

    def _is_causal(self, mask: Mask, groups: Groups) -> bool:
        """Whether a mask is known to let each query read the keys up to its own place, of as many as there are queries.

        (With other lengths, which corner of the mask is meant by a flag is another question.)
        """
        array = self.opened.array(mask.part.value)
        labels = flat(mask.part.axes)
        if array is None or len(groups.rows) != 1 or len(groups.keys) != 1 or len(labels) != 2:
            return False
        if set(labels) != {groups.rows[0], groups.keys[0]}:
            return False
        array = array.reshape([label.size for label in labels])
        array = array if labels[0] is groups.rows[0] else array.T
        if array.shape[0] != array.shape[1]:
            return False
        return bool(np.array_equal(array == mask.keep, np.tril(np.ones(array.shape, bool))))

    def _check(self, output: Value, operands: tuple[Value, ...]) -> None:
        """Require one dtype, and that nothing else reads what is not computed any more.

        Raises:
            Unsure: It is otherwise.
        """
        dtypes = {value.dtype for value in (*operands, output, self.product.operands[self.side])}
        if len(dtypes) > 1:
            raise Unsure(
                f"its queries, keys, values and weights differ in dtype ({', '.join(sorted(map(str, dtypes)))})"
            )
        for place in sorted(self.places):
            for value in self.opened.steps[place].results:
                others = not self.places.issuperset(self.opened.users.get(value, ()))
                if value is not output and (others or value in self.opened.returned):
                    raise Unsure("its weights or scores are read by something else too")


def _by_ones(opened: Opened, step: Step, axes: Axes) -> tuple[Value, Axes] | None:
    """What a step multiplies by ones, and its labels: as models do that may switch heads off."""
    if step.name == "mul":
        for own, other in ((0, 1), (1, 0)):
            if step.operands[own].shape == step.results[0].shape and uniform(opened, step.operands[other]) == 1:
                return step.operands[own], axes
    if step.name != "dot_general":
        return None
    contracted, batch = step.params["dimension_numbers"]
    for own, other in ((0, 1), (1, 0)):
        whole = len(batch[other]) == len(step.operands[other].shape)
        if not contracted[0] and whole and uniform(opened, step.operands[other]) == 1:
            size = len(step.operands[own].shape)
            order = [*batch[own], *(axis for axis in range(size) if axis not in batch[own])]
            return step.operands[own], tuple(axes[order.index(axis)] for axis in range(size))
    return None


def _is_softmax(opened: Opened, value: Value, depth: int = 4) -> bool:
    """Whether a value is a softmax, or made of one in a few steps."""
    step = opened.source(value)
    if step is None or depth == 0 or not value.shape:
        return False
    if softmax(opened, step, fresh(value.shape)) is not None:
        return True
    moves = ("convert_element_type", "mul", "div", "name", "reshape", "select_n", "transpose", "broadcast_in_dim")
    return step.name in moves and any(_is_softmax(opened, operand, depth - 1) for operand in step.operands)


def _operands(product: Step, axes: Axes, along: list[Label]) -> tuple[Part, Part, list[Label]]:
    """Queries, keys, and the labels of their features: the operand along whose own axes the softmax goes are the keys.

    Raises:
        Unsure: Neither is.
    """
    contracted, batch = product.params["dimension_numbers"]
    features = fresh([product.operands[0].shape[axis] for axis in contracted[0]])
    place, parts, own = len(batch[0]), list[Part](), list[set[Label]]()
    for side, operand in enumerate(product.operands):
        found = list[Any](operand.shape)
        for number, axis in enumerate(batch[side]):
            found[axis] = axes[number]
        for number, axis in enumerate(contracted[side]):
            found[axis] = features[number]
        free = [axis for axis in range(len(found)) if axis not in (*batch[side], *contracted[side])]
        for axis in free:
            found[axis], place = axes[place], place + 1
        parts.append(Part(operand, tuple(found)))
        own.append(set(flat(found[axis] for axis in free)))
    for side in (0, 1):
        if own[side].issuperset(along):
            return parts[1 - side], parts[side], flat(features)
    raise Unsure("its softmax is not along the keys")


def _grouped(
    query: Axes, key: Axes, value: Axes, all_labels: list[Label], along: list[Label], named: list[Axes]
) -> Groups:
    """The groups of labels. `named`: the axes of masks and biases."""
    common = {*flat(key), *flat(value)}
    order = [label for label in flat(query) if label in all_labels]
    order += [label for label in all_labels if label not in order]
    both = [label for label in order if label in common and label not in along]
    alone = [label for label in order if label not in common]
    heads = [label for label in both if label in flat(query)][-1:]
    mentioned = [label for label in alone if label in flat([flat(axes) for axes in named])]
    rows = alone if len(alone) < 2 else mentioned or [max(alone, key=lambda label: label.size)]
    return Groups(
        batch=[label for label in both if label not in heads],
        rows=rows,
        heads=heads,
        shared=[label for label in alone if label not in rows],
        keys=[label for label in flat(key) if label in along],
        depth=[],
        width=[],
    )
