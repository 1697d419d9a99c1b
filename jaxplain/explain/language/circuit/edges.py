"""Edges between what writes into the residual stream and what reads from it, and the exact effect of patching each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.flow import Change, Flow, of_writers
from jaxplain.explain.language.circuit.held import hold, refuse_loops
from jaxplain.explain.language.circuit.stream import Read, Streams, find_streams
from jaxplain.program import Function, as_function, public, setting
from jaxplain.program.node import Opened, open_score
from jaxplain.types import Array, Pytree


@dataclasses.dataclass(frozen=True)
class Pair:
    """A score opened at two inputs: runs start from the first, and take what is patched from the second."""

    flow: Flow
    opened: Opened
    other: Opened

    @property
    def streams(self) -> Streams:
        """The residual stream, the same for both."""
        return self.flow.streams

    def written(self, opened: Opened) -> list[Any]:
        """What all writers write for one of the inputs."""
        return self.flow.run(opened.arguments, Change()).written


def open_pair(
    f: Any,
    x: Pytree,
    other: Pytree,
    args: tuple[Any, ...],
    name: str,
    rules: Sequence[str] = (),
    patched: str = "clean",
) -> Pair:
    """Open a score at two inputs of one shape; `patched` is what the second is called.

    Raises:
        ValueError: Inputs of different shapes; a score without a residual stream.
    """
    same_shapes(*((other, x) if patched == "clean" else (x, other)), name)
    opened, second = open_score(f, x, args, name), open_score(f, other, args, name)
    refuse_loops(opened.graph, rules, name)
    return Pair(Flow(find_streams(opened, name), hold(opened.graph, rules)), opened, second)


def same_shapes(x: Pytree, other: Pytree, name: str) -> None:
    """Require two inputs of one shape: what is patched is taken from the same position."""
    check.arrays(x, name)
    check.arrays(other, name)
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (x, other)]
    if len(shapes[0]) == len(shapes[1]) and shapes[0] != shapes[1]:
        raise ValueError(
            f"{name}: `clean` has the shape {shapes[0]} and `corrupt` {shapes[1]}, but a value is patched from the "
            "same position of the other input. Align them: write both with as many tokens, one word for another of the "
            "same number of tokens, or pad the shorter one where the model masks padding."
        )
    check.same_structure(x, other, name, "clean", "corrupt")


@dataclasses.dataclass(frozen=True)
class Patched(Change):
    """What readers read, with some edges from another run: `weights [E]` says how far each is moved there."""

    streams: Streams
    other: list[Any]
    shares: Array

    def read(self, number: int, read: Read, written: list[Any]) -> Any:
        """The sum of the differences of the edges into each reader."""
        places = edge_places(self.streams, number)
        sources = self.streams.sources(read)
        moved = of_writers(self.streams, self.other, sources) - of_writers(self.streams, written, sources)
        return jnp.tensordot(self.shares[places].astype(moved.dtype), moved, 1)


def edge_places(streams: Streams, number: int) -> np.ndarray:
    """The numbers of the edges of a read, `[readers, writers]`."""
    sizes = [len(read.names) * len(streams.sources(read)) for read in streams.reads]
    read = streams.reads[number]
    return sum(sizes[:number]) + np.arange(sizes[number]).reshape(len(read.names), -1)


class Edges(Function):
    """Lists the edges of a score: `(x, *args) -> ((writer, reader), ...)`. Made by `edges`."""

    f: Any

    def __call__(self, x: Pytree, *args: Any) -> tuple[tuple[str, str], ...]:
        """The names of writer and reader of every edge."""
        found: list[Streams] = []

        def look(x: Pytree, args: tuple[Any, ...]) -> Array:
            opened = open_score(self.f, x, args, "edges")
            found.append(find_streams(opened, "edges"))
            return opened.value()

        check.arrays(x, "edges")
        jax.eval_shape(look, x, args)
        streams = found[-1]
        return tuple((streams.writers[u], streams.readers[v]) for u, v in streams.edges)


@public
def edges(f: Callable[..., Any]) -> Edges:
    """List the edges of a model between what writes into its residual stream and what reads from it.

    Writers are the embedding (`"input"`), the heads of every attention (`"block_0/attention/head_1"`) and whatever else
    is added to the stream, by the path of the module that ends it (a perceptron's last layer). Readers are the queries,
    keys and values of every head (`".../head_1/query"`), perceptrons and the `"output"`. What a reader takes in is the
    sum of what comes through its edges. The stream is found in the traced program: the sums of two values that follow
    the input, of the shape of the longest chain of such sums.

    Args:
        f: A score, `f(x, *args) -> scalar`, of a model with residual connections.

    Returns:
        `(x, *args) -> ((writer, reader), ...)`, in the order in which the functions of edges give their numbers. Cost:
        tracing, no model pass.

    Raises:
        ValueError: No residual stream: a model without such sums, or with its layers in a `lax.scan`.

    Example:
        >>> import jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("mlp"):
        ...         y = jnp.tanh(x @ jnp.ones((3, 3)))
        ...     return jnp.sum((x + y)[0])
        >>> edges(f)(jnp.ones((2, 3)))
        (('input', 'mlp'), ('input', 'output'), ('mlp', 'output'))
    """
    return Edges(as_function(check.callable_score(f, "edges")))


class _OfPairs(Function):
    """What the functions of two inputs share."""

    f: Any
    name: ClassVar[str]

    def check_call(self, x: Pytree, other: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        check_call = getattr(self.f, "check_call", None)
        if check_call is not None:
            check_call(x, *args)

    name = "edges"


class EdgePatching(_OfPairs):
    """The effect of patching each edge: `(clean, corrupt, *args) -> [E]`. Made by `edge_patching`."""

    batch_size: int | None = setting(default=None)
    name: ClassVar[str] = "edge_patching"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The change of the score for each edge."""
        pair = open_pair(self.f, corrupt, clean, args, self.name)
        other, count = pair.written(pair.other), len(pair.streams.edges)

        def score(shares: Array) -> Array:
            return pair.flow.run(pair.opened.arguments, Patched(pair.streams, other, shares)).score

        def effect(edge: Array) -> Array:
            return score((jnp.arange(count) == edge).astype(jnp.float32))

        found = lax.map(effect, jnp.arange(count), batch_size=self.batch_size or count)
        return found - score(jnp.zeros(count))


@public
def edge_patching(f: Callable[..., Any], *, batch_size: int | None = None) -> EdgePatching:
    """Run the model on a corrupt input with one edge taken from a clean one, for each edge: what the others estimate.

    effect_uv = f(corrupt; what reader v reads + (w_u(clean) - w_u(corrupt))) - f(corrupt): reader v, and nobody else,
    reads what writer u writes for the clean input. Swap the inputs to see what breaks instead of what restores.

    Args:
        f: As in `edges`.
        batch_size: How many edges are evaluated at once; None evaluates all, by one `jax.vmap`.

    Returns:
        `(clean, corrupt, *args) -> effects` `[E]`, in units of the score, in the order of `edges(f)`. Cost: a forward
        pass for each edge, in which the projections of attention run once for each head; one compiled program.

    Raises:
        ValueError: As in `edges`; two inputs of different shapes.

    Source: Conmy et al. 2023, "Towards automated circuit discovery for mechanistic interpretability", section 3.
    """
    if batch_size is not None:
        check.count(batch_size, "edge_patching", "batch_size")
    return EdgePatching(as_function(check.callable_score(f, "edge_patching")), batch_size)


class CircuitScore(_OfPairs):
    """The score of a part of a model: `(clean, corrupt, kept, *args) -> scalar`. Made by `circuit_score`."""

    name: ClassVar[str] = "circuit_score"

    def __call__(self, clean: Pytree, corrupt: Pytree, kept: Array, *args: Any) -> Array:
        """The score with every edge that is not kept taken from the corrupt input."""
        pair = open_pair(self.f, clean, corrupt, args, self.name, patched="corrupt")
        count = len(pair.streams.edges)
        if jnp.shape(kept) != (count,):
            raise ValueError(
                f"{self.name}: `kept` has shape {jnp.shape(kept)}, but this model has {count} edges: pass one True or "
                "False for each of `edges(f)(x)`."
            )
        shares = 1 - jnp.asarray(kept).astype(jnp.float32)
        return pair.flow.run(pair.opened.arguments, Patched(pair.streams, pair.written(pair.other), shares)).score


@public
def circuit_score(f: Callable[..., Any]) -> CircuitScore:
    """The score of a circuit: the model on the clean input, with all edges outside of the circuit from a corrupt one.

    With all edges kept it is f(clean), with none f(corrupt), if the score sees nothing else of the input.

    Args:
        f: As in `edges`.

    Returns:
        `(clean, corrupt, kept, *args) -> scalar`, `kept` `[E]` True (or 1) for the edges of the circuit. Cost: two
        forward passes.

    Raises:
        ValueError: As in `edge_patching`; a circuit of another number of edges.

    Source: Hanna, Pezzelle and Belinkov 2024, "Have faith in faithfulness", section 2.
    """
    return CircuitScore(as_function(check.callable_score(f, "circuit_score")))


class NodePatching(_OfPairs):
    """The effect of patching each writer: `(clean, corrupt, *args) -> [U]` or `[U, T]`. Made by `node_patching`."""

    positions: bool = setting(default=False)
    batch_size: int | None = setting(default=None)
    name: ClassVar[str] = "node_patching"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The change of the score for each writer (and position)."""
        pair = open_pair(self.f, corrupt, clean, args, self.name)
        other, streams = pair.written(pair.other), pair.streams
        length = token_count(streams, self.name) if self.positions else 1
        count = len(streams.writers)

        def score(chosen: Array) -> Array:
            return pair.flow.run(pair.opened.arguments, Replaced(streams, other, chosen)).score

        def effect(place: Array) -> Array:
            return score((jnp.arange(count * length) == place).reshape(count, length))

        found = lax.map(effect, jnp.arange(count * length), batch_size=self.batch_size or count * length)
        found = (found - score(jnp.zeros((count, length), bool))).reshape(count, length)
        return found if self.positions else found[:, 0]


@dataclasses.dataclass(frozen=True)
class Replaced(Change):
    """Writers replaced by those of another run: `chosen` `[U, T]` (or `[U, 1]`) says which, at which positions."""

    streams: Streams
    other: list[Any]
    chosen: Array

    def written(self, number: int, written: Any) -> Any:
        """What was chosen from the other run."""
        own = np.asarray(self.streams.of_block(number))
        if not len(own) or own[-1] >= len(self.streams.writers):
            return written
        chosen = self.chosen[own]
        shape = (len(own), *(1,) * (written.ndim - 3), chosen.shape[1], 1)
        return jnp.where(chosen.reshape(shape[-written.ndim :]), self.other[number], written)


def token_count(streams: Streams, name: str) -> int:
    """How many positions the stream has: its last axis but one."""
    lengths = {block.value.shape[-2] for block in streams.blocks[:-1] if len(block.value.shape) > 1}
    if len(lengths) != 1 or any(len(block.value.shape) < 2 for block in streams.blocks[:-1]):
        raise ValueError(f"{name}: the writers of this model have other numbers of positions: {sorted(lengths)}.")
    return lengths.pop()


@public
def node_patching(f: Callable[..., Any], *, positions: bool = False, batch_size: int | None = None) -> NodePatching:
    """Run the model on a corrupt input with what one writer writes taken from a clean one, for each writer.

    Args:
        f: As in `edges`.
        positions: Patch each position by itself.
        batch_size: As in `edge_patching`.

    Returns:
        `(clean, corrupt, *args) -> effects` `[U]` (`[U, T]` with positions), in units of the score, for the writers in
        the order in which they first stand in `edges(f)`. Cost: a forward pass for each.

    Raises:
        ValueError: As in `edge_patching`.

    Source: Meng et al. 2022, "Locating and editing factual associations in GPT", section 2.
    """
    check.answered(positions, "node_patching", "positions")
    if batch_size is not None:
        check.count(batch_size, "node_patching", "batch_size")
    return NodePatching(as_function(check.callable_score(f, "node_patching")), bool(positions), batch_size)
