"""What features do over a dataset: partial dependence, single examples, accumulated local effects, importances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    canvas,
    feature_axis,
    fitted,
    open_sides,
    panels,
    score_limits,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.tabular import by_name
from jaxplain.plot.values import batch, number, numbers, plain, texts

LINES = 200
"""The most curves of single examples drawn, spread evenly over them."""


@drawn
def effects(
    values: Mapping[str, Any],
    *,
    data: Any = None,
    categories: Mapping[str, Sequence[Any]] | None = None,
    ylabel: str = "score",
    columns: int = 3,
    shared: bool = True,
) -> Figure:
    """Draw a panel for each feature: its partial dependence, single examples' curves, or accumulated local effect.

    Curves `[G]` are lines, `[N, G]` thin lines with their mean thick. A feature of several values (a one-hot variable)
    gets a bar for each of its combinations. Strips along the bottom show where the data lie.

    Args:
        values: From a feature's name to its `Effect`, or any object with `grid` and `score`.
        data: From a feature's name to its values in the dataset, `[N]`, or a data frame; drawn as strips, and where
            there are none, the grid's values are.
        categories: From a feature's name to the names of its grid's values, drawn in their place (the bars' names), as
            `jaxplain.data.Table.categories` has them.
        ylabel: What the score is, with its unit.
        columns: Panels in a row.
        shared: Whether all panels share one vertical scale, which shows at once which feature does most.

    Returns:
        A figure.

    Raises:
        ValueError: No features, shapes that do not fit, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> from types import SimpleNamespace
        >>> figure = effects({"age": SimpleNamespace(grid=[1.0, 2.0], score=[0.0, 1.0])})
        >>> figure.axes[0].get_xlabel()
        'age'
    """
    if not values:
        raise ValueError("effects: `values` is empty; pass at least one feature's effect.")
    for feature, effect in values.items():
        if not (hasattr(effect, "grid") and hasattr(effect, "score")):
            raise TypeError(
                f"effects: `values[{feature!r}]` has to be an object with `grid` and `score`, such as the result of "
                f"jaxplain.aggregate.partial_dependence, not {check.short(effect)}."
            )
    columns, data = check.count(columns, "effects", "columns"), by_name(data, "effects", "data")
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"effects: `data` has to be a mapping or a data frame, not {check.short(data)}.")
    figure, grid = panels(len(values), columns, (3.1, 2.6), f"Effects on {ylabel} of {', '.join(values)}")
    for place, (axes, (name, effect)) in enumerate(zip(grid, values.items(), strict=True)):
        names = None if categories is None else categories.get(name)
        _effect(axes, name, effect, None if data is None else data.get(name), names)
        if shared and place:
            axes.sharey(grid[0])
        if place % columns == 0:
            axes.set_ylabel(fitted(plain(ylabel), 2.2, 9), fontsize=9)
    if shared:
        low = min(axes.get_ylim()[0] for axes in grid)
        high = max(axes.get_ylim()[1] for axes in grid)
        grid[0].set_ylim(low, high)
    return figure


def _effect(axes: Axes, name: str, effect: Any, data: Any, names: Sequence[Any] | None) -> None:
    where = f"values[{name!r}]"
    places = batch(effect.grid, "effects", f"{where}.grid", {1: "[G]", 2: "[G, size]"})
    table = np.atleast_2d(batch(effect.score, "effects", f"{where}.score", {1: "[G]", 2: "[N, G]"}))
    if table.shape[1] != len(places):
        raise ValueError(f"effects: `{where}` has a grid of {len(places)} values and a score of {table.shape[1]}.")
    axes.set_xlabel(fitted(plain(name), 2.4, 9), fontsize=9)
    axes.grid(alpha=0.25, linewidth=0.6, axis="y" if names is not None or places.ndim == 2 else "both")
    open_sides(axes).tick_params(labelsize=8)
    if names is not None or places.ndim == 2:
        _bars(axes, places, table, names, name)
        return
    mean = table.mean(axis=0)
    if len(table) > 1:
        chosen = np.unique(np.linspace(0, len(table) - 1, min(LINES, len(table))).astype(int))
        axes.plot(places, table[chosen].T, color=NEUTRAL, linewidth=0.5, alpha=max(0.06, 0.6 / len(chosen) ** 0.5))
        axes.annotate(
            f"mean and {len(chosen)} of {len(table)} examples"
            if len(chosen) < len(table)
            else f"mean and {len(table)} examples",
            (0.98, 0.98),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=7,
            color=NEUTRAL,
        )
    marker = "." if len(places) <= 12 else None
    axes.plot(places, mean, color=NEGATIVE, linewidth=1.9, marker=marker)
    rug = places if data is None else numbers(data, "effects", f"data[{name!r}]").reshape(-1)
    axes.plot(
        rug, np.zeros(rug.size), "|", color="black", alpha=0.35, markersize=6, transform=axes.get_xaxis_transform()
    )
    ends = min(places.min(), rug.min()), max(places.max(), rug.max())
    axes.set_xlim(*(ends if ends[0] < ends[1] else score_limits(*ends, 0.0)))
    axes.margins(x=0.03)


def _bars(axes: Axes, places: np.ndarray, table: np.ndarray, names: Sequence[Any] | None, name: str) -> None:
    one_hot = places.ndim == 2 and np.isin(places, (0, 1)).all() and (places.sum(axis=1) == 1).all()
    if names is None:
        heads = (
            [str(int(row.argmax())) for row in places]
            if one_hot
            else [", ".join(map(number, np.atleast_1d(row))) for row in places]
        )
    else:
        heads = texts(names, places.shape[1] if one_hot else len(places), "effects", f"categories[{name!r}]")
        heads = [heads[int(row.argmax())] for row in places] if one_hot else heads
    mean = table.mean(axis=0)
    axes.plot(range(len(mean)), mean, "o", color=NEGATIVE, markersize=6)
    axes.vlines(range(len(mean)), 0, mean, color=NEGATIVE, linewidth=2.5, alpha=0.5)
    axes.axhline(0, color="black", linewidth=0.7)
    for place, value in enumerate(mean):
        axes.annotate(
            number(value),
            (place, value),
            (0, 5 if value >= 0 else -5),
            textcoords="offset points",
            ha="center",
            va="bottom" if value >= 0 else "top",
            fontsize=7,
        )
    heads = [wrapped(head, 18, 2) for head in heads]
    slanted = max(map(len, heads)) * len(heads) > 30
    axes.set_xticks(range(len(mean)), heads, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    axes.set_xlim(-0.6, len(mean) - 0.4)
    axes.margins(y=0.2)


@drawn
def importance(
    values: Any, error: Any = None, *, names: Sequence[Any] | None = None, limit: int = 15, xlabel: str = "importance"
) -> Figure:
    """Draw features' importances with their errors, the largest first.

    Args:
        values: `[D]`, such as `.mean` of `permutation_importance`, or that result itself.
        error: Standard errors `[D]`, drawn as bars of two each way; those of the result where it is given. One that is
            NaN is not known: its feature has no line.
        names: Names of the features, `[D]`.
        limit: The most features drawn.
        xlabel: What the importance is, with its unit.

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, counts that do not match, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = importance([0.1, 0.5], [0.01, 0.02], names=["age", "dose"])
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['dose', 'age']
    """
    if hasattr(values, "standard_error"):
        values, error = values.mean, values.standard_error if error is None else error
    array = batch(values, "importance", "values", {1: "[D]"})
    half = None if error is None else 2 * batch(error, "importance", "error", {1: "[D]"}, finite=False)
    if half is not None and half.shape != array.shape:
        raise ValueError(f"importance: `error` has shape {half.shape}, but `values` has {array.shape}.")
    heads = texts(names, len(array), "importance", "names", "feature {}")
    order = np.argsort(-np.abs(array), kind="stable")[: check.count(limit, "importance", "limit")]
    figure = canvas(5.8, 0.9 + 0.27 * len(order), f"Importance of {len(order)} of {len(array)} features")
    axes = figure.add_subplot()
    colours = [POSITIVE if array[k] >= 0 else NEGATIVE for k in order]
    bars = None if half is None or np.isnan(half[order]).all() else half[order]
    axes.barh(
        range(len(order)), array[order], xerr=bars, color=colours, height=0.68, error_kw={"linewidth": 1, "capsize": 2}
    )
    axes.axvline(0, color="black", linewidth=0.8)
    feature_axis(axes, [heads[k] for k in order])
    unknown = 0 if bars is None else int(np.isnan(bars).sum())
    words = f" (lines: 2 standard errors{f'; unknown of {unknown}' if unknown else ''})"
    axes.set_xlabel(plain(xlabel) + ("" if bars is None else words), fontsize=9)
    left = len(array) - len(order)
    if left:
        axes.set_title(f"the {len(order)} largest of {len(array)}", fontsize=9)
    return figure
