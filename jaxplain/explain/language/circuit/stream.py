"""The residual stream of a traced score: what writes into it, what reads from it, and which edges that makes.

The stream are the sums of two values that follow the input, of the shape that the longest chain of such sums has. A
writer is a term of these sums: the embedding, a perceptron, a head of an attention. A reader is what takes a sum: a
perceptron, the output, the queries, keys or values of a head. So there is an edge from every term of a sum to every
reader of it, and the reader's input is the sum of its edges (and of constants such as positions).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from jaxplain.program.node import Graph, Node, Opened, Value
from jaxplain.program.trace import Attention, find_attentions

_LINEAR = ("affine", "structure", "scale", "sum")
_PARTS = (("queries", "query"), ("keys", "key"), ("values", "value"))


class Read(NamedTuple):
    """One or more readers of a value of the stream: of an attention's part, one for each head.

    names: of the readers; stream: what they read; ends: what they make of it, which is used after them; axis: of heads
    in `ends` (None for one reader); nodes: the operations between, in the order of a run; part: "query", "key" or
    "value".
    """

    names: tuple[str, ...]
    stream: Value
    ends: Value | None
    axis: int | None
    nodes: tuple[Node, ...]
    part: str = ""


class Block(NamedTuple):
    """What lies between readers and a writer: operations, and what they end in.

    value: the term that it writes (the score for the last block); names: of its writers, one for each head; heads: the
    heads' values, their axis and the linear operations from there to `value`, None for a single writer.
    """

    value: Value
    names: tuple[str, ...]
    reads: tuple[Read, ...]
    nodes: tuple[Node, ...]
    heads: tuple[Value, int, tuple[Node, ...]] | None
    attention: Attention | None


@dataclasses.dataclass(frozen=True)
class Streams:
    """A score as blocks around its residual stream.

    blocks: in the order of a run, the last one ends in the score; terms: for each value of the stream the blocks whose
    values it is the sum of; edges: pairs of numbers, of a writer and of a reader.
    """

    graph: Graph
    blocks: tuple[Block, ...]
    terms: dict[Value, tuple[int, ...]]

    @property
    def writers(self) -> tuple[str, ...]:
        """The names of all writers, in the order of a run."""
        return tuple(name for block in self.blocks[:-1] for name in block.names)

    @property
    def readers(self) -> tuple[str, ...]:
        """The names of all readers."""
        return tuple(name for block in self.blocks for read in block.reads for name in read.names)

    def block_of(self, writer: int) -> tuple[int, int]:
        """The block of a writer, and its place among the block's writers."""
        for number in range(len(self.blocks)):
            if writer in (own := self.of_block(number)):
                return number, own.index(writer)
        raise IndexError(writer)

    def of_block(self, number: int) -> range:
        """The numbers of a block's writers."""
        first = sum(len(block.names) for block in self.blocks[:number])
        return range(first, first + len(self.blocks[number].names))

    def sources(self, read: Read) -> list[int]:
        """The numbers of the writers that a reader reads."""
        return [writer for number in self.terms[read.stream] for writer in self.of_block(number)]

    @property
    def reads(self) -> tuple[Read, ...]:
        """The reads of all blocks, in the order of a run."""
        return tuple(read for block in self.blocks for read in block.reads)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Every edge, as the numbers of its writer and its reader."""
        found, first = [], 0
        for read in self.reads:
            found += [(u, first + v) for v in range(len(read.names)) for u in self.sources(read)]
            first += len(read.names)
        return tuple(found)


def find_streams(opened: Opened, name: str) -> Streams:
    """Find the residual stream of an opened score.

    Raises:
        ValueError: There is none (a model without residual connections, or with its layers in a `lax.scan`).
    """
    return _Finding(opened, name).streams()


class _Finding:
    def __init__(self, opened: Opened, name: str) -> None:
        self.graph, self.name = opened.graph, name
        self.inputs = [opened.graph.flat.inputs[place] for place in opened.moving]
        self.producer = {value: node for node in self.graph.nodes for value in node.outputs}
        self.place = {node: index for index, node in enumerate(self.graph.nodes)}
        self.sums = self._sums()
        self.terms_of: dict[Value, tuple[Value, ...]] = {}
        steps = self.graph.flat.steps
        self.attentions = [(a, steps[a.last].path) for a in find_attentions(steps)]

    def streams(self) -> Streams:
        """Blocks from every term and from the score."""
        for value in self.sums:
            self._terms(value)
        terms = list(dict.fromkeys(t for value in self.sums for t in self.terms_of[value]))
        self.is_term = set(terms) | set(self.inputs)
        self.shaped = {term: (origin, nodes) for term in terms for origin, nodes in self._shaped(term)}
        ordered = sorted({*terms, *self.inputs} - {origin for origin, _ in self.shaped.values()}, key=self._when)
        blocks = [self._block(value) for value in ordered]
        blocks.append(self._block(self.graph.flat.outputs[0], last=True))
        numbers = {block.value: number for number, block in enumerate(blocks[:-1])}
        streams = {read.stream for block in blocks for read in block.reads}
        found = {stream: tuple(numbers[term] for term in self._terms(stream)) for stream in streams}
        return Streams(self.graph, tuple(_named(blocks)), found)

    def _shaped(self, term: Value) -> list[tuple[Value, list[Node]]]:
        """The input that a term is in another shape, with what gives it that shape, where nothing else reads it."""
        nodes: list[Node] = []
        value = term
        while value in self.producer and value not in self.inputs:
            node = self.producer[value]
            same = node.kind == "structure" and len(node.active) == len(node.outputs) == 1
            if not same or math.prod(node.active[0].shape) != math.prod(value.shape):
                return []
            nodes.insert(0, node)
            value = node.active[0]
            if sum(value in (*other.active, *other.fixed) for other in self.graph.nodes) > 1:
                return []
        return [(value, nodes)] if nodes and value in self.inputs else []

    def _when(self, value: Value) -> int:
        node = self.producer.get(value)
        return -1 if node is None else self.place[node]

    def _sums(self) -> list[Value]:
        """The outputs of the sums that are the stream."""
        adds = {n.outputs[0]: n for n in self.graph.nodes if _adds_two(n)}
        chains: dict[Value, int] = {}
        for value, node in adds.items():
            inner = [self._passed(operand) for operand in node.active]
            chains[value] = 1 + max((chains[v] for v in inner if v in chains), default=0)
        if not chains:
            raise ValueError(
                f"{self.name}: this score has no residual stream: no sum of two values that follow the input. Edges "
                "are between what writes into such a stream and what reads from it; layers inside of a `lax.scan` are "
                "not looked into. `sweep` patches any layers that have names."
            )
        totals = Counter(value.shape for value in adds)
        longest = max(chains, key=lambda v: (chains[v], totals[v.shape], -len(v.shape)))
        return [value for value in adds if value.shape == longest.shape]

    def _passed(self, value: Value) -> Value:
        """The value before constants were added and dtypes changed."""
        node = self.producer.get(value)
        while node is not None and _passes(node):
            value = node.active[0]
            node = self.producer.get(value)
        return value

    def _terms(self, value: Value) -> tuple[Value, ...]:
        """What a value of the stream is the sum of."""
        if value not in self.terms_of:
            inner = self._passed(value)
            if inner in self.sums:
                parts = [t for operand in self.producer[inner].active for t in self._terms(operand)]
                self.terms_of[inner] = tuple(dict.fromkeys(parts))
                self.terms_of[value] = self.terms_of[inner]
            else:
                self.terms_of[value] = (inner,)
        return self.terms_of[value]

    def _is_stream(self, value: Value) -> bool:
        inner = self._passed(value)
        return inner in self.sums or inner in self.is_term

    def _between(self, value: Value, known: Iterable[Value] = ()) -> tuple[list[Node], list[Value]]:
        """The operations that make a value of the stream or of known values, and what of the stream they read."""
        found: dict[Node, None] = {}
        reads: dict[Value, None] = {}
        ends, pending = set(known), [self.producer[value]] if value in self.producer else []
        while pending:
            node = pending.pop()
            if node in found:
                continue
            found[node] = None
            for operand in (*node.active, *node.fixed):
                if operand in ends or not (operand in self.graph.active or operand in self.graph.depends):
                    continue
                if self._is_stream(operand):
                    reads[operand] = None
                elif operand in self.producer:
                    pending.append(self.producer[operand])
        return sorted(found, key=self.place.__getitem__), list(reads)

    def _block(self, value: Value, last: bool = False) -> Block:
        origin, shaping = self.shaped.get(value, (value, []))
        if origin in self.inputs:
            number = f":{self.inputs.index(origin)}" if len(self.inputs) > 1 else ""
            return Block(value, (f"input{number}",), (), tuple(shaping), None, None)
        nodes, reads = self._between(value)
        made = {output for node in nodes for output in node.outputs}
        inside = [(a, path) for a, path in self.attentions if a.weights.value in made]
        path = "output" if last else self.producer[value].path
        if len(inside) == 1 and (parts := self._parts(inside[0][0], inside[0][1] or path)) is not None:
            attention, path = inside[0][0], inside[0][1] or path
            after, others = self._between(value, [part.ends for part in parts if part.ends is not None])
            rest = [Read((_numbered(f"{path}/rest", n, len(others))), r, None, None, ()) for n, r in enumerate(others)]
            heads = None if last else self._heads(attention, after, value)
            count = 1 if heads is None else heads[0].shape[heads[1]]
            names = tuple(_head(path, head, count) for head in range(count))
            return Block(value, names, (*parts, *rest), tuple(after), heads, attention)
        kept = tuple(Read(_numbered(path, number, len(reads)), r, None, None, ()) for number, r in enumerate(reads))
        return Block(value, (path,), kept, tuple(nodes), None, inside[0][0] if len(inside) == 1 else None)

    def _parts(self, attention: Attention, path: str) -> list[Read] | None:
        """The readers of queries, keys and values; None where they cannot be told apart."""
        found: list[Read] = []
        for part, name in _PARTS:
            which = getattr(attention, part)
            if which is None:
                return None
            if self._is_stream(which.value) or any(read.ends is which.value for read in found):
                return None
            inner, reads = self._between(which.value)
            if len(reads) != 1:
                return None
            axis = head_axis(attention, which.value, which.axes)
            count = 1 if axis is None else which.value.shape[axis]
            names = tuple(f"{_head(path, head, count)}/{name}" for head in range(count))
            found.append(Read(names, reads[0], which.value, axis, tuple(inner), name))
        return found

    def _heads(self, attention: Attention, nodes: Sequence[Node], value: Value) -> Any:
        """The heads' values and the operations from there on, where these are linear."""
        part = attention.heads
        axis = head_axis(attention, part.value, part.axes)
        after, tail = {part.value}, []
        for node in nodes:
            if after.intersection(node.active):
                if node.kind not in _LINEAR or not after.issuperset(node.active):
                    return None
                after.update(node.outputs)
                tail.append(node)
        return None if axis is None or value not in after else (part.value, axis, tuple(tail))


def _adds_two(node: Node) -> bool:
    """Whether a node is a sum of two values that follow the input."""
    return (
        node.kind == "sum"
        and node.name == "add"
        and len(node.steps) == 1
        and len(node.active) == 2
        and len(node.outputs[0].shape) > 1
        and all(value.shape == node.outputs[0].shape for value in node.active)
    )


def _passes(node: Node) -> bool:
    """Whether a node adds a constant to a value or changes its dtype."""
    if len(node.active) != 1 or len(node.outputs) != 1 or node.active[0].shape != node.outputs[0].shape:
        return False
    shifts = node.kind == "sum" and node.name == "add"
    return len(node.steps) == 1 and (shifts or node.steps[0].name in ("convert_element_type", "copy", "copy_p"))


def head_axis(attention: Attention, value: Value, axes: Sequence[int | None]) -> int | None:
    """The axis of heads of a part; None where it has one head, or several axes of them."""
    lengths = attention.weights.value.shape
    found = [axis for axis, own in enumerate(axes) if own in attention.head and lengths[own] > 1]
    return found[0] if len(found) == 1 and value.shape[found[0]] > 1 else None


def _head(path: str, head: int, count: int) -> str:
    return path if count == 1 else f"{path}/head_{head}"


def _numbered(path: str, number: int, count: int) -> tuple[str]:
    return (path if count == 1 else f"{path}/{number}",)


def _named(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with names that each mean one: without the model's own name, numbered where they repeat."""
    names = [name for block in blocks[:-1] for name in block.names if not name.startswith("input")]
    roots = {name.partition("/")[0] for name in names}
    deep = all(name.partition("/head_")[0].count("/") > 1 for name in names)  # else the first part may be a layer
    root = f"{roots.pop()}/" if len(roots) == 1 and deep else ""
    total: Counter[str] = Counter(block.names[0] for block in blocks)
    seen: Counter[str] = Counter()
    renamed = []
    for number, block in enumerate(blocks):
        first = block.names[0]
        call = f":{seen[first]}" if total[first] > 1 else ""
        seen[first] += 1

        def new(name: str, call: str = call, number: int = number) -> str:
            return (name.removeprefix(root) or f"block_{number}") + call

        reads = tuple(read._replace(names=tuple(map(new, read.names))) for read in block.reads)
        renamed.append(block._replace(names=tuple(map(new, block.names)), reads=reads))
    return renamed
