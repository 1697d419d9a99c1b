"""Runs a score around its residual stream, with something added to what each reader reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.explain.language.circuit.held import Held
from jaxplain.explain.language.circuit.stream import Block, Read, Streams
from jaxplain.program.node import Node, Value, widened
from jaxplain.types import Array

Values = dict[Value, Any]


class Change:
    """What is changed in a run: nothing, where a subclass does not say otherwise."""

    def read(self, number: int, read: Read, written: list[Any]) -> Any:
        """What is added to the readers of one read `[readers, ...]`, given what was written before; or None."""

    def weights(self, number: int, weights: Any) -> Any:
        """The attention weights of a block."""
        return weights

    def written(self, number: int, written: Any) -> Any:
        """What a block's writers write, given what they wrote `[writers, ...]`."""
        return written


class Ran(NamedTuple):
    """A run: the score, what each block's writers wrote `[writers, ...]`, and the values of the program by then."""

    score: Array
    written: list[Any]
    values: Values


@dataclasses.dataclass(frozen=True)
class Flow:
    """Runs of one score; `held` says how operations are evaluated."""

    streams: Streams
    held: Held

    def run(self, arguments: Sequence[Any], change: Change) -> Ran:
        """The score of some arguments of the traced program, with changes."""
        graph, blocks = self.streams.graph, self.streams.blocks
        values: Values = {value: widened(constant) for value, constant in graph.flat.constants}
        values.update(zip(graph.flat.inputs, arguments, strict=True))
        inside = {node for block in blocks for node in block.nodes}
        inside.update(node for read in self.streams.reads for node in read.nodes)
        ends: dict[Node | None, list[int]] = {}
        for number, block in enumerate(blocks):
            ends.setdefault(block.nodes[-1] if block.nodes else None, []).append(number)
        written: list[Any] = [None] * len(blocks)
        for node in (None, *graph.nodes):
            for number in ends.get(node, ()):
                written[number] = self._block(number, values, written, change)
            if node is not None and node not in inside:
                self._node(node, values, {})
        return Ran(jnp.asarray(values[blocks[-1].value]), written, values)

    def weights(self, number: int, values: Values, added: Mapping[str, Any]) -> Any:
        """The attention weights of a block, with something added to what its queries and keys read, by their names."""
        block = self.streams.blocks[number]
        assert block.attention is not None
        local: Values = {}
        for read in block.reads:
            if read.ends is None:
                local[read.stream] = values[read.stream]
            else:
                local[read.ends] = self.part(read, values, added.get(read.part))
        weights = block.attention.weights.value
        for node in block.nodes:
            self._node(node, values, local)
            if weights in node.outputs:
                break
        return local[weights]

    def _block(self, number: int, values: Values, written: list[Any], change: Change) -> Any:
        """Run a block, put what it ends in into `values`, and return what its writers wrote."""
        block = self.streams.blocks[number]
        first = sum(len(b.reads) for b in self.streams.blocks[:number])
        local: Values = {}
        for place, read in enumerate(block.reads):
            added: Any = change.read(first + place, read, written)
            if read.ends is None:
                local[read.stream] = values[read.stream] if added is None else values[read.stream] + added[0]
            else:
                local[read.ends] = self.part(read, values, added)
        weights = None if block.attention is None else block.attention.weights.value
        for node in block.nodes:
            self._node(node, values, local)
            if weights is not None and weights in node.outputs:
                local[weights] = change.weights(number, local[weights])
        value = local.get(block.value, values.get(block.value))
        wrote: Any = jnp.asarray(value)[None] if block.heads is None else self._by_head(block, values, local)
        new = change.written(number, wrote)
        values[block.value] = value if new is wrote else value + (new - wrote).sum(axis=0)
        return new

    def part(self, read: Read, values: Values, added: Any) -> Any:
        """What readers make of what they read: each head by itself where each reads something else."""

        def made(stream: Any) -> Any:
            local = {read.stream: stream}
            for node in read.nodes:
                self._node(node, values, local)
            return next(local[value] for value in (read.ends,) if value is not None)

        if added is None:
            return made(values[read.stream])
        if read.axis is None:
            return made(values[read.stream] + added[0])
        every = jax.vmap(made)(values[read.stream][None] + added)
        return jnp.moveaxis(jnp.diagonal(every, axis1=0, axis2=read.axis + 1), -1, read.axis)

    def _by_head(self, block: Block, values: Values, local: Values) -> Any:
        """The part of each head in what a block writes."""
        assert block.heads is not None
        inner, axis, tail = block.heads
        whole = local[inner]

        def written(value: Any) -> Any:
            own = {**local, inner: value}
            for node in tail:
                self._node(node, values, own)
            return own[block.value]

        count = whole.shape[axis]
        each = jnp.eye(count, dtype=whole.dtype).reshape(
            (count, *(count if a == axis else 1 for a in range(whole.ndim)))
        )
        return jax.vmap(written)(whole[None] * each) - written(jnp.zeros_like(whole))[None]

    def _node(self, node: Node, values: Values, local: Values) -> None:
        """Evaluate one operation into `local` where that is not empty or into `values`."""
        active = [local[v] if v in local else values[v] for v in node.active]
        fixed = [local[v] if v in local else values[v] for v in node.fixed]
        if not node.active:
            results = [jax.lax.stop_gradient(value) for value in node.evaluate(active, fixed)]
        elif not self.held.rules:
            results = node.evaluate(active, fixed)
        else:
            results = self.held(node, [jax.lax.stop_gradient(value) for value in active], active, fixed)
        (local if local else values).update(zip(node.outputs, results, strict=True))


def of_writers(streams: Streams, written: Sequence[Any], writers: Sequence[int]) -> Array:
    """What some writers wrote, `[writers, ...]`, from what all blocks did."""
    return jnp.stack([written[block][place] for block, place in map(streams.block_of, writers)])
