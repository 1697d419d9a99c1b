"""Many predictions as lines from the baseline's score to theirs, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    LOW_TO_HIGH,
    NEUTRAL,
    SERIES,
    canvas,
    legend_below,
    open_sides,
    quiet,
    row_text,
    score_limits,
    still,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.tabular.addition import GAP, is_gap
from jaxplain.plot.tabular.frame import attributions_of
from jaxplain.plot.values import batch, feature_order, measured, number, numbers, others, texts
from jaxplain.score import ModelScore

LINKS = ("logit",)


@drawn
def decision(
    attributions: Any,
    baseline_score: Any,
    scores: Any = None,
    *,
    values: Any = None,
    names: Sequence[Any] | None = None,
    order: Sequence[Any] | None = None,
    limit: int = 20,
    highlight: Any = None,
    labels: Sequence[Any] | None = None,
    link: str | None = None,
    units: Any = None,
) -> Figure:
    """Draw each prediction as a line that rises from f(b) through its features to f(x).

    From the bottom to the top, a line moves at each feature by that feature's attribution. Lines that run together have
    a reason in common; one that leaves the others shows at which feature it does. This is the "decision plot" of SHAP.

    Args:
        attributions: `[B, D]`, or `[D]` of one example, in units of the score; a data frame of them brings its names.
        baseline_score: f(b), where all lines begin, or one for each example, `[B]`.
        scores: f(x), `[B]` (a number for one example); where one of them differs from f(b) plus its attributions by
            more than 1e-3 of |f(x) - f(b)| and than rounding, what is missing is the first step of all lines, the
            completeness gap. None ends at the sums of the attributions.
        values: The features `[D]` of one example, written beside their names.
        names: Names of the features, `[D]`.
        order: Names or indices of the features drawn, from the top; None takes those with the largest mean absolute
            attribution first.
        limit: Most features drawn, the first of the order; the sum of the rest is one step.
        highlight: Examples that stand out, the others being grey: an index, indices, or `[B]` of True and False.
        labels: Texts for the examples, `[B]`, written of the highlighted ones; up to 7 examples need no `highlight`.
        link: "logit" where the score is a log-odds (the logit of a head of one unit, the margin of two classes): the
            axis shows sigmoid(score), a probability. The attributions add up before it.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure. Without highlighted examples a line's colour is that of its f(x).

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match, examples that are not there, a `link` of a score that
            is a probability already.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = decision([[0.5, -2.0], [0.5, 1.0]], 1.0, names=["age", "dose"])
        >>> [line[:, 0].tolist() for line in figure.axes[0].collections[0].get_segments()]
        [[1.0, 1.5, -0.5], [1.0, 1.5, 2.5]]
    """
    attributions, names = attributions_of(attributions, names, "decision")
    array = np.atleast_2d(batch(attributions, "decision", "attributions", {1: "[D]", 2: "[B, D]"}))
    starts = _of_each(baseline_score, len(array), "baseline_score")
    reached = None if scores is None else _of_each(scores, len(array), "scores", one=len(array) == 1)
    heads = _heads(names, values, array)
    chosen = feature_order(np.abs(array).mean(axis=0), limit, "decision", order, names)
    levels, ticks = _levels(array, starts, reached, chosen, heads)
    label = _label(link, units)
    what = "f"
    if link is not None:
        levels, what = 0.5 * (1 + np.tanh(levels / 2)), "sigmoid f"
    named = _highlighted(highlight, labels, len(array))
    description = f"Lines of {len(array)} examples from the baseline's score to theirs, by {len(ticks)} steps"
    figure = canvas(6.6, 1.2 + 0.27 * len(ticks), description)
    axes = figure.add_subplot()
    _axes(axes, ticks, levels)
    axes.set_xlabel(label, fontsize=9)
    below = ""
    if np.ptp(starts) == 0:
        axes.axvline(levels[0, 0], color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
        below = f" = {number(levels[0, 0])}"
    many = f"{len(array)} examples" if len(array) > 1 else "one example"
    figure.suptitle(f"{many}; from {what}(b){below} at the bottom to {what}(x) at the top", fontsize=9)
    if named.size:
        _draw_named(figure, axes, levels, named, texts(labels, len(array), "decision", "labels", "example {}"))
    else:
        _draw_all(figure, axes, levels, f"{what}(x)")
    return figure


def _of_each(value: Any, count: int, argument: str, *, one: bool = True) -> np.ndarray:
    """A number for each example `[B]`; `one` says whether a single number will do."""
    shapes = {0: "a number", 1: "[B]"} if one else {1: "[B]"}
    array = batch(value, "decision", argument, shapes)
    if array.ndim == 1 and len(array) != count:
        raise ValueError(f"decision: `{argument}` has shape {array.shape}, but there are {count} examples.")
    return np.broadcast_to(array, (count,))


def _heads(names: Any, values: Any, array: np.ndarray) -> list[str]:
    heads = texts(names, array.shape[1], "decision", "names", "feature {}")
    if values is None:
        return heads
    inputs = numbers(values, "decision", "values", finite=False)
    if len(array) > 1 or inputs.size != array.shape[1]:
        raise ValueError(
            f"decision: `values` has shape {inputs.shape}, but has to be [D] of one example, and `attributions` holds "
            f"{len(array)} of {array.shape[1]} features."
        )
    return [f"{head} = {number(value)}" for head, value in zip(heads, inputs.ravel(), strict=True)]


def _levels(
    array: np.ndarray, starts: np.ndarray, reached: np.ndarray | None, chosen: np.ndarray, heads: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Where the lines are before the first and after each step `[B, steps + 1]`, and what the steps are."""
    steps = [array[:, k] for k in chosen[::-1]]
    ticks = [heads[k] for k in chosen[::-1]]
    if len(chosen) < array.shape[1]:
        steps.insert(0, np.delete(array, chosen, axis=1).sum(axis=1))
        ticks.insert(0, others(array.shape[1] - len(chosen)))
    if reached is not None:
        gap = reached - starts - array.sum(axis=1)
        if is_gap(gap, starts, reached, np.abs(array).sum(axis=1)).any():
            steps.insert(0, gap)
            ticks.insert(0, GAP)
    levels = np.cumsum([starts, *steps], axis=0).T
    if reached is not None:
        levels[:, -1] = reached
    return levels, ticks


def _label(link: str | None, units: Any) -> str:
    if link is None:
        return measured("score", units, "decision")
    check.choice(link, LINKS, "decision", "link")
    label = measured("score", units, "decision")
    if isinstance(units, ModelScore) and units.name in ("probability", "log_probability", "loss"):
        raise ValueError(
            f"decision: `link` makes probabilities of log-odds, but the score in `units` is a {units.name}; leave "
            "`link` out, or explain the logit."
        )
    return f"probability, sigmoid of the {label}"


def _highlighted(highlight: Any, labels: Any, count: int) -> np.ndarray:
    """The indices of the examples that stand out."""
    if highlight is None:
        if labels is not None and count > len(SERIES):
            raise ValueError(
                f"decision: `labels` can be told apart of {len(SERIES)} lines at most, and there are {count}; say with "
                "`highlight` which examples to name."
            )
        return np.arange(count if labels is not None else 0)
    given = numbers(highlight, "decision", "highlight")
    if given.ndim > 1 or (given != np.round(given)).any():
        raise ValueError("decision: `highlight` has to be an index, indices, or True and False for each example [B].")
    if np.asarray(highlight).dtype == bool:
        if given.shape != (count,):
            raise ValueError(f"decision: `highlight` has shape {given.shape}, but there are {count} examples.")
        return np.flatnonzero(given)
    if given.min() < 0 or given.max() >= count:
        raise ValueError(
            f"decision: `highlight` runs from {given.min():.0f} to {given.max():.0f}, but there are {count} examples, "
            "from 0."
        )
    return np.unique(given.astype(int))


def _axes(axes: Axes, ticks: list[str], levels: np.ndarray) -> None:
    axes.set_yticks(np.arange(len(ticks)) + 0.5, [row_text(tick) for tick in ticks], fontsize=8)
    axes.set_ylim(0, len(ticks))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    for place in range(1, len(ticks)):
        axes.axhline(place, color=NEUTRAL, alpha=0.3, linewidth=0.5, linestyle=":", zorder=0)
    low, high = float(levels.min()), float(levels.max())
    axes.set_xlim(*score_limits(low, high, 0.04))
    open_sides(axes, "top", "right", "left")


def _lines(axes: Axes, levels: np.ndarray, **style: Any) -> LineCollection:
    heights = np.broadcast_to(np.arange(levels.shape[1]), levels.shape)
    lines = LineCollection(list(np.stack([levels, heights], axis=-1)), clip_on=False, **style)
    axes.add_collection(lines, autolim=False)
    return lines


def _draw_all(figure: Figure, axes: Axes, levels: np.ndarray, label: str) -> None:
    """Every line in the colour of its f(x), which a bar names."""
    ends = levels[:, -1]
    low, high = float(ends.min()), float(ends.max())
    norm = Normalize(low - 1, high + 1) if still(low, high) else Normalize(low, high)
    style = {"linewidths": 1.6 if len(ends) <= 20 else 0.8, "alpha": 1.0 if len(ends) <= 20 else 0.6}
    _lines(axes, levels, colors=LOW_TO_HIGH(norm(ends)), **style)
    if not still(low, high):
        bar = figure.colorbar(ScalarMappable(norm, LOW_TO_HIGH), ax=axes, fraction=0.03, pad=0.02, aspect=30)
        bar.set_label(label, fontsize=8)
        quiet(bar)


def _draw_named(figure: Figure, axes: Axes, levels: np.ndarray, named: np.ndarray, heads: list[str]) -> None:
    """The examples that stand out, each in a colour where those suffice, over the others in grey."""
    rest = np.setdiff1d(np.arange(len(levels)), named)
    heights = np.arange(levels.shape[1])
    marks: list[tuple[Any, str]] = []
    if rest.size:
        grey = _lines(axes, levels[rest], colors="0.6", linewidths=0.7, alpha=0.5)
        marks.append((grey, f"{rest.size} other example{'s' if rest.size > 1 else ''}"))
    if len(named) <= len(SERIES):
        for place, k in enumerate(named):
            style: dict[str, Any] = {"color": SERIES[place], "linewidth": 1.9, "clip_on": False}
            (line,) = axes.plot(levels[k], heights, **style)
            marks.insert(place, (line, heads[k]))
    else:
        lines = _lines(axes, levels[named], colors=SERIES[1], linewidths=1.1, alpha=0.8)
        marks.insert(0, (lines, f"{len(named)} highlighted examples"))
    legend_below(figure, *zip(*marks, strict=True))
