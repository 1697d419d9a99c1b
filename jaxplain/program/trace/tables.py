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
_DECIDING = ("argmax", "argmin")
"""What says where, not which."""
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


def picks_by_ids(program: Program, ids: Collection[int]) -> list[Site]:
    """Every value that ids alone pick from tables, or are counted into (`zeros.at[ids].add(...)`), at any depth.

    What ids decide through comparisons (which are padding, how many there are) picks no row by an id.

    Args:
        program: A traced call.
        ids: Which of its arguments are the ids.
    """
    arguments = program.inputs[len(program.constants) :]
    own = {arguments[position] for position in ids}
    walk = _Walk()
    walk.level(Level(program), _Known(set(own), set(own), carried=set(own)))
    return [*(site for place, site in enumerate(walk.found) if place in walk.carried), *walk.counted]


@dataclasses.dataclass
class _Known:
    """What is known of the variables of one program.

    moving: they depend on inputs or ids; ids: integers that come from ids alone; counts: 0, 1, 2 ... along an axis;
    picks: ones where an id equals a count; looked_up: the look-up whose value they are, moved or not; carried: integers
    that change with an id itself, and not only with what it decides.
    """

    moving: Known
    ids: Known
    counts: Known = dataclasses.field(default_factory=set)
    picks: Known = dataclasses.field(default_factory=set)
    looked_up: dict[Variable, int] = dataclasses.field(default_factory=dict)
    carried: Known = dataclasses.field(default_factory=set)


class _Walk:
    def __init__(self) -> None:
        self.found: list[Site] = []
        self.named: set[int] = set()
        self.carried: set[int] = set()
        self.counted: list[Site] = []

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
                if any(_in(atom, known.carried) for atom in equation.invars):
                    self.carried.add(len(self.found))
                end = _without_ones(level.program, index)
                rows = tuple(level.program.equations[end].outvars)
                route = (*level.route, end)
                self.found.append(Site(LOOKUP, "lookup", route, rows, rows, (), level.inside, level.loops))
            elif _counts_ids(equation, known):
                rows = tuple(equation.outvars)
                route = (*level.route, index)
                self.counted.append(Site(LOOKUP, "count", route, rows, rows, (), level.inside, level.loops))
            elif equation.primitive.name in _MOVES:
                self._move(equation, known)
            _learn(equation, known)

    def _inside(self, equation: Equation, position: int, inner: Level, known: _Known) -> None:
        """Walk an equation's inner program; what a plain call returns is what its body says it is."""
        outer = dict(zip(inner.program.jaxpr.invars, inner_operands(equation, position), strict=False))

        def passed(of: Collection[Variable]) -> Known:
            return {v for v, atom in outer.items() if not is_literal(atom) and atom in of}

        moving = entered(equation, position, known.moving)
        if equation.primitive.name == "while" and position == 0:
            moving = _in_turns(equation, inner.program, passed(known.moving))
        lower = _Known(moving, passed(known.ids), passed(known.counts), passed(known.picks))
        lower.carried.update(passed(known.carried))
        lower.looked_up.update((v, known.looked_up[outer[v]]) for v in passed(known.looked_up))
        self.level(inner, lower)
        if equation.primitive.name not in _BODIES or len(subprograms(equation)) != 1:
            return
        for variable, result in zip(equation.outvars, inner.program.outputs, strict=False):
            if is_literal(result):
                continue
            for name in ("ids", "counts", "picks", "carried"):
                below, above = getattr(lower, name), getattr(known, name)
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
        for of in (known.counts, known.picks, known.carried):
            if source in of:
                of.add(variable)


def _in_turns(equation: Equation, body: Program, moving: Known) -> Known:
    """The inputs of a `while`'s body whose values in a turn depend on what moves, however many turns there are."""
    carry = body.inputs[len(body.inputs) - len(equation.outvars) :]
    while True:
        results = dependent(body, moving)
        moved = {v for v, out in zip(carry, body.outputs, strict=True) if _in(out, results)}
        if moved <= moving:
            return moving
        moving = moving | moved


def _learn(equation: Equation, known: _Known) -> None:
    """Ids computed from ids, counts, and where an id equals a count."""
    name, operands = equation.primitive.name, list(variables(equation.invars))
    if name == "iota":
        known.counts.update(equation.outvars)
    inner = subprograms(equation) and name in _BODIES
    if not inner and name not in _DECIDING and any(v in known.carried for v in operands):
        known.carried.update(v for v in equation.outvars if _is_integer(v) and dtype_of(v) != jnp.bool_)
    moving = [v for v in operands if v in known.moving]
    if not moving or not all(v in known.ids for v in moving):
        return
    if name == "eq" and len(moving) == 1 and any(v in known.counts for v in operands):
        known.picks.update(equation.outvars)
        known.carried.update(equation.outvars if moving[0] in known.carried else ())
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


def _counts_ids(equation: Equation, known: _Known) -> bool:
    """Whether an equation puts floating-point numbers that depend on nothing where ids say."""
    if not equation.primitive.name.startswith("scatter"):
        return False
    kept, places, put = equation.invars[:3]
    return _is_table(kept, known) and _in(places, known.carried) and not _in(put, known.moving)


def _in(atom: Any, of: Collection[Variable]) -> bool:
    return not is_literal(atom) and atom in of


def _is_table(atom: Any, known: _Known) -> bool:
    dtype = dtype_of(atom)
    return not _in(atom, known.moving) and dtype is not None and bool(jnp.issubdtype(dtype, jnp.floating))


def _is_integer(variable: Variable) -> bool:
    dtype = dtype_of(variable)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_)
