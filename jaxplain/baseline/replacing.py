"""What methods share that score an input with parts of it replaced by a baseline."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline.given import Replacement, held, replacement
from jaxplain.baseline.selection import DERIVATIVE
from jaxplain.baseline.unchanged import refuse_where_moved, warn_where_equal
from jaxplain.program import Function, like, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class Perturbing(Function):
    """What methods share that score an input with parts of it replaced by a baseline."""

    score: Any
    baseline: Any
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="feature_ablation")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def take(self, *inputs: Any) -> tuple[Any, Pytree, tuple[Any, ...]]:
        """Split a call's arguments into (key or None, x, args)."""
        return check.divided(inputs, self.name, self.needs_key)

    def scored(self, x: Pytree, args: tuple[Any, ...]) -> Array:
        """The score of one input, in float32 or wider."""
        value = jnp.asarray(check.scalar(self.score(x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))

    @property
    def holds(self) -> str | None:
        """Why integer and boolean leaves cannot be replaced (`DERIVATIVE`, `MIXTURE`), or None."""
        return None

    def absent(self, key: Any, x: Pytree) -> Replacement:
        """The baseline of an example, with a warning where it is the example itself."""
        check.arrays(x, self.name)
        check.finite(x, self.name)
        values, moves = replacement(self.baseline, x, key, name=self.name)
        if self.holds is not None:
            values = held(values, x, self.name, why=self.holds)
            moves = tuple(check.is_floating(leaf) for leaf in jax.tree.leaves(x))
        check.replaceable(x, self.name, moves)
        check.unequal(x, values, self.name, derivative=self.holds == DERIVATIVE)
        return Replacement(values, moves)

    def check_baseline(self, x: Pytree) -> None:
        """Look at a concrete batch once: refuse what the method cannot move, warn of examples that equal it."""
        if self.holds is not None:
            refuse_where_moved((self.baseline,), x, self.name, why=self.holds)
        warn_where_equal((self.baseline,), x, self.name, derivative=self.holds == DERIVATIVE)


@public
def replaced(x: Pytree, other: Pytree, where: list[Any]) -> Pytree:
    """Take the values of `other` where a leaf's mask is True; leaves whose mask is None stay."""
    leaves, structure = jax.tree.flatten(x)
    merged = [
        leaf if mask is None else jnp.where(mask, jnp.asarray(new).astype(jnp.result_type(leaf)), leaf)
        for leaf, new, mask in zip(leaves, jax.tree.leaves(other), where, strict=True)
    ]
    return jax.tree.unflatten(structure, merged)


@public
def merged(parts: list[Any], x: Pytree) -> Pytree:
    """An attribution of x's structure from the parts of the leaves that moved; zeros where there is None."""
    leaves, structure = jax.tree.flatten(x)
    filled = [
        jnp.zeros(jnp.shape(leaf), jnp.float32) if part is None else part
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return like(jax.tree.unflatten(structure, filled), x)
