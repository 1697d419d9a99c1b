"""Curves with coloured stretches: behind them, or in the line itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patheffects import withStroke

from jaxplain import check
from jaxplain.plot.canvas import DIVERGING, score_limits
from jaxplain.plot.values import batch

MOST = 1000
"""Stretches drawn: about as many as a figure has pixels, so that none is lost between two of them."""

MARKS = ("background", "line")


def per_second(rate: Any, name: str) -> float:
    """How many points a second holds."""
    value = float(batch(rate, name, "rate", {0: "a number"}))
    return float(check.positive(value, name, "rate"))


def stretch_size(stretch: Any, length: int, name: str) -> int:
    """Steps of a stretch: what was given, or as few as can be seen."""
    if stretch is None:
        return -(-length // MOST)
    size = check.count(stretch, name, "stretch")
    if size > length:
        raise ValueError(f"{name}: `stretch` is {size}, but there are {length} steps.")
    return size


def stretch_sums(values: np.ndarray, size: int) -> np.ndarray:
    """Sums over stretches of `size` steps along the first axis; the last may be shorter."""
    return np.add.reduceat(values, np.arange(0, len(values), size), axis=0)


def coloured_curve(
    axes: Axes, curve: np.ndarray, sums: np.ndarray, size: int, norm: Normalize, *, step: float = 1.0, mark: str
) -> None:
    """Draw a curve `[T]`, a point at every `step`, with its stretches coloured by their attributions' sums."""
    x = step * np.arange(len(curve))
    edges = step * (np.minimum(np.arange(len(sums) + 1) * size, len(curve)) - 0.5)
    dots: dict[str, Any] = {"marker": "o" if len(curve) == 1 else "." if len(curve) <= 40 else None, "markersize": 4}
    low, high = float(curve.min()), float(curve.max())
    dense = len(curve) > MOST  # fills what is behind it
    ends = score_limits(low, high, 0.25 if dense else 0.08)
    axes.set(xlim=(edges[0], edges[-1]), ylim=ends)
    style: dict[str, Any] = {"color": "black", "linewidth": 0.5 if dense else 0.8, "alpha": 0.5 if dense else 1.0}
    if mark == "background":
        axes.pcolormesh(edges, ends, sums[None, :], cmap=DIVERGING, norm=norm, zorder=0)
        style |= {} if dense else {"path_effects": [withStroke(linewidth=2.2, foreground="white")]}
    else:
        lines = LineCollection(_pieces(x, curve, edges), array=sums, cmap=DIVERGING, norm=norm, linewidths=4.5)
        axes.add_collection(lines, autolim=False)
    axes.plot(x, curve, zorder=3, **style, **dots)


def _pieces(x: np.ndarray, curve: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """The curve cut at the edges of the stretches, half-way between two points."""
    heights = np.interp(edges, x, curve)
    pieces = []
    for place in range(len(edges) - 1):
        inside = (x > edges[place]) & (x < edges[place + 1])
        ends = np.array([[edges[place], heights[place]]]), np.array([[edges[place + 1], heights[place + 1]]])
        pieces.append(np.concatenate([ends[0], np.stack([x[inside], curve[inside]], axis=1), ends[1]]))
    return pieces
