"""Pooling, and the gradient of max pooling, as comparisons and sums of slices: fast in and out of loops.

XLA's `reduce_window` and `select_and_scatter`, which they replace, walk over the windows one by one on the CPU, and
compute what feeds a pooling inside that walk.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.program.trace import apart
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
    value = lax.pad(operand.astype(wide), jnp.array(start, wide), [(low, high, 0) for low, high in padding])
    for axis, (size, stride) in enumerate(zip(window_dimensions, window_strides, strict=True)):
        if size == stride == 1:
            continue
        count = max(0, (value.shape[axis] - size) // stride + 1)
        ends = [offset + max(0, (count - 1) * stride + 1) for offset in range(size)]
        parts = [lax.slice_in_dim(value, offset, end, stride, axis) for offset, end in enumerate(ends)]
        value = functools.reduce(choose, parts)
    return value.astype(operand.dtype)


def pool(operand: Array, **settings: Any) -> Array:
    """`pooled_by_slices`, apart: else XLA computes what is pooled slice by slice, at a third of the speed."""
    return apart(functools.partial(pooled_by_slices, **settings))(operand)


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
    # Apart, like pooling: else every place of the operand finds the winner of its window again.
    find = functools.partial(_winners, dimensions=window_dimensions, strides=window_strides)
    scatter = functools.partial(_scattered, dimensions=window_dimensions, strides=window_strides)
    winner = apart(functools.partial(find, windows=source.shape, keeps=keeps))(padded)
    sums = apart(scatter)(source, winner)
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

    Along an axis of stride s, place b*s + p (in block b) receives from element q*s + p of window b - q, for every q
    that the window's size allows. So each q is one comparison of a shift of the windows, repeated over the s places,
    with the elements' numbers at these places: nothing is indexed but in order.
    """
    blocks = [-(-size // stride) for size, stride in zip(dimensions, strides, strict=True)]
    edges = [(count - 1, count - 1, 0) for count in blocks]
    wide = jnp.promote_types(source.dtype, jnp.float32) if math.prod(blocks) > 1 else source.dtype
    # Shifts are slices of what is padded once: in a sum of padded arrays every element would ask where it lies.
    source = lax.pad(source.astype(wide), jnp.zeros((), wide), edges)
    winner = lax.pad(winner, jnp.full((), _NOBODY, winner.dtype), edges)
    shape = [n - count + 1 for n, count in zip(source.shape, blocks, strict=True)]
    between = tuple(range(1, 2 * len(shape), 2))  # an axis of places behind every axis of blocks
    total: Any = 0
    for shift in itertools.product(*map(range, blocks)):
        starts = [count - 1 - q for q, count in zip(shift, blocks, strict=True)]
        ends = [start + n for start, n in zip(starts, shape, strict=True)]
        won = lax.expand_dims(lax.slice(winner, starts, ends), between) == _numbers(shift, dimensions, strides)
        worth = lax.expand_dims(lax.slice(source, starts, ends), between)
        total += lax.select(won, jnp.broadcast_to(worth, won.shape), jnp.zeros(won.shape, wide))
    return total.reshape([n * stride for n, stride in zip(shape, strides, strict=True)])


_NOBODY, _OUTSIDE = -1, -2


def _numbers(shift: Sequence[int], dimensions: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The number that the element at every place has in a window so many blocks before, between axes of length one."""
    elements = np.indices(strides) + np.expand_dims(np.multiply(shift, strides), tuple(range(1, len(strides) + 1)))
    inside = np.all([e < size for e, size in zip(elements, dimensions, strict=True)], axis=0)
    numbers = np.ravel_multi_index(tuple(elements), dimensions, mode="clip")
    return np.expand_dims(np.where(inside, numbers, _OUTSIDE).astype(np.int8), tuple(range(0, 2 * len(strides), 2)))
