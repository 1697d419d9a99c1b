"""One prediction as one bar: what raises the score against what lowers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, POSITIVE, canvas, legend_below, open_sides, score_limits, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.tabular.addition import GAP, Part, added_up
from jaxplain.plot.values import measured, number, signed
from jaxplain.types import Number

LETTERS = 30
"""Of a line of a feature's name: two names and the bar share the width."""


@drawn
def force(
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
    """Draw one prediction as one bar, in which what raises the score meets what lowers it at f(x).

    From the left, red segments push the score up to f(x); from the right, blue ones push it down to it. A segment is as
    long as its feature's attribution, so that the red ones' length less the blue ones' is f(x) - f(b). This is the
    "force plot" of SHAP (Lundberg et al. 2018, Nature Biomedical Engineering 2, "Explainable machine-learning
    predictions for the prevention of hypoxaemia during surgery", figure 2).

    Args:
        attributions: `[D]`, in units of the score.
        baseline_score: f(b), which a dashed line marks.
        score: f(x); where it differs from f(b) plus all attributions by more than 1e-3 of |f(x) - f(b)| and than
            rounding, what is missing is a grey segment, the completeness gap. None takes the sum of the attributions.
        values: The features `[D]`, written beside their names: numbers, texts, or a row of a data frame (`df[:1]`).
        names: Names of the features, `[D]`.
        order: Names or indices of the features drawn, from f(x) outwards; None takes the largest first.
        limit: Most features drawn, the first of the order; the sum of the rest is one segment.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure; features of which the attribution is 0 have no segment and are counted in the title.

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = force([0.5, -2.0], 1.0, -0.5, names=["age", "dose"])
        >>> [(float(patch.get_x()), float(patch.get_width())) for patch in figure.axes[0].patches]
        [(-1.0, 0.5), (-0.5, 2.0)]
    """
    parts, start, end = added_up(
        attributions, baseline_score, score, values=values, names=names, order=order, limit=limit, name="force"
    )
    label = measured("score", units, "force")
    sides = [part for part in parts if part.amount > 0], [part for part in parts if part.amount < 0]
    texts = [[wrapped(f"{part.head}: {signed(part.amount)}", LETTERS, 3) for part in side] for side in sides]
    lines = max((text.count("\n") + 1 for side in texts for text in side), default=1)
    rows = max(map(len, sides))
    description = f"From {number(start)} at the baseline to {number(end)}: one bar of what raises and what lowers it"
    figure = canvas(8.6, 1.5 + (0.1 + 0.13 * lines) * rows, description)
    axes = figure.add_subplot()
    totals = [sum(abs(part.amount) for part in side) for side in sides]
    axes.set_xlim(*score_limits(end - totals[0], end + totals[1], 0.03))
    axes.set_ylim(-rows - 0.6, 0.8)
    _segments(axes, sides[0], texts[0], end, -1)
    other = axes.twinx()
    other.set_ylim(axes.get_ylim())
    _segments(axes, sides[1], texts[1], end, 1, names_on=other)
    axes.plot([start, start], [-0.5, 0.65], color="black", linewidth=1.2, linestyle=(0, (2, 1.5)))
    axes.plot([end, end], [-0.5, 0.8], color="black", linewidth=1.6)
    axes.annotate(
        f"f(x) = {number(end)}", (end, 0.8), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=9
    )
    _name_marks(figure, axes, parts, totals, start)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    for one in (axes, other):
        open_sides(one, "top", "left", "right")
    return figure


def _segments(
    axes: Axes, parts: list[Part], texts: list[str], end: float, way: int, names_on: Axes | None = None
) -> None:
    """Segments from f(x) outwards, each with a line to its name; the outermost is named on top, so that none cross."""
    level, places = end, np.arange(len(parts)) - len(parts)
    side = axes.get_xlim()[0 if way < 0 else 1]
    for part, place in zip(parts, places, strict=True):
        width = abs(part.amount)
        left = level if way > 0 else level - width
        axes.barh(0, width, left=left, height=0.9, color=part.colour, edgecolor="white", linewidth=0.8)
        middle = float(left + width / 2)
        axes.plot([middle, middle, side], [-0.45, *[float(place)] * 2], color=part.colour, linewidth=0.7, alpha=0.7)
        level += way * width
    names_on = axes if names_on is None else names_on
    names_on.set_yticks(places, texts, fontsize=8)
    names_on.tick_params(axis="y", length=0)
    for tick, part in zip(names_on.get_yticklabels(), parts, strict=True):
        tick.set_color(part.colour)


def _name_marks(figure: Figure, axes: Axes, parts: list[Part], totals: list[float], start: float) -> None:
    marks = [
        (Patch(color=POSITIVE), f"raises the score, {signed(totals[0])} in sum"),
        (Patch(color=NEGATIVE), f"lowers the score, {signed(-totals[1])} in sum"),
        (Line2D([], [], color="black", linewidth=1.2, linestyle=(0, (2, 1.5))), f"baseline, f(b) = {number(start)}"),
    ]
    if any(part.gap for part in parts):
        marks.append((Patch(color=NEUTRAL), f"{GAP}, which counts for its side's sum"))
    legend_below(figure, *zip(*marks, strict=True))
    nothing = sum(part.amount == 0 for part in parts)
    if nothing:
        axes.set_title(f"{nothing} of the parts add nothing", fontsize=8, color=NEUTRAL, pad=16)
