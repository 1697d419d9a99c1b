"""Recognises an activation function by what it computes: a cluster of elementwise steps is evaluated on some numbers.

The evaluation is NumPy's, in float64: probing with JAX fails silently inside `shard_map` and with symbolic shapes.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxplain.program.trace import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    Equation,
    Program,
    is_literal,
    literal_value,
    shape_of,
    subprograms,
)


def _special(name: str) -> Callable[..., Any]:
    """A function of `scipy.special`, which is imported when it is first called: that takes a fifth of a second."""
    return lambda *values: getattr(importlib.import_module("scipy.special"), name)(*values)


PROBES = np.array(
    [
        -1e6,
        -1e3,
        -150.0,
        -40.0,
        -7.0,
        -3.1,
        -1.5,
        -1.0,
        -0.3,
        -1e-3,
        0.0,
        1e-3,
        0.2,
        0.7,
        1.0,
        1.6,
        2.9,
        3.2,
        5.0,
        6.5,
        8.0,
        40.0,
        150.0,
        1e3,
        1e6,
    ]
)

# fmt: off
_NUMPY: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "add_any": np.add, "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh, "cbrt": np.cbrt, "ceil": np.ceil,
    "cos": np.cos, "cosh": np.cosh, "div": np.divide, "eq": np.equal, "erf": _special("erf"),
    "erf_inv": _special("erfinv"), "erfc": _special("erfc"), "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1,
    "floor": np.floor, "ge": np.greater_equal,
    "gt": np.greater, "is_finite": np.isfinite, "le": np.less_equal, "log": np.log, "log1p": np.log1p, "logistic":
    _special("expit"), "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply, "ne": np.not_equal,
    "neg": np.negative, "pow": np.power, "rem": np.fmod, "round": np.round, "rsqrt": lambda x: 1 / np.sqrt(x), "sign":
    np.sign, "sin": np.sin, "sinh": np.sinh, "sqrt": np.sqrt, "square": np.square, "sub": np.subtract, "tan": np.tan,
    "tanh": np.tanh, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not, "xor": np.logical_xor,
}
_UNCHANGED = ("convert_element_type", "copy", "copy_p", "name", "reduce_precision", "pvary", "pcast")
_FILLING = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims")
# fmt: on

ELEMENTWISE = frozenset((*_NUMPY, *_UNCHANGED, "clamp", "integer_pow", "select_n"))
"""Operations on each element by itself that probing can evaluate."""


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "gelu": lambda x: x * _special("ndtr")(x),
    "gelu_tanh": _gelu_tanh,
    "silu": lambda x: x * _special("expit")(x),
    "quick_gelu": lambda x: x * _special("expit")(1.702 * x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "elu": _elu,
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "celu": lambda x: 2.0 * np.expm1(np.minimum(x, 0) / 2.0) + np.maximum(x, 0),
    "sigmoid": _special("expit"),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0),
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(x, 0),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "exp": np.exp,
    "abs": np.abs,
    "square": np.square,
}
"""Activation functions that are known by name."""

RECTIFIERS = ("relu", "relu6")
"""The activations that set negative values to zero and pass positive ones on."""


PAIRS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "hypot": np.hypot,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
}
"""Functions of two values that are written with comparisons, which say nothing of what they compute."""


def name_of_pair(equation: Equation) -> str | None:
    """The name in `PAIRS` of the call of two values that an equation is; None where it is none."""
    if equation.primitive.name not in (*INLINED_CALLS, *CUSTOM_DERIVATIVES) or len(equation.invars) != 2:
        return None
    program = subprograms(equation)[0]
    if not any(inner.primitive.name == "max" for inner in program.equations) or not all(map(_fits, program.equations)):
        return None
    a, b = (values.ravel() for values in np.meshgrid(PROBES[3:-3], PROBES[3:-3] + 0.1))
    with np.errstate(all="ignore"):
        try:
            result = np.asarray(_evaluate_program(program, [a, b]), np.float64)
        except (NotImplementedError, TypeError):
            return None
        return next((name for name, f in PAIRS.items() if np.allclose(result, f(a, b), rtol=1e-5, atol=1e-6)), None)


def _fits(equation: Equation) -> bool:
    """Whether `evaluate` may know an equation of a function of two values, whose shapes may differ."""
    return equation.primitive.name in _FILLING or is_elementwise(equation)


def is_elementwise(equation: Equation) -> bool:
    """Whether an equation, or the body of the call that it is, works on each element by itself."""
    name = equation.primitive.name
    if name in INLINED_CALLS or name in CUSTOM_DERIVATIVES:
        return all(_inner_elementwise(inner) for inner in subprograms(equation)[0].equations)
    return name in ELEMENTWISE


def _inner_elementwise(equation: Equation) -> bool:
    fills = equation.primitive.name in _FILLING and all(shape_of(atom) == () for atom in equation.invars)
    return fills or is_elementwise(equation)


def evaluate(equation: Equation, operands: Sequence[Any]) -> Any:
    """The result of an elementwise equation, by NumPy.

    Raises:
        NotImplementedError: An operation that is not elementwise, or not known here.
    """
    name, params = equation.primitive.name, equation.params
    if name in _NUMPY:
        return _NUMPY[name](*operands)
    if name in _UNCHANGED or name in _FILLING:
        return _truncated(operands[0], params.get("new_dtype"))
    if name == "integer_pow":
        return operands[0] ** float(params["y"])
    if name == "clamp":
        return np.clip(operands[1], operands[0], operands[2])
    if name == "select_n" and len(operands) == 3:
        return np.where(operands[0], operands[2], operands[1])
    if name in INLINED_CALLS or name in CUSTOM_DERIVATIVES:
        return _evaluate_program(subprograms(equation)[0], operands)
    raise NotImplementedError(name)


def _truncated(value: Any, dtype: Any) -> Any:
    """A cast to integers loses what is behind the point; other casts change nothing that matters here."""
    value = np.asarray(value)
    value = value.astype(np.float64) if value.dtype.kind == "b" else value
    return np.trunc(value) if dtype is not None and np.dtype(dtype).kind in "iu" else value


def _evaluate_program(program: Program, operands: Sequence[Any]) -> Any:
    values = dict(zip(program.inputs, [*program.constants, *operands], strict=True))

    def read(atom: Any) -> Any:
        return np.asarray(literal_value(atom)) if is_literal(atom) else values[atom]

    for equation in program.equations:
        values[equation.outvars[0]] = evaluate(equation, [read(atom) for atom in equation.invars])
    return read(program.outputs[0])


def name_of(results: np.ndarray, rounding: float = 0.0) -> str | None:
    """The name of the activation that gives these results at `PROBES`; None where it is not known.

    Constants of a function in half precision are off by as much as `rounding`, and its results by a few times that.
    """
    values = np.broadcast_to(np.asarray(results, np.float64), PROBES.shape)
    with np.errstate(all="ignore"):
        return _name_of(values, 0.0) or (_name_of(values, 2 * rounding) if rounding else None)


def _name_of(values: np.ndarray, rounding: float) -> str | None:
    known = _known()
    close = np.abs(values - known) <= 1e-5 + rounding + (1e-4 + rounding) * np.abs(known)
    matching = np.flatnonzero((close | (values == known)).all(axis=1))  # infinities are equal
    if matching.size:
        return list(ACTIVATIONS)[matching[0]]
    positive, negative = values[PROBES > 0] / PROBES[PROBES > 0], values[PROBES < 0] / PROBES[PROBES < 0]
    straight = np.ptp(positive) < 1e-6 and np.ptp(negative) < 1e-6 and abs(values[PROBES == 0][0]) < 1e-9
    if straight and abs(positive[0] - 1) < 1e-6 and abs(negative[0] - 1) > 1e-6:
        return "leaky_relu"
    return None


@functools.cache
def _known() -> np.ndarray:
    """What the known activations give at `PROBES`, one in a row."""
    return np.stack([function(PROBES) for function in ACTIVATIONS.values()])
