"""Integrated gradients to a tolerance: forward passes say how much the path bends, and where gradients are spent.

Every example gets its own number of gradients, chosen before the first of them is taken (`spacing.py`): one that
stopped because its gap happens to be small would have single attributions that are far off. The rule that was asked for
serves where its steps are enough and on smooth paths, where it converges fast. Work of all examples is pooled into full
batches, whichever examples it comes from, by one program for everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.explain.gradient.path import Convergence, IntegratedGradients, interpolate
from jaxplain.explain.gradient.spacing import GRID, Points, Spacing, enough_steps, joined, ruled, spaced, spacing
from jaxplain.program import chunked_map, common_dtype, like, points_at_once, quadrature, total, wide_dtype
from jaxplain.program.fast import fast_layout
from jaxplain.program.trace import Compiled
from jaxplain.types import Array, Pytree


class _Work(NamedTuple):
    """What all programs get: the method, every example's baseline, the examples and further arguments."""

    e: IntegratedGradients
    start: Pytree
    x: Pytree
    args: tuple[Any, ...]

    def blocks(self, points: Points) -> Iterator[tuple[np.ndarray, ...]]:
        """Points in blocks of one size, and which are real: the last block is filled up with its last point."""
        count, size = len(points.row), int(jax.tree.leaves(self.x)[0].shape[0]) * points_at_once(self.e.batch_size)
        dtype = common_dtype(self.x)
        for begin in range(0, count, size):
            index = np.arange(begin, begin + size)
            row, place, weight = (column[np.minimum(index, count - 1)] for column in points)
            yield row.astype(np.int32), place.astype(dtype), weight.astype(dtype), index < count

    def integrate(self, sums: Pytree, points: Points) -> Pytree:
        """The sums with the points' attributions added: one gradient each."""
        for inputs in self.blocks(points):
            sums = _settled(_add(self.e, self.start, self.x, self.args, sums, *inputs))
        return sums


class _Attempts:
    """What each example gets next: the method's rule with `order` steps, or, where that is 0, `cells` spaced points.

    `enough` steps of the rule will do on a smooth path, by its scores.

    After the middles of the intervals come their ends, then the middles of intervals of half the size, and so on: each
    round's points and those that are there make, half and half, the trapezoid rule of half the spacing, so that no
    gradient of a path with kinks is taken in vain.
    """

    def __init__(self, e: IntegratedGradients, plan: Spacing, enough: np.ndarray) -> None:
        self.e, self.plan = e, plan
        ruled = plan.smooth | ~(plan.needed > e.steps)  # also where a score is not finite
        self.order = np.where(ruled, e.steps, 0)
        self.order[plan.smooth] = np.clip(enough[plan.smooth], e.steps, e.max_steps)
        half = (e.max_steps - 1) // 2  # so that the ends can follow
        most = half if half > e.steps else e.max_steps
        # Where a score is not finite, so that the number is none, the rule serves.
        self.cells = np.where(self.order, 0, np.minimum(np.nan_to_num(plan.needed), most)).astype(int)
        self.round = np.zeros(len(self.order), int)
        self.spent = np.zeros(len(self.order), int)

    def points(self, rows: np.ndarray) -> Points:
        """The next points of these examples."""
        parts = [self._of(row) for row in rows]
        self.spent[rows] += [len(part.row) for part in parts]
        return joined(parts)

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """The part of every example's sum that stays when the next points of these are added."""
        part = np.ones(len(self.order))
        part[rows] = np.where(self.round[rows] > 0, 0.5, 0.0)
        return part

    def missed(self, rows: np.ndarray) -> np.ndarray:
        """Go on with these, which are not within their tolerance; those that may still spend what that takes."""
        return np.array([row for row in rows if self._next(row)], int)

    def _of(self, row: int) -> Points:
        if self.order[row]:
            return ruled(row, *quadrature(self.e.rule, int(self.order[row])))
        part = 1.0 if self.round[row] == 0 else 0.5
        return spaced(row, self.plan.density[row], self.cells[row], part, ends=self.round[row] == 1)

    def _next(self, row: int) -> bool:
        order, room = self.order[row], self.e.max_steps - self.spent[row]
        if not order:
            self.cells[row] *= 1 if self.round[row] == 0 else 2
            self.round[row] += 1
            return bool(self.cells[row] + 1 <= room)
        if self.plan.smooth[row] and 2 * order <= min(GRID, room):
            self.order[row] = 2 * order
            return True
        self.order[row] = 0
        self.cells[row] = min(max(self.plan.needed[row], 2 * order), room)
        return bool(self.cells[row] > order)  # where there is no room for a finer attempt, what there is stays


def refine(e: IntegratedGradients, x: Pytree, args: tuple[Any, ...], keys: Array | None) -> Any:
    """Attribute every example of a batch to its tolerance; the companion's `Convergence` where it was asked for."""
    start, sums, along = _along(e, keys, x, args)
    work, scores = _Work(e, start, x, args), _on_host(along)
    change = scores[:, -1] - scores[:, 0]
    bound = float(e.tolerance) * (np.abs(change) + float(e.floor))
    attempts = _Attempts(e, spacing(scores, bound), enough_steps(scores, bound, e.rule))
    left = np.arange(len(change))
    while len(left):
        sums = work.integrate(_scaled(sums, attempts.kept(left)), attempts.points(left))
        gap = np.abs(_on_host(_totals(sums)) - change)
        left = attempts.missed(left[gap[left] > bound[left]])  # none where a score is not finite
    return _finish(e, sums, x, attempts.spent, change, bound, along.dtype)


def _settled(values: Any) -> Any:
    """Wait for what is spread over devices: programs that exchange values, all under way at once, starve each other."""
    spread = len(jax.tree.leaves(values)[0].sharding.device_set) > 1
    return jax.block_until_ready(values) if spread else values


def _on_host(values: Array) -> np.ndarray:
    """Values in double precision; where they are spread over processes, each gets all and decides the same."""
    if not values.is_fully_addressable:
        from jax.experimental import multihost_utils

        values = multihost_utils.process_allgather(values, tiled=True)
    return np.asarray(values, np.float64)


@jax.jit
def _totals(sums: Pytree) -> Array:
    return jax.vmap(total)(sums)


@jax.jit
def _scaled(sums: Pytree, factor: Any) -> Pytree:
    """Sums times a factor for each row; 0 clears a row, whatever it holds."""

    def scale(leaf: Array) -> Array:
        by = factor.reshape(factor.shape + (1,) * (leaf.ndim - 1)).astype(leaf.dtype)
        return jnp.where(by == 0, jnp.zeros_like(leaf), leaf * by)

    return jax.tree.map(scale, sums)


def _finish(
    e: IntegratedGradients,
    sums: Pytree,
    x: Pytree,
    spent: np.ndarray,
    change: np.ndarray,
    bound: np.ndarray,
    dtype: Any,
) -> Any:
    attribution = _narrowed(sums, x)
    if not e.with_gap:
        return attribution
    gap = _on_host(_totals(sums)) - change
    reached = np.isfinite(gap) & (np.abs(gap) <= bound)  # where a score is infinite, so is the bound
    return _converged(attribution, spent.astype(np.int32), gap.astype(wide_dtype(dtype)), reached)


_narrowed = jax.jit(like)
_converged = jax.jit(Convergence)


def _batched(function: Any, *inputs: Any) -> Any:
    """`function` of every row, in the layout that the backend is fast at."""
    return fast_layout(lambda *values: jax.vmap(function)(*values))(*inputs)


@Compiled
def _along(
    e: IntegratedGradients, keys: Array | None, x: Pytree, args: tuple[Any, ...]
) -> tuple[Pytree, Pytree, Array]:
    """Baselines, sums of zero, and the scores on the paths' grid, `[B, GRID + 1]`."""

    def one(key: Array | None, x: Pytree, args: tuple[Any, ...]) -> tuple[Pytree, Pytree, Array]:
        start = e.start(key, x)
        empty = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), _sum_dtype(leaf)), x)
        grid = jnp.linspace(0.0, 1.0, GRID + 1, dtype=common_dtype(x))
        return start, empty, chunked_map(lambda alpha: e.score(interpolate(start, x, alpha), *args), grid, e.batch_size)

    return _batched(one, keys, x, args)


def _sum_dtype(leaf: Any) -> Any:
    dtype = jnp.result_type(leaf)
    return wide_dtype(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.float32


def _rows(tree: Any, row: Array) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[row], tree)


@Compiled
def _add(
    e: IntegratedGradients,
    start: Pytree,
    x: Pytree,
    args: tuple[Any, ...],
    sums: Pytree,
    row: Array,
    middle: Array,
    width: Array,
    real: Array,
) -> Pytree:
    """Add (x - b) times the interval's width times the gradient in its middle to its example's sum."""

    def one(start: Pytree, x: Pytree, args: tuple[Any, ...], middle: Array, width: Array) -> Pytree:
        return e.part(x, start, middle[None], width[None], *args)

    parts = _batched(one, *_rows((start, x, args), row), middle, width)

    def add(total: Array, part: Array) -> Array:
        mask = real.reshape(real.shape + (1,) * (part.ndim - 1))
        return total.at[row].add(jnp.where(mask, part, jnp.zeros_like(part)))

    return jax.tree.map(add, sums, parts)
