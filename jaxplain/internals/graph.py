"""The graph of a traced program by module: which module's output goes into which, down to a depth.

An equation belongs to the innermost module it was traced in, cut off at the depth. Equations of a module that is itself
divided, or of no module, are nodes of their own where they do something a reader looks for (products, pooling, named
activations) or where branches meet; all others pass on where their value comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxplain.program.trace import (
    REWRITABLE,
    Equation,
    Program,
    Site,
    Variable,
    inner_operands,
    is_literal,
    marks_batch,
    owner_path,
    read_tag,
    scope,
    scopes,
    subprograms,
)

SHOWN = ("dot_general", "conv_general_dilated", "reduce_window_max", "reduce_window_sum", "reduce_window")
"""Operations outside of any module that are nodes by themselves."""


class Node(NamedTuple):
    """A module's call, an operation outside of modules (`path` is where it stands), the input or the output.

    kind: 'module', 'operation', 'input' or 'output'; name: what a reader sees, a path without the model's own name.
    """

    kind: str
    path: str
    name: str


class Graph(NamedTuple):
    """Nodes in the order in which they are reached, and edges between their indices."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


def graph(program: Program, sites: Sequence[Site], active: Sequence[Variable], depth: int | None) -> Graph:
    """The graph of a program.

    Args:
        program: What was traced.
        sites: Its named values; without tags their scopes are the modules.
        active: The inputs of the program that are the model's input; all others are parameters and constants.
        depth: How many components of a module's path are shown; None shows all.

    Returns:
        A graph in which a module that is called twice is two nodes.
    """
    paths = {_cut(site.path, depth) for site in sites}
    tagged = bool(sites) and bool(sites[0].names)
    walk = _Walk(depth, paths, {_parent(path) for path in paths} | {""}, tagged)
    entry = walk.add(Node("input", "", "input"), ())
    outputs = walk.run(program, dict.fromkeys(active, entry), "")
    walk.add(Node("output", "", "output"), outputs)
    return walk.pruned()


def _cut(path: str, depth: int | None) -> str:
    return path if depth is None else "/".join(path.split("/")[:depth])


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


@dataclasses.dataclass
class _Walk:
    """A pass over a program's equations that follows where each value comes from."""

    depth: int | None
    paths: set[str]
    divided: set[str]
    tagged: bool
    nodes: list[Node] = dataclasses.field(default_factory=list)
    edges: dict[tuple[int, int], None] = dataclasses.field(default_factory=dict)
    current: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, node: Node, sources: Sequence[int]) -> int:
        """A new node behind these."""
        self.nodes.append(node)
        index = len(self.nodes) - 1
        self.edges.update(dict.fromkeys((source, index) for source in sources))
        return index

    def run(self, program: Program, values: dict[Variable, int], prefix: str) -> list[int]:
        """Follow a program; `values` holds the node that each active variable comes from."""
        for equation in program.equations:
            sources = list(dict.fromkeys(self._of(values, equation.invars)))
            if not sources:
                continue
            through = self._through(equation, values, sources, prefix)
            for variable, source in zip(equation.outvars, through, strict=True):
                if source is not None:
                    values[variable] = source
        return list(dict.fromkeys(self._of(values, program.outputs)))

    @staticmethod
    def _of(values: dict[Variable, int], atoms: Sequence[Any]) -> list[int]:
        return [values[atom] for atom in atoms if not is_literal(atom) and atom in values]

    def _through(
        self, equation: Equation, values: dict[Variable, int], sources: list[int], prefix: str
    ) -> list[int | None]:
        """The node that each output of an equation comes from."""
        tag = read_tag(equation)
        if tag is not None or marks_batch(equation):
            if tag is not None and tag.leaf == tag.leaves - 1:
                self.current.pop(tag.path, None)  # the module's next equation belongs to another call
            return [sources[0]]
        stack = f"{prefix}/{scope(equation)}" if prefix else scope(equation)
        path = _cut(owner_path(stack) if self.tagged else "/".join(scopes(stack)), self.depth)
        path = self._known(path)
        count = len(equation.outvars)
        if path and path not in self.divided:
            return [self._module(path, sources)] * count
        if equation.primitive.name in REWRITABLE and not _named(equation):
            return self._inside(equation, values, stack)
        if len(sources) > 1 or equation.primitive.name in SHOWN or _named(equation):
            name = _named(equation) or equation.primitive.name
            return [self.add(Node("operation", path, name), sources)] * count
        return [sources[0]] * count

    def _known(self, path: str) -> str:
        """The innermost module of a path that is one of the graph's."""
        while path and path not in self.paths and path not in self.divided:
            path = _parent(path)
        return path

    def _module(self, path: str, sources: list[int]) -> int:
        if path not in self.current:
            self.current[path] = self.add(Node("module", path, path.partition("/")[2] or path), ())
        index = self.current[path]
        self.edges.update(dict.fromkeys((source, index) for source in sources if source != index))
        return index

    def _inside(self, equation: Equation, values: dict[Variable, int], prefix: str) -> list[int | None]:
        """Follow an equation's inner programs (one turn of a loop, all branches) in its place."""
        found: list[int | None] = [None] * len(equation.outvars)
        for position, inner in enumerate(subprograms(equation)):
            operands = inner_operands(equation, position)
            seen = {
                variable: values[atom]
                for variable, atom in zip(inner.inputs[len(inner.constants) :], operands, strict=True)
                if not is_literal(atom) and atom in values
            }
            if equation.primitive.name == "while" and position == 1:
                continue  # the condition computes no output
            self.run(inner, seen, prefix)
            for index, atom in enumerate(inner.outputs):
                if not is_literal(atom) and atom in seen:
                    found[index] = seen[atom]
        return found

    def pruned(self) -> Graph:
        """The graph without what leads to no output, which the program computes in vain."""
        useful, before = {len(self.nodes) - 1}, 0
        while len(useful) > before:
            before = len(useful)
            useful.update(source for source, target in self.edges if target in useful)
        useful.add(0)
        place = {index: position for position, index in enumerate(sorted(useful))}
        edges = sorted((place[a], place[b]) for a, b in self.edges if a in useful and b in useful)
        return Graph(tuple(self.nodes[index] for index in sorted(useful)), tuple(edges))


def _named(equation: Equation) -> str:
    """The name of an activation: `jax.nn.relu` is a custom derivative around a `jit` of that name."""
    if equation.primitive.name not in ("custom_jvp_call", "custom_vjp_call"):
        return ""
    names = [e.params["name"] for inner in subprograms(equation) for e in inner.equations if "name" in e.params]
    return str(names[0]) if len(names) == 1 else ""
