"""A traced function with smooth operations in the place of its kinks.

A second derivative does not see a kink: it is zero beside it. `smoothed` puts softplus in the place of ReLU wherever it
matters, and what follows from that in the place of maxima and absolute values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.program.node.kinks import (
    CALLS,
    Flag,
    Kink,
    as_relu,
    branches_of,
    constant_flag,
    find,
    flag_of,
    forward,
    inner_flags,
    kinks_of,
    needed_equations,
    turn_flags,
)
from jaxplain.program.trace import (
    REMATERIALIZED,
    Equation,
    Program,
    evaluate_equation,
    is_literal,
    literal_value,
    loop_parts,
    rematerialized_like,
    shape_of,
    subprograms,
    trace,
)


def smoothed(f: Callable[..., Any], beta: Any, name: str, *leaves: Any) -> Callable[..., Any]:
    """`f` with softplus in the place of ReLU, for arrays like `leaves`.

    relu(z) becomes softplus(beta z) / beta, and what is made of it likewise: max(a, b) = b + relu(a - b), |z| =
    relu(z) + relu(-z), leaky ReLUs; a maximum over an axis or a pooling window becomes logsumexp(beta z) / beta.

    Args:
        f: From arrays to a number.
        beta: How sharp; None changes nothing and requires a function without kinks.
        name: The method, for errors.
        *leaves: Arrays that `f` is called with.

    Returns:
        A function of arrays like `leaves`.

    Raises:
        ValueError: `f` has kinks and `beta` is None, or kinks that have no smooth version here.
    """
    program, _ = trace(f, *leaves)
    inputs = [Flag(active=True, depends=True, multiple=(object(), 1.0)) for _ in leaves]
    flags = [*(constant_flag(value) for value in program.constants), *inputs]
    wanted = [True] * len(program.outputs)
    kinks = find(program, flags, wanted)
    if beta is None and kinks:
        raise ValueError(
            f"{name}: the score has kinks ({_listed(kinks)}), where its gradient jumps, and second derivatives miss "
            "those jumps: of a piecewise linear network they are zero. Pass smooth=beta (say 10.0) to put "
            "softplus(beta z) / beta in the place of ReLU."
        )
    stuck = [kink for kink in kinks if not kink.replaceable]
    if stuck:
        raise ValueError(
            f"{name}: the score has kinks that `smooth` cannot replace ({_listed(stuck)}). Write them with ReLU, "
            "maximum or absolute value, or use a smooth operation in the model."
        )
    return lambda *values: run(program, flags, wanted, values, beta)[0]


def _listed(kinks: list[Kink]) -> str:
    places = list(dict.fromkeys(f"'{k.operation}'" + (f" in {k.path!r}" if k.path else "") for k in kinks))
    return ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def run(
    program: Program, inputs: Sequence[Flag], wanted: Sequence[bool], arguments: Sequence[Any], beta: Any
) -> list[Any]:
    """Evaluate a program with smooth operations in the place of its kinks."""
    flags = forward(program, inputs)
    needed = needed_equations(program, flags, wanted)
    values = dict(zip(program.inputs, [*program.constants, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return literal_value(atom) if is_literal(atom) else values[atom]

    for index, equation in enumerate(program.equations):
        operands = [read(atom) for atom in equation.invars]
        known = [flag_of(flags, atom) for atom in equation.invars]
        if index in needed and kinks_of(equation, known, needed[index]):
            results = _smooth(equation, known, needed[index], operands, beta)
        else:
            results = evaluate_equation(program, equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outputs]


def _smooth(equation: Equation, flags: list[Flag], outs: list[bool], operands: list[Any], beta: Any) -> list[Any]:
    name = equation.primitive.name
    if name in CALLS:
        inner = subprograms(equation)[0]

        def body(values: list[Any]) -> list[Any]:
            return run(inner, inner_flags(inner, flags), outs, values, beta)

        return rematerialized_like(equation, body)(operands) if name in REMATERIALIZED else body(operands)
    if name == "cond":
        branches = [
            lambda values, p=p: run(p, inner_flags(p, flags[1:]), outs, values, beta) for p in branches_of(equation)
        ]
        return list(lax.switch(operands[0], branches, operands[1:]))
    if name == "scan":
        return _smooth_scan(equation, flags, operands, beta)
    return [_SMOOTH[name](equation, flags, operands, beta)]


def _smooth_scan(equation: Equation, flags: list[Flag], operands: list[Any], beta: Any) -> list[Any]:
    loop, inner = loop_parts(equation, operands), turn_flags(equation, flags)
    count = len(loop.carry)

    def turn(carry: list[Any], items: list[Any]) -> tuple[list[Any], list[Any]]:
        values = [*loop.constants, *carry, *items]
        results = run(loop.body, inner, [True] * len(loop.body.outputs), values, beta)
        return results[:count], results[count:]

    carry, stacked = lax.scan(turn, loop.carry, loop.items, **loop.settings)
    return [*carry, *stacked]


def _relu(z: Any, beta: Any) -> Any:
    return (jax.nn.softplus(beta * z) / beta).astype(z.dtype)


def _select(equation: Equation, flags: list[Flag], operands: list[Any], beta: Any) -> Any:
    found = as_relu(flags)
    assert found is not None
    below, above, place = found
    z = operands[place] / flags[place].multiple[1]  # type: ignore[index]
    return below * z + (above - below) * _relu(z, beta)


def _reduced(z: Any, beta: Any, axes: tuple[int, ...]) -> Any:
    return jax.nn.logsumexp(beta * z, axis=axes) / beta


def _pooled(equation: Equation, flags: list[Flag], operands: list[Any], beta: Any) -> Any:
    """Max pooling: the smooth maximum over the places of the window, as strided slices of the padded input."""
    params, z = equation.params, operands[0]
    sizes, strides = params["window_dimensions"], params["window_strides"]
    padded = jnp.pad(z, params["padding"], constant_values=-jnp.inf)
    outputs = shape_of(equation.outvars[0])
    places = []
    for offset in np.ndindex(*sizes):
        limit = [o + (n - 1) * s + 1 for o, n, s in zip(offset, outputs, strides, strict=True)]
        places.append(lax.slice(padded, offset, limit, strides))
    return jax.nn.logsumexp(beta * jnp.stack(places), axis=0) / beta


_SMOOTH: dict[str, Callable[..., Any]] = {
    "max": lambda e, f, v, beta: v[1] + _relu(jnp.asarray(v[0] - v[1]), beta),
    "min": lambda e, f, v, beta: v[0] - _relu(jnp.asarray(v[0] - v[1]), beta),
    "abs": lambda e, f, v, beta: _relu(v[0], beta) + _relu(-v[0], beta),
    "clamp": lambda e, f, v, beta: v[0] + _relu(v[1] - v[0], beta) - _relu(v[1] - v[2], beta),
    "reduce_max": lambda e, f, v, beta: _reduced(v[0], beta, tuple(e.params["axes"])),
    "reduce_min": lambda e, f, v, beta: -_reduced(-v[0], beta, tuple(e.params["axes"])),
    "reduce_window_max": _pooled,
    "select_n": _select,
}
