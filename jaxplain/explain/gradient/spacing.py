"""Where along a path gradients are taken, and how many: read off scores on a grid, which take forward passes only.

The model of the error on a piecewise linear network. Kinks of slope change J at density r(t) give a second difference
at spacing h a mean square of r J^2 2 h^3 / 3, and the midpoint rule on intervals of width H(t) a mean square error of
the integral of r J^2 H^2 / 12. So with q_j the mean square at grid point j, the error is sum_j q_j H_j^2 / (8 h^2), and
for a given number of points it is least where H is proportional to q^(-1/3).

Fourth differences tell a smooth path from one with kinks: of a kink that lies anywhere they are twice the second
differences (mean squares 8/3 and 2/3 of (J h)^2), of a smooth function on a fine grid much smaller. On a smooth path
the scores tell its slope anywhere, by polynomials through the points around, and so what a rule will miss.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from jaxplain.program import quadrature

GRID = 32
"""Intervals of the grid of scores."""

SAFETY = 1.5
"""The tolerance is so many times the expected error: misses have either sign, and 87 of 100 are within 1.5 times it."""

WINDOW = 5
"""Over how many grid points squares are averaged: single ones say little where there are several kinks."""

LEAST = 0.25
"""The least density of points, as a part of the mean: the grid may miss a kink."""

SMOOTH = 0.5
"""Fourth differences below this part of the second: eight grid points or more to a wave."""


AROUND = 9
"""Through how many grid points the polynomials go that tell a smooth path's slope."""


class Spacing(NamedTuple):
    """For each path: the density of points on the grid's intervals (mean 1), `[B, GRID]`; how many the midpoint rule
    needs, `[B]`; whether the path is smooth, `[B]`."""

    density: np.ndarray
    needed: np.ndarray
    smooth: np.ndarray


class Points(NamedTuple):
    """Points of the paths where gradients are taken: the example's row, place on the path, and weight; `[n]` each."""

    row: np.ndarray
    place: np.ndarray
    weight: np.ndarray


def spacing(scores: np.ndarray, bound: np.ndarray) -> Spacing:
    """Read scores `[B, GRID + 1]`, float64, on the grid; the integral's error is to be within `bound`, `[B]`."""
    second, fourth = _squares(scores, 2), _squares(scores, 4)
    smooth = fourth.mean(axis=1) <= SMOOTH**2 * second.mean(axis=1)
    counts = np.convolve(np.ones(GRID - 1), np.ones(WINDOW), "same")
    mean = np.stack([np.convolve(row, np.ones(WINDOW), "same") for row in second]) / counts
    padded = np.concatenate([mean[:, :1], mean, mean[:, -1:]], axis=1)
    energy = (padded[:, 1:] + padded[:, :-1]) / 2
    shape = np.cbrt(energy)
    shape = shape / np.maximum(shape.mean(axis=1, keepdims=True), np.finfo(float).tiny) + LEAST
    density = shape / shape.mean(axis=1, keepdims=True)
    error = GRID * np.sqrt((energy / density**2).sum(axis=1) / 8)  # of a single point
    return Spacing(density, np.ceil(SAFETY * error / np.maximum(bound, np.finfo(float).tiny)), smooth)


def enough_steps(scores: np.ndarray, bound: np.ndarray, rule: str) -> np.ndarray:
    """With how many steps, up to `GRID`, a rule's gap on smooth paths falls within `bound` and stays there, `[B]`.

    A gap that is small by chance is none: all rules with more steps are within the bound, too. Where a score is not
    finite, no number helps, and 1 is said.
    """
    with np.errstate(invalid="ignore"):  # scores that are not finite
        gaps = np.abs(scores @ _gaps(rule))
        largest = np.maximum.accumulate(gaps[:, ::-1], axis=1)[:, ::-1]  # with so many steps or more
        within = largest <= bound[:, None]
    steps = np.where(within.any(axis=1), within.argmax(axis=1) + 1, GRID)
    return np.where(np.isfinite(scores).all(axis=1), steps, 1)


@functools.lru_cache(maxsize=8)
def _gaps(rule: str) -> np.ndarray:
    """What a rule with 1, 2, ... GRID steps misses, as a linear function of the scores: `[GRID + 1, GRID]`."""
    rows = []
    for steps in range(1, GRID + 1):
        nodes, weights = quadrature(rule, max(steps, 2) if rule == "trapezoid" else steps)
        row = weights @ np.stack([_slope(node) for node in nodes])
        row[[0, -1]] += 1.0, -1.0
        rows.append(row)
    return np.stack(rows, axis=1)


def _slope(place: float) -> np.ndarray:
    """The slope at a place of the path, as a linear function of the scores on the grid: `[GRID + 1]`."""
    first = int(np.clip(round(place * GRID) - AROUND // 2, 0, GRID + 1 - AROUND))
    middle = first + AROUND // 2
    offset, power = np.arange(AROUND) - AROUND // 2, np.arange(AROUND)
    derivative = power * (place * GRID - middle) ** np.maximum(power - 1, 0)
    slope = np.zeros(GRID + 1)
    slope[first : first + AROUND] = GRID * np.linalg.solve(offset[None, :] ** power[:, None], derivative)
    return slope


def _squares(scores: np.ndarray, order: int) -> np.ndarray:
    """Squared differences; zero where a score is not finite: no number of gradients helps there."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        square = np.diff(scores, n=order, axis=1) ** 2
    return np.where(np.isfinite(square), square, 0.0)


def ruled(row: int, nodes: np.ndarray, weights: np.ndarray) -> Points:
    """A rule's points on one path."""
    return Points(np.full(len(nodes), row), nodes, weights)


def spaced(row: int, density: np.ndarray, cells: int, part: float, *, ends: bool) -> Points:
    """The middles of intervals that hold equal parts of the density, or their ends; the weights sum to `part`."""
    filled = np.concatenate([[0.0], np.cumsum(density)]) / density.sum()
    edges = np.interp(np.linspace(0.0, 1.0, cells + 1), filled, np.linspace(0.0, 1.0, GRID + 1))
    width = np.diff(edges)
    place = edges if ends else (edges[1:] + edges[:-1]) / 2
    weight = np.convolve(width, [0.5, 0.5]) if ends else width
    return Points(np.full(len(place), row), place, part * weight)


def joined(parts: list[Points]) -> Points:
    """Points of several paths, one after the other."""
    return Points(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
