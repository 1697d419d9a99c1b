"""Where what is explained decides which values are taken: by an index, a comparison, an order.

A difference of two runs says nothing of such a decision: it is an integer or a truth value, which carries no relevance,
and where the runs decide differently, what follows changes all the same. This finds the nodes that this is lost at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxplain.program.node.facts import MOVES
from jaxplain.program.node.flat import Step, Value
from jaxplain.program.node.nodes import Graph, Node
from jaxplain.program.trace import loop_parts

_LARGEST = 1e25
"""What is larger stands for an infinity: float32 holds no multiplier of it."""


class Decision(NamedTuple):
    """What decides, as errors name it, and the node that its effect reaches; None where it is the score's value.

    unbounded: whether it chooses between a value and an infinite one, as a mask before a softmax does.
    """

    decides: str
    node: Node | None
    unbounded: bool = False


def decisions(graph: Graph) -> list[Decision]:
    """The nodes that relevance flows through and that a decision has an effect on, in the order in which they run.

    What a model hides behind `stop_gradient` is its own will and not listed.
    """
    routes = _Routes()
    moving = {value for value in graph.flat.inputs if value in graph.depends}
    decided = routes.through(graph, moving, {})
    return [
        *routes.found.values(),
        *(Decision(decided[value], None) for value in graph.flat.outputs if value in decided),
    ]


class _Routes:
    """Which values follow x by degrees (`moving`), and which by a decision alone (`decided`, with its name)."""

    def __init__(self) -> None:
        self.found: dict[Node, Decision] = {}

    def through(self, graph: Graph, moving: set[Value], decided: dict[Value, str]) -> dict[Value, str]:
        """Follow both kinds of values through a graph; both are extended."""
        infinite = {value for value, number in graph.flat.constants if _is_infinite(number)}
        for node in graph.nodes:
            if node.inner:
                self._inside(node, moving, decided)
                continue
            for step in node.steps:
                if not _tests_finite(step, infinite):
                    _mark(step, node, moving, decided)
                if step.name in MOVES and all(v in infinite or _is_infinite(v.number) for v in step.operands):
                    infinite.update(step.results)
            if node.kind == "plain":
                continue
            entering = [value for value in node.fixed if value in decided]
            if entering:
                hides = any(v in infinite or _is_infinite(v.number) for v in node.steps[0].operands)
                self.found[node] = Decision(decided[entering[0]], node, hides)
        return decided

    def _inside(self, node: Node, moving: set[Value], decided: dict[Value, str]) -> None:
        """Into the bodies of a loop or a branch, and out again; what a loop carries goes round until nothing is new."""
        (step,) = node.steps
        for graph in node.inner:
            inputs, outputs, carried = graph.flat.inputs, graph.flat.outputs, 0
            operands: Sequence[Value] = step.operands[1:]
            first = 0
            if node.kind == "scan":
                loop = loop_parts(step.equation, step.operands)
                operands = [*loop.constants, *loop.carry, *loop.items]
                first, carried = len(loop.constants), len(loop.carry)
            enters = {inner for outer, inner in zip(operands, inputs, strict=True) if outer in moving}
            brings = {i: decided[o] for o, i in zip(operands, inputs, strict=True) if o in decided}
            while True:
                before = len(enters) + len(brings)
                inside, found = set(enters), dict(brings)
                self.through(graph, inside, found)
                for inner, value in zip(inputs[first : first + carried], outputs, strict=False):
                    enters |= {inner} & ({inner} if value in inside else set())
                    brings |= {inner: found[value]} if value in found and inner not in enters else {}
                if len(enters) + len(brings) == before:
                    break
            for value, outer in zip(outputs, node.outputs, strict=True):
                if value in inside:
                    moving.add(outer)
                elif value in found:
                    decided[outer] = found[value]


def _tests_finite(step: Step, infinite: set[Value]) -> bool:
    """Whether a step asks for NaN or infinities, which is no decision: what is explained is finite."""
    if step.name not in ("eq", "ne", "is_finite"):
        return False
    same = step.name != "is_finite" and step.operands[0] is step.operands[1]
    return step.name == "is_finite" or same or any(v in infinite or _is_infinite(v.number) for v in step.operands)


def _mark(step: Step, node: Node, moving: set[Value], decided: dict[Value, str]) -> None:
    """What the results of a step follow."""
    if step.name == "stop_gradient":
        return
    by_degrees = any(value in moving for value in step.operands)
    names = [decided[value] for value in step.operands if value in decided]
    for value in step.results:
        if by_degrees and (value.is_floating or value.is_complex):
            moving.add(value)
        elif by_degrees or names:
            decided[value] = names[0] if names and not by_degrees else _described(step, node)


def _described(step: Step, node: Node) -> str:
    return f"{step.name!r}" + (f" in {node.path!r}" if node.path else "")


def _is_infinite(number: object) -> bool:
    if not isinstance(number, np.ndarray | np.generic | float) or np.ndim(number) > 0:
        return False
    return np.asarray(number).dtype.kind == "f" and bool(np.abs(number) > _LARGEST)
