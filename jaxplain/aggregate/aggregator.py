"""What an aggregator is, and the checks of what its batches hold."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxplain.program import Function
from jaxplain.types import Array, Pytree


class Aggregator(Function):
    """What every aggregator offers. Made by `moments`, `top_k` and `combine`."""

    def init(self, attribution: Pytree) -> Any:
        """An empty state, from one attribution without batch axis (arrays or `jax.ShapeDtypeStruct`)."""
        raise NotImplementedError

    def update(
        self,
        state: Any,
        attribution: Pytree,
        *,
        label: Any = None,
        score: Any = None,
        index: Any = None,
        mask: Any = None,
    ) -> Any:
        """The state with a batch `[B, ...]` taken in.

        `label`, `score` and `index` are `[B]`, where the aggregator needs them; rows whose `mask` (`[B]`, bool) is
        False are ignored, whatever they hold.
        """
        raise NotImplementedError

    def merge(self, one: Any, other: Any) -> Any:
        """The state of both passes together."""
        raise NotImplementedError

    def compute(self, state: Any) -> Any:
        """The result so far; the state can go on."""
        raise NotImplementedError


def mask_or_all(mask: Any, size: int, name: str) -> Array:
    """The mask of a batch, all True where none was given."""
    if mask is None:
        return jnp.ones(size, bool)
    return per_example(mask, size, name, "mask", jnp.bool_)


def per_example(value: Any, size: int, name: str, argument: str, kind: Any) -> Array:
    """Require one value of a kind (`jnp.integer`, ...) for each example of a batch."""
    value = jnp.asarray(value)
    if value.shape != (size,) or not jnp.issubdtype(value.dtype, kind):
        raise ValueError(
            f"{name}: `{argument}` has shape {value.shape} and dtype {value.dtype}; it has to hold one "
            f"{kind.__name__} value for each of the batch's {size} examples."
        )
    return value
