"""Look-ups of embeddings by token ids: where relevance leaves a model whose input is integers.

The flat program is cut behind each look-up, and what was looked up becomes an input of its own. Which token a row of it
belongs to is found by sending the tokens' positions the way that the tokens go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxplain.program.node.facts import Facts, learn
from jaxplain.program.node.flat import Flat, Value, live_steps
from jaxplain.program.node.probe import is_elementwise

_MOVES = frozenset((
    "broadcast_in_dim", "concatenate", "expand_dims", "pad", "reshape", "rev", "slice", "squeeze", "transpose",
))  # fmt: skip
_NOWHERE = -1
"""The position of what is no token: padding, a class token that the model adds."""


class Lookup(NamedTuple):
    """Rows of a table picked by the tokens of one input: their value, which input, the position of each row's token."""

    value: Value
    place: int
    positions: Any
    row_axes: tuple[int, ...]

    def per_token(self, relevance: Any, size: int) -> Any:
        """The relevance of each of `size` tokens: that of the rows that it picked."""
        rows = jnp.sum(relevance, axis=self.row_axes)
        places = jnp.where(self.positions == _NOWHERE, size, self.positions)
        return jnp.zeros(size, rows.dtype).at[places.reshape(-1)].add(rows.reshape(-1), mode="drop")


def cut_at_lookups(flat: Flat, tokens: Sequence[int]) -> tuple[Flat, Flat, list[Lookup]]:
    """Cut a program behind the look-ups that its integer inputs make.

    Args:
        flat: The program.
        tokens: The places of the integer inputs.

    Returns:
        The program before the cut, whose outputs are the values looked up; the program behind it, with one more input
        for each of them; and the look-ups.
    """
    facts = learn(flat, [place in tokens for place in range(len(flat.inputs))])
    lookups: list[Lookup] = []
    for step in flat.steps:
        if step.name == "gather" and step.results[0].is_floating and step.operands[0] not in facts.depends:
            for place in tokens:
                positions = _positions(facts, step.operands[1], flat.inputs[place])
                if positions is not None and positions.shape[-1:] == (1,):
                    axes = tuple(step.params["dimension_numbers"].offset_dims)
                    lookups.append(Lookup(step.results[0], place, positions[..., 0], axes))
    values = [lookup.value for lookup in lookups]
    rest = [step for step in flat.steps if step.results[0] not in values]
    before = Flat(flat.inputs, flat.constants, live_steps(flat.steps, values), values)
    behind = Flat([*flat.inputs, *values], flat.constants, live_steps(rest, flat.outputs), flat.outputs)
    return before, behind, lookups


def _positions(facts: Facts, value: Value, token: Value) -> Any:
    """The position of the token that each element of a value comes from; None where it comes from none."""
    known: dict[Value, Any] = {token: jnp.arange(math.prod(token.shape)).reshape(token.shape)}
    for step in facts.steps[: facts.producer.get(value, -1) + 1]:
        sources = [operand for operand in step.operands if operand in known]
        if not sources or len(step.results) != 1:
            continue
        if is_elementwise(step.equation) and sources[0].shape == step.results[0].shape:
            known[step.results[0]] = known[sources[0]]
        elif step.name in _MOVES:
            (known[step.results[0]],) = step.evaluate([_source(operand, known) for operand in step.operands])
    return known.get(value)


def _source(operand: Value, known: dict[Value, Any]) -> Any:
    return known[operand] if operand in known else jnp.full(operand.shape, _NOWHERE)
