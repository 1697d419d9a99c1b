"""One pass over a dataset: several aggregators as one, and the loop over batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.aggregate.aggregator import Aggregator
from jaxplain.program import public
from jaxplain.types import Pytree


class CombinedAggregator(Aggregator):
    """Several aggregators over one pass. Made by `combine`."""

    parts: Any

    def init(self, attribution: Pytree) -> dict[str, Any]:
        """The parts' empty states, by name."""
        return {name: part.init(attribution) for name, part in self.parts.items()}

    def update(
        self,
        state: dict[str, Any],
        attribution: Pytree,
        *,
        label: Any = None,
        score: Any = None,
        index: Any = None,
        mask: Any = None,
    ) -> dict[str, Any]:
        """The parts' states with a batch taken in."""
        given = {"label": label, "score": score, "index": index, "mask": mask}
        return {name: part.update(state[name], attribution, **given) for name, part in self.parts.items()}

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """The parts' states merged."""
        return {name: part.merge(one[name], other[name]) for name, part in self.parts.items()}

    def compute(self, state: dict[str, Any]) -> dict[str, Any]:
        """The parts' results, by name."""
        return {name: part.compute(state[name]) for name, part in self.parts.items()}


@public
def combine(**aggregators: Aggregator) -> CombinedAggregator:
    """Several aggregators as one, so that a dataset is explained once.

    Args:
        **aggregators: The parts, by the names under which states and results are kept.

    Returns:
        An `Aggregator` whose states and results are dictionaries.

    Raises:
        ValueError: No parts.
        TypeError: A part that is no aggregator.

    Example:
        >>> from jaxplain.aggregate.statistic import moments
        >>> from jaxplain.aggregate.ranking import top_k
        >>> result = aggregate_batches(combine(all=moments(), best=top_k(1)), [
        ...     {"attribution": jnp.ones((2, 3)), "score": jnp.array([1.0, 2.0]), "index": jnp.array([0, 1])}])
        >>> int(result["all"].examples), int(result["best"].indices[0])
        (2, 1)
    """
    if not aggregators:
        raise ValueError("combine: pass at least one aggregator, such as all=jaxplain.aggregate.moments().")
    for name, part in aggregators.items():
        if not isinstance(part, Aggregator):
            raise TypeError(f"combine: {name!r} is {type(part).__name__}, not an aggregator.")
    return CombinedAggregator(dict(aggregators))


@public
def aggregate_batches(aggregator: Aggregator, batches: Iterable[Mapping[str, Any]]) -> Any:
    """One pass over batches: `init`, a compiled `update` for each, and `compute`.

    Args:
        aggregator: What to compute.
        batches: Dictionaries of what `update` takes: 'attribution' (`[B, ...]`) and, where needed, 'label', 'score',
            'index' and 'mask' (`[B]`). Batches of one shape compile once.

    Returns:
        The aggregator's result. Cost: one `update` a batch; one batch is held at a time.

    Raises:
        ValueError: No batches, a batch without 'attribution', or what `update` says.

    Example:
        >>> from jaxplain.aggregate.statistic import moments
        >>> float(aggregate_batches(moments(), [{"attribution": jnp.array([[1.0], [3.0]])}]).mean[0])
        2.0
    """
    state: Any = None
    for batch in batches:
        if not isinstance(batch, Mapping) or "attribution" not in batch:
            raise ValueError(
                "aggregate_batches: each of `batches` has to be a mapping that holds 'attribution', not "
                f"{check.short(batch)}."
            )
        if state is None:
            check.batch_length(batch["attribution"], "aggregate_batches", "attribution")
            one = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(jnp.shape(a)[1:], jnp.result_type(a)), batch["attribution"]
            )
            state = aggregator.init(one)
        state = _update(aggregator, state, dict(batch))
    if state is None:
        raise ValueError("aggregate_batches: there are no batches; pass at least one.")
    return aggregator.compute(state)


@jax.jit
def _update(aggregator: Aggregator, state: Any, batch: dict[str, Any]) -> Any:
    return aggregator.update(state, **batch)
