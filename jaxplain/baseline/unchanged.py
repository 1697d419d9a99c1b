"""Examples that equal their baseline, of which a method says nothing: a warning, once for a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline.absent import is_background, resolve
from jaxplain.program import needs_key, public
from jaxplain.types import Array, Pytree


@public
def warn_where_equal(baselines: Sequence[Any], x: Pytree, name: str, argument: str = "baseline") -> None:
    """Warn, once for a concrete batch, of examples that equal their baseline: all of `baselines`, where there are more.

    Args:
        baselines: Baselines as `resolve` takes them, or background sets; random and traced ones are not looked at.
        x: The examples, `[B, ...]` on every leaf.
        name: The method, for the warning.
        argument: What the method calls its baselines.
    """
    if not any(check.is_floating(leaf) for leaf in jax.tree.leaves(x)):
        return
    size, same = check.batch_length(x, name), []
    for value in baselines:
        if needs_key(value) or not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((x, value))):
            return
        if is_background(value, jax.tree.map(_without_values, x)):
            if any(check.is_floating(leaf) and bool(jnp.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(value)):
                return
            value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], value)
        if callable(value):
            same.append(_equal_to(jax.vmap(lambda one, value=value: resolve(value, one, name=name))(x), x))
        else:
            check.finite(value, name, "baseline")
            same.append(_equal_rows(value, x, name))
    if count := int(np.sum(np.all(same, axis=0))):
        check.nothing_changes(name, f" for {count} of {size} examples", argument)


def _without_values(leaf: Any) -> np.ndarray:
    """What has the shape of one example of a leaf, at no cost."""
    return np.broadcast_to(np.zeros(()), jnp.shape(leaf)[1:])


@functools.partial(jax.jit, static_argnames="name")  # a call for every batch: one program instead of a dozen
def _equal_rows(value: Any, x: Pytree, name: str) -> Array:
    """Which examples equal a baseline that all share."""
    shared = resolve(value, jax.tree.map(lambda leaf: leaf[0], x), name=name)
    return _equal_to(jax.tree.map(lambda leaf: leaf[None], shared), x)


def _equal_to(absent: Pytree, x: Pytree) -> Array:
    same = jnp.ones(len(jax.tree.leaves(x)[0]), bool)
    for leaf, other in zip(jax.tree.leaves(x), jax.tree.leaves(absent), strict=True):
        if check.is_floating(leaf):
            same &= jnp.all(leaf == other, axis=tuple(range(1, jnp.ndim(leaf))))
    return same
