"""Which values of a graph are never negative, whatever goes in: what a ReLU makes, and moves and sums of that.

Behind a ReLU half of the products that the rules for inputs of either sign need are products with zeros.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from jaxplain.program.node.facts import MOVES
from jaxplain.program.node.flat import Step, Value
from jaxplain.program.node.nodes import Graph, Node

_ABOVE_ZERO = frozenset(
    ("relu", "relu6", "squared_relu", "sigmoid", "hard_sigmoid", "softplus", "exp", "abs", "square", "softmax")
)
"""Operations whose results are never negative."""

_SUMS = frozenset(("add", "add_any", "reduce_sum", "reduce_window_sum", "cumsum"))
_INDICES = frozenset(("gather", "dynamic_slice", "select_n"))
"""Moves with operands that say what is taken from where."""


def never_negative(graph: Graph) -> frozenset[Value]:
    """The values of a graph, and of the loops and branches in it, that no input makes negative.

    Args:
        graph: Its own inputs count as of either sign.

    Returns:
        The values that are known to be zero or more; there may be others that are. Cost: no computation.
    """
    found: set[Value] = set()
    for node in graph.nodes:
        for inner in node.inner:
            found |= never_negative(inner)
        if not node.inner and _keeps_above_zero(node, found):
            found.update(node.outputs)
    return frozenset(found)


def _keeps_above_zero(node: Node, found: Collection[Value]) -> bool:
    """Whether the outputs of a node cannot be negative where the values in `found` are not."""
    if node.name in _ABOVE_ZERO:
        return True
    if node.kind == "activation" and len(node.steps) == 1 and node.name == "max":
        return any(_is_number_above_zero(value) for value in node.steps[0].operands)
    fixed = list(node.fixed)
    if node.kind == "structure":
        indices = [value for step in node.steps for value in _indices(step)]
        fixed = [value for value in fixed if value not in indices]
    numbers = [value for step in node.steps for value in step.operands if value.number is not None]
    if any(np.any(np.asarray(step.params.get("fill_value") or 0) < 0) for step in node.steps):
        return False  # what a look-up outside of its operand gives
    if not all(value in found for value in (*node.active, *fixed)) or not all(map(_is_number_above_zero, numbers)):
        return False
    if node.kind in ("sum", "plain"):
        return all(step.name in (_SUMS if node.kind == "sum" else MOVES) for step in node.steps)
    return node.kind in ("selection", "structure", "scale")


def _is_number_above_zero(value: Value) -> bool:
    return value.number is not None and bool(np.all(np.asarray(value.number) >= 0))


def _indices(step: Step) -> list[Value]:
    """The operands of a move that are not moved themselves."""
    if step.name not in _INDICES:
        return []
    return [value for value in step.operands if not value.is_floating]
