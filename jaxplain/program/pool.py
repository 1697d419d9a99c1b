"""Pooling, and the gradient of max pooling, as comparisons and sums of slices: fast in and out of loops.

XLA's `reduce_window` and `select_and_scatter`, which they replace, walk over the windows one by one on the CPU, and
compute what feeds a pooling inside that walk.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax

from jaxplain.types import Array

LARGEST = 64
"""The largest window, in elements: each is a comparison written into the program."""


def unrolled(window_dimensions: Sequence[int]) -> bool:
    """Whether a window is small enough to be written out."""
    return math.prod(window_dimensions) <= LARGEST


LONGEST = 8
"""The longest window along one axis whose pooling is written out."""


def pooled_by_slices(
    operand: Array,
    *,
    choose: Callable[[Array, Array], Array],
    start: float,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Array:
    """Pool windows axis after axis: XLA's `reduce_window` with `lax.max`, `lax.min` or `lax.add`.

    Args:
        operand: What to pool, floating-point.
        choose: The operation of two arrays.
        start: What padding holds; the operation's neutral element.
        window_dimensions: The window's size along every axis.
        window_strides: Its steps.
        padding: Elements added before and after every axis.

    Returns:
        One value for each window, in operand's dtype. Cost: as many operations an axis as the window is long there.
    """
    wide = jnp.promote_types(operand.dtype, jnp.float32) if choose is lax.add else operand.dtype
    edges = [(low, high, 0) for low, high in padding]
    value = lax.pad(operand.astype(wide), jnp.array(start, wide), edges)
    for axis, (size, stride) in enumerate(zip(window_dimensions, window_strides, strict=True)):
        if size == stride == 1:
            continue
        count = max(0, (value.shape[axis] - size) // stride + 1)
        ends = [offset + max(0, (count - 1) * stride + 1) for offset in range(size)]
        parts = [lax.slice_in_dim(value, offset, end, stride, axis) for offset, end in enumerate(ends)]
        value = functools.reduce(choose, parts)
    return value.astype(operand.dtype)


def scatter_to_winners(
    source: Array,
    operand: Array,
    *,
    keeps: Callable[[Array, Array], Array],
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Array:
    """Add each window's `source` to the place of the window's winner: XLA's `select_and_scatter` with addition.

    Args:
        source: One value for each window.
        operand: What was pooled, floating-point.
        keeps: `lax.ge` (the maximum wins) or `lax.le`: whether the winner so far is kept before the next element, in
            row-major order, so that of equal elements the first wins.
        window_dimensions: The window's size along every axis.
        window_strides: Its steps.
        padding: Elements added before and after every axis, which lose against all but their equals.

    Returns:
        The sums, of operand's shape. Cost: as many comparisons as windows have elements.
    """
    if 0 in source.shape:
        return jnp.zeros_like(operand)
    least = -jnp.inf if keeps is lax.ge else jnp.inf
    padded = lax.pad(operand, jnp.array(least, operand.dtype), [(low, high, 0) for low, high in padding])
    winner = _winners(padded, source.shape, keeps, window_dimensions, window_strides)
    sums = _scattered(source, winner, window_dimensions, window_strides)
    edges = [
        (-low, size + low - total, 0) for (low, _), size, total in zip(padding, operand.shape, sums.shape, strict=True)
    ]
    return lax.pad(sums, jnp.zeros((), sums.dtype), edges).astype(source.dtype)


def _winners(
    operand: Array,
    windows: Sequence[int],
    keeps: Callable[[Array, Array], Array],
    dimensions: Sequence[int],
    strides: Sequence[int],
) -> Array:
    """The number of each window's winner among its elements, int8."""
    best, winner = None, jnp.zeros(windows, jnp.int8)
    for number, offset in enumerate(itertools.product(*map(range, dimensions))):
        ends = [o + (count - 1) * stride + 1 for o, count, stride in zip(offset, windows, strides, strict=True)]
        value = lax.slice(operand, offset, ends, strides)
        if best is None:
            best = value
            continue
        kept = keeps(best, value)  # False where one is not a number, as in XLA
        best, winner = lax.select(kept, best, value), lax.select(kept, winner, jnp.full_like(winner, number))
    return winner


def _scattered(source: Array, winner: Array, dimensions: Sequence[int], strides: Sequence[int]) -> Array:
    """The sums on the padded operand's grid, as far as windows (rounded up to whole strides) reach.

    Along an axis of stride s, places p, p + s, ... receive from elements p, p + s, ... of the windows, which are whole
    shifts of the grid of windows. So each such lattice of places is a sum over shifts, and the lattices are interleaved
    at the end: nothing is indexed but in order.
    """
    blocks = [-(-size // stride) for size, stride in zip(dimensions, strides, strict=True)]
    edges = [(count - 1, count - 1, 0) for count in blocks]
    wide = jnp.promote_types(source.dtype, jnp.float32) if math.prod(blocks) > 1 else source.dtype
    # Shifts are slices of what is padded once: in a sum of padded arrays every element would ask where it lies.
    source = lax.pad(source.astype(wide), jnp.zeros((), wide), edges)
    winner = lax.pad(winner, jnp.full((), -1, winner.dtype), edges)

    def interleaved(places: tuple[int, ...]) -> Array:
        axis = len(places)
        if axis == len(strides):
            return _lattice(source, winner, dimensions, strides, places, blocks)
        parts = [interleaved((*places, place)) for place in range(strides[axis])]
        if len(parts) == 1:
            return parts[0]
        stacked = jnp.stack(parts, axis=axis + 1)
        return stacked.reshape(*stacked.shape[:axis], -1, *stacked.shape[axis + 2 :])

    return interleaved(())


def _lattice(
    source: Array,
    winner: Array,
    dimensions: Sequence[int],
    strides: Sequence[int],
    places: Sequence[int],
    blocks: Sequence[int],
) -> Array:
    """The sums at every stride-th place, counted from `places`, of padded sources and winners."""
    shape = [n - count + 1 for n, count in zip(source.shape, blocks, strict=True)]
    total = jnp.zeros(shape, source.dtype)
    for shift in itertools.product(*map(range, blocks)):
        element = [q * s + place for q, s, place in zip(shift, strides, places, strict=True)]
        if any(e >= size for e, size in zip(element, dimensions, strict=True)):
            continue
        number = functools.reduce(lambda n, pair: n * pair[1] + pair[0], zip(element, dimensions, strict=True), 0)
        starts = [count - 1 - q for q, count in zip(shift, blocks, strict=True)]
        ends = [start + n for start, n in zip(starts, shape, strict=True)]
        won = lax.slice(winner, starts, ends) == number
        total += jnp.where(won, lax.slice(source, starts, ends), jnp.zeros(shape, source.dtype))
    return total
