"""What concepts do to a score, beside random concepts."""

from __future__ import annotations

from matplotlib.figure import Figure

from jaxplain.concept import Tcav
from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, POSITIVE, canvas, open_sides, row_text, shown
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import number, plain


@drawn
def concept_scores(result: Tcav, *, level: float = 0.05, limit: int = 20) -> Figure:
    """Draw the statistic of each concept with its interval over the range of 95 % of the random concepts.

    Args:
        result: What `jaxplain.concept.tcav` returned.
        level: Corrected p up to which a concept is drawn in colour: red raises the score, blue lowers it.
        limit: Most concepts drawn, the first ones.

    Returns:
        A figure with a line for each concept: its range of chance as a grey bar, the statistic with its interval, p
        after the correction and the accuracy on held-out examples in words.

    Raises:
        TypeError: No `Tcav`. ValueError: A level outside 0 to 1.

    Example:
        >>> import numpy as np
        >>> from jaxplain.concept import tcav
        >>> found = tcav(lambda h: 3.0 * h[0] - h[1], np.eye(2), np.ones((5, 2)), samples=0)
        >>> len(concept_scores(found).axes)
        1
    """
    if not 0 < level < 1:
        raise ValueError(f"concept_scores: `level` has to lie between 0 and 1, not {level}.")
    rows = result.rows()
    count, more = shown(len(rows), limit, "concept_scores", "concepts")
    figure = canvas(6.4, 1.0 + 0.34 * count, f"{result.statistic} of {count} concepts beside random concepts")
    axes = figure.subplots()
    middle = 0.0 if result.statistic == "mean" else 0.5
    for place, row in enumerate(rows[:count]):
        value = row["mean sensitivity"] if result.statistic == "mean" else row["score"]
        found = row["p corrected"] <= level
        colour = (POSITIVE if value > middle else NEGATIVE) if found else NEUTRAL
        axes.barh(place, row["random high"] - row["random low"], 0.62, row["random low"], color="#dddddd")
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.4)
        axes.plot([value], [place], "o", color=colour, markersize=5)
        words = (
            f"p {number(row['p corrected'])}, accuracy {row['accuracy']:.2f}" if row["p"] == row["p"] else "not tested"
        )
        axes.text(1.01, place, words, fontsize=7, va="center", color=colour, transform=axes.get_yaxis_transform())
    axes.axvline(middle, color="black", linewidth=0.7)
    axes.set_yticks(range(count), [row_text(plain(row["concept"])) for row in rows[:count]], fontsize=8)
    axes.set_ylim(count - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=7)
    title = {"mean": "mean sensitivity", "score": "share of examples whose score rises"}[result.statistic]
    axes.set_xlabel(
        f"{title} (grey: 95 % of {result.samples} random concepts)" + (f"; {more}" if more else ""), fontsize=8
    )
    open_sides(axes)
    return figure
