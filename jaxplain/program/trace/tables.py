"""Look-ups in a traced program: rows of a table picked by integer ids, where no module has given the value a name.

An id is an integer of the call's arguments, or one computed from such integers alone; a table is a floating-point value
that depends on no input. Recognised are `table[ids]` in every spelling (`gather`, `dynamic_slice`) and
`one_hot(ids) @ table`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp

from jaxplain.program.trace.activity import Known, dependent, entered
from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    dtype_of,
    inner_operands,
    is_literal,
    subprograms,
    variables,
)
from jaxplain.program.trace.marks import read_tag
from jaxplain.program.trace.sites import LOOKUP, Level, Site

_MOVES = frozenset((
    "broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "name", "reshape", "squeeze", "transpose",
))  # fmt: skip
_BODIES = (*INLINED_CALLS, *CUSTOM_DERIVATIVES, *REMATERIALIZED)


def lookup_sites(program: Program, inputs: Collection[int], integers: Collection[int]) -> list[Site]:
    """Every look-up whose value is not what a module returns, in the order in which a run meets it.

    Args:
        program: A traced call.
        inputs: Which of its arguments belong to what is explained; no table depends on them.
        integers: Which of its arguments hold integers.
    """
    arguments = program.inputs[len(program.constants) :]
    ids = {arguments[position] for position in integers}
    walk = _Walk()
    walk.level(Level(program), _Known({*ids, *(arguments[position] for position in inputs)}, ids))
    return [site for place, site in enumerate(walk.found) if place not in walk.named]


@dataclasses.dataclass
class _Known:
    """What is known of the variables of one program.

    moving: they depend on inputs or ids; ids: integers that come from ids alone; counts: 0, 1, 2 ... along an axis;
    picks: ones where an id equals a count; looked_up: the look-up whose value they are, moved or not.
    """

    moving: Known
    ids: Known
    counts: Known = dataclasses.field(default_factory=set)
    picks: Known = dataclasses.field(default_factory=set)
    looked_up: dict[Variable, int] = dataclasses.field(default_factory=dict)


class _Walk:
    def __init__(self) -> None:
        self.found: list[Site] = []
        self.named: set[int] = set()

    def level(self, level: Level, known: _Known) -> None:
        """Add the look-ups of a program and of those inside it, and what is known of its variables to `known`."""
        known.moving.update(dependent(level.program, known.moving))
        below: dict[int, list[Level]] = {}
        for index, inner in level.below():
            below.setdefault(index, []).append(inner)
        for index, equation in enumerate(level.program.equations):
            for position, inner in enumerate(below.get(index, ())):
                self._inside(equation, position, inner, known)
            if _picks_rows(equation, known):
                known.looked_up[equation.outvars[0]] = len(self.found)
                end = _without_ones(level.program, index)
                rows = tuple(level.program.equations[end].outvars)
                route = (*level.route, end)
                self.found.append(Site(LOOKUP, "lookup", route, rows, rows, (), level.inside, level.loops))
            elif equation.primitive.name in _MOVES:
                self._move(equation, known)
            _learn(equation, known)

    def _inside(self, equation: Equation, position: int, inner: Level, known: _Known) -> None:
        """Walk an equation's inner program; what a plain call returns is what its body says it is."""
        outer = dict(zip(inner.program.jaxpr.invars, inner_operands(equation, position), strict=False))

        def passed(of: Collection[Variable]) -> Known:
            return {v for v, atom in outer.items() if not is_literal(atom) and atom in of}

        lower = _Known(
            entered(equation, position, known.moving), passed(known.ids), passed(known.counts), passed(known.picks)
        )
        lower.looked_up.update((v, known.looked_up[outer[v]]) for v in passed(known.looked_up))
        self.level(inner, lower)
        if equation.primitive.name not in _BODIES or len(subprograms(equation)) != 1:
            return
        for variable, result in zip(equation.outvars, inner.program.outputs, strict=False):
            if is_literal(result):
                continue
            for below, above in ((lower.ids, known.ids), (lower.counts, known.counts), (lower.picks, known.picks)):
                if result in below:
                    above.add(variable)
            if result in lower.looked_up:
                known.looked_up[variable] = lower.looked_up[result]

    def _move(self, equation: Equation, known: _Known) -> None:
        """The same numbers in another place or dtype, or with a name."""
        (source, *_), (variable, *_) = equation.invars, equation.outvars
        if is_literal(source):
            return
        if source in known.looked_up:
            known.looked_up[variable] = known.looked_up[source]
            if read_tag(equation) is not None:
                self.named.add(known.looked_up[source])
        for of in (known.counts, known.picks):
            if source in of:
                of.add(variable)


def _learn(equation: Equation, known: _Known) -> None:
    """Ids computed from ids, counts, and where an id equals a count."""
    name, operands = equation.primitive.name, list(variables(equation.invars))
    if name == "iota":
        known.counts.update(equation.outvars)
    moving = [v for v in operands if v in known.moving]
    if not moving or not all(v in known.ids for v in moving):
        return
    if name == "eq" and len(moving) == 1 and any(v in known.counts for v in operands):
        known.picks.update(equation.outvars)
    elif not subprograms(equation) or name not in _BODIES:
        known.ids.update(v for v in equation.outvars if _is_integer(v))


def _without_ones(program: Program, index: int) -> int:
    """Where the rows of a look-up lose the axes along which one was picked: the next equation, or none."""
    rows = program.equations[index].outvars[0]
    readers = [place for place, equation in enumerate(program.equations) if rows in list(variables(equation.invars))]
    after = program.equations[index + 1 : index + 2]
    squeezed = readers == [index + 1] and after[0].primitive.name == "squeeze" and rows not in program.outputs
    return index + 1 if squeezed else index


def _picks_rows(equation: Equation, known: _Known) -> bool:
    """Whether an equation is a look-up."""
    name, operands = equation.primitive.name, equation.invars
    if name == "dot_general":
        return any(_in(a, known.picks) and _is_table(b, known) for a, b in (operands, reversed(operands)))
    if name == "gather":
        return _is_table(operands[0], known) and _in(operands[1], known.ids)
    if name != "dynamic_slice" or not _is_table(operands[0], known):
        return False
    lengths = zip(operands[1:], equation.params["slice_sizes"], strict=False)
    picked = [length for start, length in lengths if _in(start, known.ids)]
    return bool(picked) and all(length == 1 for length in picked)


def _in(atom: Any, of: Collection[Variable]) -> bool:
    return not is_literal(atom) and atom in of


def _is_table(atom: Any, known: _Known) -> bool:
    dtype = dtype_of(atom)
    return not _in(atom, known.moving) and dtype is not None and bool(jnp.issubdtype(dtype, jnp.floating))


def _is_integer(variable: Variable) -> bool:
    dtype = dtype_of(variable)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_)
