"""The concepts of a dictionary: the crops or texts in which each is strongest, beside a bar of its importance."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, POSITIVE, bare, canvas, open_sides, picture, shown, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import images, number, numbers, plain, same_length, table_of, texts


@drawn
def concept_gallery(
    crops: Any,
    importance: Any,
    *,
    values: Any = None,
    names: Sequence[Any] | None = None,
    limit: int = 12,
) -> Figure:
    """Draw each concept as a row of the pieces in which it is strongest, the most important first, with its importance.

    Args:
        crops: `[M, k, h, w]` or `[M, k, h, w, C]`, the strongest first (`jaxplain.concept.top_crops`); or texts
            `[M][k]`, such as tokens with what is around them.
        importance: `[M]`, of each concept (`craft(...).importance`); NaN, of a concept that was not measured, is last.
        values: `[M, k]`, codes that are written over the pieces; None for none.
        names: Names of the concepts, `[M]`; None numbers them from 0, as the dictionary does.
        limit: Most concepts drawn, the most important ones; the title says where there are more.

    Returns:
        A figure with a row for each concept: a bar from a common zero with its value, then the pieces.

    Raises:
        ValueError: Wrong shapes, counts that do not match, NaN in crops.
        TypeError: No array of numbers, no texts.

    Example:
        >>> import numpy as np
        >>> figure = concept_gallery(np.zeros((2, 3, 4, 4)), [0.1, 0.7])
        >>> [axes.get_ylabel() for axes in figure.axes[::4]]
        ['concept 1', 'concept 0']
    """
    name = "concept_gallery"
    pieces, written = _pieces(crops, name)
    scores = numbers(importance, name, "importance", finite=False)
    if scores.ndim != 1:
        raise ValueError(f"{name}: `importance` has shape {scores.shape}; it has to be [M], one number for a concept.")
    same_length(pieces, scores, name, ("crops", "importance"))
    codes = None if values is None else numbers(values, name, "values")
    if codes is not None and codes.shape != (len(pieces), len(pieces[0])):
        wanted = (len(pieces), len(pieces[0]))
        raise ValueError(f"{name}: `values` has shape {codes.shape}, but `crops` holds {wanted} pieces.")
    labels = texts(names, len(pieces), name, "names", "concept {}")
    count, more = shown(len(pieces), limit, name, "concepts")
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")[:count]
    across, wide = len(pieces[0]), 1.6 if written else 0.95
    figure = canvas(
        2.3 + wide * across,
        (0.75 if written else 1.0) * count + 0.35,
        f"{count} concepts, the most important first, each with its importance and its {across} strongest pieces",
    )
    grid: Any = figure.subplots(count, 1 + across, squeeze=False, width_ratios=[1.7, *[wide] * across])
    ends = _ends(scores[order])
    for row, concept in enumerate(order):
        _bar(grid[row, 0], float(scores[concept]), ends, labels[concept])
        for rank in range(across):
            axes = grid[row, 1 + rank]
            if written:
                _write(axes, pieces[concept][rank])
            else:
                picture(axes, pieces[concept][rank])
            if codes is not None:
                axes.set_title(number(float(codes[concept, rank])), fontsize=7, color=NEUTRAL, pad=2)
    grid[0, 0].set_title("importance", fontsize=8)
    if more:
        figure.suptitle(f"{more}, by importance", fontsize=8)
    return figure


def _pieces(crops: Any, name: str) -> tuple[Any, bool]:
    """Pictures `[M, k, h, w(, C)]` in the range 0 to 1, or rows of texts; whether they are texts."""
    if isinstance(crops, list | tuple) and crops and isinstance(crops[0], list | tuple):
        first = crops[0][0] if crops[0] else None
        if isinstance(first, str):
            if not all(isinstance(piece, str) for row in crops for piece in row) or len({len(r) for r in crops}) > 1:
                raise ValueError(f"{name}: `crops` has to hold equally many texts for each concept.")
            return [[plain(piece) for piece in row] for row in crops], True
    shape = np.shape(table_of(crops, name, "crops"))
    if len(shape) not in (4, 5):
        raise ValueError(f"{name}: `crops` has shape {shape}; it has to be [M, k, h, w] or [M, k, h, w, C], or texts.")
    if 0 in shape:
        raise ValueError(f"{name}: `crops` is empty (shape {shape}); there is nothing to draw.")
    flat = images(np.reshape(np.asarray(crops), (-1, *shape[2:])), name, "crops")
    return flat.reshape(*shape[:2], *flat.shape[1:]), False


def _ends(scores: np.ndarray) -> tuple[float, float]:
    """Where bars begin and end, the same in every row; room for a number after the longest."""
    known = scores[np.isfinite(scores)]
    low, high = (min(0.0, float(known.min())), max(0.0, float(known.max()))) if known.size else (0.0, 1.0)
    span = (high - low) or 1.0
    return low - (0.45 * span if low < 0 else 0), high + 0.45 * span


def _bar(axes: Axes, score: float, ends: tuple[float, float], label: str) -> None:
    """One concept's importance as a bar from zero, with its number."""
    bare(open_sides(axes, "top", "right", "bottom", "left"))
    axes.set_xlim(*ends)
    axes.set_ylim(-1, 1)
    axes.axvline(0.0, color=NEUTRAL, linewidth=0.6)
    if np.isfinite(score):
        axes.barh(0, score, height=0.7, color=POSITIVE if score >= 0 else NEGATIVE)
    said = number(score) if np.isfinite(score) else "not measured"
    shift, side = (-2, "right") if score < 0 else (2, "left")
    at = score if np.isfinite(score) else 0.0
    axes.annotate(said, (at, 0), xytext=(shift, 0), textcoords="offset points", fontsize=7, ha=side, va="center")
    axes.set_ylabel(wrapped(label, 18, 3), fontsize=8, rotation=0, ha="right", va="center")


def _write(axes: Axes, text: str) -> None:
    """One text in a box."""
    bare(axes)
    open_sides(axes, "top", "right", "bottom", "left")
    lines = "\n".join(textwrap.wrap(text, 24)[:3]) or "(empty)"
    axes.text(0.02, 0.5, lines, fontsize=7, va="center", ha="left")
