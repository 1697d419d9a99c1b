"""Earth mover's distance: how far an attribution has to be carried to lie on the object."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.evaluate.localization.localization import fitted
from jaxplain.evaluate.metric import Metric
from jaxplain.program import public, setting
from jaxplain.types import Array

LARGEST = 256
"""The most places of a map: the work grows with their third power; one map of 16x16 takes seconds."""

_UNIT = 2**25
"""The largest cost as an integer. Paths of whole numbers are compared exactly, so that rounding makes no circle."""

_FAR = 2**29


class EarthMover(Metric):
    """The cost of carrying an attribution to the object. Made by `earth_movers_distance`."""

    takes: ClassVar[tuple[str, ...]] = ("attribution", "mask")
    name: ClassVar[str] = "earth_movers_distance"
    relative: bool = setting(default=True)

    def __call__(self, attribution: Any, mask: Any) -> Array:
        """Judge one attribution: `m(attribution, mask)`."""
        a, inside = fitted(attribution, mask, self.name)
        if a.size > LARGEST:
            raise ValueError(
                f"{self.name}: maps of {a.shape} have {a.size} places, too many for an exact distance (at most "
                f"{LARGEST}, as 16x16). Pool attribution and mask first, or use relevance_rank_accuracy."
            )
        sizes = jnp.abs(a).reshape(-1)
        places = np.stack(np.meshgrid(*map(np.arange, a.shape), indexing="ij"), -1).reshape(a.size, a.ndim)
        cost = np.sqrt(np.square(places[:, None] - places[None]).sum(-1))
        total, count = sizes.sum(), inside.sum()
        defined = jnp.isfinite(total) & (total > 0) & (count > 0)
        # Both sides are made whole before they meet, so that what is undefined takes no time.
        have = jnp.where(defined, sizes / jnp.where(defined, total, 1), 1 / a.size)
        want = jnp.where(defined, inside.reshape(-1) / jnp.maximum(count, 1), 1 / a.size).astype(have.dtype)
        distance = transport_cost(have, want, cost)
        longest = math.sqrt(sum((length - 1) ** 2 for length in a.shape)) or 1.0
        return jnp.where(defined, distance / longest if self.relative else distance, jnp.nan)


class _Plan(NamedTuple):
    """Flows from places that have too much to places that lack something, and the cheapest detours that they allow.

    From one place to another leads what a third one sent to the first, sent to the second in its stead; `detour[j, k]`
    is what that costs at least.
    """

    flow: Array
    detour: Array


class _State(NamedTuple):
    """A plan, what is left of both sides, and how many ways were gone."""

    plan: _Plan
    left: Array
    lacking: Array
    rounds: Array


class _Step(NamedTuple):
    """A place on the way back along a path: what still fits, where it is, and the plan after it."""

    fits: Array
    place: Array
    plan: _Plan


def transport_cost(have: Array, want: Array, cost: np.ndarray) -> Array:
    """The least cost of carrying one distribution to another, for a cost that is a distance.

    Successive shortest paths: the mass of one place after the other goes the cheapest way, which may send back what
    went before; with every step the flow stays the cheapest of its size (Ahuja, Magnanti and Orlin 1993, section 9.7).

    Args:
        have: `[n]`, sums to 1.
        want: `[n]`, sums to 1.
        cost: `[n, n]`, a metric: what both have in a place then stays there.

    Returns:
        The cost, to about float32's rounding; NaN if it was not found in a bounded number of steps.
    """
    count, crumb = len(cost), jnp.finfo(have.dtype).eps
    whole = jnp.asarray(np.rint(cost * (_UNIT / max(float(cost.max()), 1e-30))).astype(np.int32))
    none = _Plan(jnp.zeros((count, count), have.dtype), jnp.full((count, count), _FAR))
    start = _State(none, jnp.maximum(have - want, 0), jnp.maximum(want - have, 0), jnp.int32(0))

    def unfinished(state: _State) -> Array:
        more = (state.left.max() > crumb) & (state.lacking.max() > crumb)
        return more & (state.rounds < 64 * count)

    def carry(state: _State) -> _State:
        first = jnp.argmax(state.left > crumb)
        length, before = _shortest(state.plan.detour, whole[first])
        last = jnp.argmin(jnp.where(state.lacking > crumb, length, _FAR))
        amount = jnp.minimum(state.left[first], state.lacking[last])
        amount = _walk(state.plan, whole, before, last, amount, None).fits
        end = _walk(state.plan, whole, before, last, amount, amount)
        plan = _changed(end.plan.flow.at[first, end.place].add(amount), end.plan.detour, whole, end.place)
        left, lacking = state.left.at[first].add(-amount), state.lacking.at[last].add(-amount)
        return _State(plan, left, lacking, state.rounds + 1)

    end = lax.while_loop(unfinished, carry, start)
    value = jnp.sum(end.plan.flow * jnp.asarray(cost, have.dtype))
    return jnp.where(end.rounds < 64 * count, value, jnp.nan)


def _changed(flow: Array, detour: Array, cost: Array, place: Array) -> _Plan:
    """The plan after what is sent to a place has changed."""
    change = jnp.where((flow[:, place] > 0)[:, None], cost - cost[:, place][:, None], _FAR)
    return _Plan(flow, detour.at[place].set(change.min(0)))


def _shortest(detour: Array, direct: Array) -> tuple[Array, Array]:
    """The length of the cheapest way to each place, and the place before on it (-1 where it goes directly)."""

    def better(state: tuple[Array, Array, Array, Array]) -> Array:
        return state[2] & (state[3] < len(direct))

    def relax(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        length, before, _, rounds = state
        ways = length[:, None] + detour
        shorter = ways.min(0) < length
        before = jnp.where(shorter, ways.argmin(0), before)
        return jnp.where(shorter, ways.min(0), length), before, shorter.any(), rounds + 1

    start = direct, jnp.full(len(direct), -1), jnp.asarray(True), jnp.int32(0)
    length, before, _, _ = lax.while_loop(better, relax, start)
    return length, before


def _walk(plan: _Plan, cost: Array, before: Array, last: Array, amount: Array, moved: Array | None) -> _Step:
    """Go a path back: how much fits through it, or, where it is `moved`, the plan after that."""

    def inside(step: _Step) -> Array:
        return before[step.place] >= 0

    def back(step: _Step) -> _Step:
        place, previous, after = step.place, before[step.place], step.plan
        change = jnp.where(plan.flow[:, previous] > 0, cost[:, place] - cost[:, previous], _FAR)
        sender = change.argmin()
        if moved is not None:
            flow = after.flow.at[sender, place].add(moved).at[sender, previous].add(-moved)
            after = _changed(flow, after.detour, cost, place)
        return _Step(jnp.minimum(step.fits, plan.flow[sender, previous]), previous, after)

    return lax.while_loop(inside, back, _Step(amount, last, plan))


@public
def earth_movers_distance(*, relative: bool = True) -> EarthMover:
    """How far an attribution has to be carried to lie evenly on the object; lower is better.

    The absolute attribution, divided by its sum, and the mask, divided by its area, are distributions over places; the
    distance is the least sum of mass times Euclidean way that makes the one of the other. Unlike
    `relevance_rank_accuracy` it tells a near miss from a far one. The source's score is 1 minus the relative distance.

    Args:
        relative: Whether to divide by the longest way of the map, from corner to corner: 1 is the most. Otherwise it
            is in pixels.

    Returns:
        `m(attribution, mask) -> distance`; inputs as in `pointing_game` (of channels the signed sum, then its absolute
        value), of at most 256 places. NaN for an empty mask, and for an attribution that is zero or has NaN. Exact
        but for rounding. Cost: no model pass; for maps of 8x8 some milliseconds, growing with the third power of the
        places.

    Raises:
        ValueError, TypeError: As in `pointing_game`; a map that is too large.

    Example:
        >>> mask = jnp.array([[True, False], [False, False]])
        >>> float(earth_movers_distance(relative=False)(jnp.array([[1.0, -1.0], [0.0, 0.0]]), mask))
        0.5

    Source: Clark, Wilming and Haufe 2024, "XAI-TRIS: non-linear image benchmarks to quantify false positive post-hoc
    attribution of feature importance", section on explanation performance metrics.
    """
    return EarthMover(bool(relative))
