"""A program with its calls opened, each value with the place where it can be read or replaced; and its attentions.

The parts of an attention are sites like the outputs of modules: `"block_0/attention/~weights"` (after softmax),
`"~logits"`, `"~queries"`, `"~keys"`, `"~values"` and `"~heads"` (each head's weighted sum, before the projection),
under the path of the module in which the softmax stands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxplain.program.trace.attentions import Attention, Axes, Part, find_attentions, unread_attentions
from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Program,
    Variable,
    is_literal,
    loop_parts,
    scope,
    shape_of,
    subprograms,
)
from jaxplain.program.trace.marks import owner_path, scopes
from jaxplain.program.trace.sites import Route, Site

PARTS = ("queries", "keys", "logits", "weights", "values", "heads")
"""What an attention is made of."""

_BODIES = (*INLINED_CALLS, *CUSTOM_DERIVATIVES, *REMATERIALIZED)


class AttentionSite(NamedTuple):
    """An attention in a program: its parts as sites (those that can be named), and what their axes are.

    path: of the module in which it stands; sites, axes: by the name of the part; key, query, head: as in `Attention`.
    """

    path: str
    sites: dict[str, Site]
    axes: dict[str, Axes]
    key: int
    query: int
    head: tuple[int, ...]


class _Value:
    """A value of an opened program, compared by identity."""

    __slots__ = ("number", "shape")

    def __init__(self, shape: tuple[int, ...], number: int) -> None:
        self.shape, self.number = shape, number


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """One equation of an opened program."""

    name: str
    params: Any
    operands: list[_Value]
    results: list[_Value]
    route: Route
    stack: str


class _Place(NamedTuple):
    """An equation after which a variable holds a value, and what encloses it."""

    route: Route
    variable: Variable
    inside: tuple[str, ...]


def attention_sites(program: Program) -> list[AttentionSite]:
    """Every softmax attention of a program and of the loops in it, in the order of a run."""
    return _found(program, (), (), (), "")


_FUSED = ("attention", "pallas_call", "triton", "tpu_custom_call")


def fused_kernels(program: Program) -> list[str]:
    """The names of kernels in a program that may hold an attention."""
    opening = _Opening()
    opening.add(program, [opening.value(v) for v in program.inputs], (), (), "")
    found = [step.name for step in opening.steps if any(word in step.name for word in _FUSED)]
    for *_, equation in opening.closed:
        found += [name for inner in subprograms(equation) for name in fused_kernels(inner)]
    return found


def hidden_attentions(program: Program, outer: str = "") -> list[str]:
    """Where attentions stand, in a program or the loops in it, that are in a form whose weights are not read."""
    opening = _Opening()
    opening.add(program, [opening.value(v) for v in program.inputs], (), (), outer)
    stacks = [opening.steps[index].stack for index in unread_attentions(opening.steps)]
    found = [owner_path(stack) or "/".join(scopes(stack)) for stack in stacks]
    for *_, stack, equation in opening.closed:
        found += [path for inner in subprograms(equation) for path in hidden_attentions(inner, stack)]
    return found


def _found(
    program: Program, route: Route, inside: tuple[str, ...], loops: tuple[int, ...], outer: str
) -> list[AttentionSite]:
    opening = _Opening()
    opening.add(program, [opening.value(v) for v in program.inputs], route, inside, outer)
    found = [(opening.steps[a.last].route, opening.site(a, loops)) for a in find_attentions(opening.steps)]
    order = [(place, [site]) for place, site in found]
    for place, within, stack, equation in opening.closed:
        name = equation.primitive.name
        lengths = loops
        if name == "scan":
            lengths = (*loops, loop_parts(equation, list(equation.invars)).settings["length"])
        for position, inner in enumerate(subprograms(equation)):
            order.append((place, _found(inner, (*place, position), (*within, name), lengths, stack)))
    return [site for _, sites in sorted(order, key=lambda entry: entry[0]) for site in sites]


class _Opening:
    """What is built up while the calls of a program are opened; loops and branches stay closed."""

    def __init__(self) -> None:
        self.count = 0
        self.steps: list[_Step] = []
        self.places: dict[_Value, list[_Place]] = {}
        self.uses: dict[_Value, list[Route]] = {}
        self.closed: list[tuple[Route, tuple[str, ...], str, Any]] = []

    def value(self, atom: Any) -> _Value:
        """A new value; they are numbered as they are made."""
        self.count += 1
        return _Value(shape_of(atom), self.count)

    def add(
        self, program: Program, inputs: Sequence[_Value], route: Route, inside: tuple[str, ...], outer: str
    ) -> list[_Value]:
        """Append the steps of a program; return its outputs."""
        env: dict[Variable, _Value] = dict(zip(program.inputs, inputs, strict=True))

        def read(atom: Any) -> _Value:
            return self.value(atom) if is_literal(atom) else env[atom]

        for index, equation in enumerate(program.equations):
            name, here, stack = equation.primitive.name, (*route, index), f"{outer}/{scope(equation)}"
            operands = [read(atom) for atom in equation.invars]
            before = self.count
            if name == "name":
                results = operands
            elif name in _BODIES:
                inner = subprograms(equation)[0]
                constants = [self.value(v) for v in inner.jaxpr.constvars]
                results = self.add(inner, [*constants, *operands], (*here, 0), (*inside, name), stack)
            else:
                results = [self.value(v) for v in equation.outvars]
                self.steps.append(_Step(name, equation.params, operands, results, here, stack))
                for value in operands:
                    self.uses.setdefault(value, []).append(here)
                if subprograms(equation):
                    self.closed.append((here, inside, stack, equation))
            for variable, value in zip(equation.outvars, results, strict=True):
                if value.number > before and name != "name":
                    self.places.setdefault(value, []).append(_Place(here, variable, inside))
            env.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in program.outputs]

    def site(self, attention: Attention, loops: tuple[int, ...]) -> AttentionSite:
        """The sites of an attention's parts."""
        stack = self.steps[attention.last].stack
        path = owner_path(stack) or "/".join(scopes(stack))
        parts = {name: part for name in PARTS if (part := getattr(attention, name)) is not None}
        sites = {name: site for name, part in parts.items() if (site := self._site(path, name, part, loops))}
        axes = {name: part.axes for name, part in parts.items()}
        return AttentionSite(path, sites, axes, attention.key, attention.query, attention.head)

    def _site(self, path: str, name: str, part: Part, loops: tuple[int, ...]) -> Site | None:
        """The outermost place that all that takes the value comes after; None for an input of the program."""
        for place in reversed(self.places.get(part.value, [])):
            if not any(used[: len(place.route)] == place.route for used in self.uses.get(part.value, ())):
                full = f"{path}/~{name}" if path else f"~{name}"
                held = (place.variable,)
                return Site(full, "attention", place.route, held, held, (), place.inside, loops)
        return None
