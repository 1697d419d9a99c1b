"""Finds what a traced program adds that does not depend on its argument: biases, in whatever form they are written.

A piecewise linear program is homogeneous in its argument and these terms together, so their shares add up to its value
(Euler). A term is an operand of an addition, of a choice (maximum, minimum, clamp, select) or of an arrangement
(concatenation, padding, update) whose other operand depends on the argument: a bias, the shift of a BatchNorm, a class
token, a position, the six of a ReLU6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain.program.trace import (
    REWRITABLE,
    Equation,
    Known,
    Placed,
    Program,
    Route,
    Site,
    Tap,
    Values,
    Variable,
    bind,
    dependent,
    dtype_of,
    entered,
    is_literal,
    literal_value,
    loop_parts,
    owner_path,
    scope,
    scopes,
    shape_of,
    subprograms,
)

_ELEMENTWISE = {"add": (0, 1), "add_any": (0, 1), "sub": (0, 1), "max": (0, 1), "min": (0, 1), "clamp": (0, 1, 2)}
_ARRANGING = {"pad": (0, 1), "dynamic_update_slice": (0, 1)}
_ARRANGING |= dict.fromkeys(("scatter", "scatter-add", "scatter_add"), (0, 2))
_VARIADIC = ("concatenate", "stack")
_MOVING = ("broadcast_in_dim", "convert_element_type", "copy", "reshape", "squeeze", "transpose", "expand_dims")


class Bias(NamedTuple):
    """One term: an operand of an equation.

    key: where it is, unique in the program; equation: what adds it; position: which operand it is; route, inside,
    loops: as in `Site`; shape: of one turn of enclosing loops.
    """

    key: str
    equation: Equation
    position: int
    route: Route
    inside: tuple[str, ...]
    loops: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        """The dtype of the term."""
        return dtype_of(self.equation.invars[self.position])


class _Level(NamedTuple):
    """A program inside a program: which of its inputs depend on the argument, and which hold zeros."""

    program: Program
    active: Known
    zeros: Known
    route: Route = ()
    inside: tuple[str, ...] = ()
    loops: tuple[int, ...] = ()
    stack: str = ""


def biases(program: Program, active: set[Variable]) -> list[Bias]:
    """The terms of a program, in the order in which it runs.

    Args:
        program: A traced function.
        active: Its inputs that are the argument.

    Returns:
        The terms. What is zero in any case (the zero of a ReLU) is left out. Terms inside a `while` loop or a
        `custom_vjp` are not seen, nor is the first carry of a `scan`.
    """
    found = list(_level(_Level(program, set(active), set())))
    total, seen = Counter(bias.key for bias in found), Counter[str]()
    named = []
    for bias in found:
        number = seen[bias.key]
        seen[bias.key] += 1
        named.append(bias if total[bias.key] == 1 else bias._replace(key=f"{bias.key}:{number}"))
    return named


def _level(level: _Level) -> Iterator[Bias]:
    known, zeros = dependent(level.program, level.active), set(level.zeros)
    for index, equation in enumerate(level.program.equations):
        name = equation.primitive.name
        if name in _MOVING and _is_zero(equation.invars[0], zeros):
            zeros.update(equation.outvars)
        for position, inner in enumerate(subprograms(equation)):
            if name in REWRITABLE and name not in ("while", "custom_vjp_call", "custom_vjp_call_jaxpr"):
                yield from _level(_below(level, index, position, inner, known, zeros))
        yield from _here(level, index, equation, known, zeros)


def _below(level: _Level, index: int, position: int, inner: Program, known: Known, zeros: Known) -> _Level:
    equation = level.program.equations[index]
    name = equation.primitive.name
    loops = level.loops
    operands = list(equation.invars)
    if name == "scan":
        loops = (*loops, loop_parts(equation, operands).settings["length"])
    pairs = zip(inner.jaxpr.invars, operands[1:] if name == "cond" else operands, strict=False)
    silent = set() if name == "scan" else {v for v, atom in pairs if _is_zero(atom, zeros)}
    return _Level(
        inner,
        entered(equation, position, known),
        silent,
        (*level.route, index, position),
        (*level.inside, name),
        loops,
        f"{level.stack}/{scope(equation)}",
    )


def _here(level: _Level, index: int, equation: Equation, known: Known, zeros: Known) -> Iterator[Bias]:
    """The terms that one equation adds."""
    positions = _positions(equation)
    if not any(not is_literal(equation.invars[p]) and equation.invars[p] in known for p in positions):
        return
    stack = f"{level.stack}/{scope(equation)}"
    key = owner_path(stack) or "/".join(scopes(stack)) or equation.primitive.name
    for position in positions:
        atom = equation.invars[position]
        depends = not is_literal(atom) and atom in known
        if depends or _is_zero(atom, zeros) or not jnp.issubdtype(dtype_of(atom), jnp.floating):
            continue
        # A scalar beside an array is a term at every place.
        arranging = equation.primitive.name in (*_ARRANGING, *_VARIADIC)
        shape = shape_of(atom) if arranging else shape_of(equation.outvars[0])
        yield Bias(key, equation, position, (*level.route, index), level.inside, level.loops, shape)


def _positions(equation: Equation) -> tuple[int, ...]:
    """The operands in which, together, an equation is homogeneous."""
    name, count = equation.primitive.name, len(equation.invars)
    if name in _VARIADIC:
        return tuple(range(count))
    if name == "select_n":
        return tuple(range(1, count))
    return _ELEMENTWISE.get(name) or _ARRANGING.get(name) or ()


def _is_zero(atom: Any, zeros: Known) -> bool:
    if not is_literal(atom):
        return atom in zeros
    return not np.any(np.asarray(literal_value(atom)))


def scaled(found: list[Bias]) -> Placed:
    """Taps that multiply each term by what is fed under its key, of `(*loops, *shape)`.

    The derivative with respect to a factor at one is the term's share, place by place.
    """
    together: dict[Route, list[Bias]] = {}
    for bias in found:
        together.setdefault(bias.route, []).append(bias)
    return [(route, _tap(group)) for route, group in together.items()]


def feeds(found: list[Bias], factors: dict[str, Any]) -> dict[str, Values]:
    """The factors as `run` takes them, for the taps of `scaled`."""
    fed: dict[str, Values] = {}
    for bias in found:
        key = str(bias.route)
        fed[key] = (*fed.get(key, (None,) * len(bias.equation.invars)), factors[bias.key])
    return fed


def _tap(group: list[Bias]) -> Tap:
    """One tap for all terms of an equation, which is evaluated with its operands changed."""
    first = group[0]
    equation = first.equation
    sources = (*equation.invars, *equation.outvars * len(group))
    site = Site(first.key, "bias", first.route, tuple(equation.outvars), sources, (), first.inside, first.loops)

    def change(values: Values) -> Values:
        operands = list(values[: len(equation.invars)])
        for bias, factor in zip(group, values[len(equation.invars) :], strict=True):
            # Infinite terms (a mask's) have no share: they are never what is chosen where the value is finite.
            term = jnp.broadcast_to(operands[bias.position], bias.shape)
            finite = jnp.isfinite(term)
            operands[bias.position] = jnp.where(finite, jnp.where(finite, term, 0) * factor, term)
        return tuple(bind(equation, operands))

    return Tap(site, str(first.route), change=change, fed=(False,) * len(equation.invars) + (True,) * len(group))
