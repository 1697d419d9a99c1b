"""Places in a traced program where a value can be read or replaced: outputs of modules, named values, named scopes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    dtype_of,
    loop_parts,
    scope,
    shape_of,
    subprograms,
    variables,
)
from jaxplain.program.trace.marks import Tag, marks_batch, read_tag, scopes

Route = tuple[int, ...]
"""Where an equation is: its index, then (index of the subprogram, index in it) for each level below."""

REWRITABLE = (*INLINED_CALLS, *CUSTOM_DERIVATIVES, *REMATERIALIZED, "scan", "cond", "while")
"""Equations that are built anew when a value inside them is read or replaced."""


LOOKUP = "~lookup"
"""The path of every look-up of a table that no module has named; its calls are always numbered."""


class Site(NamedTuple):
    """One call of a module (or one stretch of a scope, or one look-up of a table): the variables that hold its output.

    route: the equation after which they hold it; sources: the variables before they were named, and names: what they
    were named (a scope and a look-up have none: their sources are their variables); inside: the equations that enclose
    it, outermost first; loops: the lengths of the scans that enclose it.
    """

    path: str
    operation: str
    route: Route
    variables: tuple[Variable, ...]
    sources: tuple[Any, ...]
    names: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    loops: tuple[int, ...] = ()

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each array, of one turn of enclosing loops."""
        return tuple(shape_of(variable) for variable in self.variables)

    @property
    def dtypes(self) -> tuple[Any, ...]:
        """The dtype of each array."""
        return tuple(dtype_of(variable) for variable in self.variables)


class Level(NamedTuple):
    """A program inside a program, and how it was reached."""

    program: Program
    route: Route = ()
    inside: tuple[str, ...] = ()
    loops: tuple[int, ...] = ()
    scope: tuple[str, ...] = ()

    def below(self) -> Iterator[tuple[int, Level]]:
        """The programs in the equations of this one, with the index of the equation."""
        for index, equation in enumerate(self.program.equations):
            name = equation.primitive.name
            loops = self.loops
            if name == "scan":
                loops = (*loops, loop_parts(equation, list(equation.invars)).settings["length"])
            for position, inner in enumerate(subprograms(equation)):
                route = (*self.route, index, position)
                yield index, Level(inner, route, (*self.inside, name), loops, self.scope + scopes(scope(equation)))


def tagged_sites(program: Program) -> list[Site]:
    """Every named value, in the order in which a run meets it."""
    return list(_tagged(Level(program)))


def _tagged(level: Level) -> Iterator[Site]:
    pending: dict[str, list[Equation]] = {}
    below: dict[int, list[Level]] = {}
    for index, inner in level.below():
        below.setdefault(index, []).append(inner)
    for index, equation in enumerate(level.program.equations):
        for inner in below.get(index, ()):
            yield from _tagged(inner)
        named = read_tag(equation)
        if named is None:
            continue
        pending.setdefault(named.path, []).append(equation)
        if named.leaf == named.leaves - 1:
            yield _named_site(named, pending.pop(named.path), index, level)


def _named_site(named: Tag, equations: list[Equation], index: int, level: Level) -> Site:
    return Site(
        named.path,
        named.operation,
        (*level.route, index),
        variables=tuple(equation.outvars[0] for equation in equations),
        sources=tuple(equation.invars[0] for equation in equations),
        names=tuple(equation.params["name"] for equation in equations),
        inside=level.inside,
        loops=level.loops,
    )


def scope_sites(program: Program) -> list[Site]:
    """Every stretch of equations under one `jax.named_scope`, with the values that are used after it.

    Two calls of one scope with nothing between them are one stretch.
    """
    return list(_scoped(Level(program)))


def _scoped(level: Level) -> Iterator[Site]:
    below: dict[int, list[Level]] = {}
    for index, inner in level.below():
        below.setdefault(index, []).append(inner)
    names = [level.scope + scopes(scope(equation)) for equation in level.program.equations]
    ends: dict[int, list[Site]] = {}
    for prefix in dict.fromkeys(name[:depth] for name in names for depth in range(len(level.scope) + 1, len(name) + 1)):
        for first, last in _stretches([name[: len(prefix)] == prefix for name in names]):
            outputs = _used_after(level.program, first, last)
            if outputs:
                route, path = (*level.route, last), "/".join(prefix)
                site = Site(path, "named_scope", route, outputs, outputs, (), level.inside, level.loops)
                ends.setdefault(last, []).append(site)
    for index in range(len(names)):
        for inner in below.get(index, ()):
            yield from _scoped(inner)
        yield from sorted(ends.get(index, ()), key=lambda site: -site.path.count("/"))


def _stretches(inside: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """First and last index of every run of True."""
    first = None
    for index, flag in enumerate([*inside, False]):
        if flag and first is None:
            first = index
        elif not flag and first is not None:
            yield first, index - 1
            first = None


def _used_after(program: Program, first: int, last: int) -> tuple[Variable, ...]:
    """Variables defined between two equations and used after the second."""
    later = set(variables(program.outputs))
    for equation in program.equations[last + 1 :]:
        later.update(variables(equation.invars))
    defined = (v for equation in program.equations[first : last + 1] for v in equation.outvars)
    return tuple(v for v in defined if v in later)


def has_batch_axis(program: Program) -> bool:
    """Whether a score adds a batch axis somewhere in the program."""
    return any(marks_batch(equation) for equation in program.equations) or any(
        has_batch_axis(inner.program) for _, inner in Level(program).below()
    )


def in_order(sites: Iterable[Site]) -> list[Site]:
    """Sites in the order in which a run meets them: what is inside of an equation comes before what it is itself."""
    return sorted(sites, key=lambda site: (*site.route, math.inf))
