"""An attention of a program as a function of what goes into it: in its fused form, and as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.program.fast.attention.axes import Label, arranged, rearranged
from jaxplain.program.fast.attention.kernel import Form, Implementation, bias_backward, operation
from jaxplain.program.fast.attention.opened import Opened, Step, Value
from jaxplain.program.fast.attention.recognise import Attention
from jaxplain.program.fast.attention.scores import Mask, before_any
from jaxplain.types import Array

LOST = -1e8
"""A bias beside which a score has no digits left in float32."""


class Region:
    """An attention with its inputs.

    Attributes:
        inputs: The values that it is a function of: queries, keys, values, bias, masks, and constants.
        moving: The places of those inputs that it may be differentiated with respect to.
        form: What is static of its canonical form.
    """

    def __init__(self, opened: Opened, attention: Attention) -> None:
        self.attention, self.opened = attention, opened
        floats = [attention.query.value, attention.key.value, attention.value.value]
        floats += [attention.bias.value] if attention.bias is not None else []
        base = [*floats, *(mask.part.value for mask in attention.masks)]
        self.steps, rest = _written(opened, attention.places, base)
        self.inputs = list(dict.fromkeys((*base, *rest)))
        self.moving = [place for place, value in enumerate(self.inputs) if value in floats]
        biased, masked = attention.bias is not None, bool(attention.masks)
        self.form = Form(attention.scale, attention.causal, biased, masked, attention.precision)

    @property
    def kinds(self) -> list[tuple[tuple[int, ...], Any]]:
        """Shapes and dtypes of the canonical form's arguments."""
        shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in self.inputs]
        return [(a.shape, a.dtype) for a in jax.eval_shape(lambda *inputs: self.arguments(inputs), *shapes)]

    @property
    def _score(self) -> tuple[Sequence[Label], ...]:
        """The labels of the axes of scores in canonical form."""
        groups = self.attention.groups
        return groups.batch, [*groups.heads, *groups.shared], groups.rows, groups.keys

    @property
    def _output(self) -> tuple[Sequence[Label], ...]:
        """The labels of the axes of the output in canonical form."""
        groups = self.attention.groups
        return groups.batch, groups.rows, [*groups.heads, *groups.shared], groups.width

    def plain(self, *inputs: Array) -> Array:
        """The attention as it is written."""
        values: dict[Value, Any] = dict(zip(self.inputs, inputs, strict=True))
        for step in self.steps:
            step.evaluate(values)
        return values[self.attention.output.value]

    def arguments(self, inputs: Sequence[Array]) -> list[Array]:
        """The arguments of the canonical form: queries, keys, values, and what there is of bias and mask."""
        found, groups = self.attention, self.attention.groups
        values = dict(zip(self.inputs, inputs, strict=True))
        heads, sources = [*groups.heads, *groups.shared], (groups.batch, groups.keys, groups.heads)
        rows = groups.batch, groups.rows, heads, groups.depth
        four = [
            arranged(values[found.query.value], found.query.axes, rows, True),
            arranged(values[found.key.value], found.key.axes, (*sources, groups.depth), True),
            arranged(values[found.value.value], found.value.axes, (*sources, groups.width), True),
        ]
        if found.bias is not None:
            bias = arranged(values[found.bias.value], found.bias.axes, self._score, False)
            four.append(_along_keys(found.sign * bias, found))
        if found.masks:
            four.append(_along_keys(self._allowed(values, found.masks), found))
        return _unbarred(self.form, four)

    def _allowed(self, values: dict[Value, Array], masks: Sequence[Mask]) -> Array:
        """Where all of some masks let a query read a key, `[B or 1, N or 1, T or 1, S or 1]`."""
        allowed = jnp.ones((1, 1, 1, 1), bool)
        for part, keep, _ in masks:
            mask = arranged(values[part.value], part.axes, self._score, False)
            allowed = allowed & (mask if keep else ~mask)
        return allowed

    def barred(self, inputs: Sequence[Array]) -> Array | None:
        """The queries, `[B or 1, T or 1, N or 1, 1]`, all of whose scores are minus infinity: their output is NaN."""
        values, found = dict(zip(self.inputs, inputs, strict=True)), self.attention
        infinite = [mask for mask in self.attention.masks if mask.infinite]
        allowed = self._allowed(values, infinite)
        if found.bias is not None:
            bias = arranged(values[found.bias.value], found.bias.axes, self._score, False)
            allowed = allowed & (found.sign * bias > -jnp.inf)
        if not infinite and not self.form.biased:
            return None
        return jnp.moveaxis(~jnp.any(allowed, axis=-1, keepdims=True), 1, 2)

    def given(self, output: Array) -> Array:
        """The output in canonical form as the program has it."""
        value, axes = self.attention.output
        return rearranged(output, self._output, axes, value.shape)

    def taken(self, output: Array) -> Array:
        """Undo `given`."""
        return arranged(output, self.attention.output.axes, self._output, True)


def forwards(region: Region, how: Implementation) -> Any:
    """The attention in fused form, as a function of the region's inputs that has every derivative, written out."""

    def call(*inputs: Array) -> Array:
        out, _ = operation(*region.arguments(inputs), how=how, form=region.form, stage="forward")
        return region.given(_spoilt(out, region.barred(inputs)))

    return call


def differentiable(region: Region, how: Implementation) -> Any:
    """The same with a fused gradient, from which every further derivative is that of the written-out form."""
    settings = {"how": how, "form": region.form}

    @jax.custom_vjp
    def call(*inputs: Array) -> Array:
        return forwards(region, how)(*inputs)

    def forward(*inputs: Array) -> tuple[Array, Any]:
        out, total = operation(*region.arguments(inputs), **settings, stage="forward")
        out = _spoilt(out, region.barred(inputs))
        return region.given(out), (inputs, total, out)

    def backward(kept: Any, cotangent: Array) -> tuple[Any, ...]:
        inputs, total, out = kept
        arguments, pull = _pull(region, inputs)
        given = *arguments, total, out, _spoilt(region.taken(cotangent), region.barred(inputs))
        found = [*operation(*given, **settings, stage="backward")]
        if region.form.biased:
            bias, whole = arguments[3], bias_backward(region.form, *given)
            axes = [axis for axis, size in enumerate(bias.shape) if size == 1 and whole.shape[axis] > 1]
            found.append(jnp.sum(whole, axis=axes, keepdims=True).astype(bias.dtype))
        return tuple(_with([None] * len(inputs), region.moving, pull(found)))

    call.defvjp(forward, backward)
    return call


def _pull(region: Region, inputs: Sequence[Array]) -> tuple[list[Array], Any]:
    """The canonical arguments, and how cotangents of all but the mask go back to the inputs that move."""

    def of(*moving: Any) -> Any:
        arguments = region.arguments(_with(inputs, region.moving, moving))
        count = 3 + region.form.biased
        return arguments[:count], arguments[count:]

    first, pull, rest = jax.vjp(of, *(inputs[place] for place in region.moving), has_aux=True)
    return [*first, *rest], pull


def _with(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    found = dict(zip(places, others, strict=True))
    return [found.get(place, value) for place, value in enumerate(values)]


def _spoilt(value: Array, barred: Array | None) -> Array:
    return value if barred is None else jnp.where(barred, jnp.asarray(jnp.nan, value.dtype), value)


def _unbarred(form: Form, arguments: list[Array]) -> list[Array]:
    """The arguments with a query whose every key is barred as one that reads all alike, which is what is written.

    Where nothing but large negative numbers is left, the logarithm of a denominator has no digits for how many.
    """
    given, rows = arguments[3:], None
    if form.biased:
        rows = jnp.all(given[0] <= LOST, axis=-1, keepdims=True)
    if form.masked:
        barred = ~jnp.any(given[-1], axis=-1, keepdims=True)
        rows = barred if rows is None else rows | barred
    if rows is None:
        return arguments
    query = jnp.where(jnp.moveaxis(rows, 1, 2), 0, arguments[0])
    bias = [jnp.where(rows, 0, given[0])] if form.biased else []
    return [query, *arguments[1:3], *bias, *([given[-1] | rows] if form.masked else [])]


def _along_keys(value: Array, found: Attention) -> Array:
    return jnp.broadcast_to(value, (*value.shape[:3], found.sizes()["keys"]))


def _written(opened: Opened, places: Sequence[int], base: Sequence[Value]) -> tuple[list[Step], list[Value]]:
    """The steps that compute the attention from its base values, and what else they read.

    The moves from a small mask to one for every score belong to them: kept as an input it would be large.
    """
    inside, rest, waiting = set(places), dict[Value, None](), list[Value]()
    made = {value for place in places for value in opened.steps[place].results}
    for place in places:
        waiting += opened.steps[place].operands
    while waiting:
        value = waiting.pop()
        step = opened.source(value)
        if value in made or value in base or value.known is not None:
            continue
        if step is None or not (before_any(step) or step.name == "select_n"):
            rest[value] = None
            continue
        made.update(step.results)
        inside.add(opened.producer[value])
        waiting += step.operands
    return [opened.steps[place] for place in sorted(inside)], list(rest)
