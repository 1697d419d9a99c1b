"""What a classifier answered: single predictions with their confidence, and the confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    NEUTRAL,
    RIGHT,
    SEQUENTIAL,
    WRONG,
    canvas,
    fitted,
    open_sides,
    picture,
    readable,
    shown,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.table import Cell, Grid, coloured, with_grids
from jaxplain.plot.values import batch, class_names, classes, images, numbers, plain, texts


@drawn
def predictions(
    inputs: Any,
    probabilities: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    top: int = 5,
    columns: int = 4,
    limit: int = 16,
) -> Figure:
    """Draw images with bars for the most probable classes; the true class is green, a wrong first answer red.

    Args:
        inputs: Images `[B, H, W]` or `[B, H, W, C]`.
        probabilities: `[B, K]`, each row adding up to 1.
        labels: True classes `[B]`, where known.
        names: Names of the classes, `[K]`.
        top: Bars for each image; the true class is among them if it is not more probable than that.
        columns: Most images in a row.
        limit: Most examples drawn, the first ones; the title says where there are more.

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN, numbers that are not probabilities, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = predictions(np.zeros((1, 8, 8)), [[0.2, 0.8]], [0], names=["cat", "dog"])
        >>> figure.axes[0].get_title()
        'dog, not cat'
    """
    pictures = images(inputs, "predictions", "inputs")
    table = _probabilities(probabilities, len(pictures))
    heads = texts(names, table.shape[1], "predictions", "names")
    truth = None if labels is None else classes(labels, len(table), "predictions")
    if truth is not None:
        class_names(heads, truth, "predictions")
    top = min(check.count(top, "predictions", "top"), table.shape[1])
    count, more = shown(len(pictures), limit, "predictions", "examples")
    columns = min(check.count(columns, "predictions", "columns"), count)
    figure = canvas(3.1 * columns, (0.55 + 0.2 * max(top, 4)) * -(-count // columns), f"{count} predictions")
    grid = figure.subplots(-(-count // columns), 2 * columns, squeeze=False, width_ratios=[1, 1.1] * columns).ravel()
    for index in range(count):
        true = None if truth is None else int(truth[index])
        answer = int(table[index].argmax())
        title = heads[answer] if true in (None, answer) else f"{heads[answer]}, not {heads[true or 0]}"
        head = picture(grid[2 * index], pictures[index]).set_title(fitted(title, 1.1, 9), fontsize=9)
        if true is not None:
            head.set_color(RIGHT if true == answer else WRONG)
        _bars(grid[2 * index + 1], table[index], true, heads, top)
    for axes in grid[2 * count :]:
        axes.remove()
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _probabilities(value: Any, size: int) -> np.ndarray:
    table = batch(value, "predictions", "probabilities", {2: "[B, K]"})
    if len(table) != size:
        raise ValueError(f"predictions: `probabilities` has shape {table.shape}, but there are {size} images.")
    sums = table.sum(axis=1)
    # Rows of bfloat16 probabilities miss 1 by up to a few percent; logits are further off.
    if table.min() < 0 or table.max() > 1.01 or np.abs(sums - 1).max() > 0.05:
        worst = int(np.abs(sums - 1).argmax())
        raise ValueError(
            f"predictions: row {worst} of `probabilities` adds up to {sums[worst]:.3g} with values from "
            f"{table.min():.3g} to {table.max():.3g} in all; pass probabilities, such as jax.nn.softmax(logits)."
        )
    return table


def _bars(axes: Axes, row: np.ndarray, true: int | None, heads: list[str], top: int) -> None:
    order = np.argsort(-row, kind="stable")[:top]
    colours = [NEUTRAL if true is None else RIGHT if k == true else WRONG if k == order[0] else "0.75" for k in order]
    axes.barh(range(top), row[order], color=colours, height=0.7)
    for place, k in enumerate(order):
        inside = row[k] > 0.6
        axes.text(
            row[k] - 0.03 if inside else row[k] + 0.03,
            place,
            _percent(row[k]),
            ha="right" if inside else "left",
            va="center",
            fontsize=7,
            color="white" if inside else None,
        )
    axes.set_yticks(range(top), [wrapped(heads[k], 18, 1) for k in order], fontsize=8)
    axes.set(ylim=(max(top, 4) - 0.4, -0.6), xlim=(0, 1))
    axes.tick_params(length=0)
    axes.set_xticks([])
    open_sides(axes, "top", "right", "bottom")


def _percent(value: float) -> str:
    """A share in percent that says 100 % only of all and 0 % only of nothing."""
    if 0 < value < 0.005:
        return "<1 %"
    if value >= 0.9995:
        return "100 %" if value >= 1 else ">99.9 %"
    return f"{100 * value:.1f} %" if value > 0.99 else f"{100 * value:.0f} %"


@drawn
def confusion_matrix(labels: Any, predicted: Any, *, names: Sequence[Any] | None = None) -> Figure:
    """Draw how often each true class was answered with each class: counts, and rates of the true class.

    Args:
        labels: True classes, integers `[B]`.
        predicted: Predicted classes, integers `[B]`.
        names: Names of the classes, `[K]`; without them there are as many as the labels and predictions hold.

    Returns:
        A figure: true classes in rows, predicted ones in columns; colours are rates, each row adding up to 1. The row
        of a class without examples is empty. Beyond 25 classes the cells have no text.

    Raises:
        ValueError: An empty set, counts that do not match, labels that are no integers from 0.
        TypeError: No array of numbers.

    Example:
        >>> figure = confusion_matrix([0, 0, 1], [0, 1, 1], names=["cat", "dog"])
        >>> figure.axes[0].get_title()
        '2 of 3 right (66.7 %)'
    """
    predicted_classes = classes(
        predicted,
        len(np.atleast_1d(numbers(predicted, "confusion_matrix", "predicted"))),
        "confusion_matrix",
        "predicted",
    )
    truth = classes(labels, len(predicted_classes), "confusion_matrix")
    size = 1 + int(max(truth.max(), predicted_classes.max()))
    if names is not None:
        class_names(names, np.maximum(truth, predicted_classes), "confusion_matrix")
        size = len(names)
    heads = [str(k) for k in range(size)] if names is None else [plain(name) for name in names]
    counts = np.zeros((size, size), int)
    np.add.at(counts, (truth, predicted_classes), 1)
    totals = counts.sum(axis=1, keepdims=True)
    rates = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    side = max(3.2, min(9.0, 0.52 * size + 1.2))
    figure = canvas(side + 1.0, side, f"Confusion matrix of {size} classes over {len(truth)} examples")
    axes = figure.add_subplot()
    image = axes.imshow(rates, cmap=SEQUENTIAL, vmin=0, vmax=1)
    grids = [_cells(axes, counts, rates, heads)] if size <= 25 else []
    _class_axes(axes, heads)
    right = int(np.trace(counts))
    axes.set_title(f"{right} of {len(truth)} right ({100 * right / len(truth):.1f} %)", fontsize=10)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("share of the true class", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return with_grids(figure, *grids)


def _cells(axes: Axes, counts: np.ndarray, rates: np.ndarray, heads: list[str]) -> Grid:
    """Write the counts into their places, and as rows."""
    rows = [[Cell(head), *[Cell("", right=True)] * len(heads)] for head in heads]
    for (row, column), count in np.ndenumerate(counts):
        if count:
            rate = float(rates[row, column])
            text = f"{count}\n{_percent(rate)}" if len(counts) <= 15 else str(count)
            colour = readable(SEQUENTIAL(rate))
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour, linespacing=1.1)
            rows[row][1 + column] = coloured(text.replace("\n", ", "), SEQUENTIAL(rate))
    return Grid([Cell("true class"), *(Cell(head, right=True) for head in heads)], rows, "columns: predicted class")


def _class_axes(axes: Axes, heads: list[str]) -> None:
    step = -(-len(heads) // 40)
    places = range(0, len(heads), step)
    slanted = max(map(len, heads)) > 3
    shown_heads = [wrapped(heads[place], 22, 2) for place in places]
    if slanted:
        axes.set_xticks(places, shown_heads, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    else:
        axes.set_xticks(places, shown_heads, fontsize=8)
    axes.set_yticks(places, shown_heads, fontsize=8)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("true class", fontsize=9)
    open_sides(axes, "top", "right", "bottom", "left")
