"""What stands in the way of relevance on its way back: sums that are read, ends where it is lost, and holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.program.node.nodes import Node


def sums(dtype: Any, *flows: Sequence[Any]) -> Any:
    """The sum of each flow, and then of its absolute values, in a dtype."""
    sizes = [[value for value in values if value.dtype != jax.dtypes.float0] for values in flows]
    sizes += [[jnp.abs(value) for value in values] for values in sizes]
    return jnp.stack([sum((jnp.sum(v, dtype=dtype) for v in values), jnp.zeros((), dtype)) for values in sizes])


def blocked(value: Any) -> Any:
    """The value, held constant for the pullback inside and not for differentiation around it."""
    return _blocked(value) if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else value


@jax.custom_vjp
def _blocked(value: Any) -> Any:
    return value


_blocked.defvjp(lambda value: (value, None), lambda kept, cotangent: (jnp.zeros_like(cotangent),))


def sunk(node: Node, operands: list[Any], tap: Any) -> list[Any]:
    """The operands of a loop, with the relevance that reaches those without any (a carry's first value) as its loss."""
    (step,) = node.steps
    places = [i for i, value in enumerate(step.operands) if value not in node.active and value.is_floating]

    @jax.custom_vjp
    def sink(values: list[Any], tap: Any) -> list[Any]:
        return values

    sink.defvjp(lambda values, tap: (values, None), lambda _, taken: (taken, sums(tap.dtype, taken, [])))
    known = [jnp.asarray(operands[i], step.operands[i].dtype) for i in places]
    return _with(operands, dict(zip(places, sink(known, tap), strict=True))) if places else operands


def _with(values: list[Any], changed: dict[int, Any]) -> list[Any]:
    return [changed.get(place, value) for place, value in enumerate(values)]


@jax.custom_vjp
def together(values: Any) -> Any:
    """Values of which all have a cotangent where one has: JAX 0.10 transposes no scan with stacked outputs without."""
    return values


together.defvjp(lambda values: (values, None), lambda kept, cotangents: (cotangents,))
