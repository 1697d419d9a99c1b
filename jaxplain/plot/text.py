"""Attributions over tokens, as a figure and as a piece of HTML."""

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
from jaxplain.plot.canvas import DIVERGING, check_percentile, colour_bar, diverging, largest, readable
from jaxplain.plot.values import batch, label_texts, number, plain, visible
from jaxplain.program import public

# One character of the monospace font (0.602 em) and one line, in inches.
CHARACTER, LINE = 0.602 * 9 / 72, 0.27


class Markup(str):
    """HTML that needs no escaping; notebooks and `report` show it as it is."""

    def _repr_html_(self) -> str:
        return str(self)


@public
def tokens(
    sequences: Sequence[Any],
    attributions: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "shared",
    percentile: float = 100.0,
    width: int = 80,
) -> Figure:
    """Draw texts with each token on the colour of its attribution: red speaks for the score, blue against.

    A token's value is the sum over its embedding's dimensions, where the attribution has them, so that a text still
    adds up to what the attribution adds up to.

    Args:
        sequences: B sequences of texts, or one sequence.
        attributions: `[T]` or `[T, D]` for each of them, as a sequence of arrays or one array `[B, T(, D)]`; just one
            array `[T(, D)]` for one sequence.
        labels: `[B]`, classes, numbers or texts written above the texts.
        names: Names of the classes, `[K]`.
        scale: "shared" (one scale and colour bar for all) or "panel" (one for each text, its end written above it).
        percentile: The end of a scale is this percentile of the absolute values that are not zero.
        width: Characters in a line.

    Returns:
        A figure. Spaces, tabs and line breaks are drawn as visible signs. Scripts that matplotlib's font lacks are
        drawn as boxes with a warning; `tokens_html` shows them.

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
    lines: list[list[tuple[int, str, float, Normalize]] | str] = []
    for text, value, head, norm in zip(texts, values, heads, norms, strict=True):
        note = f"{head}  (colours end at ±{number(norm.vmax or 0)})" if scale == "panel" else head
        lines += ([note] if note else []) + _wrapped(text, value, norm, width)
    figure = Figure(figsize=(width * CHARACTER + 1.0, len(lines) * LINE + 0.5), layout="constrained")
    figure.set_label(f"{len(texts)} texts, each token coloured by its attribution: red speaks for the score")
    axes = figure.add_subplot()
    axes.set(xlim=(0, width), ylim=(len(lines), 0))
    axes.set_axis_off()
    for row, line in enumerate(lines):
        _draw(axes, row, line)
    if scale == "shared":
        colour_bar(figure, axes, norms[0], values=np.concatenate(values), label="attribution")
    return figure


@public
def tokens_html(
    sequences: Sequence[Any],
    attributions: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "shared",
    percentile: float = 100.0,
) -> Markup:
    """Write texts as HTML, each token on the colour of its attribution and with its value as a tooltip.

    Args:
        sequences: As in `tokens`.
        attributions: As in `tokens`.
        labels: As in `tokens`.
        names: As in `tokens`.
        scale: As in `tokens`.
        percentile: As in `tokens`.

    Returns:
        Markup that stands alone: no script, no style sheet, all texts escaped. A notebook and `report` show it.

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
    parts = []
    for text, value, head, norm in zip(texts, values, heads, norms, strict=True):
        spans = "\u200b".join(_span(token, amount, norm) for token, amount in zip(text, value, strict=True))
        title = f"<strong>{html.escape(head)}</strong><br>" if head else ""
        parts.append(f'<p style="line-height:1.9;font-family:monospace">{title}{spans}</p>')
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


def _draw(axes: Axes, row: int, line: Any) -> None:
    if isinstance(line, str):
        axes.text(0.2, row + 0.62, line, fontsize=9, weight="bold", va="center", clip_on=False)
        return
    for start, token, value, norm in line:
        colour = DIVERGING(norm(value))
        axes.add_patch(Rectangle((start, row + 0.1), len(token) + 0.8, 0.8, facecolor=colour, edgecolor="none"))
        middle = start + (len(token) + 0.8) / 2
        text = axes.text(middle, row + 0.52, plain(token), ha="center", va="center", family="monospace", fontsize=9)
        text.set_color(readable(colour))


def _span(token: str, value: float, norm: Normalize) -> str:
    colour = DIVERGING(norm(value))
    style = f"background:{to_hex(colour)};color:{readable(colour)};padding:2px 3px;margin:0 1px;border-radius:3px"
    return f'<span style="{style}" title="{number(value)}">{html.escape(visible(token))}</span>'
