"""What a concrete batch says about its baselines before any compute: equal to the input, or not to be moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline.embedded import tokens_alone
from jaxplain.baseline.given import is_background, replacement
from jaxplain.baseline.selection import DERIVATIVE, differs_text
from jaxplain.program import needs_key, public
from jaxplain.types import Array, Arrays, Pytree


@public
def warn_where_equal(
    baselines: Sequence[Any], x: Arrays, name: str, argument: str = "baseline", *, derivative: bool = False
) -> None:
    """Warn, once for a concrete batch, of examples that equal their baseline: all of `baselines`, where there are more.

    Args:
        baselines: Baselines as `replacement` takes them, or background sets; random and traced ones are not looked at.
        x: The examples, `[B, ...]` on every leaf.
        name: The method, for the warning.
        argument: What the method calls its baselines.
        derivative: Whether it differentiates, so that a score without derivative gives NaN and not zero.
    """
    size, same = check.batch_length(x, name), []
    for value in baselines:
        if needs_key(value) or not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((x, value))):
            return
        if is_background(value, jax.tree.map(_without_values, x)):
            if any(bool(jnp.any(leaf != leaf[:1])) for leaf in jax.tree.leaves(value)):
                return
            value = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], value)
        alike = _alike(value, x, name, argument)
        if not any(moved for moved, _ in alike):  # nothing is replaced, which the call refuses
            return
        same.append(np.all([equal for _, equal in alike], axis=0))
    if count := int(np.sum(np.all(same, axis=0))):
        check.nothing_changes(name, f" for {count} of {size} examples", argument, derivative=derivative)


def refuse_where_moved(
    baselines: Sequence[Any], x: Pytree, name: str, argument: str = "baseline", *, why: str = DERIVATIVE
) -> None:
    """Refuse, for a concrete batch, baselines that differ from x where values are no floating-point numbers.

    Args:
        baselines: As in `warn_where_equal`; random ones are refused if they draw anything for such a leaf.
        x: The examples, `[B, ...]` on every leaf.
        name: The method, for the error.
        argument: What the method calls its baselines.
        why: As in `held`.

    Raises:
        ValueError: A leaf that would have to move.
    """
    leaves = jax.tree_util.tree_leaves_with_path(x)
    if all(check.is_floating(leaf) for _, leaf in leaves) or (why == DERIVATIVE and tokens_alone(x)):
        return  # the rows that ids look up are moved
    for value in baselines:
        if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((x, value))):
            continue
        for (path, leaf), same in zip(leaves, _stays(value, x, name, argument), strict=True):
            if not check.is_floating(leaf) and not same:
                raise ValueError(differs_text(path, leaf, name, argument, why))


def _stays(value: Any, x: Pytree, name: str, argument: str) -> list[bool]:
    """For each leaf of a batch whether a baseline leaves it as it is, in every example."""
    if needs_key(value):
        moves: list[bool] = []
        key = jax.random.key(0)
        row = jax.tree.map(lambda leaf: leaf[0], x)
        jax.eval_shape(lambda one: moves.extend(replacement(value, one, key, name=name).moves), row)
        return [not move for move in moves]
    if is_background(value, jax.tree.map(_without_values, x)):
        rows = zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=True)
        return [bool(jnp.all(row == row[:1])) and bool(jnp.all(leaf == row[:1])) for row, leaf in rows]
    return [bool(np.all(equal)) for _, equal in _alike(value, x, name, argument)]


def _without_values(leaf: Any) -> np.ndarray:
    """What has the shape of one example of a leaf, at no cost."""
    return np.broadcast_to(np.zeros(()), jnp.shape(leaf)[1:])


def _alike(value: Any, x: Pytree, name: str, argument: str) -> list[tuple[bool, Any]]:
    """For each leaf of a batch whether a baseline moves it, and in which examples it equals it, `[B]`."""
    moves: list[bool] = []

    def one(x: Pytree) -> Pytree:
        found = replacement(value, x, name=name, argument=argument)
        moves[:] = found.moves
        return found.values

    if callable(value):
        equal = list(_equal(jax.vmap(one)(x), x))
    else:  # what all share is fitted once
        shared = one(jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], x))
        held_back = zip(jax.tree.leaves(shared), jax.tree.leaves(x), moves, strict=True)
        rows = [jnp.asarray(own)[None] if move else jnp.asarray(leaf) for own, leaf, move in held_back]
        equal = _equal(jax.tree.unflatten(jax.tree.structure(x), rows), x)
    return list(zip(moves, map(np.asarray, equal), strict=True))


@jax.jit  # a call for every batch: one program instead of a dozen
def _equal(absent: Pytree, x: Pytree) -> list[Array]:
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(absent), strict=True)
    return [
        jnp.broadcast_to(jnp.all(leaf == other, axis=tuple(range(1, jnp.ndim(leaf)))), jnp.shape(leaf)[:1])
        for leaf, other in pairs
    ]
