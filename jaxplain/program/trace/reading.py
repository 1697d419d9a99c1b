"""In which order a traced function reads its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain.program.trace.compat import Program, inner_operands, is_literal, subprograms, trace


def first_reads(f: Callable[..., Any], *args: Any) -> list[int]:
    """The positions of the leaves of `args`, in the order in which `f` first computes with them; unread ones last.

    Args:
        f: A function that JAX can trace.
        *args: Its arguments, or their shapes.

    Returns:
        A permutation of the leaves' positions. Cost: one trace.
    """
    leaves, structure = jax.tree.flatten(args)
    program, _ = trace(lambda *flat: f(*jax.tree.unflatten(structure, flat)), *leaves)
    inputs = list(program.inputs)[len(program.constants) :]
    found: list[int] = []
    _walk(program, dict(zip(inputs, range(len(leaves)), strict=True)), found)
    return found + [position for position in range(len(leaves)) if position not in found]


def _walk(program: Program, known: dict[Any, int], found: list[int]) -> None:
    for equation in program.equations:
        inner = subprograms(equation)
        read = [atom for atom in equation.invars if not is_literal(atom) and atom in known]
        if not inner or not read:
            found.extend(dict.fromkeys(known[atom] for atom in read if known[atom] not in found))
            continue
        for position, part in enumerate(inner):
            operands = inner_operands(equation, position)
            variables = list(part.jaxpr.invars)
            passed = {
                variable: known[atom]
                for variable, atom in zip(variables, operands, strict=False)
                if not is_literal(atom) and atom in known
            }
            _walk(part, passed, found)
