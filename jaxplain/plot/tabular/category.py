"""Points side by side where many are at one place, and axes of categories."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jaxplain.plot.canvas import wrapped
from jaxplain.plot.values import plain


def piled(values: np.ndarray, span: float) -> np.ndarray:
    """Offsets in (-0.4, 0.4) that set points of about the same value side by side, the densest place the widest."""
    span = max(span, 1e-12 * float(np.abs(values).max()))  # all equal but for rounding: one place
    column = np.round(values / span * 120).astype(int)
    offsets = np.zeros(len(values))
    for place in np.unique(column):
        members = np.flatnonzero(column == place)
        rank = np.arange(len(members))
        offsets[members] = (rank + 1) // 2 * np.where(rank % 2 == 0, 1, -1)
    return 0.4 * offsets / max(float(np.abs(offsets).max()), 8.0)


def beside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places of a category with the points of about one height side by side."""
    span = max(float(np.ptp(y)), np.finfo(float).tiny)
    spread = np.zeros(len(x))
    for place in np.unique(x):
        spread[x == place] = piled(y[x == place], span)
    return x + 0.8 * spread


def category_axis(axes: Axes, below: Axes, codes: np.ndarray, words: list[str]) -> None:
    """Names of categories along an axis, and bars of how many examples each has."""
    below.bar(range(len(words)), np.bincount(codes.astype(int), minlength=len(words)), color="0.88", zorder=-1)
    slanted = min(18, max(map(len, words))) * len(words) > 40
    axes.set_xticks(
        range(len(words)),
        [wrapped(plain(word), 18, 2) for word in words],
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
    )
    axes.set_xlim(-0.6, len(words) - 0.4)
