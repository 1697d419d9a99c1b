"""Gradients with respect to the floating-point leaves of a pytree, the other leaves held fixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program.fast import platform_of, traced_fast, with_fused_attention
from jaxplain.types import Array, Pytree


def value_and_gradient(f: Callable[..., Array], x: Pytree, *args: Any, name: str) -> tuple[Array, Pytree]:
    """f(x, *args) and its gradient with respect to x's floating-point leaves; zeros (float32) at the other leaves.

    Args:
        f: A score.
        x: A pytree with at least one floating-point leaf.
        *args: Further arguments of the score.
        name: The method's name, for errors.

    Returns:
        (value, gradient of x's structure). Cost: one forward and one backward pass.
    """
    check.differentiable(x, name)
    leaves, structure = jax.tree.flatten(x)
    moving = [check.is_floating(leaf) for leaf in leaves]

    def of(values: list[Array]) -> Array:
        supply = iter(values)
        merged = [next(supply) if move else leaf for leaf, move in zip(leaves, moving, strict=True)]
        return check.scalar(f(jax.tree.unflatten(structure, merged), *args), name)

    values = [jnp.asarray(leaf) for leaf, move in zip(leaves, moving, strict=True) if move]
    if any(isinstance(value, jax.core.Tracer) for value in values):  # nothing is rewritten for one call
        of = with_fused_attention(of, platform_of(values))
    value, gradients = traced_fast(jax.value_and_grad(of))(values)
    supply = iter(gradients)
    merged = [
        next(supply) if move else jnp.zeros(jnp.shape(v), jnp.float32) for v, move in zip(leaves, moving, strict=True)
    ]
    return value, jax.tree.unflatten(structure, merged)


def map_floating(function: Callable[..., Any], x: Pytree, *rest: Pytree) -> Pytree:
    """Apply `function` to the floating-point leaves of `x` (and the matching leaves of `rest`); keep the others."""
    return jax.tree.map(lambda leaf, *more: function(leaf, *more) if check.is_floating(leaf) else leaf, x, *rest)


def common_dtype(x: Pytree) -> Any:
    """The dtype in which x's floating-point leaves are moved along a path together: the widest, at least float32."""
    return jnp.result_type(
        jnp.float32, *(jnp.result_type(leaf) for leaf in jax.tree.leaves(x) if check.is_floating(leaf))
    )


def like(attribution: Pytree, x: Pytree) -> Pytree:
    """Cast an attribution, summed in a wide dtype, to the dtype of x's floating-point leaves."""
    return jax.tree.map(
        lambda a, leaf: a.astype(jnp.result_type(leaf)) if check.is_floating(leaf) else a, attribution, x
    )


def total(attribution: Pytree) -> Array:
    """The sum over all elements of an attribution, in float32 or wider."""
    sums = [jnp.sum(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))) for leaf in jax.tree.leaves(attribution)]
    return jnp.sum(jnp.stack(sums))
