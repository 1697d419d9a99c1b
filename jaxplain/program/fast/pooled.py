"""Max pooling before the bias and the ReLU that it follows: the same numbers, from a quarter of the operations.

max(a, c) + b is max(a + b, c + b), rounded or not, and so it is with max(., 0). Where nothing but the pooling reads
them, as in every forward pass, what is pooled is the convolution's result; and a sum of products over few channels is
pooled while it is computed, and never stored. Derivatives are those of the operations in their old order. Only a bias
of plus infinity tells the orders apart, beside elements of minus infinity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxplain.program.fast.convolution import stencil
from jaxplain.program.fast.pool import pool, pooled_by_slices
from jaxplain.program.fast.stand_in import stand_in
from jaxplain.program.trace import (
    Equation,
    Program,
    Variable,
    apart,
    bind,
    evaluate,
    is_literal,
    literal_value,
    rectified_operand,
    segment,
    shape_of,
    variables,
)
from jaxplain.types import Array


class Chain(NamedTuple):
    """Equations that are computed together where the last one stands.

    absorbed: the indices of the others; inputs: what they read from before; compute: the last one's result from these.
    """

    absorbed: frozenset[int]
    inputs: list[Variable]
    compute: Callable[..., Array]


class _Reading(NamedTuple):
    """Where a program's variables are computed, and how often they are read."""

    program: Program
    maker: dict[Variable, int]
    reads: Counter[Variable]

    def of(self, atom: Any) -> int | None:
        """The index of the equation whose only result this is, if it is read once."""
        if is_literal(atom) or self.reads[atom] != 1 or atom not in self.maker:
            return None
        index = self.maker[atom]
        return index if len(self.program.equations[index].outvars) == 1 else None


def reading(program: Program) -> _Reading:
    """Look where a program's variables are computed and read."""
    reads = Counter(variables(program.outputs))
    for equation in program.equations:
        reads.update(variables(equation.invars))
    maker = {v: index for index, equation in enumerate(program.equations) for v in equation.outvars}
    return _Reading(program, maker, reads)


def chain(read: _Reading, last: int, windows: dict[str, Any]) -> Chain | None:
    """The equations that the max pooling `last` may come before; None where there are none."""
    if any(max(edges) >= size for edges, size in zip(windows["padding"], windows["window_dimensions"], strict=True)):
        return None  # a window of nothing but padding, whose maximum a ReLU would change
    pooling = read.program.equations[last]
    axes = [axis for axis, size in enumerate(windows["window_dimensions"]) if size > 1]
    value, steps = _steps(read, pooling.invars[0], axes)
    head = _head(read, value) if windows["window_dimensions"] == windows["window_strides"] else None
    absorbed = sorted({*(step.place for step in steps), *(head.absorbed if head else ())})
    if not absorbed:
        return None
    inputs = _inputs(read.program, [*absorbed, last])
    equations = [read.program.equations[index] for index in (*absorbed, last)]
    old = segment(read.program, equations, inputs, pooling.outvars)
    settings = {"choose": lax.max, "start": -math.inf, **windows}

    def fast(*arguments: Array) -> Array:
        values = dict(zip(inputs, arguments, strict=True))
        if head is None:
            return _finished(pool(values[value], **settings), steps, values)
        return _finished(pooled_by_slices(head.compute(values), **settings), steps, values)

    compute = stand_in(fast if head is None else apart(fast), lambda *arguments: evaluate(old, [], arguments)[0])
    return Chain(frozenset(absorbed), inputs, compute)


def _inputs(program: Program, indices: Sequence[int]) -> list[Variable]:
    """What these equations read that none of them computes."""
    own = {v for index in indices for v in program.equations[index].outvars}
    read = dict.fromkeys(v for index in indices for v in variables(program.equations[index].invars))
    return [v for v in read if v not in own]


class _Step(NamedTuple):
    """An equation that raises its operand `moving` monotonically, by what is the same all along `axes`."""

    place: int
    equation: Equation
    moving: int
    axes: Sequence[int]

    def of(self, pooled: Array, values: dict[Variable, Array]) -> Array:
        """The equation for what is pooled already."""
        if self.equation.primitive.name not in _SUMS:
            return lax.max(pooled, lax.full_like(pooled, 0))
        atom = self.equation.invars[1 - self.moving]
        other = jnp.asarray(literal_value(atom) if is_literal(atom) else values[atom])
        for axis in self.axes if other.ndim else ():
            other = lax.slice_in_dim(other, 0, 1, axis=axis)
        return bind(self.equation, (pooled, other) if self.moving == 0 else (other, pooled))[0]


def _steps(read: _Reading, value: Any, axes: Sequence[int]) -> tuple[Any, list[_Step]]:
    """The monotone equations before a value, each read only by the next, and what they begin with."""
    steps = list[_Step]()
    while (index := read.of(value)) is not None:
        equation = read.program.equations[index]
        moving = _moving(read, equation, axes)
        if moving is None:
            break
        value = equation.invars[moving]
        steps.insert(0, _Step(index, equation, moving, axes))
    return value, steps


def _moving(read: _Reading, equation: Equation, axes: Sequence[int]) -> int | None:
    """Which operand of a ReLU, or of a sum with what is constant along the axes, is no constant; None for others."""
    source = rectified_operand(equation)
    if source is not None:
        return [atom is source for atom in equation.invars].index(True)
    for moving in _SUMS.get(equation.primitive.name, ()):
        whole = shape_of(equation.invars[moving]) == shape_of(equation.outvars[0])
        if whole and _is_constant(read, equation.invars[1 - moving], axes):
            return moving
    return None


_SUMS = {"add": (0, 1), "sub": (0,)}
"""Sums, and which of their operands they rise with."""


def _is_constant(read: _Reading, atom: Any, axes: Sequence[int]) -> bool:
    """Whether a value is the same all along the axes, and seen to be."""
    shape = shape_of(atom)
    if all(shape[axis] == 1 for axis in axes if shape):
        return True
    if is_literal(atom) or atom not in read.maker:
        return False
    equation = read.program.equations[read.maker[atom]]
    if equation.primitive.name != "broadcast_in_dim":
        return False
    own, places = shape_of(equation.invars[0]), equation.params["broadcast_dimensions"]
    return all(own[axis] == 1 or place not in axes for axis, place in enumerate(places))


class _Head(NamedTuple):
    """The sum of products that a chain begins with."""

    absorbed: list[int]
    compute: Callable[[dict[Variable, Array]], Array]


def _head(read: _Reading, value: Any) -> _Head | None:
    """What computes a value, if that can be merged with what reads it."""
    absorbed, equations = list[int](), read.program.equations
    index = read.of(value)
    while index is not None and equations[index].primitive.name in _MOVES:  # as `vmap` puts around a convolution
        absorbed.insert(0, index)
        index = read.of(equations[index].invars[0])
    if index is None or equations[index].primitive.name != "conv_general_dilated":
        return None
    convolution = equations[index]
    compute = stencil(convolution)
    if compute is None:
        return None
    moved = segment(read.program, [equations[i] for i in absorbed], convolution.outvars, [value])

    def computed(values: dict[Variable, Array]) -> Array:
        return evaluate(moved, [], [compute(*(values[atom] for atom in convolution.invars))])[0]

    return _Head([index, *absorbed], computed)


_MOVES = ("reshape", "transpose", "squeeze")


def _finished(pooled: Array, steps: Sequence[_Step], values: dict[Variable, Array]) -> Array:
    """What the steps make of the pooled value."""
    for step in steps:
        pooled = step.of(pooled, values)
    return pooled
