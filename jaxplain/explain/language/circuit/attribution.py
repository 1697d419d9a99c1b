"""Estimates of the effects of patching all edges or all writers, in a few passes: gradients and their corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import Pair, _OfPairs, edge_places, open_pair, token_count
from jaxplain.explain.language.circuit.flow import Change, Ran, of_writers
from jaxplain.explain.language.circuit.held import RULES, checked_rules
from jaxplain.explain.language.circuit.stream import Read, Streams, head_axis
from jaxplain.program import as_function, public, quadrature, setting
from jaxplain.program.node import widened
from jaxplain.types import Array, Pytree

EDGE_HOWS = ("gradient", "integrated", "activations", "attention", "atp_star", "relevance")
NODE_HOWS = ("gradient", "integrated", "activations", "relevance")


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
class _Work:
    """A pair of inputs, and what the writers write for them."""

    pair: Pair
    other: list[Any]
    here: Ran

    @property
    def streams(self) -> Streams:
        """The residual stream."""
        return self.pair.streams

    @property
    def moved(self) -> list[Any]:
        """How much the writers of each block write differently for the other input."""
        return [a - b for a, b in zip(self.other, self.here.written, strict=True)]

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

    def edges(self, gradients: Sequence[Any], moved: Sequence[Any]) -> Array:
        """The sum of difference times gradient for every edge."""
        found = []
        for read, gradient in zip(self.streams.reads, gradients, strict=True):
            sources = of_writers(self.streams, moved, self.streams.sources(read))
            found.append(_inner(gradient, sources).reshape(-1))
        return jnp.concatenate(found)


def _inner(a: Array, b: Array) -> Array:
    """All inner products of two stacks, `[len(a), len(b)]`."""
    return a.reshape(len(a), -1) @ b.reshape(len(b), -1).T


class EdgeAttribution(_OfPairs):
    """Estimated effects of patching each edge: `(clean, corrupt, *args) -> [E]`. Made by `edge_attribution`."""

    how: str = setting(default="gradient")
    steps: int = setting(default=8)
    rules: tuple[str, ...] = setting(default=RULES)
    name: ClassVar[str] = "edge_attribution"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimates, in the order of `edges(f)`."""
        pair = open_pair(self.f, corrupt, clean, args, self.name, self.rules if self.how == "relevance" else ())
        work = _Work(pair, pair.written(pair.other), pair.flow.run(pair.opened.arguments, Change()))
        if self.how == "integrated":
            return _mean(lambda share: work.edges(work.gradients(work.at(share))[0], work.moved), self.steps)
        if self.how == "activations":
            return self._activations(work)
        if self.how == "atp_star":
            return self._dropped(work)
        reads, weights = work.gradients(pair.opened.arguments)
        found = work.edges(reads, work.moved)
        return _recomputed(work, found, weights) if self.how == "attention" else found

    def _activations(self, work: _Work) -> Array:
        """For each writer the mean gradient while it alone is moved."""
        streams, count = work.streams, len(work.streams.writers)
        sizes = [len(streams.of_block(number)) for number in range(len(streams.blocks) - 1)]

        def of_writer(writer: Array) -> Array:
            masks = jnp.split(jnp.arange(count) == writer, np.cumsum(sizes)[:-1])
            alone = [m * mask.reshape(-1, *(1,) * (m.ndim - 1)) for m, mask in zip(work.moved, masks, strict=False)]
            alone.append(jnp.zeros_like(work.moved[-1]))

            def at(share: Array) -> Array:
                moves = [share.astype(move.dtype) * move for move in alone]
                return work.edges(work.gradients(work.pair.opened.arguments, None, moves)[0], alone)

            return _mean(at, self.steps)

        return lax.map(of_writer, jnp.arange(count)).sum(axis=0)

    def _dropped(self, work: _Work) -> Array:
        """The mean size of the estimates when no gradient goes through one block, over the blocks."""
        blocks = [number for number, block in enumerate(work.streams.blocks[:-1]) if block.reads]
        count = len(work.streams.blocks)
        if len(blocks) < 2:  # there is nothing else that an effect could cancel with
            reads, weights = work.gradients(work.pair.opened.arguments)
            return jnp.abs(_recomputed(work, work.edges(reads, work.moved), weights))

        def without(block: Array) -> Array:
            passing = (jnp.arange(count) != block).astype(work.here.score.dtype)
            reads, weights = work.gradients(work.pair.opened.arguments, passing)
            return jnp.abs(_recomputed(work, work.edges(reads, work.moved), weights))

        return lax.map(without, jnp.asarray(blocks)).sum(axis=0) / (len(blocks) - 1)


def _mean(function: Callable[[Array], Array], steps: int) -> Array:
    """The integral of a function over [0, 1]."""
    nodes, weights = quadrature("gauss_legendre", steps)
    return jnp.tensordot(jnp.asarray(weights), lax.map(function, jnp.asarray(nodes)), 1)


def _recomputed(work: _Work, found: Array, gradients: Sequence[Any]) -> Array:
    """The estimates, those of edges into queries and keys by how the attention weights would really change."""
    streams, first = work.streams, 0
    for number, block in enumerate(streams.blocks):
        for place, read in enumerate(block.reads):
            if block.attention is not None and read.part in ("query", "key"):
                places = edge_places(streams, first + place)
                effects = _through_softmax(work, number, read, gradients[number])
                found = found.at[places.reshape(-1)].set(effects.reshape(-1))
        first += len(block.reads)
    return found


def _through_softmax(work: _Work, number: int, read: Read, gradient: Array) -> Array:
    """The change of attention weights times their gradient, `[readers, writers]`."""
    flow, values, attention = work.pair.flow, work.here.values, work.streams.blocks[number].attention
    assert attention is not None
    before = flow.weights(number, values, read.part, None)
    axis = head_axis(attention, attention.weights.value, attention.weights.axes) if len(read.names) > 1 else None

    def effect(move: Array) -> Array:
        moved = flow.weights(number, values, read.part, jnp.broadcast_to(move, (len(read.names), *move.shape)))
        change = (moved - before) * gradient
        return (
            change.sum().reshape(1)
            if axis is None
            else jnp.moveaxis(change, axis, 0).reshape(change.shape[axis], -1).sum(-1)
        )

    sources = of_writers(work.streams, work.moved, work.streams.sources(read))
    return lax.map(effect, sources).T


@public
def edge_attribution(
    f: Callable[..., Any], how: str = "gradient", *, steps: int = 8, rules: tuple[str, ...] = RULES
) -> EdgeAttribution:
    """Estimate the effects of `edge_patching` for all edges at once.

    effect_uv = (w_u(clean) - w_u(corrupt)) . g_v, where g_v is, by `how`:

    * `"gradient"` (EAP): the derivative of the score with respect to what v reads, on the corrupt input;
    * `"integrated"` (EAP-IG, inputs): its mean on the line from the corrupt to the clean embeddings;
    * `"activations"` (EAP-IG, activations): its mean while u alone goes from corrupt to clean, for each u;
    * `"attention"`: as `"gradient"`; into queries and keys the attention weights are computed anew, and their change
      counts by its gradient: where a softmax is saturated, its gradient is zero and its change is not;
    * `"atp_star"` (AtP*): so too, and the mean over blocks of the estimate's size when no gradient goes through the
      block, so that effects that cancel do not hide. It has no sign;
    * `"relevance"` (RelP): the propagation coefficient of LRP's rules in place of the gradient: scales of
      normalisations, attention weights and gates are held, a product's relevance is halved. It is never relevance
      divided by an activation; without rules it is `"gradient"`.

    Args:
        f: As in `edges`.
        how: Which estimate.
        steps: Points on each line, for `"integrated"` and `"activations"`.
        rules: For `"relevance"`: of `"normalization"`, `"softmax"`, `"activation"`, `"product"`.

    Returns:
        `(clean, corrupt, *args) -> effects` `[E]`, in units of the score, in the order of `edges(f)`. Cost: three
        forward passes and one backward pass; `steps` of these for `"integrated"`, `steps` for each writer for
        `"activations"`, one for each block for `"atp_star"`, and with `"attention"` and `"atp_star"` an attention
        pattern for each edge into queries and keys.

    Raises:
        ValueError: As in `edge_patching`; an unknown `how` or rule.

    Source: Syed, Rager and Conmy 2023, "Attribution patching outperforms automated circuit discovery", equation 2;
    Hanna, Pezzelle and Belinkov 2024, "Have faith in faithfulness", equation 3; Kramar et al. 2024, "AtP*: an efficient
    and scalable method for localizing LLM behaviour to components", sections 3.1 and 3.2; Rezaei Jafari et al. 2025,
    "RelP: faithful and efficient circuit discovery via relevance patching", section 3.
    """
    name = "edge_attribution"
    check.choice(how, EDGE_HOWS, name, "how")
    check.count(steps, name, "steps")
    return EdgeAttribution(as_function(check.callable_score(f, name)), how, steps, checked_rules(rules, name))


class NodeAttribution(_OfPairs):
    """Estimated effects of patching each writer: `(clean, corrupt, *args) -> [U]`. Made by `node_attribution`."""

    how: str = setting(default="gradient")
    positions: bool = setting(default=False)
    steps: int = setting(default=8)
    rules: tuple[str, ...] = setting(default=RULES)
    name: ClassVar[str] = "node_attribution"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimates, in the order of `node_patching`."""
        pair = open_pair(self.f, corrupt, clean, args, self.name, self.rules if self.how == "relevance" else ())
        work = _Work(pair, pair.written(pair.other), pair.flow.run(pair.opened.arguments, Change()))
        if self.positions:
            token_count(work.streams, self.name)
        zeros = [jnp.zeros_like(written) for written in work.here.written]

        def effects(arguments: Sequence[Any], start: Sequence[Any]) -> Array:
            def score(moves: list[Any]) -> Array:
                moves = [a + b for a, b in zip(start, moves, strict=True)]
                return pair.flow.run(arguments, Steps((), (), moves)).score

            gradients = jax.grad(score)(zeros)[:-1]
            parts = [self._summed(m * g) for m, g in zip(work.moved[:-1], gradients, strict=True)]
            return jnp.concatenate(parts)

        here = pair.opened.arguments
        if self.how == "integrated":
            return _mean(lambda share: effects(work.at(share), zeros), self.steps)
        if self.how == "activations":
            return self._activations(work, effects)
        return effects(here, zeros)

    def _activations(self, work: _Work, effects: Callable[..., Array]) -> Array:
        count = len(work.streams.writers)
        sizes = [len(work.streams.of_block(number)) for number in range(len(work.streams.blocks) - 1)]

        def of_writer(writer: Array) -> Array:
            masks = jnp.split(jnp.arange(count) == writer, np.cumsum(sizes)[:-1])
            alone = [m * mask.reshape(-1, *(1,) * (m.ndim - 1)) for m, mask in zip(work.moved, masks, strict=False)]
            alone.append(jnp.zeros_like(work.moved[-1]))
            line = _mean(
                lambda s: effects(work.pair.opened.arguments, [s.astype(m.dtype) * m for m in alone]), self.steps
            )
            return line[writer]

        return lax.map(of_writer, jnp.arange(count))

    def _summed(self, parts: Array) -> Array:
        """The sum over all but the writers, and the positions where they are asked for."""
        if not self.positions:
            return parts.reshape(len(parts), -1).sum(axis=-1)
        return parts.sum(axis=(*range(1, parts.ndim - 2), -1))


@public
def node_attribution(
    f: Callable[..., Any],
    how: str = "gradient",
    *,
    positions: bool = False,
    steps: int = 8,
    rules: tuple[str, ...] = RULES,
) -> NodeAttribution:
    """Estimate the effects of `node_patching` for all writers at once.

    Args:
        f: As in `edges`.
        how: As in `edge_attribution`: `"gradient"` (attribution patching), `"integrated"`, `"activations"` or
            `"relevance"` (RelP).
        positions: An estimate for each position.
        steps: As in `edge_attribution`.
        rules: As in `edge_attribution`.

    Returns:
        `(clean, corrupt, *args) -> effects` `[U]` (`[U, T]` with positions), in the order of `node_patching`. Cost: as
        in `edge_attribution`.

    Raises:
        ValueError: As in `edge_attribution`.

    Source: As in `edge_attribution`.
    """
    name = "node_attribution"
    check.choice(how, NODE_HOWS, name, "how")
    check.answered(positions, name, "positions")
    check.count(steps, name, "steps")
    score = as_function(check.callable_score(f, name))
    return NodeAttribution(score, how, bool(positions), steps, checked_rules(rules, name))
