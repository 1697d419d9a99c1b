"""Curves of a score over what was taken away or put back, with the control beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain.plot.canvas import NEUTRAL, canvas, fitted, legend, open_sides, series
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, number, plain


@drawn
def curves(
    values: Mapping[str, Any],
    *,
    control: str | Sequence[str] = "random",
    x: Any = None,
    xlabel: str = "share of the input changed",
    ylabel: str = "score",
    title: str = "",
) -> Figure:
    """Draw deletion or insertion curves of several methods, the random control dashed.

    The number beside a name is the area under its curve: the mean height by the trapezoid rule, over the range of x.

    Args:
        values: `{method: curve}`, `[P]` or `[B, P]` for B examples: then the line is their mean and the band its 95 %
            confidence interval, 1.96 s / sqrt(B). All have the same P. What `deletion_curve` and `insertion_curve`
            return serves too, and says where its points lie.
        control: Names of the curves to compare with, drawn grey and dashed.
        x: Where the points lie, `[P]` and rising; by default the curves' own fractions, or evenly from 0 to 1.
        xlabel: What x is.
        ylabel: What the curves are.
        title: What all of it is.

    Returns:
        A figure.

    Raises:
        ValueError: No curves, wrong shapes, lengths that do not match, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = curves({"saliency": [1.0, 0.2, 0.1], "random": [1.0, 0.8, 0.1]}, title="deletion")
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['saliency  (area 0.375)', 'random  (area 0.675)']
    """
    if not values:
        raise ValueError("curves: `values` is empty; pass {method: curve}.")
    tables = {
        str(method): np.atleast_2d(
            batch(getattr(curve, "score", curve), "curves", f"values[{method!r}]", {1: "[P]", 2: "[B, P]"})
        )
        for method, curve in values.items()
    }
    lengths = {method: table.shape[1] for method, table in tables.items()}
    if len(set(lengths.values())) > 1 or min(lengths.values()) < 2:
        raise ValueError(f"curves: all curves need one number of points, at least 2, but have {lengths}.")
    places = _places(x, values, next(iter(lengths.values())))
    controls = {control} if isinstance(control, str) else set(control)
    figure = canvas(5.6, 3.6, f"{title or 'Curves'} of {', '.join(tables)}: {ylabel} over {xlabel}")
    axes = figure.add_subplot()
    places_of = iter(range(len(tables)))
    for method, table in tables.items():
        look = {"color": NEUTRAL, "linestyle": "--"} if method in controls else series(next(places_of))
        mean = table.mean(axis=0)
        area = float(np.trapezoid(mean, places)) / (places[-1] - places[0])
        label = plain(f"{method}  (area {number(area)})")
        axes.plot(places, mean, linewidth=1.6, label=label, **look)
        if len(table) > 1:
            half = 1.96 * table.std(axis=0, ddof=1) / np.sqrt(len(table))
            axes.fill_between(places, mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)
    axes.set_xlabel(plain(xlabel), fontsize=9)
    axes.set_ylabel(plain(ylabel), fontsize=9)
    axes.set_title(fitted(plain(title), 5.0, 10, 3), fontsize=10)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=8)
    legend(figure, axes)
    return figure


def _places(x: Any, values: Mapping[str, Any], points: int) -> np.ndarray:
    """Where the points lie: as told, as all the curves say, or evenly."""
    if x is None:
        own = [np.atleast_2d(np.asarray(curve.fraction)) for curve in values.values() if hasattr(curve, "fraction")]
        if not own:
            return np.linspace(0, 1, points)
        x = own[0][0]
        if any(rows.shape[1] != points or not np.allclose(rows, x[None]) for rows in own):
            raise ValueError("curves: the curves' fractions differ; draw curves of the same steps together.")
    places = batch(x, "curves", "x", {1: "[P]"})
    if len(places) != points or (np.diff(places) <= 0).any():
        raise ValueError(f"curves: `x` has to rise and hold {points} places, as the curves do, not {len(places)}.")
    return places
