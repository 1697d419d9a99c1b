"""What methods share that score an input with parts of it replaced by a baseline."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline.absent import resolve
from jaxplain.baseline.unchanged import warn_where_equal
from jaxplain.program import Function, like, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class Perturbing(Function):
    """What methods share that score an input with parts of it replaced by a baseline."""

    score: Any
    baseline: Any
    batch_size: int = setting(default=1)
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

    def absent(self, key: Any, x: Pytree) -> Pytree:
        """The baseline of an example, with a warning where it is the example itself."""
        check.finite(x, self.name)
        absent = resolve(self.baseline, x, key, name=self.name)
        check.unequal(x, absent, self.name)
        return absent

    def check_baseline(self, x: Pytree) -> None:
        """Warn, once for a concrete batch, of examples that equal their baseline."""
        warn_where_equal((self.baseline,), x, self.name)


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
    """An attribution of x's structure from its floating-point leaves' parts; zeros where there is None."""
    leaves, structure = jax.tree.flatten(x)
    filled = [
        jnp.zeros(jnp.shape(leaf), jnp.float32) if part is None else part
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return like(jax.tree.unflatten(structure, filled), x)
