"""Which values of a traced program depend on some of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    inner_operands,
    is_literal,
    loop_parts,
    subprograms,
    trace,
    variables,
)

Known = set[Variable]

_TRANSPARENT = (*INLINED_CALLS, *CUSTOM_DERIVATIVES, *REMATERIALIZED)


def dependent(program: Program, inputs: Known) -> Known:
    """The variables of a program (not of those inside it) that depend on `inputs`, which are among them."""
    known = set(inputs)
    for equation in program.equations:
        known.update(_outputs(equation, known))
    return known


def entered(equation: Equation, position: int, known: Known) -> Known:
    """The inputs of an equation's inner program (by its place in `subprograms`) that depend on what is known to."""
    inner = subprograms(equation)[position]
    operands = inner_operands(equation, position)
    inputs = list(inner.jaxpr.invars)
    found = {v for v, atom in zip(inputs, operands, strict=False) if not is_literal(atom) and atom in known}
    if equation.primitive.name == "while" and found:
        return set(inputs)
    if equation.primitive.name != "scan":
        return found
    parts = loop_parts(equation, inputs)
    while True:  # until the carry of a turn depends on no more than that of the turn before
        results = dependent(inner, found)
        carried = [v for v, out in zip(parts.carry, inner.outputs, strict=False) if _in(out, results)]
        if found.issuperset(carried):
            return found
        found.update(carried)


def _in(atom: Any, known: Known) -> bool:
    return not is_literal(atom) and atom in known


def _outputs(equation: Equation, known: Known) -> list[Variable]:
    """The results of an equation that depend on what is known to."""
    if not any(v in known for v in variables(equation.invars)):
        return []
    inner = subprograms(equation)
    if not inner or equation.primitive.name not in (*_TRANSPARENT, "scan"):
        return list(equation.outvars)
    results = dependent(inner[0], entered(equation, 0, known))
    return [v for v, out in zip(equation.outvars, inner[0].outputs, strict=True) if _in(out, results)]


def depends(f: Callable[..., Any], x: Any) -> bool:
    """Whether any output of `f(x)` depends on an array of `x`, by its operations and not by their values."""
    program, _ = trace(f, x)
    known = dependent(program, set(program.jaxpr.invars[: len(jax.tree.leaves(x))]))
    return any(_in(atom, known) for atom in program.outputs)
