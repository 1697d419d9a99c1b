"""Groups the equations of a traced function into nodes that mean one operation: what rules are given to.

A node is a layer with its bias and folded BatchNorm, an activation function, a normalisation, a softmax, a residual
sum, a pooling, a product of two values, a move of data. A rule (`program/rewrite.py`) says how relevance goes through a
node of a kind:

| kind | what | names |
| --- | --- | --- |
| affine | weights times an active value, then single-use scales and shifts | dense, convolution, scale_shift |
| scale | an active value times (or divided by) one that carries no relevance | mul, div |
| activation | an elementwise function of one value | relu, gelu, ..., function, or the operation's name |
| sum | sums of active values, and shifts | add, sub, reduce_sum, average_pooling, ... |
| product | of active values, or of one with one that varies but carries no relevance | mul, matmul, reduce_prod, ... |
| quotient | of two active values, and what is one in parts | div, pow, atan2, rem |
| softmax, log_softmax, normalization | the whole group | |
| logsumexp | of a group, or of two values, with the largest taken out | logsumexp, logaddexp |
| hypot | of two values, with the largest taken out | hypot |
| selection | takes some of the values by comparing them | max_pooling, reduce_max, max, scatter_max, sort, ... |
| structure | moves values | reshape, transpose, concatenate, gather, ... |
| scan, cond, while | control flow, with the graph of its body in `inner` | |
| other | everything else | the operation's name |
| plain | carries no relevance | |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxplain.program.node.chains import find_chains
from jaxplain.program.node.facts import Facts, Group, learn
from jaxplain.program.node.flat import CONTROL, Flat, Step, Value, flatten
from jaxplain.program.node.logarithms import shifts
from jaxplain.program.node.normalizations import scalings
from jaxplain.program.node.probe import ELEMENTWISE, is_elementwise, name_of_pair
from jaxplain.program.node.regions import find_groups, part
from jaxplain.program.trace import Equation, loop_parts, open_program

# fmt: off
_SUMS = {
    "add": "add", "add_any": "add", "sub": "sub", "neg": "neg", "reduce_sum": "reduce_sum", "cumsum": "cumsum",
    "reduce_window_sum": "average_pooling", "scatter-add": "scatter_add", "scatter_add": "scatter_add",
    "psum": "psum", "psum2": "psum", "psum_invariant": "psum",
}
_SELECTIONS = {
    "reduce_max": "reduce_max", "reduce_min": "reduce_min", "reduce_window_max": "max_pooling",
    "reduce_window_min": "min_pooling", "max": "max", "min": "min", "sort": "sort", "cummax": "cummax",
    "cummin": "cummin", "top_k": "top_k", "clamp": "clamp", "scatter-max": "scatter_max", "scatter_max": "scatter_max",
    "scatter-min": "scatter_min", "scatter_min": "scatter_min",
}
_STRUCTURE = frozenset((
    "all_gather", "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "copy_p", "device_put",
    "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "optimization_barrier", "pad", "pcast", "pvary",
    "reduce_precision", "reshape", "rev", "scatter", "select_n", "sharding_constraint", "slice", "split", "squeeze",
    "stack", "tile", "transpose", "unstack", "select_and_gather_add",
))
KINDS = (
    "affine", "scale", "activation", "sum", "product", "quotient", "softmax", "log_softmax", "logsumexp", "hypot",
    "normalization", "selection", "structure", "scan", "cond", "while", "other",
)
# fmt: on
"""The kinds of nodes that relevance flows through."""

_UNKNOWN = "scales by a sum or its root, as a normalisation does, and is not known as one: its scale takes a part too"


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: the steps that it is made of, what relevance flows to (`active`), what else goes in (`fixed`).

    inner: the graphs of the bodies of a `scan` or `cond`; branch_varies: whether what is
    explained decides which branch of a `cond` is taken; held: of a normalisation the scales that relevance does not
    enter, with the power of sigma that each is (1 or -1); shifted: the operand that a common shift, which is put back
    later or cancels, is taken from or added to; note: what its user should know.
    """

    kind: str
    name: str
    path: str
    steps: tuple[Step, ...]
    active: tuple[Value, ...]
    fixed: tuple[Value, ...]
    outputs: tuple[Value, ...]
    depends: bool
    inner: tuple[Graph, ...] = ()
    branch_varies: bool = False
    held: tuple[tuple[Value, int], ...] = ()
    shifted: Value | None = None
    note: str = ""

    def evaluate(self, active: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        """The outputs of the node, for values of `self.active` and `self.fixed`."""
        values = self.values(active, fixed)
        return [values[value] for value in self.outputs]

    def values(
        self,
        active: Sequence[Any],
        fixed: Sequence[Any],
        held: dict[Value, Any] | None = None,
        wanted: Collection[Value] | None = None,
    ) -> dict[Value, Any]:
        """Every value of the node, or what the `wanted` ones need; those in `held` are taken as given."""
        values = dict(zip(self.active, active, strict=True)) | dict(zip(self.fixed, fixed, strict=True))
        held = held or {}
        for step in self.steps if wanted is None else self._needed(wanted, held):
            if not set(step.results) <= held.keys():
                operands = [v.number if v.number is not None else values[v] for v in step.operands]
                values.update(zip(step.results, step.evaluate(operands), strict=True))
            values.update((v, held[v]) for v in step.results if v in held)
        return values

    def _needed(self, wanted: Collection[Value], held: Collection[Value]) -> list[Step]:
        """The steps that the wanted values rest on, where those in `held` are known."""
        values, steps = set(wanted), list[Step]()
        for step in reversed(self.steps):
            if values.intersection(step.results):
                steps.append(step)
                values.update(() if set(step.results) <= set(held) else step.operands)
        return steps[::-1]

    def with_constant_scale(self, active: Sequence[Any], fixed: Sequence[Any]) -> Callable[..., list[Any]]:
        """The node as a function of its active values, with the scale of a normalisation held where it is now."""
        now = self.values(active, fixed)
        held = {value: now[value] for value, _ in self.held}

        def function(*active: Any) -> list[Any]:
            values = self.values(active, fixed, held, self.outputs)
            return [values[value] for value in self.outputs]

        return function

    @property
    def carry(self) -> tuple[int, int]:
        """Of a `scan`, how many operands are constants and how many are carried."""
        loop = loop_parts(self.steps[0].equation, self.steps[0].operands)
        return len(loop.constants), len(loop.carry)

    def describe(self) -> str:
        """The node as an error message names it."""
        where = f" in {self.path!r}" if self.path else ""
        return f"{self.name!r} ({self.kind}){where}" if self.name != self.kind else f"{self.name!r}{where}"


class Graph(NamedTuple):
    """A flat program as nodes, in an order in which they can be run; which inputs and outputs carry relevance."""

    flat: Flat
    nodes: tuple[Node, ...]
    active: frozenset[Value]
    depends: frozenset[Value]

    def walk(self) -> list[Node]:
        """All nodes that relevance flows through, with those inside of loops and branches."""
        found = []
        for node in self.nodes:
            if node.kind != "plain":
                found.append(node)
                for inner in node.inner:
                    found.extend(inner.walk())
        return found


def build(
    flat: Flat,
    active: Sequence[bool],
    depends: Sequence[bool] | None = None,
    stops: Callable[[Node], bool] = lambda node: False,
    opaque: Callable[[Equation], bool] = lambda equation: False,
) -> Graph:
    """Group a flat program into nodes.

    Args:
        flat: The program.
        active: Which inputs carry relevance (those that are explained).
        depends: Which inputs change with what is explained; None for the active ones.
        stops: Whether relevance ends at a node, so that what it computes is a constant to the nodes behind it.
        opaque: Calls with a custom derivative that stay closed inside of loops, as in `flatten`.

    Returns:
        The graph. Steps that nothing needs are left out.
    """
    return _Building(flat, active, active if depends is None else depends, stops, opaque).graph()


class _Building:
    """What is known while a graph is built, node after node."""

    def __init__(self, flat: Flat, active: Any, depends: Any, stops: Any, opaque: Any) -> None:
        self.flat, self.stops, self.opaque = flat, stops, opaque
        self.facts = learn(flat, depends)
        self.active = {v for v, carries in zip(flat.inputs, active, strict=True) if carries}
        self.scalings, self.shifts = scalings(self.facts), shifts(self.facts)
        self.nodes: list[Node] = []

    def graph(self) -> Graph:
        groups = find_groups(self.facts)
        taken = {index for group in groups for index in group.indices}
        groups += find_chains(self.facts, taken)
        ends = {max(group.indices): group for group in sorted(groups, key=lambda group: len(group.indices))}
        members = {index: group for group in groups if group.kind == "activation" for index in group.indices}
        for index, group in self._needed(ends, members):
            if group is not None:
                self._add_group(group)
            else:
                self._add_step(self.facts.steps[index], index)
        nodes = self._reaching()
        return Graph(self.flat, tuple(nodes), frozenset(self.active), frozenset(self.facts.depends))

    def _reaching(self) -> list[Node]:
        """The nodes, plain where no relevance can arrive: what feeds a `stop_gradient` alone."""
        reached, nodes = set(self.flat.outputs), list[Node]()
        flows = set(reached)  # what the outputs are computed from, through complex numbers too
        for node in reversed(self.nodes):
            if flows.intersection(node.outputs) and not self._ends(node):
                flows.update(node.active, node.fixed)
            if node.kind != "plain" and not (flows if node.kind == "complex" else reached).intersection(node.outputs):
                self.active.difference_update(node.outputs)
                node = _plain(node)
            reached.update(node.active)
            nodes.append(node)
        return nodes[::-1]

    def _ends(self, node: Node) -> bool:
        """Whether relevance ends at a plain node by the model's or the caller's will."""
        numbers = any(value.is_floating or value.is_complex for value in node.outputs)
        return node.kind == "plain" and (node.name == "stop_gradient" or not numbers or self.stops(node))

    def _needed(self, ends: dict[int, Group], members: dict[int, Group]) -> list[tuple[int, Group | None]]:
        """The groups and single steps that the outputs need; of a group those too that are used outside of it.

        What is read inside of an activation is a function of the same entry, of whatever else single steps.
        """
        needed, found = set(self.flat.outputs), list[tuple[int, Group | None]]()
        for index in reversed(range(len(self.facts.steps))):
            step, group = self.facts.steps[index], ends.get(index)
            if needed.isdisjoint(step.results):
                continue
            if group is None and index in members:
                group = part(self.facts, members[index], index)
            found.append((index, group))
            steps = [step] if group is None else [self.facts.steps[place] for place in group.indices]
            made = {value for member in steps for value in member.results}
            needed.update(value for member in steps for value in member.operands if value not in made)
        return found[::-1]

    def _add_group(self, group: Group) -> None:
        steps = [self.facts.steps[index] for index in group.indices]
        carries = group.entry in self.active and group.kind != "plain"
        kind = group.kind if carries else "plain"
        self._add(kind, group.name, steps, [group.entry] if carries else [], [group.output], held=group.held)

    def _add_step(self, step: Step, index: int) -> None:
        if step.name in CONTROL:
            self._add_control(step)
            return
        active = [v for v in dict.fromkeys(step.operands) if v in self.active]
        kind, name = _kind(step, active, self.facts) if active else ("plain", step.name)
        if kind != "plain" and not any(value.is_floating for value in step.results):
            kind = "complex" if any(value.is_complex for value in step.results) else "plain"
        note = _UNKNOWN if kind in ("product", "quotient") and self.scalings.get(index) in active else ""
        shifted = self.shifts.get(index) if kind == "sum" else None
        shifted = shifted if shifted in active else None
        self._add(kind, name, [step], active if kind != "plain" else [], step.results, shifted=shifted, note=note)

    def _add(
        self,
        kind: str,
        name: str,
        steps: Sequence[Step],
        active: Sequence[Value],
        outputs: Sequence[Value],
        inner: tuple[Graph, ...] = (),
        **more: Any,
    ) -> None:
        made = {value for step in steps for value in step.results}
        operands = dict.fromkeys(v for step in steps for v in step.operands if v.number is None and v not in made)
        fixed = tuple(value for value in operands if value not in active)
        depends = any(value in self.facts.depends for value in operands)
        path = steps[0 if kind == "affine" else -1].path
        varies = kind == "cond" and steps[0].operands[0] in self.facts.depends
        parts = tuple(steps), tuple(active), fixed, tuple(outputs)
        node = Node(kind, name, path, *parts, depends, inner, varies, **more)
        if kind != "plain" and self.stops(node):
            node = _plain(node)
        self.nodes.append(node)
        if node.kind != "plain":
            carried = _carried(inner[0], outputs) if node.kind == "scan" else outputs
            carried = _carried_by_branches(inner, outputs) if node.kind == "cond" else carried
            self.active.update(value for value in carried if value.is_floating)

    def _add_control(self, step: Step) -> None:
        active = [v for v in dict.fromkeys(step.operands) if v in self.active]
        if not active or (step.name == "while"):
            kind = "while" if active and any(v.is_floating for v in step.results) else "plain"
            self._add(kind, step.name, [step], active if kind == "while" else [], step.results)
            return
        inner = self._scan(step) if step.name == "scan" else self._branches(step)
        self._add(step.name, step.name, [step], active, step.results, inner)

    def _flags(self, values: Sequence[Value]) -> tuple[list[bool], list[bool]]:
        return [v in self.active for v in values], [v in self.facts.depends for v in values]

    def _scan(self, step: Step) -> tuple[Graph, ...]:
        """The graph of a loop's body: what its carry holds after a turn, it may hold before the next."""
        loop = loop_parts(step.equation, step.operands)
        flat = _inside(flatten(loop.body, self.opaque), step.path)
        first, count = len(loop.constants), len(loop.carry)
        active, depends = self._flags([*loop.constants, *loop.carry, *loop.items])
        while True:
            graph = build(flat, active, depends, self.stops, self.opaque)
            before = [*active, *depends]
            for place, value in enumerate(flat.outputs[:count]):
                active[first + place] |= value in graph.active
                depends[first + place] |= value in graph.depends
            if before == [*active, *depends]:
                return (graph,)

    def _branches(self, step: Step) -> tuple[Graph, ...]:
        flags = self._flags(step.operands[1:])
        flats = [
            _inside(flatten(open_program(branch), self.opaque), step.path)
            for branch in step.equation.params["branches"]
        ]
        return tuple(build(flat, *flags, self.stops, self.opaque) for flat in flats)


def _plain(node: Node) -> Node:
    return Node("plain", node.name, node.path, node.steps, (), (*node.active, *node.fixed), node.outputs, node.depends)


def _inside(flat: Flat, path: str) -> Flat:
    """Steps without a path of their own belong to the module around the loop."""
    for step in flat.steps:
        step.path = step.path or path
    return flat


def _carried(graph: Graph, outputs: Sequence[Value]) -> list[Value]:
    return [value for value, inner in zip(outputs, graph.flat.outputs, strict=True) if inner in graph.active]


def _carried_by_branches(graphs: Sequence[Graph], outputs: Sequence[Value]) -> list[Value]:
    carried = {value: None for graph in graphs for value in _carried(graph, outputs)}
    return list(carried)


def _kind(step: Step, active: Sequence[Value], facts: Facts) -> tuple[str, str]:
    """Kind and name of the node that one step is."""
    name, count = step.name, sum(value in active for value in step.operands)
    if name == "stop_gradient":
        return "plain", name
    if count == 2 and (pair := name_of_pair(step.equation)) is not None:
        return ("hypot" if pair == "hypot" else "logsumexp"), pair
    if name in ("dot_general", "conv_general_dilated"):
        return "product", "matmul" if name == "dot_general" else "convolution"
    if name in ("reduce_prod", "cumprod"):
        return "product", name
    if name == "mul":
        return ("product" if count == 2 else "scale"), name
    if name in ("div", "pow", "atan2", "rem") and count == 2:
        return "quotient", name
    if name == "div":
        return ("scale" if step.operands[0] in active else "activation"), name
    if name in ("max", "min", "clamp") and count == 1 and _with_numbers(step, active, facts):
        return "activation", name
    kinds: tuple[tuple[str, dict[str, str]], ...] = (("sum", _SUMS), ("selection", _SELECTIONS))
    for kind, names in kinds:
        if name in names:
            return kind, names[name]
    if name in _STRUCTURE:
        return "structure", name
    if count == 1 and _is_function(step) and len(step.results) == 1:
        return "activation", name
    return "other", name


def _is_function(step: Step) -> bool:
    """Whether a step is a function of each element of its one active operand."""
    return step.name in ELEMENTWISE or is_elementwise(step.equation) or name_of_pair(step.equation) is not None


def _with_numbers(step: Step, active: Sequence[Value], facts: Facts) -> bool:
    return all(value in facts.numbers for value in step.operands if value not in active)
