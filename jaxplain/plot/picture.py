"""Examples as they come: images, signals, rows of a table, texts; and those that stand at the top of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    NEUTRAL,
    SEQUENTIAL,
    bare,
    canvas,
    fitted,
    open_sides,
    panels,
    picture,
    row_name,
    score_limits,
    series,
    shown,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.table import Cell, Grid, coloured, with_grids
from jaxplain.plot.tabular import Columns, columns_of
from jaxplain.plot.values import (
    batch,
    images,
    label_texts,
    number,
    numbers,
    plain,
    same_length,
    table_of,
    texts,
    visible,
)
from jaxplain.program import is_frame

KINDS = ("image", "signal", "row", "token")


@drawn
def samples(
    inputs: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    features: Sequence[Any] | None = None,
    kind: str | None = None,
    columns: int = 8,
    limit: int = 32,
) -> Figure:
    """Draw examples as they go into a model.

    Args:
        inputs: Images `[B, H, W]` or `[B, H, W, C]` (C of 1, 3 or 4; drawn on one scale for the set), signals `[B, T]`
            or `[B, T, C]`, rows of a table `[B, D]`, a data frame of pandas or polars, or B sequences of texts.
        labels: `[B]`, classes, numbers or texts; None for no titles.
        names: Names of the classes, `[K]`.
        features: Names of a table's columns, `[D]`.
        kind: "image", "signal", "row" or "token"; by default images have three axes or more, texts are tokens, two
            axes are rows where `features` are named and signals otherwise.
        columns: Most images or signals in a row of the figure.
        limit: Most examples drawn, the first ones; the title says where there are more.

    Returns:
        A figure. Rows of a table are drawn as a matrix of numbers coloured by column, from its least to its greatest.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN, counts that do not match, an unknown kind.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = samples(np.zeros((3, 8, 8, 1)), [0, 1, 1], names=["cat", "dog"])
        >>> [axes.get_title() for axes in figure.axes]
        ['cat', 'dog', 'dog']
    """
    if not hasattr(inputs, "__len__") or isinstance(inputs, dict) or getattr(inputs, "shape", None) == ():
        raise TypeError(f"samples: `inputs` has to be a sequence of examples, not {check.short(inputs)}.")
    table = columns_of(inputs, features, "samples", "inputs")
    if kind is None:
        kind = "row" if is_frame(inputs) else _kind(inputs, features)
    check.choice(kind, KINDS, "samples", "kind")
    check.count(columns, "samples", "columns")
    if len(inputs) == 0:
        raise ValueError("samples: `inputs` is empty; there is nothing to draw.")
    titles = label_texts(labels, len(inputs), names, "samples")
    count, more = shown(len(inputs), limit, "samples", "examples")
    if kind == "token":
        figure = _tokens(inputs[:count], titles)
    elif kind == "row":
        values = batch(table.values, "samples", "inputs", {2: "[B, D]"}, finite=False)
        figure = _rows(table._replace(values=values), titles, count)
    elif kind == "signal":
        signals = batch(inputs, "samples", "inputs", {2: "[B, T]", 3: "[B, T, C]"})
        figure = _signals(signals.reshape(*signals.shape[:2], -1)[:count], titles, columns)
    else:
        figure = _images(images(inputs, "samples", "inputs")[:count], titles, columns)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _kind(inputs: Any, features: Sequence[Any] | None) -> str:
    first = inputs[0] if len(inputs) else ()
    if isinstance(first, str) or (len(np.shape(first)) == 1 and any(isinstance(item, str) for item in first)):
        return "token"
    if np.ndim(first) >= 2:
        return "image"
    return "signal" if features is None else "row"


def _images(pictures: np.ndarray, titles: list[str], columns: int) -> Figure:
    description = f"{len(pictures)} input images of {pictures.shape[1]} by {pictures.shape[2]} pixels"
    figure, grid = panels(len(pictures), columns, (1.25, 1.5), description)
    for axes, image, title in zip(grid, pictures, titles, strict=False):
        picture(axes, image).set_title(fitted(title, 1.2, 8), fontsize=8)
    return figure


def _signals(signals: np.ndarray, titles: list[str], columns: int) -> Figure:
    description = f"{len(signals)} input signals of {signals.shape[1]} steps"
    figure, grid = panels(len(signals), min(columns, 4), (2.6, 1.6), description)
    ends = score_limits(float(signals.min()), float(signals.max()), 0.05)
    for axes, signal, title in zip(grid, signals, titles, strict=False):
        for channel, line in enumerate(signal.T):
            axes.plot(line, linewidth=0.9, marker="o" if len(line) == 1 else None, **series(channel))
        axes.set_ylim(*ends)
        axes.set_title(fitted(title, 2.3, 8), fontsize=8)
        open_sides(axes).tick_params(labelsize=7)
    return figure


def _rows(columns: Columns, titles: list[str], count: int) -> Figure:
    table = columns.values
    heads = texts(columns.names, table.shape[1], "samples", "features", "feature {}")
    # The colours compare an example with the whole set, so the ends are those of all rows, not of those drawn.
    known = np.where(np.isfinite(table), table, np.nan)
    known = np.where(np.isnan(known).all(axis=0), 0.0, known)
    low, high = np.nanmin(known, axis=0), np.nanmax(known, axis=0)
    relative = (table - low[None]) / np.maximum(high - low, np.finfo(float).tiny)[None]
    rows = titles[:count] if any(titles) else [str(i) for i in range(count)]
    words = [wrapped(head, 24, 2) for head in heads]
    longest = max(
        map(len, [*(wrapped(row, 24, 1) for row in rows), *(line for word in words for line in word.split("\n"))])
    )
    figure = canvas(
        1.5 + 0.55 * table.shape[1] + 0.06 * longest,
        1.2 + 0.24 * count + 0.03 * longest,
        f"{count} rows of {table.shape[1]} input features",
    )
    axes = figure.add_subplot()
    axes.imshow(relative[:count], cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    written = [[Cell(name)] for name in rows]
    for row, column in np.ndindex(count, table.shape[1]):
        text = plain(columns.text(row, column))
        written[row].append(coloured(text, SEQUENTIAL(relative[row, column] / 1.6)))
        axes.text(column, row, text, ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(heads)), words, rotation=40, ha="left", rotation_mode="anchor", fontsize=7)
    axes.set_yticks(range(count), [wrapped(row, 24, 1) for row in rows], fontsize=7)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    open_sides(axes, "top", "right", "bottom", "left")
    return with_grids(figure, Grid([Cell(""), *(Cell(head, right=True) for head in heads)], written))


def _tokens(sequences: Any, titles: list[str]) -> Figure:
    lines = [
        " ".join([sequence] if isinstance(sequence, str) else (visible(str(token)) for token in sequence))
        for sequence in sequences
    ]
    figure = canvas(9, 0.5 + 0.3 * len(lines), f"{len(lines)} input texts")
    axes = figure.add_subplot()
    for row, line in enumerate(lines):
        cut = line if len(line) <= 110 else f"{line[:109]}…"
        axes.text(0, row, plain(cut), family="monospace", fontsize=8, va="center")
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [wrapped(title, 24, 1) for title in titles[: len(lines)]], fontsize=8)
    axes.set_xticks([])
    axes.tick_params(length=0, pad=8)
    open_sides(axes, "top", "right", "bottom", "left")
    return figure


@drawn
def top_examples(
    inputs: Any,
    values: Any,
    *,
    names: Sequence[Any] | None = None,
    labels: Any = None,
    value_name: str = "value",
) -> Figure:
    """Draw the examples at the top of one list or of several, with the values that put them there.

    Args:
        inputs: Images `[N, H, W(, C)]` of one list, or `[R, N, H, W(, C)]` of R lists (a class, a unit each), in the
            lists' order: `images[ranking.indices]` of what `top_k` found.
        values: `[N]` or `[R, N]`; NaN marks a place that is not filled, which is left out.
        names: Names of the lists, `[R]`.
        labels: Texts or numbers written under each image, `[N]` or `[R, N]` (a label, an index in the dataset).
        value_name: What the values are.

    Returns:
        A figure with one row for each list.

    Raises:
        ValueError: Wrong shapes, nothing to draw, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = top_examples(np.zeros((2, 8, 8)), [0.9, 0.7], value_name="loss")
        >>> [axes.get_title() for axes in figure.axes]
        ['loss 0.9', 'loss 0.7']
    """
    table = numbers(values, "top_examples", "values", finite=False)
    if table.ndim not in (1, 2):
        raise ValueError(f"top_examples: `values` has shape {table.shape}; it has to be [N] or [R, N].")
    inputs = numbers(inputs, "top_examples", "inputs", finite=False) if isinstance(inputs, list) else inputs
    shape = np.shape(inputs)
    if shape[: table.ndim] != table.shape:
        raise ValueError(
            f"top_examples: `inputs` has shape {shape}, which does not begin with the shape of `values`, {table.shape}."
        )
    flat = images(np.reshape(inputs, (-1, *shape[table.ndim :])), "top_examples", "inputs")
    table = np.atleast_2d(table)
    pictures = flat.reshape(*table.shape, *flat.shape[1:])
    if not np.isfinite(table).any():
        raise ValueError("top_examples: no value is a number; there is nothing to draw.")
    heads = texts(names, len(table), "top_examples", "names") if names is not None else [""] * len(table)
    notes = None if labels is None else np.atleast_2d(table_of(labels, "top_examples", "labels"))
    if notes is not None:
        same_length(notes.ravel(), table.ravel(), "top_examples", ("labels", "values"))
    description = f"The {table.shape[1]} examples at the top" + (" of each row" if names else "") + f", by {value_name}"
    figure = canvas(1.25 * table.shape[1] + 0.5, 1.9 * len(table), description)
    grid: Any = figure.subplots(*table.shape, squeeze=False)
    for (row, column), value in np.ndenumerate(table):
        axes = grid[row, column]
        if np.isnan(value):
            open_sides(bare(axes), "top", "right", "bottom", "left")
        else:
            title = f"{value_name} {number(value)}" if len(table) == 1 else number(value)
            picture(axes, pictures[row, column]).set_title(fitted(plain(title), 1.2, 8, 3), fontsize=8)
            if notes is not None:
                axes.set_xlabel(fitted(plain(notes[row, column]), 1.2, 8), fontsize=8)
        if column == 0:
            row_name(axes, heads[row])
    if len(table) > 1:
        figure.suptitle(fitted(plain(value_name), figure.get_figwidth(), 9), fontsize=9)
    return figure
