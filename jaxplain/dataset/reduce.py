"""What is kept of an attribution before it is written: sums over channels or groups, the strongest values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import as_groups
from jaxplain.program import Function, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class ChannelSum(Function):
    """Sums over the last axis. Made by `channel_sum`."""

    def __call__(self, attribution: Pytree) -> Pytree:
        """One example's attribution without its channels."""
        return jax.tree.map(self._sum, attribution)

    def _sum(self, leaf: Array) -> Array:
        if jnp.ndim(leaf) < 2:
            raise ValueError(
                f"channel_sum: an attribution has shape {jnp.shape(leaf)}; it needs an axis of channels after others."
            )
        return jnp.sum(jnp.asarray(leaf), axis=-1, dtype=wide_dtype(leaf.dtype))


@public
def channel_sum() -> ChannelSum:
    """Keep the sum over the last axis, the channels: `[H, W, C]` becomes `[H, W]`; the total stays the same.

    Returns:
        `reduce(attribution) -> attribution` for one example, summed in float32 or wider.

    Example:
        >>> channel_sum()(jnp.ones((2, 2, 3))).tolist()
        [[3.0, 3.0], [3.0, 3.0]]
    """
    return ChannelSum()


class Strongest(NamedTuple):
    """What `top_features` keeps: `[k]` signed values, strongest first, and their places in the flattened leaf."""

    values: Array
    places: Array


class TopFeatures(Function):
    """The k strongest values. Made by `top_features`."""

    k: int = setting(default=10)

    def __call__(self, attribution: Pytree) -> Pytree:
        """A `Strongest` for every leaf of one example's attribution."""
        return jax.tree.map(self._strongest, attribution)

    def _strongest(self, leaf: Array) -> Strongest:
        flat = jnp.asarray(leaf).reshape(-1)
        if flat.size < self.k:
            raise ValueError(f"top_features: k is {self.k}, but the attribution has {flat.size} values.")
        # NaN counts as strongest, so that it stays visible.
        strength = jnp.where(jnp.isnan(flat), jnp.inf, jnp.abs(flat))
        places = lax.top_k(strength, self.k)[1]
        return Strongest(flat[places], places.astype(jnp.int32))


@public
def top_features(k: int) -> TopFeatures:
    """Keep the k values of largest absolute value, signed and strongest first, and where they are.

    Args:
        k: How many, at most the size of an attribution.

    Returns:
        `reduce(attribution) -> Strongest(values, places)` for one example; places count in row-major order.

    Raises:
        ValueError: `k` below 1, or above the size of an attribution.

    Example:
        >>> kept = top_features(2)(jnp.array([[0.1, -3.0], [2.0, 0.0]]))
        >>> kept.values.tolist(), kept.places.tolist()
        ([-3.0, 2.0], [1, 2])
    """
    return TopFeatures(check.count(k, "top_features", "k"))


class GroupSum(Function):
    """Sums over groups. Made by `group_sum`."""

    numbers: Any
    total: int = setting()

    def __call__(self, attribution: Pytree) -> Array:
        """`[n]` sums of one example's attribution."""
        check.same_structure(self.numbers, attribution, "group_sum", "groups", "the attribution")
        total = jnp.zeros(self.total, jnp.float32)
        for number, leaf in zip(jax.tree.leaves(self.numbers), jax.tree.leaves(attribution), strict=True):
            flat = jnp.asarray(leaf).astype(wide_dtype(leaf.dtype)).reshape(-1)
            total = total + jax.ops.segment_sum(flat, number.reshape(-1), self.total)
        return total


@public
def group_sum(groups: Any) -> GroupSum:
    """Keep one sum for each group of features: `[n]`, in float32 or wider.

    Args:
        groups: Integers 0 to n-1, every number present: an array of the attribution's shape, or a pytree of them.

    Returns:
        `reduce(attribution) -> [n]` for one example.

    Raises:
        ValueError: Numbers that are missing or negative, groups whose shape is not the attribution's.
        TypeError: Groups that are no integers.

    Example:
        >>> group_sum(jnp.array([0, 0, 1]))(jnp.array([1.0, 2.0, 3.0])).tolist()
        [3.0, 3.0]
    """
    known = as_groups(groups, "group_sum")
    if known.total is None:
        raise ValueError("group_sum: `groups` has to hold concrete integers.")
    return GroupSum(known.numbers, known.total)
