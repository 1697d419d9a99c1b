"""Estimates of the effects of patching all edges, in a few passes: gradients and their corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import _OfPairs, edge_places, open_pair
from jaxplain.explain.language.circuit.estimate import PARTS, Work, held_rules, mean
from jaxplain.explain.language.circuit.flow import of_writers
from jaxplain.explain.language.circuit.held import RULES, checked_rules
from jaxplain.explain.language.circuit.stream import Read, head_axis
from jaxplain.program import as_function, public, setting
from jaxplain.types import Array, Pytree

HOWS = ("gradient", "integrated", "activations", "attention", "atp_star", "relevance", "gim")


class EdgeAttribution(_OfPairs):
    """Estimated effects of patching each edge: `(clean, corrupt, *args) -> [E]`. Made by `edge_attribution`."""

    how: str = setting(default="gradient")
    steps: int = setting(default=8)
    rules: tuple[str, ...] = setting(default=RULES)
    name: ClassVar[str] = "edge_attribution"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimates, in the order of `edges(f)`."""
        work = Work.of(open_pair(self.f, corrupt, clean, args, self.name, held_rules(self.how, self.rules)))
        if self.how == "integrated":
            return mean(lambda share: _of_edges(work, work.gradients(work.at(share))[0], work.moved), self.steps)
        if self.how == "activations":
            return self._activations(work)
        if self.how == "atp_star":
            return _dropped(work)
        reads, weights = work.gradients(work.pair.opened.arguments)
        found = _of_edges(work, reads, work.moved)
        return _recomputed(work, found, weights) if self.how == "attention" else found

    def _activations(self, work: Work) -> Array:
        """For each writer the mean gradient while it alone is moved."""

        def of_writer(writer: Array) -> Array:
            alone = work.alone(writer)

            def at(share: Array) -> Array:
                moves = [share.astype(move.dtype) * move for move in alone]
                return _of_edges(work, work.gradients(work.pair.opened.arguments, None, moves)[0], alone)

            return mean(at, self.steps)

        return lax.map(of_writer, jnp.arange(len(work.streams.writers))).sum(axis=0)


def _of_edges(work: Work, gradients: Sequence[Any], moved: Sequence[Any]) -> Array:
    """The sum of difference times gradient for every edge."""
    found = []
    for read, gradient in zip(work.streams.reads, gradients, strict=True):
        sources = of_writers(work.streams, moved, work.streams.sources(read))
        found.append((gradient.reshape(len(gradient), -1) @ sources.reshape(len(sources), -1).T).reshape(-1))
    return jnp.concatenate(found)


def _dropped(work: Work) -> Array:
    """The mean size of the estimates when no gradient goes through one block, over the blocks."""

    def size(gradients: tuple[Any, Any]) -> Array:
        return jnp.abs(_recomputed(work, _of_edges(work, gradients[0], work.moved), gradients[1]))

    if len(work.droppable) < 2:  # there is nothing else that an effect could cancel with
        return size(work.gradients(work.pair.opened.arguments))
    found = lax.map(lambda block: size(work.without_block(block)), jnp.asarray(work.droppable))
    return found.sum(axis=0) / (len(work.droppable) - 1)  # of an edge's own block nothing is left


def _recomputed(work: Work, found: Array, gradients: Sequence[Any]) -> Array:
    """The estimates, those of edges into queries and keys by how the attention weights would really change."""
    streams, first = work.streams, 0
    for number, block in enumerate(streams.blocks):
        for place, read in enumerate(block.reads):
            if block.attention is not None and read.part in PARTS:
                places = edge_places(streams, first + place)
                effects = _through_softmax(work, number, read, gradients[number])
                found = found.at[places.reshape(-1)].set(effects.reshape(-1))
        first += len(block.reads)
    return found


def _through_softmax(work: Work, number: int, read: Read, gradient: Array) -> Array:
    """The change of attention weights times their gradient, `[readers, writers]`."""
    attention = work.streams.blocks[number].attention
    assert attention is not None
    axis = head_axis(attention, attention.weights.value, attention.weights.axes) if len(read.names) > 1 else None

    def effect(move: Array) -> Array:
        change = work.reweighted(number, {read.part: move}) * gradient
        if axis is None:
            return change.sum().reshape(1)
        return jnp.moveaxis(change, axis, 0).reshape(change.shape[axis], -1).sum(-1)

    return lax.map(effect, work.moves(work.streams.sources(read))).T


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
      divided by an activation; without rules it is `"gradient"`;
    * `"gim"` (GIM): the gradient with scales of normalisations held, a product's gradient halved for each of its
      factors, and a softmax's taken at half of its logits (temperature 2), where it is less saturated.

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
    "RelP: faithful and efficient circuit discovery via relevance patching", section 3; Edin et al. 2025, "GIM: improved
    interpretability for large language models", section 4.
    """
    name = "edge_attribution"
    check.choice(how, HOWS, name, "how")
    check.count(steps, name, "steps")
    return EdgeAttribution(as_function(check.callable_score(f, name)), how, steps, checked_rules(rules, name))
