"""Runs a traced program with values read or replaced on the way.

Only the equations around a tapped place are built anew; all others are evaluated as they are, in stretches. What no
output and no reading needs is not evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    checkpoint_name,
    evaluate,
    evaluate_equation,
    has_effects,
    is_literal,
    jitted_like,
    literal_value,
    loop_parts,
    open_program,
    rematerialized_like,
    segment,
    subprograms,
    under_scope,
    variables,
    while_parts,
)
from jaxplain.program.trace.marks import marks_batch, state
from jaxplain.program.trace.sites import REWRITABLE, Route, Site

Values = tuple[Any, ...]
Found = dict[str, Values]


class Tap(NamedTuple):
    """What to do at a site.

    key: the name under which its values are returned and fed; keep: return them; change: from values to the values
    that go on; fed: which of the values that go on are in `feeds[key]` (the others are None there), of which a scan
    takes one row each turn.
    """

    site: Site
    key: str
    keep: bool = False
    change: Callable[[Values], Values] | None = None
    fed: tuple[bool, ...] = ()


Placed = list[tuple[Route, Tap]]


def refuse_hidden(tap: Tap, name: str) -> None:
    """Raise where a site cannot be reached: inside a foreign call, or (to read or feed it) inside a `while`."""
    for outer in tap.site.inside:
        if outer not in REWRITABLE:
            raise ValueError(
                f"{name}: {tap.key!r} lies inside `{outer}`, a call that cannot be taken apart. Choose a layer outside "
                "of it, or use an implementation of plain JAX operations."
            )
        if outer == "while" and (tap.keep or tap.fed):
            raise ValueError(
                f"{name}: {tap.key!r} lies inside a `while` loop, whose number of turns is not known, so its values "
                "cannot be collected. `intervene` with a function can change them; `lax.scan` (or `fori_loop` with "
                "fixed bounds) lets them be read."
            )


def reachable(site: Site) -> bool:
    """Whether the values of a site can be read."""
    return all(outer in REWRITABLE and outer != "while" for outer in site.inside)


def taken_key(key: str) -> str:
    """The name of the flag beside a value inside a branch of `cond`: whether the branch was taken."""
    return f"{key}:taken"


def run(
    program: Program, arguments: Sequence[Any], taps: Placed, feeds: Found, outputs: bool = True
) -> tuple[list[Any], Found]:
    """Evaluate a program; return its outputs and the values kept.

    Args:
        program: What to run.
        arguments: The values of its inputs.
        taps: What to do, and the route to it from this program.
        feeds: Values that replace others, by key.
        outputs: False returns no outputs, and evaluates only what the kept values need.
    """
    here: dict[int, list[Tap]] = {}
    below: dict[int, Placed] = {}
    for route, tap in taps:
        if len(route) == 1:
            here.setdefault(route[0], []).append(tap)
        else:
            below.setdefault(route[0], []).append((route[1:], tap))
    live, needed = _live(program, here, below, outputs)
    values = dict(zip(program.inputs, [*program.constants, *arguments], strict=True))
    found: Found = {}
    position = 0
    for stop in sorted({*here, *below}):
        _advance(program, values, range(position, stop), live, needed[stop])
        if stop in live:
            values.update(_step(program, stop, values, below.get(stop, []), feeds, found, outputs))
        for tap in here.get(stop, ()):
            _visit(program.equations[stop], tap, values, feeds, found)
        position = stop + 1
    if not outputs:
        return [], found
    _advance(program, values, range(position, len(program.equations)), live, set(variables(program.outputs)))
    return [_read(values, atom) for atom in program.outputs], found


def _read_sources(tap: Tap) -> list[Any]:
    """The sources of a site that are not replaced by values fed in."""
    return [s for s, fed in zip(tap.site.sources, tap.fed or (False,) * len(tap.site.sources), strict=True) if not fed]


def _read(values: dict[Variable, Any], atom: Any) -> Any:
    return literal_value(atom) if is_literal(atom) else values[atom]


def live_equations(program: Program) -> set[int]:
    """The indices of the equations that an output needs, or that act beside their outputs."""
    return _live(program, {}, {}, outputs=True)[0]


def _live(
    program: Program, here: dict[int, list[Tap]], below: dict[int, Placed], outputs: bool
) -> tuple[set[int], dict[int, set[Variable]]]:
    """The equations whose results are used, and the variables needed just before each stop."""
    wanted = set(variables(program.outputs)) if outputs else set()
    live: set[int] = set()
    needed: dict[int, set[Variable]] = {}
    for index in reversed(range(len(program.equations))):
        equation = program.equations[index]
        for tap in reversed(here.get(index, [])):
            used = tap.keep or any(v in wanted for v in tap.site.variables)
            wanted.difference_update(tap.site.variables)
            if used:
                wanted.update(variables(_read_sources(tap)))
        kept = any(tap.keep for _, tap in below.get(index, ()))
        # The mark of a batch axis outlives the values it is on, for a transformation outside that looks for it.
        acts = outputs and (has_effects(equation) or (state.tagging and marks_batch(equation)))
        if kept or acts or any(v in wanted for v in equation.outvars):
            live.add(index)
            wanted.difference_update(equation.outvars)
            wanted.update(variables(equation.invars))
        if index in here or index in below:
            needed[index] = set(wanted)
    return live, needed


def _advance(
    program: Program, values: dict[Variable, Any], stretch: range, live: set[int], needed: set[Variable]
) -> None:
    """Evaluate the live equations of a stretch together, and forget what is not needed after it."""
    equations = [program.equations[index] for index in stretch if index in live]
    defined = {v for equation in equations for v in equation.outvars}
    inputs = dict.fromkeys(v for e in equations for v in variables(e.invars) if v not in defined)
    results = [v for v in defined if v in needed]
    if equations:
        part = segment(program, equations, list(inputs), results)
        values.update(zip(results, evaluate(part, [], [values[v] for v in inputs]), strict=True))
    for variable in [v for v in values if v not in needed]:
        del values[variable]


def _step(
    program: Program,
    index: int,
    values: dict[Variable, Any],
    taps: Placed,
    feeds: Found,
    found: Found,
    outputs: bool,
) -> dict[Variable, Any]:
    """Evaluate one equation, built anew where something inside it is tapped; return what it defines."""
    equation = program.equations[index]
    operands = [_read(values, atom) for atom in equation.invars]
    if not taps:
        results = evaluate_equation(program, equation, operands)
    else:
        with under_scope(equation):
            results, inner = _rebuilt(program, equation, operands, taps, feeds)
        found.update(inner)
    return dict(zip(equation.outvars, results, strict=True))


def _visit(equation: Equation, tap: Tap, values: dict[Variable, Any], feeds: Found, found: Found) -> None:
    """Read or replace the values of a site."""
    site = tap.site
    if not all(is_literal(atom) or atom in values for atom in _read_sources(tap)):
        return  # nothing that is wanted depends on it
    fed = feeds[tap.key] if tap.fed else (None,) * len(site.sources)
    current = tuple(_read(values, a) if value is None else value for a, value in zip(site.sources, fed, strict=True))
    current = current if tap.change is None else tap.change(current)
    if tap.keep:
        found[tap.key] = current
    if site.names:  # the name goes around the new value, where a transformation outside looks for it
        with under_scope(equation):
            current = tuple(checkpoint_name(v, name) for v, name in zip(current, site.names, strict=True))
    values.update(zip(site.variables, current, strict=True))


def _inside(taps: Placed, position: int) -> Placed:
    return [(route[1:], tap) for route, tap in taps if route[0] == position]


def _rebuilt(
    program: Program, equation: Equation, operands: list[Any], taps: Placed, feeds: Found
) -> tuple[list[Any], Found]:
    """Evaluate an equation whose inner programs hold taps."""
    name = equation.primitive.name
    if name == "scan":
        return _scan(equation, operands, _inside(taps, 0), feeds)
    if name == "cond":
        return _cond(equation, operands, taps, feeds)
    if name == "while":
        return _while(equation, operands, taps, feeds), {}
    inner, placed = subprograms(equation)[0], _inside(taps, 0)
    if name in CUSTOM_DERIVATIVES and not any(tap.fed or tap.change for _, tap in placed):
        # The result keeps its own derivative, and what is read is computed beside it.
        return evaluate_equation(program, equation, operands), run(inner, operands, placed, feeds, outputs=False)[1]

    def body(values: list[Any], fed: Found) -> tuple[list[Any], Found]:
        return run(inner, values, placed, fed)

    if name in ("jit", "pjit"):
        return jitted_like(equation, body)(operands, feeds)
    if name in REMATERIALIZED:
        return rematerialized_like(equation, body)(operands, feeds)
    return body(operands, feeds)


def _scan(equation: Equation, operands: list[Any], taps: Placed, feeds: Found) -> tuple[list[Any], Found]:
    loop = loop_parts(equation, operands)
    rows = {tap.key: feeds[tap.key] for _, tap in taps if tap.fed}
    count = len(loop.carry)

    def body(carry: list[Any], turn: tuple[list[Any], Found]) -> tuple[list[Any], tuple[list[Any], Found]]:
        items, fed = turn
        results, found = run(loop.body, [*loop.constants, *carry, *items], taps, {**feeds, **fed})
        return results[:count], (results[count:], found)

    carry, (stacked, found) = lax.scan(body, loop.carry, (loop.items, rows), **loop.settings)
    return [*carry, *stacked], found


def _cond(equation: Equation, operands: list[Any], taps: Placed, feeds: Found) -> tuple[list[Any], Found]:
    """Run the branch that is chosen; values of the others are zeros, with a flag that says so."""
    index, arguments = operands[0], operands[1:]
    branches = [open_program(branch) for branch in equation.params["branches"]]
    runs = [
        functools.partial(run, branch, taps=_inside(taps, position), feeds=feeds)
        for position, branch in enumerate(branches)
    ]
    shapes = [jax.eval_shape(lambda values, run=run: _flagged(run(values)[1]), arguments) for run in runs]

    def chosen(position: int) -> Callable[[list[Any]], tuple[list[Any], list[Found]]]:
        def branch(values: list[Any]) -> tuple[list[Any], list[Found]]:
            results, found = runs[position](values)
            read = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            read[position] = _flagged(found)
            return results, read

        return branch

    results, read = lax.switch(index, [chosen(position) for position in range(len(runs))], arguments)
    return results, {key: value for found in read for key, value in found.items()}


def _flagged(found: Found) -> Found:
    flags = {taken_key(key): (jnp.asarray(True),) for key in found if not key.endswith(taken_key(""))}
    return {**flags, **found}


def _while(equation: Equation, operands: list[Any], taps: Placed, feeds: Found) -> list[Any]:
    condition, first, body, second, carry = while_parts(equation, operands)
    # The order of an equation's programs is that of their names: the body comes before the condition.
    in_body, in_condition = _inside(taps, 0), _inside(taps, 1)
    return list(
        lax.while_loop(
            lambda state: run(condition, [*first, *state], in_condition, feeds)[0][0],
            lambda state: run(body, [*second, *state], in_body, feeds)[0],
            carry,
        )
    )
