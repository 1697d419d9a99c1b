"""Attributions over tokens: as a figure, as a piece of HTML, as a map of generated tokens by those before them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxplain import check
from jaxplain.plot.canvas import (
    DIVERGING,
    NEUTRAL,
    canvas,
    check_percentile,
    colour_bar,
    diverging,
    largest,
    open_sides,
    readable,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, label_texts, measured, number, plain, spoken, visible

# One character of the monospace font (0.602 em) and one line, in inches.
CHARACTER, LINE = 0.602 * 9 / 72, 0.27


FONTS = ["monospace", "sans-serif"]
"""The second one has letters that the first one lacks, such as those from right to left."""
CELL = 0.26
"""Inches of a cell at most; a large map has smaller ones."""
LARGEST = 14.0
"""Inches of a map's longer side at most."""
NAMED = 0.1
"""Inches of a cell from which on tokens are written at it."""
GAP = 0.45
"""Lines between two texts."""


class Markup(str):
    """HTML that needs no escaping; notebooks and `report` show it as it is."""

    def _repr_html_(self) -> str:
        return str(self)


class TokenFigure(Figure):
    """A figure of texts; a notebook and `report` show it as text that wraps and can be read by a screen reader."""

    markup: Markup

    def _repr_html_(self) -> str:
        return str(self.markup)


@drawn
def tokens(
    sequences: Sequence[Any],
    attributions: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "shared",
    percentile: float = 100.0,
    width: int = 80,
    title: str = "",
    units: Any = None,
) -> TokenFigure:
    """Draw texts with each token on the colour of its attribution: red speaks for the score, blue against.

    A token's value is the sum over its embedding's dimensions, where the attribution has them, so that a text still
    adds up to what the attribution adds up to. Several texts are told apart by a bar at their left.

    Args:
        sequences: B sequences of texts, or one sequence. Words and sentences (the names of
            `jaxplain.language.segments`) are drawn as tokens are.
        attributions: `[T]` or `[T, D]` for each of them, as a sequence of arrays or one array `[B, T(, D)]`; just one
            array `[T(, D)]` for one sequence.
        labels: `[B]`, classes, numbers or texts written above the texts.
        names: Names of the classes, `[K]`.
        scale: "shared" (one scale and colour bar for all) or "panel" (one for each text, its end written above it).
        percentile: The end of a scale is this percentile of the absolute values that are not zero.
        width: Characters in a line.
        title: Written above everything.
        units: What the score is measured in, written at the colour bar: a text, or the score that was explained
            (`jaxplain.logit(...)`).

    Returns:
        A figure; notebooks and `report` show it as the text of `tokens_html`. Spaces, tabs and line breaks are drawn as
        visible signs. Scripts that matplotlib's font lacks are drawn as boxes with a warning; `tokens_html` shows them.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN in the attributions, counts that do not match.
        TypeError: No array of numbers, tokens that are not texts.

    Example:
        >>> figure = tokens(["a", "fine", "film"], [0.0, 0.8, 0.1])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['a', 'fine', 'film']
    """
    check.choice(scale, ("panel", "shared"), "tokens", "scale")
    check.count(width, "tokens", "width", least=20)
    texts, values = _pairs(sequences, attributions, "tokens")
    heads = label_texts(labels, len(texts), names, "tokens")
    norms = _norms(values, scale, percentile, "tokens")
    label = measured("attribution", units, "tokens")
    blocks: list[list[Any]] = []
    for text, value, head, norm in zip(texts, values, heads, norms, strict=True):
        head = wrapped(head, width - (30 if scale == "panel" else 4), 1)  # letters in bold are wider
        note = f"{head}  (colours end at ±{number(norm.vmax or 0)})" if scale == "panel" else head
        blocks.append([*([note] if note else []), *_wrapped(text, value, norm, width)])
    height = sum(map(len, blocks)) + GAP * (len(blocks) - 1)
    size = (width * CHARACTER + 1.0, height * LINE + (0.8 if title else 0.5))
    figure = TokenFigure(figsize=size, layout="constrained")
    figure.set_label(f"{len(texts)} texts, each token coloured by its attribution: red speaks for the score")
    figure.markup = tokens_html(
        sequences, attributions, labels, names=names, scale=scale, percentile=percentile, title=title, units=units
    )
    axes = figure.add_subplot()
    axes.set(xlim=(-1 if len(blocks) > 1 else 0, width), ylim=(height, 0))
    axes.set_axis_off()
    if title:
        axes.set_title(plain(title), fontsize=10, loc="left")
    row = 0.0
    for block in blocks:
        if len(blocks) > 1:
            axes.plot([-0.6, -0.6], [row + 0.1, row + len(block) - 0.1], color=NEUTRAL, linewidth=2, clip_on=False)
        for line in block:
            _draw(axes, row, line)
            row += 1
        row += GAP
    if scale == "shared":
        colour_bar(figure, axes, norms[0], values=np.concatenate(values), label=label)
    return figure


@drawn
def tokens_html(
    sequences: Sequence[Any],
    attributions: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "shared",
    percentile: float = 100.0,
    title: str = "",
    units: Any = None,
) -> Markup:
    """Write texts as HTML, each token on the colour of its attribution and with its value as a tooltip.

    Args:
        sequences: As in `tokens`.
        attributions: As in `tokens`.
        labels: As in `tokens`.
        names: As in `tokens`.
        scale: As in `tokens`.
        percentile: As in `tokens`.
        title: As in `tokens`.
        units: As in `tokens`.

    Returns:
        Markup that stands alone: no script, no style sheet, all texts escaped, with a bar of the colours at its end. A
        notebook and `report` show it.

    Raises:
        ValueError, TypeError: As in `tokens`.

    Example:
        >>> "fine</span>" in tokens_html(["a", "fine", "<film>"], [0.0, 0.8, 0.1])
        True
    """
    check.choice(scale, ("panel", "shared"), "tokens_html", "scale")
    texts, values = _pairs(sequences, attributions, "tokens_html")
    heads = label_texts(labels, len(texts), names, "tokens_html")
    norms = _norms(values, scale, percentile, "tokens_html")
    parts = [f"<h4>{html.escape(title)}</h4>"] if title else []
    apart = "border-left:3px solid #8c8c8c;padding-left:.6em;" if len(texts) > 1 else ""
    for text, value, head, norm in zip(texts, values, heads, norms, strict=True):
        spans = "\u200b".join(_span(token, amount, norm) for token, amount in zip(text, value, strict=True))
        note = f" (colours end at \u00b1{number(norm.vmax or 0)})" if scale == "panel" else ""
        above = f"<strong>{html.escape(spoken(head).strip())}</strong>{note}<br>" if head or note else ""
        style = f"{apart}line-height:1.9;font-family:monospace;overflow-wrap:anywhere"
        parts.append(f'<p style="{style}">{above}{spans}</p>')
    label = html.escape(spoken(measured("attribution", units, "tokens_html")))
    if scale == "shared":
        parts.append(_bar(norms[0], np.concatenate(values), "" if units is None else f"{label}; "))
    return Markup("\n".join(parts))


def _pairs(sequences: Sequence[Any], attributions: Any, name: str) -> tuple[list[list[str]], list[np.ndarray]]:
    """Tokens and one value for each, sequence by sequence."""
    if len(sequences) == 0:
        raise ValueError(f"{name}: `sequences` is empty; there is nothing to draw.")
    if isinstance(sequences[0], str):
        sequences, attributions = [sequences], [attributions]
    if len(sequences) != len(attributions):
        raise ValueError(f"{name}: there are {len(sequences)} sequences, but {len(attributions)} attributions.")
    values = []
    for index, (sequence, attribution) in enumerate(zip(sequences, attributions, strict=True)):
        array = batch(attribution, name, f"attributions[{index}]", {1: "[T]", 2: "[T, D]"})
        if len(array) != len(sequence):
            raise ValueError(
                f"{name}: sequence {index} holds {len(sequence)} tokens, but its attribution has shape {array.shape}; "
                "cut the padding off both, or keep it in both."
            )
        if not all(isinstance(token, str) for token in sequence):
            raise TypeError(
                f"{name}: sequence {index} holds tokens that are not texts; look them up in the vocabulary."
            )
        values.append(array.sum(axis=-1) if array.ndim == 2 else array)
    return [list(sequence) for sequence in sequences], values


def _norms(values: list[np.ndarray], scale: str, percentile: float, name: str) -> list[Normalize]:
    check_percentile(percentile, name)
    everything = np.concatenate(values)
    return [diverging(largest(everything if scale == "shared" else value, percentile)) for value in values]


def _wrapped(
    text: list[str], values: np.ndarray, norm: Normalize, width: int
) -> list[list[tuple[int, str, float, Normalize]] | str]:
    lines: list[list[tuple[int, str, float, Normalize]] | str] = []
    line: list[tuple[int, str, float, Normalize]] = []
    start = 0
    for token, value in zip(text, values, strict=True):
        shown = visible(token)
        shown = shown if len(shown) < width else f"{shown[: width - 2]}…"
        if start + len(shown) + 1 > width:
            lines.append(line)
            line, start = [], 0
        line.append((start, shown, float(value), norm))
        start += len(shown) + 1
    return [*lines, line]


def _draw(axes: Axes, row: float, line: Any) -> None:
    if isinstance(line, str):
        axes.text(0.2, row + 0.62, line, fontsize=9, weight="bold", va="center", clip_on=False)
        return
    for start, token, value, norm in line:
        colour = DIVERGING(norm(value))
        axes.add_patch(Rectangle((start, row + 0.1), len(token) + 0.8, 0.8, facecolor=colour, edgecolor="none"))
        middle = start + (len(token) + 0.8) / 2
        text = axes.text(middle, row + 0.52, plain(token), ha="center", va="center", family=FONTS, fontsize=9)
        text.set_color(readable(colour))


def _bar(norm: Normalize, values: np.ndarray, label: str) -> str:
    """The colours from end to end, with what they mean."""
    if not np.any(values):
        return '<p style="font-size:85%">all attributions are zero</p>'
    end = number(norm.vmax or 0)
    stops = ",".join(to_hex(DIVERGING(place)) for place in np.linspace(0, 1, 9))
    bar = (
        f"display:inline-block;width:8em;height:.8em;border:1px solid #8c8c8c;background:linear-gradient(90deg,{stops})"
    )
    beyond = " or beyond" if float(np.abs(values).max()) > (norm.vmax or 0) * (1 + 1e-9) else ""
    words = f"{label}red speaks for the score, blue against"
    return f'<p style="font-size:85%">\u2212{end}{beyond} <span style="{bar}"></span> {end}{beyond}: {words}</p>'


def _span(token: str, value: float, norm: Normalize) -> str:
    colour = DIVERGING(norm(value))
    style = f"background:{to_hex(colour)};color:{readable(colour)};padding:2px 3px;margin:0 1px;border-radius:3px"
    return f'<span style="{style}" title="{number(value)}">{html.escape(visible(token))}</span>'


@drawn
def token_map(
    targets: Sequence[Any],
    sources: Sequence[Any],
    attributions: Any,
    *,
    percentile: float = 100.0,
    title: str = "",
    units: Any = None,
) -> Figure:
    """Draw what each generated token rests on: a row for each, a column for each token before it.

    Args:
        targets: The generated tokens, T texts.
        sources: The tokens that they may rest on, S texts: those of the prompt, and the generated ones but for the
            last, as `jaxplain.language.explain_generation` has them.
        attributions: `[T, S]`.
        percentile: The end of the scale is this percentile of the absolute values that are not zero.
        title: Written above the map.
        units: What the score is measured in, as in `tokens`.

    Returns:
        A figure: red speaks for the token, blue against. Tokens that a target cannot see (those from itself on, where
        the last T - 1 sources are targets) are grey.

    Raises:
        ValueError: Wrong shapes, NaN in the attributions, counts that do not match.
        TypeError: No array of numbers, tokens that are not texts.

    Example:
        >>> figure = token_map(["b", "c"], ["a", "b"], [[1.0, 0.0], [0.5, -1.0]])
        >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
        ['b', 'c']
    """
    name = "token_map"
    check_percentile(percentile, name)
    values = batch(attributions, name, "attributions", {2: "[T, S]"})
    rows, columns = (_named(value, name, argument) for value, argument in ((targets, "targets"), (sources, "sources")))
    if values.shape != (len(rows), len(columns)):
        raise ValueError(
            f"{name}: there are {len(rows)} targets and {len(columns)} sources, but `attributions` has shape "
            f"{values.shape}."
        )
    cell = min(CELL, LARGEST / max(values.shape))
    width, height = (max(cell * size, 1.0) for size in values.shape[::-1])
    figure = canvas(
        width + 1.8, height + (1.5 if title else 1.2), f"attributions of {len(rows)} tokens to those before"
    )
    axes = figure.add_subplot()
    norm = diverging(largest(values, percentile))
    axes.imshow(
        np.ma.masked_where(_unseen(list(targets), list(sources)), values), cmap=DIVERGING, norm=norm, aspect="auto"
    )
    axes.set_facecolor("#d9d9d9")
    size = min(8.0, 72 * cell * 0.7)
    if cell >= NAMED:
        axes.set_xticks(range(len(columns)), labels=columns, rotation=90, fontsize=size, family=FONTS)
        axes.set_yticks(range(len(rows)), labels=rows, fontsize=size, family=FONTS)
    axes.tick_params(length=0)
    axes.set_xlabel("rests on", fontsize=8)
    axes.set_ylabel("generated", fontsize=8)
    open_sides(axes, "top", "right", "bottom", "left")
    if title:
        axes.set_title(plain(title), fontsize=10, loc="left")
    colour_bar(figure, axes, norm, values=values, label=measured("attribution", units, name))
    return figure


def _named(value: Sequence[Any], name: str, argument: str) -> list[str]:
    if len(value) == 0 or not all(isinstance(token, str) for token in value):
        raise TypeError(f"{name}: `{argument}` has to hold tokens as texts, at least one; look them up.")
    return [plain(visible(token)) for token in value]


def _unseen(targets: list[str], sources: list[str]) -> np.ndarray:
    """Which sources come after a target's position, where the targets but the last are the last sources."""
    prompt = len(sources) - (len(targets) - 1)
    own = prompt >= 1 and sources[prompt:] == targets[:-1]
    first = prompt + np.arange(len(targets)) if own else np.full(len(targets), len(sources))
    return np.arange(len(sources))[None, :] >= first[:, None]
