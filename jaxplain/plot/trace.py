"""Attributions along a sequence of examples, such as the steps of an episode, beside what they explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain.plot.canvas import NEUTRAL, canvas, fitted, legend_below, open_sides, series
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, plain, texts


@drawn
def traces(
    attributions: Mapping[str, Any],
    scores: Mapping[str, Any],
    *,
    names: Sequence[Any] | None = None,
    inputs: Any = None,
    xlabel: str = "step",
) -> Figure:
    """Draw a column for each score: the score over the steps, and below it what each feature adds to it.

    Args:
        attributions: From a score's name to `[T, D]`, in units of that score.
        scores: From the same names to the score at each step, `[T]`.
        names: Names of the features, `[D]`.
        inputs: The features themselves, `[T, D]`, drawn in a third row, each divided by its largest size.
        xlabel: What a step is.

    Returns:
        A figure.

    Raises:
        ValueError: No scores, names that differ, shapes that do not fit, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = traces({"value": [[0.5, -0.5], [1.0, 0.0]]}, {"value": [0.0, 1.0]}, names=["place", "speed"])
        >>> [axes.get_title() for axes in figure.axes]
        ['value', '']
    """
    if not attributions or set(attributions) != set(scores):
        raise ValueError(
            f"traces: `attributions` ({', '.join(attributions)}) and `scores` ({', '.join(scores)}) need the same "
            "names."
        )
    tables = {k: batch(v, "traces", f"attributions[{k!r}]", {2: "[T, D]"}) for k, v in attributions.items()}
    curves = {k: batch(scores[k], "traces", f"scores[{k!r}]", {1: "[T]"}) for k in attributions}
    sizes = {table.shape for table in tables.values()} | {
        (len(c), next(iter(tables.values())).shape[1]) for c in curves.values()
    }
    states = None if inputs is None else batch(inputs, "traces", "inputs", {2: "[T, D]"})
    if states is not None:
        sizes.add(states.shape)
    if len(sizes) > 1:
        raise ValueError(f"traces: all parts need the same steps and features, but have {sorted(sizes)}.")
    steps, count = sizes.pop()
    heads = texts(names, count, "traces", "names", "feature {}")
    rows = 2 + (states is not None)
    figure = canvas(4.6 * len(tables), 1.9 * rows, f"{', '.join(tables)} over {steps} {xlabel}s, by feature")
    grid = figure.subplots(rows, len(tables), squeeze=False, sharex=True)
    for column, (name, table) in enumerate(tables.items()):
        top, middle = grid[0, column], grid[1, column]
        top.plot(curves[name], color="black", linewidth=1.4, marker="o" if steps == 1 else None)
        top.set_title(fitted(plain(name), 4.0, 10), fontsize=10)
        _lines(middle, table)
        if states is not None:
            _lines(grid[2, column], states / np.maximum(np.abs(states).max(axis=0), np.finfo(float).tiny))
        grid[-1, column].set_xlabel(plain(xlabel), fontsize=9)
    for axes, label in zip(grid[:, 0], ("score", "attribution", "input / its largest size"), strict=False):
        axes.set_ylabel(label, fontsize=9)
    for axes in grid.ravel():
        axes.axhline(0, color=NEUTRAL, linewidth=0.8, zorder=0)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.margins(x=0.01)
        open_sides(axes).tick_params(labelsize=8)
    legend_below(figure, grid[1, 0].get_lines()[:count], heads)
    return figure


def _lines(axes: Any, table: np.ndarray) -> None:
    for feature, values in enumerate(table.T):
        axes.plot(values, linewidth=1.4, marker="o" if len(values) == 1 else None, **series(feature))
