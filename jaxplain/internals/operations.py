"""Floating-point operations of one equation: a multiplication and an addition are two.

Products and sums are counted by their formula, elementwise functions as one operation for each element, moves of data
as none. Positions that a convolution pads count like others, zeros that a transposed convolution inserts do not.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from jaxplain.program.trace import Equation, dtype_of, shape_of

# fmt: off
ELEMENTWISE = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos",
    "cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "integer_pow",
    "lgamma", "log", "log1p", "logistic", "max", "min", "mul", "neg", "pow", "rem", "round", "rsqrt", "sign",
    "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh",
))
REDUCTIONS = frozenset((
    "argmax", "argmin", "cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum", "reduce_max", "reduce_min",
    "reduce_prod", "reduce_sum",
))
# fmt: on


def forward_operations(equation: Equation) -> int:
    """Floating-point operations of an equation that holds no program."""
    name, outputs = equation.primitive.name, equation.outvars
    if not outputs or dtype_of(equation.invars[0] if equation.invars else outputs[0]) is None:
        return 0
    if not any(_is_floating(atom) for atom in (*equation.invars, *outputs)):
        return 0
    size = math.prod(shape_of(outputs[0]))
    if name in ELEMENTWISE:
        return size
    if name in REDUCTIONS:
        return max(math.prod(shape_of(equation.invars[0])) - (size if name.startswith(("reduce", "arg")) else 0), 0)
    count = _FORMULAS.get(name)
    return 0 if count is None else count(equation, size)


def backward_operations(equation: Equation, active: list[bool]) -> int:
    """Operations of the gradient with respect to the operands that are active; for a product as many for each of them.

    Args:
        equation: An equation that holds no program.
        active: Which operands depend on what the gradient is taken of.
    """
    if not any(active):
        return 0
    products = equation.primitive.name in ("dot_general", "conv_general_dilated")
    return forward_operations(equation) * (sum(active) if products else 1)


def _is_floating(atom: Any) -> bool:
    dtype = dtype_of(atom)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _dot(equation: Equation, size: int) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = shape_of(equation.invars[0])
    return 2 * size * math.prod(shape[axis] for axis in contracted)


def _convolution(equation: Equation, size: int) -> int:
    kernel = shape_of(equation.invars[1])
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    inserted = math.prod(equation.params["lhs_dilation"])
    return 2 * size * math.prod(kernel) // features // inserted


def _window(equation: Equation, size: int) -> int:
    return size * (math.prod(equation.params["window_dimensions"]) - 1)


def _scatter(equation: Equation, size: int) -> int:
    del size
    return math.prod(shape_of(equation.invars[2]))


def _fourier(equation: Equation, size: int) -> int:
    points = math.prod(equation.params["fft_lengths"])
    return round(5 * size * math.log2(points)) if points > 1 else 0


_FORMULAS = {
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "reduce_window_sum": _window,
    "reduce_window_max": _window,
    "reduce_window_min": _window,
    "fft": _fourier,
    "scatter-add": _scatter,
    "scatter_add": _scatter,
}
