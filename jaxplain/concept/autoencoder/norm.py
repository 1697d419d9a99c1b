"""Atoms of norm 1, kept by the optimizer."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxplain.types import Array, Pytree

SMALL = 1e-12
"""Below this an atom has no direction, and is left as it is."""


def unit(rows: Array) -> Array:
    """Rows of norm 1."""
    norms = jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / jnp.where(norms > SMALL, norms, 1)


@functools.lru_cache(maxsize=16)  # one object for one optimizer, so that its programs are compiled once
def of_unit_norm(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer after which `params["atoms"]` are of norm 1.

    The part of the gradient along an atom, which could only change its norm, is taken out first, so that it does not
    count in the optimizer's averages.
    """

    def along(updates: Pytree, state: Any, params: Pytree = None) -> tuple[Pytree, Any]:
        atoms, gradient = params["atoms"], updates["atoms"]
        outwards = jnp.sum(atoms * gradient, axis=-1, keepdims=True) * atoms
        return {**updates, "atoms": gradient - outwards}, state

    def normed(updates: Pytree, state: Any, params: Pytree = None) -> tuple[Pytree, Any]:
        return {**updates, "atoms": unit(params["atoms"] + updates["atoms"]) - params["atoms"]}, state

    parts = (optax.GradientTransformation(lambda params: optax.EmptyState(), update) for update in (along, normed))
    first, last = parts
    return optax.chain(first, optax.with_extra_args_support(optimizer), last)


def random_atoms(key: Array, count: int, width: int) -> Array:
    """Atoms `[count, width]` in random directions."""
    return unit(jax.random.normal(key, (count, width)))
