"""The layers of a model: as a table, their attention heads, what lenses read, where patching has effects."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    DIVERGING,
    NEUTRAL,
    SEQUENTIAL,
    canvas,
    colour_bar,
    diverging,
    largest,
    readable,
    shown,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.table import Cell, Grid, coloured, draw_table, with_grids
from jaxplain.plot.values import batch, plain, texts, visible

_HEADS = {"forward": "operations forward", "backward": "operations backward"}
"""Names of a `Layer`'s fields that need more words where they stand alone."""


@drawn
def layer_table(layers: Sequence[Any], *, limit: int = 100) -> Figure:
    """Draw a model's layers as a table, with the totals of what adds up.

    Args:
        layers: What `layers(f)(x)` returns, or any objects (dataclasses, named tuples, mappings) with common fields,
            each a column: path, operation, shape, dtype, parameters, floating-point operations, bytes.
        limit: Most layers drawn, the first ones; the last line says where there are more.

    Returns:
        A figure. Integer columns are added up over all layers in the last row.

    Raises:
        ValueError: No layers, layers with different fields.
        TypeError: Objects without fields.

    Example:
        >>> rows = [{"path": "dense", "operation": "dot", "shape": (10,), "parameters": 650}]
        >>> figure = layer_table(rows)
        >>> [text.get_text() for text in figure.axes[0].texts][-4:]
        ['total', '', '', '650']
    """
    rows = [_fields(layer) for layer in layers]
    if not rows:
        raise ValueError("layer_table: `layers` is empty; there is nothing to draw.")
    if any(list(row) != list(rows[0]) for row in rows):
        raise ValueError(f"layer_table: the layers differ in their fields, {list(rows[0])} in the first.")
    columns = list(rows[0])
    check.count(limit, "layer_table", "limit")
    counts = [name for name in columns if all(_is_count(row[name]) for row in rows)]
    heads = [Cell(_HEADS.get(name, plain(name.replace("_", " "))), right=name in counts) for name in columns]
    drawn = [[Cell(_value(row[name]), right=name in counts) for name in columns] for row in rows[:limit]]
    if len(rows) > limit:
        rest = f"… and {len(rows) - limit} more"
        drawn.append([Cell(rest if name == columns[0] else "", faint=True) for name in columns])
    if counts:
        totals = {name: _count(sum(int(row[name]) for row in rows)) for name in counts}
        first = columns[0]
        drawn.append([Cell(totals.get(c, "total" if c == first else ""), c in counts, bold=True) for c in columns])
    return draw_table(heads, drawn, f"Table of {len(rows)} layers: {', '.join(columns)}".replace("_", " "))


def _fields(layer: Any) -> dict[str, Any]:
    if isinstance(layer, Mapping):
        return {str(name): value for name, value in layer.items()}
    if dataclasses.is_dataclass(layer) and not isinstance(layer, type):
        return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    if hasattr(layer, "_asdict"):
        return dict(layer._asdict())
    raise TypeError(f"layer_table: {layer!r} has no fields; pass what `layers(f)(x)` returns, or mappings.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if _is_count(value):
        return _count(int(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return plain(f"[{', '.join(map(str, value))}]")
    return plain(value) if value != "" else "(no module)"


def _count(number: int) -> str:
    """A count as it is, from ten millions on with four digits and a unit."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if number >= max(size, 10**7):
            return f"{number / size:.4g} {unit}"
    return f"{number:,}"


def _by_layer(value: Any, name: str, argument: str, shape: str) -> dict[str, np.ndarray]:
    """Arrays by layer, of the rank that a shape's text says; one array is a layer without a name."""
    values = value if isinstance(value, Mapping) else {"": value}
    if not values:
        raise ValueError(f"{name}: `{argument}` is empty; pass {{layer: {shape}}}.")
    rank = shape.count(",") + 1
    return {str(k): batch(v, name, f"{argument}[{k!r}]" if k else argument, {rank: shape}) for k, v in values.items()}


def _words(tokens: Sequence[Any] | None, size: int, name: str) -> list[str]:
    if tokens is not None and not isinstance(tokens, str) and not hasattr(tokens, "__len__"):
        raise TypeError(f"{name}: `tokens` has to be a sequence of texts, not {check.short(tokens)}.")
    return [visible(text) for text in texts(tokens, size, name, "tokens")]


def _ticks(axes: Axes, x: Sequence[str], y: Sequence[str], size: float = 7) -> None:
    axes.set_xticks(range(len(x)), labels=[wrapped(word, 16, 1) for word in x], rotation=90, fontsize=size)
    axes.set_yticks(range(len(y)), labels=[wrapped(word, 36, 1) for word in y], fontsize=size)
    axes.tick_params(length=0)


_LABEL = 22
"""Letters of a name that fit beside a square."""


@drawn
def attention_heads(weights: Any, *, tokens: Sequence[Any] | None = None, limit: int = 6) -> Figure:
    """Draw attention weights: a row for each layer, a square for each head.

    In a square, row t is the token that attends and column s the one attended to; white is 0, dark is 1.

    Args:
        weights: `{layer: [heads, T, S]}`, as `jaxplain.language.attention_weights` gives them, or one array.
        tokens: The texts of the tokens, written at the first square (and at its left where queries are keys).
        limit: Most layers drawn, the first ones.

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, weights outside of [0, 1], another number of tokens.
        TypeError: No arrays of numbers.
    """
    name = "attention_heads"
    layers = _by_layer(weights, name, "weights", "[heads, T, S]")
    for key, own in layers.items():
        if own.min() < -1e-6 or own.max() > 1 + 1e-5:
            raise ValueError(
                f"{name}: `weights[{key!r}]` holds values from {own.min():.3g} to {own.max():.3g}, not in [0, 1]."
            )
    count, more = shown(len(layers), limit, name, "layers")
    drawn = dict(list(layers.items())[:count])
    heads = max(len(own) for own in drawn.values())
    figure = canvas(1.5 * heads + 1.0, 1.6 * count + 0.6, f"Attention weights of {count} layers, head by head")
    grid = figure.subplots(count, heads, squeeze=False)
    for row, (layer, own) in enumerate(drawn.items()):
        for head in range(heads):
            axes = grid[row, head]
            if head >= len(own):
                axes.remove()
                continue
            axes.imshow(own[head], cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"head {head}", fontsize=7)
            _ticks(axes, [], [])
        first = grid[row, 0]
        # A path of one piece: broken behind its slashes, and where a part is longer than the square is high.
        whole = str(layer).replace("/", "/\n") if len(str(layer)) > _LABEL else str(layer)
        lines = [line for part in whole.split("\n") for line in textwrap.wrap(part, _LABEL) or [part]]
        first.set_ylabel(plain("\n".join(lines)), fontsize=6)
        if tokens is not None and row == 0:
            words = _words(tokens, own.shape[2], name)
            _ticks(first, words, words if own.shape[1] == own.shape[2] else [], 6)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


@drawn
def lens_table(
    outputs: Any, vocabulary: Sequence[Any] | None = None, *, tokens: Sequence[Any] | None = None, limit: int = 24
) -> Figure:
    """Draw what a lens reads: for each layer and position the most probable token, the darker the more probable.

    Args:
        outputs: `{layer: [T, K]}` logits, in the order of a run, as `jaxplain.language.lens` gives them, or one array.
        vocabulary: The text of each token id, `[K]`; without it the ids.
        tokens: The texts of the input's tokens, `[T]`.
        limit: Most positions drawn, the last ones.

    Returns:
        A figure with the last layer on top.

    Raises:
        ValueError: Wrong shapes, layers of several shapes, another number of tokens or words.
        TypeError: No arrays of numbers.
    """
    name = "lens_table"
    layers = _by_layer(outputs, name, "outputs", "[T, K]")
    shapes = {own.shape for own in layers.values()}
    if len(shapes) > 1:
        raise ValueError(f"{name}: `outputs` holds layers of several shapes: {sorted(shapes)}.")
    length, size = shapes.pop()
    words = texts(vocabulary, size, name, "vocabulary")
    below = _words(tokens, length, name)
    count, more = shown(length, limit, name, "positions")
    more = more.replace("first", "last")
    rows = list(layers)[::-1]
    logits = np.stack([layers[row][length - count :] for row in rows])
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    figure = canvas(0.62 * count + 2.0, 0.3 * len(rows) + 1.0, f"Most probable tokens at {len(rows)} layers")
    axes = figure.subplots()
    axes.imshow(chances.max(axis=-1), cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    written = [[Cell(plain(layer))] for layer in rows]
    for row, layer in enumerate(chances):
        for column, chance in enumerate(layer):
            behind = SEQUENTIAL(chance.max())
            word = visible(words[int(chance.argmax())])
            axes.text(column, row, wrapped(word, 8, 1), ha="center", va="center", fontsize=6, color=readable(behind))
            written[row].append(coloured(word, behind))
    _ticks(axes, below[length - count :], [plain(row) for row in rows])
    axes.set_title(more or "most probable token", fontsize=8, color=NEUTRAL)
    heads = [Cell("layer"), *(Cell(word, right=True) for word in below[length - count :])]
    return with_grids(figure, Grid(heads, written, more))


@drawn
def patching_map(effects: Any, *, rows: Sequence[Any] | None = None, tokens: Sequence[Any] | None = None) -> Figure:
    """Draw the effects of patching as a map of layers and positions: red restores the score, blue lowers it.

    Args:
        effects: `{layer: [T]}`, as `jaxplain.language.sweep` gives them, or one array `[layers, T]`.
        rows: The names of an array's rows.
        tokens: The texts of the tokens, `[T]`.

    Returns:
        A figure with the last layer on top, on one scale that is symmetric about zero.

    Raises:
        ValueError: Wrong shapes, layers of several lengths, another number of names or tokens.
        TypeError: No arrays of numbers.
    """
    name = "patching_map"
    if isinstance(effects, Mapping):
        layers = _by_layer(effects, name, "effects", "[T]")
        if len({own.shape for own in layers.values()}) > 1:
            raise ValueError(f"{name}: `effects` holds layers of several lengths; a map needs one.")
        values, names = np.stack(list(layers.values())), [plain(layer) for layer in layers]
    else:
        values = batch(effects, name, "effects", {2: "[layers, T]"})
        names = texts(rows, len(values), name, "rows")
    words = _words(tokens, values.shape[1], name)
    figure = canvas(
        0.32 * values.shape[1] + 2.6, 0.22 * len(values) + 1.2, f"Effects of patching at {len(values)} layers"
    )
    axes = figure.subplots()
    norm = diverging(largest(values))
    axes.imshow(values[::-1], cmap=DIVERGING, norm=norm, aspect="auto", interpolation="nearest")
    _ticks(axes, words, names[::-1])
    colour_bar(figure, axes, norm, values=values, label="effect")
    return figure
