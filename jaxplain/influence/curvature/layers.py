"""Finds the dense and convolution layers of an unmodified model in its traced program, and reads what they multiply.

A layer is a product of a value with a trained array (a matrix, or the kernel of a convolution), and its bias: the
trained array that is added to its result, one number to each output, before anything else reads it. What else is
trained is not covered, and is listed.
"""

from __future__ import annotations

import collections
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program.trace import (
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    evaluate_equation,
    is_literal,
    literal_value,
    shape_of,
    subprograms,
    trace,
)
from jaxplain.types import Array

_SAME = ("convert_element_type", "copy")
_MOVES = ("transpose", "reshape", "broadcast_in_dim", "squeeze")
"""What only moves or repeats numbers."""


class Layer(NamedTuple):
    """One use of a trained array: weight, bias (positions of leaves, the bias None where there is none), the weight's
    axes with those that are summed over first, and how many these are."""

    weight: int
    bias: int | None
    axes: tuple[int, ...]
    summed: int


class _Leaf(NamedTuple):
    """A variable that holds the numbers of a trained leaf: moved by these equations, and where they only transpose it
    (else None) with its axes in this order."""

    position: int
    axes: tuple[int, ...] | None
    moves: tuple[Equation, ...] = ()


class _Result(NamedTuple):
    """A variable that holds a layer's result, moved by these equations, and that one equation only reads.

    outputs: Of each number of the result itself, which of the layer's outputs it is.
    """

    number: int
    outputs: np.ndarray
    moves: tuple[Equation, ...] = ()


class Reading:
    """One run of a program that notes its layers, and adds `moves` to their results."""

    def __init__(self, moves: list[Array] | None = None) -> None:
        self.moves = moves
        self.layers: list[Layer] = []
        self.inputs: list[Array] = []  # of each layer, [positions, in]
        self.results: list[Any] = []  # shapes and dtypes of each layer's result, [positions, out]
        self.elsewhere: set[int] = set()  # leaves that something else reads
        self.shapes: list[tuple[int, ...]] = []  # of the leaves

    def run(self, f: Any, leaves: list[Array]) -> list[Any]:
        """Evaluate `f(leaves)`."""
        self.shapes = [np.shape(leaf) for leaf in leaves]
        program, _ = trace(f, leaves)
        known = [_Leaf(position, tuple(range(len(shape)))) for position, shape in enumerate(self.shapes)]
        outputs, found = self._walk(program, [*program.constants, *leaves], known)
        self.elsewhere.update(mark.position for mark in found if isinstance(mark, _Leaf))
        return outputs

    def _walk(self, program: Program, arguments: list[Any], given: list[Any]) -> tuple[list[Any], list[Any]]:
        """Values of the outputs and their marks (a `_Leaf`, a `_Result` or None), from those of the arguments."""
        marks: dict[Any, Any] = {}
        values: dict[Any, Any] = dict(zip(program.inputs, arguments, strict=True))
        atoms = [atom for equation in program.equations for atom in equation.invars] + list(program.outputs)
        readers = collections.Counter(atom for atom in atoms if not is_literal(atom))

        def read(atom: Any) -> Any:
            return literal_value(atom) if is_literal(atom) else values[atom]

        def mark(variables: Any, found: list[Any]) -> None:
            for variable, one in zip(variables, found, strict=True):
                if isinstance(one, _Leaf) or (isinstance(one, _Result) and readers[variable] == 1):
                    marks[variable] = one

        mark(program.jaxpr.invars, given)
        for equation in program.equations:
            known = [None if is_literal(atom) else marks.get(atom) for atom in equation.invars]
            operands = [read(atom) for atom in equation.invars]
            if equation.primitive.name in (*INLINED_CALLS, *REMATERIALIZED):
                inner = subprograms(equation)[0]
                results, found = self._walk(inner, [*inner.constants, *operands], known)
            else:
                results = evaluate_equation(program, equation, operands)
                results, found = self._note(equation, operands, known, results)
            mark(equation.outvars, found)
            values.update(zip(equation.outvars, results, strict=True))
        found = [None if is_literal(atom) else marks.get(atom) for atom in program.outputs]
        return [read(atom) for atom in program.outputs], found

    def _note(
        self, equation: Equation, operands: list[Any], known: list[Any], results: list[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Follow leaves and results of layers through one equation: its results, and what they are."""
        name, nothing = equation.primitive.name, [None] * len(results)
        if name in (*_SAME, *_MOVES) and known[0] is not None and len(known) == 1:
            return results, [_moved(known[0], equation, np.size(operands[0]) == np.size(results[0]))]
        if name in ("add", "add_any"):
            for result, leaf in (known, known[::-1]):
                if isinstance(result, _Result) and isinstance(leaf, _Leaf) and self._is_bias(result, leaf):
                    self.layers[result.number] = self.layers[result.number]._replace(bias=leaf.position)
                    return results, nothing
        leaves = [mark if isinstance(mark, _Leaf) else None for mark in known]
        layer = self._layer(equation, operands, leaves, results[0]) if any(leaves) else None
        if layer is not None:
            return [layer[0]], [layer[1]]
        self.elsewhere.update(leaf.position for leaf in leaves if leaf is not None)
        return results, nothing

    def _is_bias(self, result: _Result, leaf: _Leaf) -> bool:
        """Whether each output of a layer without a bias gets one number of the leaf, in its order."""
        shape = self.shapes[leaf.position]
        outputs = _places(result.outputs, result.moves)
        added = _places(np.arange(_size(shape), dtype=np.int32).reshape(shape), leaf.moves)
        alike = np.broadcast_shapes(outputs.shape, added.shape) == outputs.shape  # axes of length 1 are repeated
        return self.layers[result.number].bias is None and alike and bool(np.all(outputs == added))

    def _layer(
        self, equation: Equation, operands: list[Any], known: list[Any], result: Array
    ) -> tuple[Array, _Result] | None:
        """Note a layer; its result with `moves` added, and its mark. None where the equation is none."""
        if equation.primitive.name == "dot_general":
            parts = _dense(equation, operands, known, result)
        elif equation.primitive.name == "conv_general_dilated":
            parts = _convolution(equation, operands, known, result)
        else:
            parts = None
        if parts is None:
            return None
        layer, inputs, order = parts  # order: the result's axes, those of the weight last
        turned = jnp.transpose(result, order)
        own = turned.shape[len(order) - (len(layer.axes) - layer.summed) :]
        outs, back = _size(own), [order.index(axis) for axis in range(len(order))]
        outputs = np.broadcast_to(np.arange(outs, dtype=np.int32).reshape(own), turned.shape).transpose(back)
        if self.moves is not None:
            move = self.moves[len(self.layers)].reshape(turned.shape)
            result = result + jnp.transpose(move, back)
        self.layers.append(layer)
        self.inputs.append(inputs)
        self.results.append(jax.ShapeDtypeStruct((turned.size // outs, outs), result.dtype))
        return result, _Result(len(self.layers) - 1, outputs)


def _moved(mark: Any, equation: Equation, same_size: bool) -> Any:
    """What a variable holds after an equation that keeps, moves or repeats its numbers; None where that is too much."""
    name = equation.primitive.name
    if name in _SAME:
        return mark
    moved = mark._replace(moves=(*mark.moves, equation))
    if isinstance(mark, _Result):
        return moved if same_size else None
    turned = name == "transpose" and mark.axes is not None
    return moved._replace(axes=tuple(mark.axes[axis] for axis in equation.params["permutation"]) if turned else None)


def _places(places: np.ndarray, moves: tuple[Equation, ...]) -> np.ndarray:
    """Numbers after equations that move or repeat them."""
    for equation in moves:
        name, params, shape = equation.primitive.name, equation.params, shape_of(equation.outvars[0])
        if name == "transpose":
            places = places.transpose(params["permutation"])
        elif name == "broadcast_in_dim":
            ones = [1] * len(shape)
            for axis, length in zip(params["broadcast_dimensions"], places.shape, strict=True):
                ones[axis] = length
            places = np.broadcast_to(places.reshape(ones), shape)
        else:
            places = places.reshape(shape)
    return places


def _size(shape: Any) -> int:
    total = 1
    for length in shape:
        total *= length
    return total


def _dense(equation: Equation, operands: list[Any], known: list[Any], result: Array) -> Any:
    (left, right), (batch, _) = equation.params["dimension_numbers"]
    place = next((i for i in (1, 0) if known[i] is not None and known[i].axes is not None), None)
    if batch or place is None or known[1 - place] is not None:
        return None
    leaf, value = known[place], operands[1 - place]
    summed, own = (right, left) if place else (left, right)
    free = [axis for axis in range(len(leaf.axes)) if axis not in summed]
    rest = [axis for axis in range(value.ndim) if axis not in own]
    axes = tuple(leaf.axes[axis] for axis in (*summed, *free))
    width = _size(value.shape[axis] for axis in own)
    inputs = jnp.transpose(value, (*rest, *own)).reshape(-1, width)
    count = len(free)
    order = list(range(result.ndim)) if place else [*range(count, result.ndim), *range(count)]
    return Layer(leaf.position, None, axes, len(summed)), inputs, order


def _convolution(equation: Equation, operands: list[Any], known: list[Any], result: Array) -> Any:
    params, leaf = equation.params, known[1]
    alone = params["feature_group_count"] == 1 and params["batch_group_count"] == 1
    if leaf is None or leaf.axes is None or known[0] is not None or not alone:
        return None
    numbers = params["dimension_numbers"]
    out, into, *spatial = numbers.rhs_spec
    patches = jax.lax.conv_general_dilated_patches(
        operands[0],
        tuple(operands[1].shape[axis] for axis in spatial),
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        dimension_numbers=numbers,
    )
    order = [axis for axis in range(result.ndim) if axis != numbers.out_spec[1]] + [numbers.out_spec[1]]
    inputs = jnp.transpose(patches, order).reshape(-1, patches.shape[numbers.out_spec[1]])
    axes = tuple(leaf.axes[axis] for axis in (into, *spatial, out))
    return Layer(leaf.position, None, axes, 1 + len(spatial)), inputs, order
