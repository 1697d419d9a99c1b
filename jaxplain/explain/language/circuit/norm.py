"""How much of each token an attention really moves: weights times the size of what is weighed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.language.circuit.flow import Change, Flow
from jaxplain.explain.language.circuit.held import hold
from jaxplain.explain.language.circuit.stream import Block, find_streams
from jaxplain.program import Function, as_function, public, widen
from jaxplain.program.node import open_score
from jaxplain.types import Array, Pytree


@dataclasses.dataclass(frozen=True)
class _Itself(Change):
    """In one block every token attends to itself, so that what is written there are its values alone."""

    number: int
    block: Block
    seen: list[Any]

    def weights(self, number: int, weights: Any) -> Any:
        """The identity, where it is asked for; what was there is kept."""
        if number != self.number:
            return weights
        self.seen.append(weights)
        assert self.block.attention is not None
        key, query = self.block.attention.key, self.block.attention.query
        shape = [weights.shape[axis] if axis in (key, query) else 1 for axis in range(weights.ndim)]
        eye = jnp.eye(weights.shape[key], dtype=weights.dtype).reshape(shape)
        return jnp.broadcast_to(eye, weights.shape)


class ValueNorms(Function):
    """Attention weights times sizes: `(x, *args) -> {path: [heads, T, S]}`. Made by `value_weighted_norms`."""

    f: Any

    def __call__(self, x: Pytree, *args: Any) -> dict[str, Array]:
        """For every attention the size of what each token takes from each other."""
        check.arrays(x, "value_weighted_norms")
        opened = open_score(self.f, x, args, "value_weighted_norms")
        streams = find_streams(opened, "value_weighted_norms")
        flow, found = Flow(streams, hold(opened.graph, ())), {}
        for number, block in enumerate(streams.blocks[:-1]):
            attention = block.attention
            if attention is None or not all(read.ends is not None for read in block.reads):
                continue
            lengths = attention.weights.value.shape
            if lengths[attention.key] != lengths[attention.query]:
                continue
            itself = _Itself(number, block, [])
            written = widen(flow.run(opened.arguments, itself).written[number])
            sizes = jnp.sqrt((written**2).sum(axis=-1)).reshape(len(block.names), -1)
            order = (*attention.head, attention.query, attention.key)
            weights = widen(jnp.transpose(itself.seen[0], order)).reshape(-1, *(lengths[axis] for axis in order[-2:]))
            if len(weights) == len(sizes):
                found[block.names[0].removesuffix("/head_0")] = weights * sizes[:, None]
        if not found:
            raise ValueError(
                "value_weighted_norms: this score has no attention whose heads write linearly into a residual stream. "
                "`attention_weights` gives the weights of any attention."
            )
        return found


@public
def value_weighted_norms(f: Callable[..., Any]) -> ValueNorms:
    """The size of what each token takes from each other one, head by head: |w_ts (x_s W_V + b_V) W_O|.

    A large weight on a token whose values are small moves little; weights alone do not show that.

    Args:
        f: A score, `f(x, *args) -> scalar`, of a model whose heads write into a residual stream, as in `edges`.

    Returns:
        `(x, *args) -> {path: norms}`, norms `[heads, T, S]` in units of the residual stream. Cost: a forward pass for
        each attention.

    Raises:
        ValueError: As in `edges`; no attention whose heads write linearly.

    Source: Kobayashi et al. 2020, "Attention is not only a weight: analyzing transformers with vector norms",
    equation 5.
    """
    return ValueNorms(as_function(check.callable_score(f, "value_weighted_norms")))
