"""What estimates of patching share: derivatives of a score by what is read, attended to and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.explain.language.circuit.edges import Pair
from jaxplain.explain.language.circuit.flow import Change, Ran, of_writers
from jaxplain.explain.language.circuit.held import GIM
from jaxplain.explain.language.circuit.stream import Read, Streams
from jaxplain.program import quadrature
from jaxplain.program.node import widened
from jaxplain.types import Array

PARTS = ("query", "key")
"""What attention weights are made of."""


def held_rules(how: str, rules: tuple[str, ...]) -> tuple[str, ...]:
    """The rules under which a score is differentiated for an estimate."""
    return {"relevance": rules, "gim": GIM}.get(how, ())


@dataclasses.dataclass(frozen=True)
class Steps(Change):
    """What derivatives are taken with respect to: zeros that are added to reads, attention weights and writers.

    passing: for each block how much of the gradient goes through it; None for all.
    """

    reads: Sequence[Any]
    attention: Sequence[Any]
    writers: Sequence[Any]
    passing: Any = None

    def read(self, number: int, read: Read, written: list[Any]) -> Any:
        """What is added to a read."""
        return self.reads[number] if self.reads else None

    def weights(self, number: int, weights: Any) -> Any:
        """The weights, moved."""
        return weights + self.attention[number] if self.attention else weights

    def written(self, number: int, written: Any) -> Any:
        """What is written, moved."""
        written = written + self.writers[number] if self.writers else written
        if self.passing is None:
            return written
        still = lax.stop_gradient(written)
        return still + self.passing[number] * (written - still)


@dataclasses.dataclass(frozen=True)
class Work:
    """A pair of inputs, and what the writers write for them."""

    pair: Pair
    other: list[Any]
    here: Ran

    @classmethod
    def of(cls, pair: Pair) -> Work:
        """Run both inputs."""
        return cls(pair, pair.written(pair.other), pair.flow.run(pair.opened.arguments, Change()))

    @property
    def streams(self) -> Streams:
        """The residual stream."""
        return self.pair.streams

    @property
    def moved(self) -> list[Any]:
        """How much the writers of each block write differently for the other input."""
        return [a - b for a, b in zip(self.other, self.here.written, strict=True)]

    @property
    def droppable(self) -> list[int]:
        """The blocks that gradients can be kept from going through."""
        return [number for number, block in enumerate(self.streams.blocks[:-1]) if block.reads]

    def alone(self, writer: Array) -> list[Any]:
        """How much the blocks write differently where one writer alone is moved."""
        sizes = [len(self.streams.of_block(number)) for number in range(len(self.streams.blocks) - 1)]
        masks = jnp.split(jnp.arange(len(self.streams.writers)) == writer, np.cumsum(sizes)[:-1])
        moved = self.moved
        found = [m * mask.reshape(-1, *(1,) * (m.ndim - 1)) for m, mask in zip(moved, masks, strict=False)]
        return [*found, jnp.zeros_like(moved[-1])]

    def zeros(self) -> tuple[list[Any], list[Any]]:
        """Zeros for each read and for the weights of each block's attention."""
        reads = []
        for read in self.streams.reads:
            like = self.here.values[read.stream]
            reads.append(jnp.zeros((len(read.names), *like.shape), like.dtype))
        weights = []
        for block in self.streams.blocks:
            shape = () if block.attention is None else block.attention.weights.value.shape
            weights.append(jnp.zeros(shape, self.here.score.dtype))
        return reads, weights

    def at(self, share: Any) -> list[Any]:
        """The arguments of the program with what the input looks up on the way to the other input."""
        arguments = list(self.pair.opened.arguments)
        for place in self.pair.opened.moving:
            first, last = widened(arguments[place]), widened(self.pair.other.arguments[place])
            arguments[place] = first + jnp.asarray(share, first.dtype) * (last - first)
        return arguments

    def gradients(self, arguments: Sequence[Any], passing: Any = None, moves: Sequence[Any] = ()) -> tuple[Any, Any]:
        """The derivative of the score with respect to all reads and attention weights."""

        def score(steps: tuple[list[Any], list[Any]]) -> Array:
            return self.pair.flow.run(arguments, Steps(*steps, moves, passing)).score

        return jax.grad(score)(self.zeros())

    def without_block(self, block: Array) -> tuple[Any, Any]:
        """The same where no gradient goes through one block."""
        passing = (jnp.arange(len(self.streams.blocks)) != block).astype(self.here.score.dtype)
        return self.gradients(self.pair.opened.arguments, passing)

    def reweighted(self, number: int, moves: Mapping[str, Any]) -> Array:
        """How a block's attention weights change when what makes its queries or keys moves, for all heads alike."""
        flow, values = self.pair.flow, self.here.values
        counts = {read.part: len(read.names) for read in self.streams.blocks[number].reads}
        added = {part: jnp.broadcast_to(move, (counts[part], *move.shape)) for part, move in moves.items()}
        return flow.weights(number, values, added) - flow.weights(number, values, {})

    def moves(self, writers: Sequence[int]) -> Array:
        """How much some writers write differently, `[writers, ...]`."""
        return of_writers(self.streams, self.moved, writers)


def makes_weights(streams: Streams, number: int) -> list[Read]:
    """The reads of a block that its attention weights are made of."""
    block = streams.blocks[number]
    return [] if block.attention is None else [read for read in block.reads if read.part in PARTS]


def mean(function: Callable[[Array], Array], steps: int) -> Array:
    """The integral of a function over [0, 1]."""
    nodes, weights = quadrature("gauss_legendre", steps)
    return jnp.tensordot(jnp.asarray(weights), lax.map(function, jnp.asarray(nodes)), 1)
