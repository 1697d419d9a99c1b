"""DeepLIFT through sorting and top-k: places of the result have multipliers, a value gets those that it passed."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from jaxplain.program.node import Call, Node, Rule
from jaxplain.types import Array


class Ranks(Rule):
    """Of sorted values, each value gets the mean multiplier of the ranks between which it moved the others.

    With N(s) and N0(s) values above s in the two runs, the sum of m_k (y_k - y0_k) over the ranks k (of the largest
    first) is the integral of the sum of m_k over the ranks between N0(s) and N(s). A value that crosses s has its share
    M(s), the mean of those m_k (between equal counts, of the two ranks beside them). So a multiplier is the mean of
    M(s) between x0 and x: none is larger than those of the result, and what does not change has no effect. Where runs
    agree it is the multiplier of the value's own place.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of what is sorted."""
        params = node.steps[0].params
        x, x0 = (call.inputs[0] for call in calls)
        axis = params.get("dimension", params.get("axis", x.ndim - 1))
        x, x0, m = (jnp.moveaxis(value, axis, -1) for value in (x, x0, relevance[0]))
        if node.name == "sort":
            m = m[..., ::-1]
        m = jnp.pad(m, [(0, 0)] * (m.ndim - 1) + [(0, x.shape[-1] - m.shape[-1])])
        return [jnp.moveaxis(_mean_passed(x, x0, m), -1, axis)]

    def __str__(self) -> str:
        return "ranks"


def _mean_passed(x: Array, x0: Array, m: Array) -> Array:
    """The mean of M(s) between x0 and x, for the multipliers m of the largest, the second largest, ..."""
    size = x.shape[-1]
    both = jnp.concatenate([x, x0], -1)
    order = jnp.argsort(both, -1, stable=True)
    above = size - jnp.cumsum(order < size, -1)
    above0 = size - jnp.cumsum(order >= size, -1)
    passed = _mean_between(m, above0, above)
    ends = jnp.take_along_axis(both, order, -1)
    widths = jnp.diff(ends, axis=-1, append=ends[..., -1:])
    widths = jnp.where(jnp.isfinite(widths), widths, 0)  # what a mask has set to -inf
    risen = jnp.cumsum(passed * widths, -1) - passed * widths
    place = jnp.argsort(order, -1)
    at, at0 = (jnp.take_along_axis(risen, half, -1) for half in (place[..., :size], place[..., size:]))
    lower = jnp.minimum(place[..., :size], place[..., size:])
    unmoved = jnp.take_along_axis(passed, lower, -1)
    difference = x - x0
    moved = (difference != 0) & jnp.isfinite(difference)
    ratio = (at - at0) / jnp.where(moved, difference, 1)
    bounded = jnp.clip(ratio, m.min(-1, keepdims=True), m.max(-1, keepdims=True))  # rounding of small differences
    return jnp.where(moved, bounded, unmoved)


def _mean_between(m: Array, first: Array, last: Array) -> Array:
    """The mean of m over the ranks between two counts; of the ranks on both sides where these are equal."""
    zero = jnp.zeros_like(m[..., :1])
    sums = jnp.concatenate([zero, jnp.cumsum(m, -1)], -1)
    count = last - first
    total = jnp.take_along_axis(sums, last, -1) - jnp.take_along_axis(sums, first, -1)
    top = m.shape[-1] - 1
    beside = jnp.take_along_axis(m, jnp.clip(last - 1, 0, top), -1) + jnp.take_along_axis(m, jnp.clip(last, 0, top), -1)
    return jnp.where(count == 0, 0.5 * beside, total / jnp.where(count == 0, 1, count))
