"""Integrated gradients to a tolerance: forward passes say how much the path bends, and where gradients are spent.

Along the path the score of a piecewise linear network bends at kinks. The second differences of the score on a grid,
which take forward passes only, estimate how many and how sharp they are in each part of the path; from that follows
where the midpoint rule's points lie best, and how many it needs for its error to be within the tolerance. So every
example gets its own number of gradients, chosen before the first of them is taken. Work of all examples is pooled into
full batches, whichever examples it comes from, by one program for everything.

The model of the error. Kinks of slope change J at density r(t) give a second difference at spacing h a mean square of
r J^2 2 h^3 / 3, and the midpoint rule on intervals of width H(t) a mean square error of the integral of r J^2 H^2 / 12.
So with q_j the mean square at grid point j, the error is sum_j q_j H_j^2 / (8 h^2), and for a given number of points it
is least where H is proportional to q^(-1/3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.explain.path import Convergence, IntegratedGradients, interpolate
from jaxplain.program.differentiate import like, total
from jaxplain.program.hoist import Compiled
from jaxplain.program.layout import fast_layout
from jaxplain.program.loop import wide_dtype
from jaxplain.program.quadrature import quadrature
from jaxplain.types import Array, Pytree

SAFETY = 1.5
"""The tolerance is so many times the expected error: misses have either sign, and 87 of 100 are within 1.5 times it."""

GRID = 32
"""Intervals of the grid of scores."""

WINDOW = 5
"""Over how many grid points squares are averaged: single ones say little where there are several kinks."""

LEAST = 0.25
"""The least density of points, as a part of the mean: the grid may miss a kink."""


class _Points(NamedTuple):
    """Points of the paths where gradients are taken: the example's row, place on the path, and weight; `[n]` each."""

    row: np.ndarray
    place: np.ndarray
    weight: np.ndarray


class _Work(NamedTuple):
    """What all programs get: the method, every example's baseline, the examples and further arguments."""

    e: IntegratedGradients
    start: Pytree
    x: Pytree
    args: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many examples, and how many points are evaluated at once."""
        return int(jax.tree.leaves(self.x)[0].shape[0])

    def blocks(self, *columns: np.ndarray) -> Iterator[tuple[slice, tuple[np.ndarray, ...]]]:
        """Columns of one length in blocks of full size; the last is filled up with its last value."""
        count = len(columns[0])  # may be 0
        for begin in range(0, count, self.size):
            index = np.minimum(np.arange(begin, begin + self.size), count - 1)
            yield slice(begin, min(begin + self.size, count)), tuple(column[index] for column in columns)

    def scores(self, row: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The scores at points of the paths; float64, so that their differences lose nothing more."""
        blocks = [
            _settled(_scores(self.e, self.start, self.x, self.args, rows.astype(np.int32), places.astype(np.float32)))
            for _, (rows, places) in self.blocks(row, place)
        ]
        return np.concatenate([_on_host(block) for block in blocks])[: len(row)]

    def integrate(self, sums: Pytree, points: _Points) -> Pytree:
        """The sums with the points' attributions added: one gradient each."""
        for where, (rows, places, weights) in self.blocks(*points):
            real = np.arange(self.size) < where.stop - where.start
            inputs = (rows.astype(np.int32), places.astype(np.float32), weights.astype(np.float32), real)
            sums = _settled(_add(self.e, self.start, self.x, self.args, sums, *inputs))
        return sums


def refine(e: IntegratedGradients, x: Pytree, args: tuple[Any, ...], keys: Array | None) -> Any:
    """Attribute every example of a batch to its tolerance; the companion's `Convergence` where it was asked for."""
    nodes, panels = _divided(e.steps)
    start, ends, sums, integrals = _first(e, keys, x, args, nodes, panels)
    work, scores = _Work(e, start, x, args), _on_host(ends)
    change = scores[:, -1] - scores[:, 0]
    bound = float(e.tolerance) * (np.abs(change) + float(e.floor))
    spent = np.full(len(change), e.steps)
    # The gaps of the panels are added up by size, so that two that cancel do not look like convergence.
    left = np.abs(_on_host(integrals) - np.diff(scores, axis=1)).sum(axis=1) > bound
    left &= np.isfinite(change)
    density, cells = _planned(work, left, bound)
    cells = np.minimum(cells, e.max_steps - spent)
    left &= cells > e.steps  # where there is no room for a finer attempt, the first stays
    sums, round_ = _scaled(sums, np.where(left, 0.0, 1.0)), 0
    while left.any():
        # After the middles of the intervals their ends, then the middles of intervals of half the size, and so on: each
        # round's rule and the one that is there make, half and half, the trapezoid rule of half the spacing, so that
        # no gradient is taken in vain.
        part = 1.0 if round_ == 0 else 0.5
        points = _placed(density, cells, left, part, ends=round_ == 1)
        sums = work.integrate(_scaled(sums, np.where(left & (round_ > 0), part, 1.0)), points)
        spent += np.bincount(points.row, minlength=len(left))
        gap = np.abs(_on_host(_totals(sums)) - change)
        cells, round_ = cells * (1 if round_ == 0 else 2), round_ + 1
        left &= (gap > bound) & (spent + cells + 1 <= e.max_steps)
    return _finish(e, sums, x, spent, change, bound)


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


def _divided(steps: int) -> tuple[int, int]:
    """The first try's nodes on a panel and number of panels: about four nodes each, `steps` in all."""
    panels = next(panels for panels in range(max(1, steps // 4), 0, -1) if steps % panels == 0)
    return steps // panels, panels


def _planned(work: _Work, left: np.ndarray, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density of points on the grid's intervals (mean 1), and how many points the tolerance needs, of rows left."""
    rows, grid = np.flatnonzero(left), np.linspace(0.0, 1.0, GRID + 1)
    density, needed = np.ones((len(left), GRID)), np.zeros(len(left), int)
    if not len(rows):
        return density, needed
    scores = work.scores(np.repeat(rows, GRID + 1), np.tile(grid, len(rows))).reshape(len(rows), -1)
    square = np.diff(scores, n=2, axis=1) ** 2
    square = np.where(np.isfinite(square), square, 0.0)
    mean = np.stack([np.convolve(row, np.ones(WINDOW), "same") for row in square])
    mean /= np.convolve(np.ones(GRID - 1), np.ones(WINDOW), "same")
    padded = np.concatenate([mean[:, :1], mean, mean[:, -1:]], axis=1)
    energy = (padded[:, 1:] + padded[:, :-1]) / 2
    shape = np.cbrt(energy)
    shape = shape / np.maximum(shape.mean(axis=1, keepdims=True), np.finfo(float).tiny) + LEAST
    density[rows] = shape / shape.mean(axis=1, keepdims=True)
    error = GRID * np.sqrt((energy / density[rows] ** 2).sum(axis=1) / 8)  # of a single point
    needed[rows] = np.maximum(np.ceil(SAFETY * error / bound[rows]), 2 * work.e.steps)
    return density, needed


def _placed(density: np.ndarray, cells: np.ndarray, left: np.ndarray, part: float, *, ends: bool) -> _Points:
    """The middles of intervals that hold equal parts of the density, or their ends; the weights sum to `part`."""
    found = [_Points(np.zeros(0, int), np.zeros(0), np.zeros(0))]
    for row in np.flatnonzero(left):
        filled = np.concatenate([[0.0], np.cumsum(density[row])]) / density[row].sum()
        edges = np.interp(np.linspace(0.0, 1.0, cells[row] + 1), filled, np.linspace(0.0, 1.0, GRID + 1))
        width = np.diff(edges)
        place = edges if ends else (edges[1:] + edges[:-1]) / 2
        weight = np.convolve(width, [0.5, 0.5]) if ends else width
        found.append(_Points(np.full(len(place), row), place, part * weight))
    return _Points(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


@jax.jit
def _scaled(sums: Pytree, factor: Any) -> Pytree:
    """Sums times a factor for each row; 0 clears a row, whatever it holds."""

    def scale(leaf: Array) -> Array:
        by = factor.reshape(factor.shape + (1,) * (leaf.ndim - 1)).astype(leaf.dtype)
        return jnp.where(by == 0, jnp.zeros_like(leaf), leaf * by)

    return jax.tree.map(scale, sums)


def _finish(
    e: IntegratedGradients, sums: Pytree, x: Pytree, spent: np.ndarray, change: np.ndarray, bound: np.ndarray
) -> Any:
    attribution = _narrowed(sums, x)
    if not e.with_gap:
        return attribution
    gap = _on_host(_totals(sums)) - change
    return _converged(attribution, spent.astype(np.int32), gap.astype(np.float32), np.abs(gap) <= bound)


_narrowed = jax.jit(like)
_converged = jax.jit(Convergence)


def _batched(function: Any, *inputs: Any) -> Any:
    """`function` of every row, in the layout that the backend is fast at."""
    return fast_layout(lambda *values: jax.vmap(function)(*values))(*inputs)


def _first(
    e: IntegratedGradients, keys: Array | None, x: Pytree, args: tuple[Any, ...], nodes: int, panels: int
) -> Any:
    """Baselines, scores at the panels' ends `[B, panels + 1]`, attributions, and integrals `[B, panels]`."""
    points, weights = (np.asarray(values, np.float32) for values in quadrature(e.rule, nodes))
    lows = np.arange(panels, dtype=np.float32) / panels
    return _tried(e, keys, x, args, lows[:, None] + points / panels, weights / panels)


@Compiled
def _tried(
    e: IntegratedGradients, keys: Array | None, x: Pytree, args: tuple[Any, ...], points: Array, weights: Array
) -> tuple[Pytree, Array, Pytree, Array]:
    def one(key: Array | None, x: Pytree, args: tuple[Any, ...]) -> tuple[Pytree, Array, Pytree, Array]:
        start = e.start(key, x)
        ends = jnp.linspace(0.0, 1.0, points.shape[0] + 1)
        scores = lax.map(lambda alpha: e.score(interpolate(start, x, alpha), *args), ends)
        empty = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), _sum_dtype(leaf)), x)

        def panel(sums: Pytree, nodes: Array) -> tuple[Pytree, Array]:
            part = e.part(x, start, nodes, weights, *args)
            return jax.tree.map(jnp.add, sums, part), total(part)

        sums, integrals = lax.scan(panel, empty, points)
        return start, scores, sums, integrals

    return _batched(one, keys, x, args)


def _sum_dtype(leaf: Any) -> Any:
    dtype = jnp.result_type(leaf)
    return wide_dtype(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.float32


def _rows(tree: Any, row: Array) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[row], tree)


@Compiled
def _scores(e: IntegratedGradients, start: Pytree, x: Pytree, args: tuple[Any, ...], row: Array, alpha: Array) -> Array:
    def one(start: Pytree, x: Pytree, args: tuple[Any, ...], alpha: Array) -> Array:
        return e.score(interpolate(start, x, alpha), *args)

    return _batched(one, *_rows((start, x, args), row), alpha)


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
