"""Operands that an elementwise operation repeats to the shape of its result, and what comes back to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxplain.types import Array


def repeated(values: Sequence[Any], shape: tuple[int, ...]) -> list[Array]:
    """Values in the shape of the result: numbers and axes of length one are repeated."""
    return [jnp.broadcast_to(jnp.asarray(value), shape) for value in values]


def gathered(parts: Array, value: Any) -> Array:
    """What each place of a value gets of parts in the result's shape: the sum over where it was repeated to."""
    shape = jnp.shape(value)
    if parts.shape == shape:
        return parts
    if not shape:
        return jnp.sum(parts)
    axes = tuple(axis for axis, (of, to) in enumerate(zip(shape, parts.shape, strict=True)) if of != to)
    return jnp.sum(parts, axes, keepdims=True)


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an elementwise operation can repeat a value of one shape to another."""
    return not shape or (len(shape) == len(wanted) and all(of in (1, to) for of, to in zip(shape, wanted, strict=True)))
