"""Estimates of the effects of patching all writers, in a few passes: gradients and their corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.attribution import HOWS
from jaxplain.explain.language.circuit.edges import _OfPairs, open_pair, token_count
from jaxplain.explain.language.circuit.estimate import Steps, Work, held_rules, makes_weights, mean
from jaxplain.explain.language.circuit.held import RULES, checked_rules
from jaxplain.program import as_function, public, setting
from jaxplain.types import Array, Pytree


class NodeAttribution(_OfPairs):
    """Estimated effects of patching each writer: `(clean, corrupt, *args) -> [U]`. Made by `node_attribution`."""

    how: str = setting(default="gradient")
    positions: bool = setting(default=False)
    steps: int = setting(default=8)
    rules: tuple[str, ...] = setting(default=RULES)
    name: ClassVar[str] = "node_attribution"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimates, in the order of `node_patching`."""
        work = Work.of(open_pair(self.f, corrupt, clean, args, self.name, held_rules(self.how, self.rules)))
        if self.positions:
            token_count(work.streams, self.name)
        here = work.pair.opened.arguments
        zeros = [jnp.zeros_like(written) for written in work.here.written]
        if self.how == "integrated":
            return mean(lambda share: self._effects(work, work.at(share), zeros), self.steps)
        if self.how == "activations":
            return self._activations(work)
        if self.how == "attention":
            return self._recomputed(work, *work.gradients(here))
        return self._dropped(work) if self.how == "atp_star" else self._effects(work, here, zeros)

    def _effects(self, work: Work, arguments: Sequence[Any], start: Sequence[Any]) -> Array:
        """Difference times gradient, where the writers have been moved from the arguments' to `start`."""

        def score(moves: list[Any]) -> Array:
            moves = [a + b for a, b in zip(start, moves, strict=True)]
            return work.pair.flow.run(arguments, Steps((), (), moves)).score

        gradients = jax.grad(score)([jnp.zeros_like(move) for move in start])[:-1]
        parts = [self._summed(m * g) for m, g in zip(work.moved[:-1], gradients, strict=True)]
        return jnp.concatenate(parts)

    def _activations(self, work: Work) -> Array:
        """For each writer the mean gradient while it alone is moved."""
        here = work.pair.opened.arguments

        def of_writer(writer: Array) -> Array:
            alone = work.alone(writer)
            line = mean(lambda s: self._effects(work, here, [s.astype(m.dtype) * m for m in alone]), self.steps)
            return line[writer]

        return lax.map(of_writer, jnp.arange(len(work.streams.writers)))

    def _dropped(self, work: Work) -> Array:
        """The mean size of the estimates when no gradient goes through one block, over the blocks but the writer's."""
        blocks = work.droppable
        if len(blocks) < 2:  # there is nothing else that an effect could cancel with
            return jnp.abs(self._recomputed(work, *work.gradients(work.pair.opened.arguments)))
        own = jnp.asarray([work.streams.block_of(writer)[0] for writer in range(len(work.streams.writers))])
        own = own[:, None] if self.positions else own

        def without(block: Array) -> Array:
            return jnp.where(own == block, 0, jnp.abs(self._recomputed(work, *work.without_block(block))))

        found = lax.map(without, jnp.asarray(blocks)).sum(axis=0)
        return found / (len(blocks) - jnp.isin(own, jnp.asarray(blocks)))

    def _recomputed(self, work: Work, reads: Sequence[Any], weights: Sequence[Any]) -> Array:
        """What the writers do through all of their edges, those of attentions by how their weights would change."""
        streams, first = work.streams, 0
        length = (token_count(streams, self.name),) if self.positions else ()
        found = jnp.zeros((len(streams.writers), *length), work.here.score.dtype)
        for number, block in enumerate(streams.blocks):
            recomputed = makes_weights(streams, number)
            for place, read in enumerate(block.reads):
                if read not in recomputed:
                    sources = streams.sources(read)
                    parts = self._summed(work.moves(sources) * reads[first + place].sum(axis=0, keepdims=True))
                    found = found.at[jnp.asarray(sources)].add(parts)
            first += len(block.reads)
            if recomputed:
                sources = sorted({writer for read in recomputed for writer in streams.sources(read)})
                parts = self._through_softmax(work, number, sources, weights[number])
                found = found.at[jnp.asarray(sources)].add(parts)
        return found

    def _through_softmax(self, work: Work, number: int, sources: Sequence[int], gradient: Array) -> Array:
        """The change of a block's attention weights times their gradient, when what a writer writes moves."""
        moves, reads = work.moves(sources), makes_weights(work.streams, number)
        reached = {read.part: jnp.isin(jnp.asarray(sources), jnp.asarray(work.streams.sources(read))) for read in reads}
        places = moves.shape[-2] if self.positions else 1

        def effect(index: Array) -> Array:
            writer, place = index // places, index % places
            move = moves[writer]
            if self.positions:
                move = jnp.where(jnp.arange(places)[:, None] == place, move, 0)
            own = {part: jnp.where(reaches[writer], move, 0) for part, reaches in reached.items()}
            return (work.reweighted(number, own) * gradient).sum()

        found = lax.map(effect, jnp.arange(len(sources) * places))
        return found.reshape(len(sources), places) if self.positions else found

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
        how: As in `edge_attribution`: `"gradient"` (attribution patching), `"integrated"`, `"activations"`,
            `"relevance"` (RelP) or `"gim"`; `"attention"` and `"atp_star"` (AtP*) sum what a writer does through all of
            its edges, where those into the queries and keys of a block move its attention weights together, and
            `"atp_star"` takes the mean over the blocks other than the writer's own.
        positions: An estimate for each position.
        steps: As in `edge_attribution`.
        rules: As in `edge_attribution`.

    Returns:
        `(clean, corrupt, *args) -> effects` `[U]` (`[U, T]` with positions), in the order of `node_patching`. Cost: as
        in `edge_attribution`; with `"attention"` and `"atp_star"` an attention pattern for each writer (and position)
        that a block reads.

    Raises:
        ValueError: As in `edge_attribution`.

    Source: As in `edge_attribution`.
    """
    name = "node_attribution"
    check.choice(how, HOWS, name, "how")
    check.answered(positions, name, "positions")
    check.count(steps, name, "steps")
    score = as_function(check.callable_score(f, name))
    return NodeAttribution(score, how, bool(positions), steps, checked_rules(rules, name))
