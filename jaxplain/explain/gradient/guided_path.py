"""Guided integrated gradients: a path that moves first the features to which the score reacts least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import DERIVATIVE, Perturbing, as_baseline, at_lookups
from jaxplain.program import as_function, common_dtype, like, public, setting, value_and_gradient
from jaxplain.types import Array, Pytree

ROOM = 1e-5
"""What part of a feature's way counts as no room to move: rounding leaves less of it, where a step went all of it."""


class GuidedIntegratedGradients(Perturbing):
    """Integrated gradients along an adaptive path. Made by `guided_integrated_gradients`."""

    distance: Any = 0.02
    steps: int = setting(default=50)
    fraction: float = setting(default=0.25)

    @property
    def holds(self) -> str | None:
        """The path between the baseline and the input has a derivative at floating-point values alone."""
        return DERIVATIVE

    @at_lookups
    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        check.differentiable(x, self.name)
        start = self.absent(key, x).values
        check.finite_score(self.score, x, args, self.name)
        leaves, structure = jax.tree.flatten(x)
        moving = [check.is_floating(leaf) for leaf in leaves]

        def unflat(vector: Array) -> Pytree:
            merged, begin = [], 0
            for leaf, move in zip(leaves, moving, strict=True):
                if not move:
                    merged.append(leaf)
                    continue
                part = vector[begin : begin + jnp.size(leaf)].reshape(jnp.shape(leaf))
                merged.append(part.astype(jnp.result_type(leaf)))
                begin += jnp.size(leaf)
            return jax.tree.unflatten(structure, merged)

        def flat(tree: Pytree) -> Array:
            dtype = common_dtype(x)
            parts = zip(jax.tree.leaves(tree), moving, strict=True)
            return jnp.concatenate([jnp.asarray(leaf).astype(dtype).reshape(-1) for leaf, move in parts if move])

        def slope(point: Array) -> Array:
            return flat(value_and_gradient(self.score, unflat(point), *args, name=self.name)[1])

        attribution = self._walk(slope, flat(x), flat(start))
        check.finite_scores(attribution, self.name)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), jnp.float32), x)
        spread = unflat(attribution)
        merged = jax.tree.map(lambda leaf, a, z: a if check.is_floating(leaf) else z, x, spread, zeros)
        return like(merged, x)

    def _walk(self, slope: Callable[[Array], Array], x: Array, start: Array) -> Array:
        """The attribution of a flat input, step by step."""
        length = jnp.abs(x - start).sum()
        least = ROOM * jnp.abs(x - start) + 4 * jnp.finfo(x.dtype).eps * jnp.maximum(jnp.abs(x), jnp.abs(start))
        at_once = int(self.fraction * (x.size - 1)) + 1

        def step(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], None]:
            point, total = carry
            gradient = slope(point)
            alpha = (index + 1) / self.steps
            behind = start + jnp.maximum(alpha - self.distance, 0.0) * (x - start)
            ahead = start + jnp.minimum(alpha + self.distance, 1.0) * (x - start)
            # A feature that fell too far behind the straight line catches up first.
            following = jnp.where(jnp.abs(x - point) > jnp.abs(x - behind), behind, point)
            needed = jnp.abs(x - following).sum() - length * (1 - alpha)
            # Room as small as the rounding of a step is none: such a feature must take no place in the quantile.
            room = jnp.where(jnp.abs(ahead - following) > least, ahead - following, 0.0)
            share = _share(gradient, room, needed, at_once)
            following = jnp.where((room == 0) | (share == 1), ahead, following + share * room)
            return (following, total + gradient * (following - point)), None

        index = jnp.arange(self.steps)
        (_, total), _ = lax.scan(step, (start, jnp.zeros_like(x)), index)
        return total


def _share(gradient: Array, room: Array, needed: Array, at_once: int) -> Array:
    """Which share of its room each feature moves, so that the moves add up to `needed`.

    Features move in the order of their gradients' absolute values, `at_once` of them at a time (and more where values
    tie; the next group starts behind those): all the way, until a last group goes as far as is left.
    """
    capacity = jnp.abs(room)
    size = jnp.where(capacity > 0, jnp.abs(gradient), jnp.inf)
    ordered = jnp.sort(size)

    def end(start: Array, _: None) -> tuple[Array, Array]:
        largest = ordered[jnp.minimum(start + at_once, size.size) - 1]
        behind = jnp.searchsorted(ordered, largest, side="right")
        return behind, behind

    groups = -(-size.size // at_once)
    _, ends = lax.scan(end, jnp.zeros((), jnp.searchsorted(ordered, 0.0).dtype), None, length=groups)
    rank = jnp.searchsorted(ordered, size, side="left")  # how many are smaller: ties stay together
    group = jnp.searchsorted(ends, rank, side="right")
    capacities = jax.ops.segment_sum(capacity, group, groups)
    before = jnp.cumsum(capacities) - capacities
    share = jnp.clip((needed - before) / jnp.where(capacities > 0, capacities, 1), 0.0, 1.0)
    return share[group]


@public
def guided_integrated_gradients(
    f: Callable[..., Any], *, baseline: Any = 0.0, steps: int = 50, fraction: float = 0.25, distance: float = 0.02
) -> GuidedIntegratedGradients:
    """Integrate the gradient along a path that leaves the features of large gradient for last.

    a_i = sum over steps of df/dx_i(z_t) (z_(t+1) - z_t)_i. Each step shortens the L1 distance to x by the same amount
    and spends it on the features whose gradients are smallest in absolute value, a quantile of them at a time, so that
    noise of steep directions that do not matter is not picked up. The path stays within `distance` of the straight one.
    The sum tends to f(x) - f(b) as 1/steps. (Differentiating the attribution takes the order of the gradients
    as given.)

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: As in `integrated_gradients`.
        steps: Number of steps, each one gradient, one after the other.
        fraction: The quantile of features that moves at once, in (0, 1].
        distance: How far a feature may run ahead of the straight line or lag behind it, as a fraction of the way, in
            [0, 1]: 0 gives integrated gradients (by the left rule), 1 lets the path go anywhere between b and x.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves are
        held fixed and get zeros. Cost: `steps` forward and backward passes and as many sorts of the input.

    Raises:
        ValueError: `steps` below 1, a fraction or a distance out of range, a baseline that does not fit, NaN or
            infinities in a concrete `x`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> e = guided_integrated_gradients(lambda x: 3 * x[0] - x[1], steps=10)
        >>> [round(float(a), 4) for a in e(jnp.array([1.0, 2.0]))]
        [3.0, -2.0]

    Source: Kapishnikov et al. 2021, "Guided integrated gradients: an adaptive path method for removing noise",
    Algorithm 1 and section 4.3 (the bounded path).
    """
    name = "guided_integrated_gradients"
    check.one_number(distance, name, "distance", zero=True)
    check.one_number(fraction, name, "fraction")
    if fraction > 1 or (check.is_concrete(distance) and distance > 1):
        raise ValueError(f"{name}: `fraction` is {fraction} and `distance` {distance}; both are shares, of at most 1.")
    score = as_function(check.callable_score(f, name))
    steps = check.count(steps, name, "steps")
    return GuidedIntegratedGradients(score, as_baseline(baseline), 1, name, distance, steps, float(fraction))
