"""Finds the dense and convolution layers of an unmodified model in its traced program, and reads what they multiply.

A layer is a product of a value with a trained array (a matrix, or the kernel of a convolution), and the trained array
that is added to its result where there is one. What else is trained is not covered, and is listed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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

_SAME = ("convert_element_type", "copy", "stop_gradient", "optimization_barrier")
_SPREAD = ("reshape", "broadcast_in_dim", "squeeze", "expand_dims")


class Layer(NamedTuple):
    """One use of a trained array: weight, bias (positions of leaves, the bias None where there is none), the weight's
    axes with those that are summed over first, and how many these are."""

    weight: int
    bias: int | None
    axes: tuple[int, ...]
    summed: int


class _Leaf(NamedTuple):
    """A variable that is a trained leaf: with its axes in this order, or spread out (None)."""

    position: int
    axes: tuple[int, ...] | None


class Reading:
    """One run of a program that notes its layers, and adds `moves` to their results."""

    def __init__(self, moves: list[Array] | None = None) -> None:
        self.moves = moves
        self.layers: list[Layer] = []
        self.inputs: list[Array] = []  # of each layer, [positions, in]
        self.results: list[Any] = []  # shapes and dtypes of each layer's result, [positions, out]
        self.elsewhere: set[int] = set()  # leaves that something else reads

    def run(self, f: Any, leaves: list[Array]) -> list[Any]:
        """Evaluate `f(leaves)`."""
        program, _ = trace(f, leaves)
        known = {
            variable: _Leaf(position, tuple(range(len(shape_of(variable)))))
            for position, variable in enumerate(program.jaxpr.invars)
        }
        return self._walk(program, [*program.constants, *leaves], known)[0]

    def _walk(self, program: Program, arguments: list[Any], leaves: dict[Any, _Leaf]) -> tuple[list[Any], list[Any]]:
        values: dict[Any, Any] = dict(zip(program.inputs, arguments, strict=True))
        layers: dict[Any, int] = {}  # a layer's result, to its number

        def read(atom: Any) -> Any:
            return literal_value(atom) if is_literal(atom) else values[atom]

        for equation in program.equations:
            known = [None if is_literal(atom) else leaves.get(atom) for atom in equation.invars]
            operands = [read(atom) for atom in equation.invars]
            name = equation.primitive.name
            if name in (*INLINED_CALLS, *REMATERIALIZED):
                inner = subprograms(equation)[0]
                passed = {v: leaf for v, leaf in zip(inner.jaxpr.invars, known, strict=True) if leaf is not None}
                results, found = self._walk(inner, [*inner.constants, *operands], passed)
                leaves.update({v: leaf for v, leaf in zip(equation.outvars, found, strict=True) if leaf is not None})
            else:
                results = evaluate_equation(program, equation, operands)
                results = self._note(equation, operands, known, results, leaves, layers)
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in program.outputs], [
            None if is_literal(atom) else leaves.get(atom) for atom in program.outputs
        ]

    def _note(
        self, equation: Equation, operands: list[Any], known: list[Any], results: list[Any], leaves: Any, layers: Any
    ) -> list[Any]:
        """Follow leaves and results of layers through one equation."""
        name, out = equation.primitive.name, equation.outvars[0]
        first = equation.invars[0] if equation.invars else None
        if name in (*_SAME, *_SPREAD, "transpose") and known[0] is not None:
            axes = known[0].axes
            if name == "transpose" and axes is not None:
                axes = tuple(axes[axis] for axis in equation.params["permutation"])
            leaves[out] = _Leaf(known[0].position, None if name in _SPREAD else axes)
            return results
        if name in _SAME and not is_literal(first) and first in layers:
            layers[out] = layers[first]
            return results
        if name in ("add", "add_any"):
            numbers = [None if is_literal(atom) else layers.get(atom) for atom in equation.invars]
            for number, leaf in ((numbers[0], known[1]), (numbers[1], known[0])):
                if number is not None and leaf is not None and self.layers[number].bias is None:
                    self.layers[number] = self.layers[number]._replace(bias=leaf.position)
                    return results
        layer = self._layer(equation, operands, known, results[0]) if known else None
        if layer is not None:
            layers[out] = len(self.layers) - 1
            return [layer]
        self.elsewhere.update(leaf.position for leaf in known if leaf is not None)
        return results

    def _layer(self, equation: Equation, operands: list[Any], known: list[Any], result: Array) -> Array | None:
        """Note a layer; its result, moved. None where the equation is none."""
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
        outs = _size(turned.shape[len(order) - (len(layer.axes) - layer.summed) :])
        if self.moves is not None:
            move = self.moves[len(self.layers)].reshape(turned.shape)
            result = result + jnp.transpose(move, [order.index(axis) for axis in range(len(order))])
        self.layers.append(layer)
        self.inputs.append(inputs)
        self.results.append(jax.ShapeDtypeStruct((turned.size // outs, outs), result.dtype))
        return result


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
