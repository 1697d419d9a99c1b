"""Which axes of a weight count its filters, its outputs: read from the traced program.

They are those that are not summed over where it first enters a product or a convolution (the rows, where it is looked
up as a table), however the framework lays them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxplain.program.trace import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    inner_operands,
    is_literal,
    loop_parts,
    shape_of,
    subprograms,
    trace,
)
from jaxplain.types import Array

TABLE = "gather"
"""The operation that looks rows of a table up."""
Found = dict[int, tuple[tuple[int, ...], str]]
"""By a leaf's position the axes that count its filters, and the operation that it first enters."""
_PICKS = ("dynamic_slice", "gather")
"""What moves a leaf by further operands, the places to take."""
_CALLS = (*INLINED_CALLS, *REMATERIALIZED, *CUSTOM_DERIVATIVES)


class _Held(NamedTuple):
    """A variable that holds a trained leaf: its position, and the leaf's axis at each axis (None: a new axis).

    outer: Axes of the leaf that a loop runs over, or of which one place was taken: each place has its own filters.
    """

    leaf: int
    axes: tuple[int | None, ...]
    outer: tuple[int, ...] = ()


def weight_axes(function: Callable[[list[Array]], Any], leaves: list[Any]) -> Found:
    """The axes of each leaf that count its filters, of those that enter a product, a convolution or a look-up.

    Args:
        function: Of a list of arrays; it is traced.
        leaves: The arrays, or their shapes.

    Returns:
        By the leaf's position its axes, and the name of the operation. Cost: one trace.
    """
    program, _ = trace(function, leaves)
    found: Found = {}
    given = [_Held(place, tuple(range(jnp.ndim(leaf)))) for place, leaf in enumerate(leaves)]
    _walk(program, [*[None] * len(program.constants), *given], found)
    return found


def _walk(program: Program, given: list[_Held | None], found: Found) -> list[_Held | None]:
    """Follow leaves through a program and note the first product that each enters; what the outputs hold."""
    held: dict[Any, _Held | None] = dict(zip(program.inputs, given, strict=True))
    for equation in program.equations:
        operands = [None if is_literal(atom) else held.get(atom) for atom in equation.invars]
        if not any(operands):
            continue
        name = equation.primitive.name
        if name in _CALLS:
            inner = subprograms(equation)[0]
            results = _walk(inner, [*[None] * len(inner.constants), *operands], found)
        elif name == "scan":
            results = _through_loop(equation, operands, found)
        elif name in ("cond", "while"):
            results = _through_branches(equation, held, found)
        else:
            results = [_moved(equation, operands[0])] if len(operands) == 1 or name in _PICKS else []
            for place, one in enumerate(operands):
                axes = None if one is None else _filters(equation, place, one)
                if one is not None and axes is not None:
                    found.setdefault(one.leaf, (axes, name))
        held.update(zip(equation.outvars, results, strict=False))
    return [None if is_literal(atom) else held.get(atom) for atom in program.outputs]


def _through_loop(equation: Equation, operands: list[_Held | None], found: Found) -> list[_Held | None]:
    """Follow leaves into a loop: as they are where it holds them, without their first axis where it runs over them."""
    loop = loop_parts(equation, list(range(len(operands))))
    items = []
    for one in (operands[place] for place in loop.items):
        first = None if one is None else one.axes[0]
        items.append(None if one is None or first is None else _Held(one.leaf, one.axes[1:], (*one.outer, first)))
    body = loop.body
    constants = [operands[place] for place in loop.constants]
    _walk(body, [*[None] * len(body.constants), *constants, *[None] * len(loop.carry), *items], found)
    return []


def _through_branches(equation: Equation, held: dict[Any, _Held | None], found: Found) -> list[_Held | None]:
    """Follow leaves into the branches of a condition, or the parts of a `while` that hold them all the time."""
    changing = len(equation.outvars) if equation.primitive.name == "while" else 0
    for place, inner in enumerate(subprograms(equation)):
        atoms = inner_operands(equation, place)
        given = [None if is_literal(atom) else held.get(atom) for atom in atoms[: len(atoms) - changing]]
        _walk(inner, [*[None] * len(inner.constants), *given, *[None] * changing], found)
    return []


def _moved(equation: Equation, one: _Held | None) -> _Held | None:
    """What an equation of one operand makes of a leaf: the same with its axes in another order, or nothing known."""
    name, params = equation.primitive.name, equation.params
    if one is None:
        return None
    if name in ("convert_element_type", "copy"):
        return one
    if name == "transpose":
        return one._replace(axes=tuple(one.axes[axis] for axis in params["permutation"]))
    if name == "broadcast_in_dim":
        axes: list[int | None] = [None] * len(shape_of(equation.outvars[0]))
        for source, axis in zip(one.axes, params["broadcast_dimensions"], strict=True):
            axes[axis] = source
        return one._replace(axes=tuple(axes))
    if name in ("slice", "dynamic_slice"):
        before, after = shape_of(equation.invars[0]), shape_of(equation.outvars[0])
        return _picked(one, [place for place in range(len(after)) if after[place] == 1 < before[place]])
    if name == "gather" and _takes_one(equation):
        gone = params["dimension_numbers"].collapsed_slice_dims
        one = _picked(one, gone)
        return one._replace(axes=tuple(axis for place, axis in enumerate(one.axes) if place not in gone))
    if name == "squeeze":
        gone = {axis % len(one.axes) for axis in params["dimensions"]}
        return one._replace(axes=tuple(axis for place, axis in enumerate(one.axes) if place not in gone))
    return None


def _picked(one: _Held, places: Sequence[int]) -> _Held:
    """What is held after one place of some axes was taken."""
    outer = (one.axes[place] for place in places)
    axes = tuple(None if place in places else axis for place, axis in enumerate(one.axes))
    return one._replace(axes=axes, outer=(*one.outer, *(axis for axis in outer if axis is not None)))


def _takes_one(equation: Equation) -> bool:
    """Whether a gather looks up a single place, as an index of stacked weights does, and no table's rows."""
    return len(equation.params["dimension_numbers"].offset_dims) == len(shape_of(equation.outvars[0]))


def _filters(equation: Equation, place: int, one: _Held) -> tuple[int, ...] | None:
    """The leaf's axes that count filters where it enters a product as this operand; None where there is none."""
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        summed = params["dimension_numbers"][0][place]
        own = [axis for number, axis in enumerate(one.axes) if number not in summed]
    elif name == "conv_general_dilated" and place == 1:
        own = [one.axes[params["dimension_numbers"].rhs_spec[0]]]
    elif name == "gather" and place == 0 and not _takes_one(equation):
        own = [one.axes[axis] for axis in params["dimension_numbers"].collapsed_slice_dims]
    else:
        return None
    return tuple(sorted({axis for axis in own if axis is not None} | set(one.outer)))
