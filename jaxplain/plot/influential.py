"""A query beside the training examples that made its score better and worse."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.influence import Influence, top_examples
from jaxplain.plot.canvas import RIGHT, WRONG, bare, canvas, fitted, open_sides, picture, shown
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, images, label_texts, number, plain, same_length, signed, texts

KINDS = ("image", "row", "text")


@drawn
def influential_examples(
    influence: Influence,
    inputs: Any,
    queries: Any,
    *,
    labels: Any = None,
    query_labels: Any = None,
    names: Sequence[Any] | None = None,
    features: Sequence[Any] | None = None,
    k: int = 4,
    limit: int = 6,
) -> Figure:
    """Draw each query beside its most helpful and its most harmful training examples, with their values.

    Args:
        influence: What a method of `jaxplain.influence` returned, values `[Q, N]`.
        inputs: The training examples: images `[N, H, W]` or `[N, H, W, C]`, rows of a table `[N, D]`, or N texts.
        queries: The queries, in the same form.
        labels: `[N]`, classes, numbers or texts of the training examples.
        query_labels: `[Q]`, those of the queries.
        names: Names of the classes, `[K]`.
        features: Names of a table's columns, `[D]`.
        k: How many of each kind.
        limit: Most queries drawn, the first ones; the title says where there are more.

    Returns:
        A figure with a row for each query: the query, k helpful ones (green, the largest value first), k harmful ones
        (red). What helps makes the score better: a loss lower, a logit higher. A place that no example fills is empty.

    Raises:
        ValueError: Counts that do not match, values that are not `[Q, N]`, NaN.
        TypeError: No `Influence`; inputs of no known form.

    Example:
        >>> import numpy as np
        >>> from jaxplain.influence import Influence
        >>> found = Influence(np.array([[0.5, -1.0, 0.2]]), None, "score", True, "unrolled", {})
        >>> figure = influential_examples(found, np.zeros((3, 8, 8)), np.zeros((1, 8, 8)), k=1)
        >>> [axes.get_title() for axes in figure.axes]
        ['query', '+0.5', '-1']
    """
    top = top_examples(influence, check.count(k, "influential_examples", "k"))
    drawn, kind = _cells(inputs, "inputs", features)
    asked, other = _cells(queries, "queries", features)
    if kind != other:
        raise ValueError(f"influential_examples: `inputs` are of the kind {kind!r}, but `queries` of {other!r}.")
    values = np.asarray(influence.values)
    same_length(range(len(drawn)), values.T, "influential_examples", ("inputs", "influence"))
    same_length(range(len(asked)), values, "influential_examples", ("queries", "influence"))
    notes = label_texts(labels, len(drawn), names, "influential_examples")
    heads = label_texts(query_labels, len(asked), names, "influential_examples")
    count, more = shown(len(asked), limit, "influential_examples", "queries")
    size = {"image": (1.2, 1.6), "row": (1.7, 0.6 + 0.16 * len(drawn[0])), "text": (1.9, 1.5)}[kind]
    words = "lower" if not influence.higher_is_better else "higher"
    figure = canvas(
        size[0] * (2 * k + 1) + 0.4,
        size[1] * count + 0.5,
        f"{count} queries, each beside {k} training examples that make its score better and {k} that make it worse",
    )
    grid: Any = figure.subplots(count, 2 * k + 1, squeeze=False)
    for row in range(count):
        _draw(grid[row, 0], asked[row], kind, "query", heads[row], "black")
        for place in range(2 * k):
            index, value = (part[row] for part in (top[:2] if place < k else top[2:]))
            axes = grid[row, place + 1]
            if index[place % k] < 0:
                open_sides(bare(axes), "top", "right", "bottom", "left")
                continue
            title = signed(value[place % k])
            _draw(axes, drawn[index[place % k]], kind, title, notes[index[place % k]], RIGHT if place < k else WRONG)
    title = f"left: helpful (the score gets {words}); right: harmful" + (f"; {more}" if more else "")
    figure.suptitle(title, fontsize=9)
    return figure


def _cells(value: Any, argument: str, features: Sequence[Any] | None) -> tuple[list[Any], str]:
    """What each cell shows, and of which kind it is: images, rows as lines of text, or texts."""
    if not hasattr(value, "__len__") or isinstance(value, str | dict) or getattr(value, "shape", None) == ():
        raise TypeError(
            f"influential_examples: `{argument}` has to be images, rows or texts, not {check.short(value)}."
        )
    if len(value) and all(isinstance(item, str) for item in value):
        return [textwrap.wrap(plain(item), 26)[:8] for item in value], "text"
    try:
        rank = np.ndim(value)
    except ValueError as error:  # rows of different lengths
        raise TypeError(f"influential_examples: `{argument}` has to be images, rows or texts; {error}.") from error
    if rank == 2:
        table = batch(value, "influential_examples", argument, {2: "[N, D]"})
        heads = texts(features, table.shape[1], "influential_examples", "features", "{}")
        return [[f"{head}: {number(v)}" for head, v in zip(heads, row, strict=True)] for row in table], "row"
    return list(images(value, "influential_examples", argument)), "image"


def _draw(axes: Axes, cell: Any, kind: str, title: str, note: str, colour: str) -> None:
    if kind == "image":
        picture(axes, cell)
    else:
        bare(axes).text(0.04, 0.96, "\n".join(cell), fontsize=6, va="top", ha="left", transform=axes.transAxes)
    axes.set_title(title, fontsize=8, color=colour)
    axes.set_xlabel(fitted(note, 1.15, 8), fontsize=8)
    for side in axes.spines.values():
        side.set_color(colour)
