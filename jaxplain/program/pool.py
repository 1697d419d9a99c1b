"""The gradient of max pooling as comparisons and sums: fast on every backend, in and out of loops.

XLA's `select_and_scatter`, which it replaces, walks over the windows one by one on the CPU.
"""

from __future__ import annotations

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

    Along an axis of stride s, element q s + p of the windows lies in block w + q of s elements, at place p. So blocks
    are made for each q, shifted, and added: one for windows that do not overlap.
    """
    blocks = [-(-size // stride) for size, stride in zip(dimensions, strides, strict=True)]
    wide = jnp.promote_types(source.dtype, jnp.float32) if math.prod(blocks) > 1 else source.dtype
    total = None
    for shift in itertools.product(*map(range, blocks)):
        part = _block(source.astype(wide), winner, dimensions, strides, shift)
        edges = [e for q, count in zip(shift, blocks, strict=True) for e in ((q, count - 1 - q, 0), (0, 0, 0))]
        part = lax.pad(part, jnp.zeros((), wide), edges)
        total = part if total is None else total + part
    assert total is not None
    shape = [(n + count - 1) * s for n, count, s in zip(source.shape, blocks, strides, strict=True)]
    return total.reshape(shape)


def _block(
    source: Array, winner: Array, dimensions: Sequence[int], strides: Sequence[int], shift: Sequence[int]
) -> Array:
    """The source where the winner lies in the block of that shift, else zeros: `[n, s, n, s, ...]` for every axis."""
    column = [length for n in source.shape for length in (n, 1)]
    row = [length for s in strides for length in (1, s)]
    number, inside = jnp.zeros(row, jnp.int8), jnp.ones(row, bool)
    for axis, (size, stride, q) in enumerate(zip(dimensions, strides, shift, strict=True)):
        element = lax.broadcasted_iota(jnp.int8, row, 2 * axis + 1) + q * stride
        number, inside = number * size + element, inside & (element < size)
    won = (winner.reshape(column) == number) & inside
    return jnp.where(won, source.reshape(column), jnp.zeros_like(source, shape=(1,) * won.ndim))
