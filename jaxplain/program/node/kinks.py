"""Kinks of a traced function: equations whose derivative jumps, such as ReLU, absolute values and maxima.

Only those count that matter: the derivative reaches the operand, and it leaves by the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program.trace import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    dtype_of,
    is_literal,
    literal_value,
    loop_parts,
    open_program,
    scope,
    subprograms,
)

CALLS = (*INLINED_CALLS, *CUSTOM_DERIVATIVES, *REMATERIALIZED)
SMOOTH_CALLS = ("softplus", "logaddexp", "elu", "celu", "soft_sign", "log_softmax")
"""Functions that compare values inside, and have a continuous derivative all the same."""

# fmt: off
_KEEPS_SIGN = frozenset((
    "broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "expand_dims", "transpose", "name", "copy",
))
_ADDS = frozenset(("add", "mul", "reduce_sum", "concatenate", "div", "reduce_max", "sqrt", "rsqrt"))
_JUMPS = ("sign", "floor", "ceil", "round")
_KINKS = (
    "max", "min", "abs", "clamp", "select_n", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min",
    "sort", "cummax", "cummin", "top_k", *_JUMPS,
)
# fmt: on


class Flag(NamedTuple):
    """What is known of a value.

    active: a derivative reaches it; depends: it changes with the input; positive: it is never negative; mean: it is a
    mean; multiple: (token, c) where it is c times the value that has the token; (None, 0) for zeros; test: (token, up)
    where it says whether that value is positive (up) or negative.
    """

    active: bool = False
    depends: bool = False
    positive: bool = False
    mean: bool = False
    multiple: tuple[Any, float] | None = None
    test: tuple[Any, bool] | None = None


class Kink(NamedTuple):
    """An equation whose derivative jumps: its operation, where it is, and whether a smooth one can replace it."""

    operation: str
    path: str
    replaceable: bool


def constant_flag(value: Any) -> Flag:
    """What is known of a constant."""
    if isinstance(value, jax.core.Tracer) or np.ndim(value) > 0:
        return Flag()
    number = np.asarray(value)
    if number.dtype.kind not in "fiub":
        return Flag()
    return Flag(positive=bool(number >= 0), multiple=(None, 0.0) if number == 0 else None)


def flag_of(flags: dict[Any, Flag], atom: Any) -> Flag:
    """What is known of an operand, a literal or a variable."""
    return constant_flag(literal_value(atom)) if is_literal(atom) else flags[atom]


def forward(program: Program, inputs: Sequence[Flag]) -> dict[Any, Flag]:
    """What is known of every value of a program."""
    flags = {v: _known(flag) for v, flag in zip(program.inputs, inputs, strict=True)}
    for equation in program.equations:
        operands = [flag_of(flags, atom) for atom in equation.invars]
        for variable, flag in zip(equation.outvars, _results(equation, operands), strict=True):
            kind = dtype_of(variable)
            real = kind is not None and jnp.issubdtype(kind, jnp.inexact)
            flag = flag._replace(active=flag.active and real)
            flags[variable] = _known(flag)
    return flags


def _known(flag: Flag) -> Flag:
    """An active value that is no multiple of another is one of itself."""
    return flag._replace(multiple=(object(), 1.0)) if flag.active and flag.multiple is None else flag


def _results(equation: Equation, operands: list[Flag]) -> list[Flag]:
    name = equation.primitive.name
    any_active, depends = any(o.active for o in operands), any(o.depends for o in operands)
    plain = Flag(active=any_active and name != "stop_gradient", depends=depends)
    if name in CALLS and subprograms(equation):
        inner = subprograms(equation)[0]
        return _outputs(inner, forward(inner, inner_flags(inner, operands)))
    if name == "scan":
        body, flags = _scan_flags(equation, operands)
        return _outputs(body, flags)
    if name == "cond":
        outs = [_outputs(p, forward(p, inner_flags(p, operands[1:]))) for p in branches_of(equation)]
        joined = zip(*outs, strict=True)
        return [Flag(any(f.active for f in part), depends or any(f.depends for f in part)) for part in joined]
    if len(equation.outvars) != 1 or not operands:  # such as `iota`
        return [plain] * len(equation.outvars)
    return [_simple(equation, operands, plain)]


def _simple(equation: Equation, operands: list[Flag], plain: Flag) -> Flag:
    """The result of an operation with one output."""
    name, first = equation.primitive.name, operands[0]
    if name in _KEEPS_SIGN:
        return first
    if name in ("gt", "ge", "lt", "le") and first.multiple and operands[1].multiple == (None, 0.0):
        return plain._replace(test=(first.multiple[0], (name in ("gt", "ge")) == (first.multiple[1] > 0)))
    positive = name in ("exp", "logistic", "square", "abs", "exp2", "softplus")
    same = len(equation.invars) == 2 and equation.invars[0] is equation.invars[1]
    positive = positive or (name == "integer_pow" and equation.params["y"] % 2 == 0) or (name == "mul" and same)
    positive = positive or (name in _ADDS and all(o.positive for o in operands))
    positive = positive or (name == "max" and any(o.positive for o in operands))
    mean = name == "reduce_sum" or (name in ("square", "integer_pow", "mul", "div") and first.mean)
    if name == "sub":  # a variance as the mean square less the squared mean
        positive = all(o.positive and o.mean for o in operands)
    multiple = None
    if name == "mul" and any(is_literal(atom) for atom in equation.invars):
        number, other = sorted(zip(equation.invars, operands, strict=True), key=lambda pair: not is_literal(pair[0]))
        if other[1].multiple and np.ndim(literal_value(number[0])) == 0:
            multiple = (other[1].multiple[0], other[1].multiple[1] * float(literal_value(number[0])))
    return plain._replace(positive=positive, mean=mean, multiple=multiple)


def inner_flags(inner: Program, operands: Sequence[Flag]) -> list[Flag]:
    """What is known of an inner program's constants and arguments."""
    return [*(constant_flag(value) for value in inner.constants), *operands]


def _outputs(program: Program, flags: dict[Any, Flag]) -> list[Flag]:
    return [flag_of(flags, atom) for atom in program.outputs]


def branches_of(equation: Equation) -> list[Program]:
    """The programs between which a `cond` chooses."""
    return [open_program(branch) for branch in equation.params["branches"]]


def _scan_flags(equation: Equation, operands: list[Flag]) -> tuple[Program, dict[Any, Flag]]:
    """The flags inside a loop: what a turn makes of its carry is what the next starts from."""
    loop = loop_parts(equation, operands)
    parts = (loop.constants, loop.carry, loop.items)
    constants, carry, items = ([Flag(flag.active, flag.depends) for flag in part] for part in parts)
    while True:
        flags = forward(loop.body, inner_flags(loop.body, [*constants, *carry, *items]))
        after = _outputs(loop.body, flags)[: len(carry)]
        joined = [Flag(a.active or b.active, a.depends or b.depends) for a, b in zip(carry, after, strict=True)]
        if joined == carry:
            return loop.body, flags
        carry = joined


def find(program: Program, inputs: Sequence[Flag], wanted: Sequence[bool]) -> list[Kink]:
    """Every kink that matters, inner programs' included."""
    kinks: list[Kink] = []
    flags = forward(program, inputs)
    for index, outs in needed_equations(program, flags, wanted).items():
        equation = program.equations[index]
        operands = [flag_of(flags, atom) for atom in equation.invars]
        kinks.extend(kinks_of(equation, operands, outs))
    return kinks[::-1]


def needed_equations(program: Program, flags: dict[Any, Flag], wanted: Sequence[bool]) -> dict[int, list[bool]]:
    """The equations through which a derivative passes, last first, with which of their results it comes from."""
    used = {atom for atom, want in zip(program.outputs, wanted, strict=True) if want and not is_literal(atom)}
    needed: dict[int, list[bool]] = {}
    for index in reversed(range(len(program.equations))):
        equation = program.equations[index]
        outs = [variable in used and flags[variable].active for variable in equation.outvars]
        if any(outs):
            needed[index] = outs
            used.update(atom for atom in equation.invars if not is_literal(atom) and flags[atom].active)
    return needed


def kinks_of(equation: Equation, operands: list[Flag], outs: list[bool]) -> list[Kink]:
    """The kinks that an equation is or holds."""
    name = equation.primitive.name
    if name in CALLS and subprograms(equation):
        if _smooth_call(equation):
            return []
        inner = subprograms(equation)[0]
        return find(inner, inner_flags(inner, operands), outs)
    if name == "scan":
        body, _ = _scan_flags(equation, operands)
        return find(body, turn_flags(equation, operands), [True] * len(body.outputs))
    if name == "cond":
        found = [k for p in branches_of(equation) for k in find(p, inner_flags(p, operands[1:]), outs)]
        return [*found, *([Kink("cond", scope(equation), False)] if operands[0].depends else [])]
    if name == "while":
        parts = subprograms(equation)
        inside = [k for p in parts for k in find(p, [Flag(True, True)] * len(p.inputs), [True] * len(p.outputs))]
        return [kink._replace(replaceable=False) for kink in inside]
    if not _kinked(equation, operands):
        return []
    return [Kink(_called(equation), scope(equation), _replaceable(equation, operands))]


def _called(equation: Equation) -> str:
    return {"max": "relu or max", "select_n": "where", "reduce_window_max": "max pooling"}.get(
        equation.primitive.name, equation.primitive.name
    )


def _smooth_call(equation: Equation) -> bool:
    name = str(equation.params.get("name", ""))
    if name == "elu" and len(equation.invars) > 1:  # smooth for a scale of one only
        alpha = equation.invars[1]
        return is_literal(alpha) and float(literal_value(alpha)) == 1.0
    return name in SMOOTH_CALLS


def _kinked(equation: Equation, operands: list[Flag]) -> bool:
    name = equation.primitive.name
    if name not in _KINKS:
        return False
    if name == "abs":
        return not operands[0].positive
    if name == "max" and any(o.multiple == (None, 0.0) for o in operands):
        return not all(o.positive for o in operands)
    if name == "max" and any(is_literal(a) and np.all(literal_value(a) == -np.inf) for a in equation.invars):
        return False
    return operands[0].depends if name == "select_n" else True


def _replaceable(equation: Equation, operands: list[Flag]) -> bool:
    name = equation.primitive.name
    if name == "select_n":
        return as_relu(operands) is not None
    if name == "reduce_window_max":
        params = equation.params
        return set(params["base_dilation"]) == {1} and set(params["window_dilation"]) == {1}
    return name in ("max", "min", "abs", "clamp", "reduce_max", "reduce_min")


def as_relu(operands: list[Flag]) -> tuple[float, float, int] | None:
    """A choice between multiples of z by z's sign: (multiple below, multiple above, the operand that is not zero)."""
    if len(operands) != 3 or operands[0].test is None:
        return None
    token, up = operands[0].test
    multiples = [operand.multiple for operand in operands[1:]]
    if any(m is None or m[0] not in (token, None) for m in multiples) or all(m[1] == 0 for m in multiples if m):
        return None
    below, above = (m[1] for m in (multiples if up else multiples[::-1]) if m)
    return below, above, 1 if multiples[0] and multiples[0][1] else 2


def turn_flags(equation: Equation, operands: list[Flag]) -> list[Flag]:
    """What is known of the arguments of a loop's body, at any turn."""
    body, flags = _scan_flags(equation, operands)
    return [flags[variable] for variable in body.inputs]
