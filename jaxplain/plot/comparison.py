"""A comparison of methods by metrics: the grid of ranks with means, and how far the metrics agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain.plot.canvas import (
    DIVERGING,
    NEUTRAL,
    SEQUENTIAL,
    canvas,
    diverging,
    open_sides,
    readable,
    row_text,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.table import Cell, Grid, coloured, with_grids
from jaxplain.plot.values import plain

ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}


@drawn
def comparison(result: Any) -> Figure:
    """Draw what `compare` found: one row a method, one column a metric, and the agreement of the metrics' rankings.

    A cell is the darker the better its rank (white: no direction), and holds the mean; a circle marks removal to the
    method's own baseline. Arrows say which way is better. Controls stand below the line, in grey. Right of the grid are
    the cost in gradients and the mean rank; the lower picture holds Spearman's correlation of the rankings.

    Args:
        result: What `jaxplain.evaluate.compare` returned.

    Returns:
        A figure.

    Raises:
        TypeError: Anything but a comparison.

    Example:
        >>> import functools, jax, jax.numpy as jnp, jaxplain
        >>> x = jnp.array([[1.0, 3.0, 2.0], [5.0, 2.0, 4.0]])
        >>> f, metrics = lambda x: (x**2).sum(), {"deletion": jaxplain.evaluate.deletion}
        >>> table = jaxplain.evaluate.compare(f, {"gradient": jax.grad}, metrics, (x,), jax.random.key(0), samples=9)
        >>> len(comparison(table).axes)
        2
    """
    if not all(hasattr(result, name) for name in ("methods", "metrics", "ranks", "rank_agreement", "own_baseline")):
        raise TypeError(
            f"comparison: `result` is {type(result).__name__}; pass what `jaxplain.evaluate.compare` returned."
        )
    rows, columns = len(result.methods), len(result.metrics)
    wide = max(5.0, 2.6 + 0.85 * (columns + 2))
    figure = canvas(wide, 1.6 + 0.3 * rows + 1.2 + 0.34 * columns, _description(result))
    grid, agreement = figure.subplots(2, 1, height_ratios=(0.3 * rows + 1.4, 0.34 * columns + 1.0))
    return with_grids(figure, _grid(grid, result), *_agreement(agreement, result))


def _description(result: Any) -> str:
    return f"Means and ranks of {', '.join(result.methods)} by {', '.join(result.metrics)}, and the metrics' agreement"


def _grid(axes: Axes, result: Any) -> Grid:
    rows, columns = result.mean.shape
    ranks = result.ranks
    depth = np.where(np.isnan(ranks), np.nan, 1 - (ranks - 1) / max(rows - 1, 1))
    colours = SEQUENTIAL(np.nan_to_num(0.75 * depth))
    colours[np.isnan(depth)] = (1, 1, 1, 1)
    axes.imshow(colours, aspect="auto", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
    written = []
    for row in range(rows):
        written.append([Cell(plain(result.methods[row]), faint=bool(result.control[row]))])
        for column in range(columns):
            own = " ○" if result.own_baseline[row, column] else ""
            text = "-" if np.isnan(result.mean[row, column]) else f"{result.mean[row, column]:.3g}{own}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=readable(colours[row, column]))
            written[-1].append(coloured(text, colours[row, column]))
        gradients, rank = result.gradients[row], result.mean_rank[row]
        used = "-" if np.isnan(gradients) else f"{gradients:.3g}"
        for place, text in ((columns, used), (columns + 1, "-" if np.isnan(rank) else f"{rank:.1f}")):
            axes.text(place, row, text, ha="center", va="center", fontsize=8)
            written[-1].append(Cell(text, right=True))
    heads = [plain(m) + ARROWS[way] for m, way in zip(result.metrics, result.better, strict=True)]
    above = [wrapped(head, 24, 2) for head in heads]
    axes.set_xticks(range(columns + 2), [*above, "gradients", "mean rank"], rotation=35, ha="left", fontsize=8)
    axes.set_yticks(range(rows), [row_text(plain(m)) for m in result.methods], fontsize=8)
    for label, control in zip(axes.get_yticklabels(), result.control, strict=True):
        label.set_color(NEUTRAL if control else "black")
    first = sum(not control for control in result.control)
    axes.axhline(first - 0.5, color="black", linewidth=1)
    axes.set(xlim=(-0.5, columns + 1.5), ylim=(rows - 0.5, -0.5))
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    open_sides(axes, "top", "right", "bottom", "left")
    marks = "; ○ removal to the method's own baseline" if result.own_baseline.any() else ""
    missing = f"; {int(result.undefined.sum())} values undefined" if result.undefined.any() else ""
    note = f"score: {result.score}; means over {result.values.shape[-1]} examples, darker is better{marks}{missing}"
    axes.set_xlabel(plain(note), fontsize=8, color=NEUTRAL)
    names = [Cell("method"), *(Cell(head, right=True) for head in (*heads, "gradients", "mean rank"))]
    return Grid(names, written, note=plain(note))


def _agreement(axes: Axes, result: Any) -> list[Grid]:
    ranked = [index for index, way in enumerate(result.better) if way is not None]
    values = result.rank_agreement[np.ix_(ranked, ranked)]
    names = [plain(result.metrics[index]) for index in ranked]
    axes.set_title("agreement of the rankings (Spearman)", fontsize=9, loc="left")
    if not ranked:
        axes.text(0.5, 0.5, "no metric has a direction", ha="center", va="center", fontsize=8)
        axes.set_axis_off()
        return []
    norm, written = diverging(1.0), []
    axes.imshow(np.ma.masked_invalid(values), cmap=DIVERGING, norm=norm, aspect="auto")
    for i in range(len(ranked)):
        written.append([Cell(names[i])])
        for j in range(len(ranked)):
            known = not np.isnan(values[i, j])
            behind = DIVERGING(norm(values[i, j])) if known else (1, 1, 1, 1)
            text = f"{values[i, j]:.2f}" if known else "-"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=readable(behind))
            written[-1].append(coloured(text, behind))
    around = [wrapped(name, 24, 2) for name in names]
    axes.set_yticks(range(len(ranked)), around, fontsize=8)
    axes.set_xticks(range(len(ranked)), around, rotation=35, ha="right", fontsize=8)
    axes.tick_params(length=0)
    open_sides(axes, "top", "right", "bottom", "left")
    heads = [Cell(""), *(Cell(name, right=True) for name in names)]
    return [Grid(heads, written, "agreement of the rankings (Spearman)")]
