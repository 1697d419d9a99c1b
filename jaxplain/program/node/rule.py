"""What a rule is: how relevance goes back through one node, given the node's values in each run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxplain.program.function import Function
from jaxplain.program.node.nodes import Node
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
