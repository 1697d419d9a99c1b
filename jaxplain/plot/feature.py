"""Attributions of tabular features: which matter, how each acts, and how one prediction adds up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxplain.plot.canvas import (
    LOW_TO_HIGH,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    canvas,
    feature_axis,
    fitted,
    open_sides,
    quiet,
    score_limits,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.tabular import (
    Part,
    added_up,
    attributions_of,
    beside,
    category_axis,
    columns_of,
    piled,
)
from jaxplain.plot.values import batch, feature_index, feature_order, measured, number, others, plain, signed, texts
from jaxplain.types import Number

ROW = 0.27
MISSING = "0.7"
"""The colour of a point whose feature has no value."""
SEEN = LOW_TO_HIGH.with_extremes(bad=MISSING)


@drawn
def attribution_bar(
    attributions: Any,
    *,
    names: Sequence[Any] | None = None,
    order: Sequence[Any] | None = None,
    limit: int = 15,
    units: Any = None,
) -> Figure:
    """Draw the features with the largest attributions as bars.

    Args:
        attributions: `[D]` of one example, drawn with their signs, or `[B, D]`, of which the mean absolute value over
            the examples is drawn; or a data frame or series of them, which brings its names.
        names: Names of the features, `[D]`.
        order: Names or indices of the features drawn, from the top; None takes the largest first.
        limit: Most features drawn, the first of the order; below them a line says what the rest adds up to.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> figure = attribution_bar([0.5, -2.0], names=["age", "dose"])
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['dose', 'age']
    """
    attributions, names = attributions_of(attributions, names, "attribution_bar")
    array = batch(attributions, "attribution_bar", "attributions", {1: "[D]", 2: "[B, D]"})
    overall = array.ndim == 2
    values = np.abs(array).mean(axis=0) if overall else array
    heads = texts(names, len(values), "attribution_bar", "names", "feature {}")
    chosen = feature_order(values, limit, "attribution_bar", order, names)
    rest = np.setdiff1d(np.arange(len(values)), chosen)
    bars, ticks = [*values[chosen]], [heads[k] for k in chosen]
    what = f"mean |attribution| over {len(array)} examples" if overall else "attribution"
    figure = canvas(5.8, 0.8 + ROW * (len(bars) + (rest.size > 0)), f"Bars of {len(chosen)} features by {what}")
    axes = figure.add_subplot()
    colours = [NEUTRAL if overall else POSITIVE if bar > 0 else NEGATIVE for bar in bars]
    axes.barh(range(len(bars)), bars, color=colours, height=0.7)
    for place, bar in enumerate(bars):
        side = "left" if bar >= 0 else "right"
        axes.annotate(
            number(bar),
            (bar, place),
            (3 if bar >= 0 else -3, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    _room(axes, values[chosen])
    if rest.size:
        # As a bar it would be the longest of many features, which makes all others short.
        most = number(values[rest][np.abs(values[rest]).argmax()])
        words = f"{others(rest.size)}: {number(values[rest].sum())}" + (
            f" in sum, the largest {most}" if rest.size > 1 else ""
        )
        place_of_words: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
        axes.annotate(words, (0.01, len(bars)), fontsize=8, color=NEUTRAL, **place_of_words)
        ticks.append("")
    feature_axis(axes, ticks)
    axes.set_xlabel(measured(what, units, "attribution_bar"), fontsize=9)
    return figure


def _room(axes: Axes, bars: np.ndarray) -> None:
    """Ends of an axis at which the number beside each bar has room, at the left only where a bar goes there."""
    low, high = min(0.0, float(bars.min())), max(0.0, float(bars.max()))
    room = 0.2 * (high - low) or 1.0
    axes.set_xlim(low - room if low < 0 else 0.0, high + room)


def _pair(values: Any, attributions: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and their attributions `[B, D]`; a feature may be NaN (missing), an attribution not."""
    inputs = batch(values, name, "values", {2: "[B, D]"}, finite=False)
    array = batch(attributions, name, "attributions", {2: "[B, D]"})
    if inputs.shape != array.shape:
        raise ValueError(
            f"{name}: `values` has shape {inputs.shape}, but `attributions` has {array.shape}. (Those of encoded "
            "columns are put together by jaxplain.data.by_variable.)"
        )
    return inputs, array


@drawn
def summary(
    values: Any, attributions: Any, *, names: Sequence[Any] | None = None, limit: int = 15, units: Any = None
) -> Figure:
    """Draw every example's attributions of the features that matter most, coloured by the features' values.

    A point is one example; where many have the same attribution they pile up. Features are ordered by their mean
    absolute attribution.

    Args:
        values: The features `[B, D]`; NaN (missing) is drawn grey. A data frame (pandas, polars) brings its names, and
            categories are coloured by their order.
        attributions: `[B, D]`, in units of the score; of a data frame the columns are found by name.
        names: Names of the features, `[D]`.
        limit: Most features drawn.
        units: What the score is measured in, as in `attribution_bar`.

    Returns:
        A figure. The colours of a feature run from its 5th to its 95th percentile.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN in the attributions, counts that do not match.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> x = np.arange(12.0).reshape(4, 3)
        >>> figure = summary(x, x - x.mean(0), names=["a", "b", "c"])
        >>> figure.axes[0].get_xlabel()
        'attribution'
    """
    columns = columns_of(values, names, "summary")
    attributions, names = attributions_of(attributions, columns.names, "summary")
    inputs, array = _pair(columns.values, attributions, "summary")
    heads = texts(names, array.shape[1], "summary", "names", "feature {}")
    order = feature_order(np.abs(array).mean(axis=0), limit, "summary")
    more = f", the {len(order)} largest" if len(order) < array.shape[1] else ""
    description = f"Attributions of {array.shape[1]} features{more} for {len(array)} examples, coloured by value"
    figure = canvas(6.8, max(1.8, 0.8 + 0.33 * len(order)), description)  # the words beside the colours are as high
    axes = figure.add_subplot()
    axes.axvline(0, color=NEUTRAL, linewidth=0.8, zorder=0)
    span = max(float(np.ptp(array[:, order])), np.finfo(float).tiny)
    for place, k in enumerate(order):
        axes.axhline(place, color=NEUTRAL, alpha=0.25, linewidth=0.5, linestyle=":", zorder=0)
        heights = place + piled(array[:, k], span)
        missing = ~np.isfinite(inputs[:, k])
        axes.scatter(array[missing, k], heights[missing], s=9, color=MISSING, linewidths=0)
        colours = _relative(inputs[~missing, k])
        axes.scatter(
            array[~missing, k], heights[~missing], s=9, c=colours, cmap=LOW_TO_HIGH, vmin=0, vmax=1, linewidths=0
        )
    feature_axis(axes, [heads[k] for k in order])
    axes.set_xlabel(measured("attribution", units, "summary"), fontsize=9)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), LOW_TO_HIGH), ax=axes, fraction=0.03, pad=0.02, aspect=30)
    bar.set_ticks([0, 1], labels=["low", "high"], fontsize=8)
    bar.set_label("value of the feature", fontsize=8, labelpad=-8)
    open_sides(bar.ax, "outline")
    return figure


def _relative(values: np.ndarray) -> np.ndarray:
    """Values between their 5th and 95th percentile as 0 to 1."""
    if values.size == 0:
        return values
    low, high = np.percentile(values, [5, 95])
    if low == high:
        low, high = values.min(), values.max()
    return np.clip((values - low) / max(high - low, np.finfo(float).tiny), 0, 1)


@drawn
def dependence(
    values: Any,
    attributions: Any,
    feature: int | str,
    *,
    names: Sequence[Any] | None = None,
    colour_by: int | str | None = None,
    units: Any = None,
) -> Figure:
    """Draw a feature's attribution over its value, a point for each example.

    Args:
        values: The features `[B, D]`; examples where this one is NaN (missing) are left out and counted in the title. A
            data frame brings its names, and a category gets a place on the axis for each of its values.
        attributions: `[B, D]`, in units of the score; of a data frame the columns are found by name.
        feature: Which one: an index or, with names, a name.
        names: Names of the features, `[D]`.
        colour_by: A second feature, whose values colour the points: where colours separate, the two interact. A point
            is grey where it is NaN (missing).
        units: What the score is measured in, as in `attribution_bar`.

    Returns:
        A figure, the distribution of the feature's values in grey below the points.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN in the attributions, an unknown feature.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> x = np.arange(12.0).reshape(4, 3)
        >>> figure = dependence(x, 2 * x, "b", names=["a", "b", "c"], colour_by="c")
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('b', 'attribution of b')
    """
    columns = columns_of(values, names, "dependence")
    attributions, names = attributions_of(attributions, columns.names, "dependence")
    inputs, array = _pair(columns.values, attributions, "dependence")
    heads = texts(names, array.shape[1], "dependence", "names", "feature {}")
    known = [] if names is None else [str(item) for item in names]
    k = feature_index(feature, known, len(heads), "dependence", "feature")
    there = np.isfinite(inputs[:, k])
    if not there.any():
        raise ValueError(f"dependence: feature {feature!r} is NaN in every example; there is nothing to draw.")
    figure = canvas(5.4, 3.8, f"Attribution of {heads[k]} over its value for {there.sum()} examples")
    axes = figure.add_subplot()
    axes.axhline(0, color=NEUTRAL, linewidth=0.8, zorder=0)
    x, y = inputs[there, k], array[there, k]
    x = beside(x, y) if k in columns.words else x
    if colour_by is None:
        axes.scatter(x, y, s=14, color=NEGATIVE, alpha=0.7, linewidths=0)
    else:
        second = feature_index(colour_by, known, len(heads), "dependence", "colour_by")
        colours = inputs[there, second]
        low, high = np.nanpercentile(colours, [5, 95]) if np.isfinite(colours).any() else (0.0, 1.0)
        low, high = (0, max(1, len(columns.words[second]) - 1)) if second in columns.words else (low, high)
        points = axes.scatter(*(x, y, 14, colours), cmap=SEEN, vmin=low, vmax=high, linewidths=0, plotnonfinite=True)
        bar = figure.colorbar(
            points, ax=axes, fraction=0.04, pad=0.02, extend="neither" if second in columns.words else "both"
        )
        bar.set_label(fitted(heads[second], 3.2, 9), fontsize=9)
        quiet(bar, 8)
        if second in columns.words:
            bar.set_ticks(
                range(len(columns.words[second])),
                labels=[wrapped(plain(word), 18, 2) for word in columns.words[second]],
            )
    low, high = axes.get_ylim()
    below = axes.twinx()
    if k in columns.words:
        category_axis(axes, below, inputs[there, k], columns.words[k])
    else:
        below.hist(x, bins=min(40, max(1, len(x) // 4)), color="0.88", zorder=-1)
    below.set_ylim(0, 6 * below.get_ylim()[1])
    below.set_axis_off()
    axes.set_zorder(below.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.set_ylim(low - 0.12 * (high - low), high)
    axes.set_xlabel(fitted(heads[k], 4.2, 9), fontsize=9)
    what = measured(f"attribution of {heads[k].strip()}", units, "dependence")
    axes.set_ylabel(fitted(what, 3.2, 9, 3), fontsize=9)
    if not there.all():
        axes.set_title(f"{(~there).sum()} examples without a value are left out", fontsize=8, color=NEUTRAL)
    open_sides(axes).tick_params(labelsize=8)
    return figure


@drawn
def waterfall(
    attributions: Any,
    baseline_score: Number,
    score: Any = None,
    *,
    values: Any = None,
    names: Sequence[Any] | None = None,
    order: Sequence[Any] | None = None,
    limit: int = 10,
    units: Any = None,
) -> Figure:
    """Draw how one prediction adds up: from the score of the baseline, feature by feature, to the score of the example.

    Args:
        attributions: `[D]`, in units of the score, or a row of a data frame (`a.iloc[0]`, `a[:1]`), which brings names.
        baseline_score: f(b), where the bars begin.
        score: f(x); where it differs from f(b) plus all attributions by more than 1e-3 of |f(x) - f(b)| and than
            rounding, what is missing is a bar of its own, the completeness gap. None ends at the sum of the
            attributions.
        values: The features `[D]`, written beside their names: numbers, texts, or a row of a data frame (`df[:1]`),
            which brings its names.
        names: Names of the features, `[D]`.
        order: Names or indices of the features drawn, from the top, the same for examples that are to be compared
            (such as the largest of all: `np.argsort(-np.abs(attributions).mean(0))`); None takes the largest first.
        limit: Most features drawn, the first of the order; the sum of the rest is one bar.
        units: What the score is measured in, as in `attribution_bar`.

    Returns:
        A figure: the last features of the order at the bottom next to f(b), the first at the top next to f(x).

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = waterfall([0.5, -2.0], 1.0, -0.5, names=["age", "dose"])
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['dose', 'age']
    """
    bars, start, end = added_up(
        attributions, baseline_score, score, values=values, names=names, order=order, limit=limit, name="waterfall"
    )
    return _steps(bars, start, end, measured("score", units, "waterfall"))


def _steps(bars: list[Part], start: float, end: float, what: str) -> Figure:
    figure = canvas(
        6.6, 1.1 + 0.32 * len(bars), f"From {number(start)} at the baseline to {number(end)}: a bar a feature"
    )
    axes = figure.add_subplot()
    level = start
    levels = [start, end]
    for place in range(len(bars) - 1, -1, -1):
        amount = bars[place].amount
        axes.barh(place, amount, left=level, color=bars[place].colour, height=0.68)
        axes.annotate(
            signed(amount),
            (level + amount, place),
            (4 if amount >= 0 else -4, 0),
            textcoords="offset points",
            ha="left" if amount >= 0 else "right",
            va="center",
            fontsize=8,
        )
        level += amount
        levels.append(level)
        if place:
            axes.plot([level, level], [place - 0.9, place + 0.1], color=NEUTRAL, linewidth=0.8, linestyle=":", zorder=0)
    # Room for the numbers beside the bars; automatic margins end where a bar begins.
    axes.set_xlim(*score_limits(min(levels), max(levels), 0.16))
    feature_axis(axes, [bar.head for bar in bars])
    axes.axvline(start, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
    axes.axvline(end, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xlabel(f"{what}; the baseline's is f(b) = {number(start)}", fontsize=9)
    place_of_end: dict[str, Any] = {
        "xytext": (0, 3),
        "textcoords": "offset points",
        "xycoords": ("data", "axes fraction"),
    }
    axes.annotate(f"f(x) = {number(end)}", (end, 1), ha="center", va="bottom", fontsize=9, **place_of_end)
    return figure
