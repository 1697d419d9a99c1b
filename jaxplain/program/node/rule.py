"""What a rule is: how relevance goes back through a node, given its values in each run; traced once for equal nodes.

The rule of a normalisation is dozens of operations, and a transformer has two normalisations a block. What a rule does
at a node rests on the node's equations and on the values alone, so nodes of equal equations share one traced function,
which the compiler puts in their places.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxplain.program.function import Function, setting
from jaxplain.program.node.flat import Value
from jaxplain.program.node.nodes import Graph, Node
from jaxplain.types import Array


class Call(NamedTuple):
    """The values of a node in one run: of `node.active`, of `node.fixed`, and of its outputs."""

    inputs: list[Any]
    fixed: list[Any]
    outputs: list[Any]


class Rule(Function):
    """How relevance goes back through a node; subclasses define `__call__`."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """From the relevance of the outputs to that of the active inputs."""
        raise NotImplementedError

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """The outputs of each run; of x and of the references they are the node's."""
        return [node.evaluate(a, b) for a, b in zip(active, fixed, strict=True)]

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """As `__call__`, for each run; None for those that relevance does not come back through."""
        return [self(node, calls, relevance[0]), *(None for _ in calls[1:])]


class OwnDerivative(Rule):
    """The node's own derivative, which moves relevance where values were only moved."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The transposed derivative at x."""
        _, back = jax.vjp(lambda *active: node.evaluate(active, calls[0].fixed), *calls[0].inputs)
        return list(back(list(relevance)))

    def __str__(self) -> str:
        return "derivative"


class Once(Rule):
    """A rule whose way back is traced for the first of several equal nodes, and called for the others."""

    rule: Any
    shared: Callable[..., Any] = setting()

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """As the rule."""
        return self.rule.forward(node, active, fixed)

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """As the rule; where something is known already (an index, a mask) by itself, for the rule may look at it."""
        leaves = jax.tree.leaves((self.rule, calls, relevance))
        if all(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return self.shared(self.rule, calls, relevance)
        return self.rule.backward(node, calls, relevance)


def once(graph: Graph, rules: Mapping[Node, Rule | None]) -> dict[Node, Rule | None]:
    """The rules, with those of equal nodes traced once."""
    equal: dict[Hashable, list[Node]] = {}
    for node in graph.walk():
        key = None if rules.get(node) is None or node.inner else likeness(node)
        if key is not None:
            equal.setdefault(key, []).append(node)
    found = dict(rules)
    for nodes in equal.values():
        if len(nodes) > 1:
            shared = _of(nodes[0])
            found.update((node, Once(rules[node], shared)) for node in nodes)
    return found


def _of(node: Node) -> Callable[..., Any]:
    """The way back through a node, as one call in what is traced."""

    def through(rule: Rule, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> Any:
        return rule.backward(node, calls, relevance)

    return jax.jit(through)


def likeness(node: Node) -> Hashable | None:
    """What two nodes have in common that do the same; None where that cannot be told."""
    places: dict[Value, Any] = {value: number for number, value in enumerate((*node.active, *node.fixed))}
    steps: list[Hashable] = []
    for step in node.steps:
        operands = [_operand(value, places) for value in step.operands]
        if None in operands:
            return None
        places.update((value, (len(steps), number)) for number, value in enumerate(step.results))
        params = tuple((name, type(value), value) for name, value in sorted(step.params.items()))
        steps.append((step.name, params, tuple(operands), tuple(map(_kind, step.results))))
    ends = (
        tuple(map(places.get, node.outputs)),
        tuple((places.get(value), power) for value, power in node.held),
        None if node.shifted is None else places.get(node.shifted),
    )
    inputs = len(node.active), tuple(map(_kind, (*node.active, *node.fixed)))
    key = (node.kind, node.name, inputs, tuple(steps), ends)
    try:
        hash(key)
    except TypeError:  # a parameter that is compared by no value
        return None
    return key


def _operand(value: Value, places: Mapping[Value, Any]) -> Hashable | None:
    if value.number is None:
        return places.get(value)
    number = np.asarray(value.number)
    return number.shape, str(number.dtype), number.tobytes()


def _kind(value: Value) -> tuple[Any, str]:
    return value.shape, str(value.dtype)
