"""Sequences as logos: letters as high as their attributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL, SERIES, canvas, open_sides
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, measured, plain

COLOURS = {"A": "#1a7f37", "C": "#2166ac", "G": "#e69f00", "T": "#b2182b", "U": "#b2182b", "N": NEUTRAL}
"""Of nucleotides, those that genome browsers use; other alphabets have the colours of curves."""


@drawn
def logo(
    attributions: Any,
    inputs: Any = None,
    *,
    letters: str | Sequence[str] = "ACGT",
    start: int = 0,
    width: int = 100,
    title: str = "",
    units: Any = None,
) -> Figure:
    """Draw a sequence's letters as high as their attributions, those against the score below the line.

    Where a position has several letters (hypothetical contributions), those for the score stand on each other upwards
    and those against it downwards, the largest outermost.

    Args:
        attributions: `[L, A]` of one sequence, in units of the score.
        inputs: The sequence `[L, A]`, one-hot: only the letters that are there are drawn, with their attributions. None
            draws all that are not 0.
        letters: The alphabet, A letters.
        start: The number of the first position.
        width: Positions in a line.
        title: Written above everything.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure, all its lines on one scale.

    Raises:
        ValueError: Wrong shapes, NaN, an alphabet of another size, `inputs` that are not one-hot.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = logo([[0.0, 1.0, 0.0, -0.5], [2.0, 0.0, 0.0, 0.0]], start=10)
        >>> figure.get_label()
        'Logo of 2 positions: letters as high as their attributions'
    """
    array = batch(attributions, "logo", "attributions", {2: "[L, A]"})
    if inputs is not None:
        sequence = batch(inputs, "logo", "inputs", {2: "[L, A]"})
        if sequence.shape != array.shape:
            raise ValueError(f"logo: `inputs` has shape {sequence.shape}, but `attributions` has {array.shape}.")
        wrong = np.flatnonzero(~np.isin(sequence, (0, 1)).all(axis=1) | (sequence.sum(axis=1) > 1))
        if wrong.size:
            raise ValueError(
                f"logo: `inputs` has {wrong.size} positions that are no one-hot letters (the first is {wrong[0]}, "
                f"{sequence[wrong[0]].tolist()}). Each row has to hold one 1, or zeros; of other inputs pass `inputs * "
                "attributions` as the attributions."
            )
        array = array * sequence
    alphabet = _alphabet(letters, array.shape[1])
    first = check.count(start, "logo", "start", least=-(2**62))
    lines = np.split(array, range(check.count(width, "logo", "width"), len(array), width))
    wide = max(2.6, 0.9 + 0.115 * len(lines[0]))
    description = f"Logo of {len(array)} positions: letters as high as their attributions"
    figure = canvas(wide, 0.5 + 1.2 * len(lines) + 0.25 * bool(title), description)
    grid = figure.subplots(len(lines), 1, squeeze=False, sharey=True)[:, 0]
    ends = np.maximum(array, 0).sum(axis=1).max(), np.minimum(array, 0).sum(axis=1).min()
    room = 0.05 * (ends[0] - ends[1]) or 1.0
    for place, (axes, values) in enumerate(zip(grid, lines, strict=True)):
        _draw(axes, values, alphabet, first + place * width)
        axes.set(xlim=(first + place * width - 0.6, first + place * width + len(lines[0]) - 0.4))
        axes.set_ylim(ends[1] - room, ends[0] + room)
        open_sides(axes, "top", "right", "bottom").tick_params(labelsize=8)
    for axes in grid:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    grid[-1].set_xlabel("position", fontsize=9)
    label = measured("attribution", units, "logo")
    figure.supylabel(label.replace(" (", "\n("), fontsize=9)
    if title:
        figure.suptitle(plain(title), fontsize=10)
    return figure


def _alphabet(letters: Any, size: int) -> list[str]:
    if not isinstance(letters, Sequence) or not all(map(_is_seen, letters)):
        raise TypeError(
            f"logo: `letters` has to be a text or a sequence of letters that can be seen, not {check.short(letters)}."
        )
    if len(letters) != size:
        raise ValueError(f"logo: `letters` holds {len(letters)}, but `attributions` has {size} columns.")
    return list(letters)


def _is_seen(letter: Any) -> bool:
    return isinstance(letter, str) and bool(letter.strip()) and letter.isprintable()


def _draw(axes: Axes, values: np.ndarray, alphabet: list[str], first: int) -> None:
    axes.axhline(0, color=NEUTRAL, linewidth=0.6, zorder=0)
    own = {letter.upper() for letter in alphabet} <= COLOURS.keys()
    bases = np.zeros_like(values)
    for row, heights in enumerate(values):
        for sign in (1, -1):
            level = 0.0
            for column in sorted(np.flatnonzero(sign * heights > 0), key=lambda k: abs(heights[k])):
                bases[row, column] = level
                level += heights[column]
    for k, letter in enumerate(alphabet):
        rows = np.flatnonzero(values[:, k])
        if not rows.size:
            continue
        shape = _unit(letter)
        paths = [
            Affine2D().scale(0.94, values[row, k]).translate(float(first + row), bases[row, k]).transform_path(shape)
            for row in rows
        ]
        colour = COLOURS[letter.upper()] if own else SERIES[k % len(SERIES)]
        axes.add_collection(PathCollection(paths, facecolors=colour, linewidths=0, transform=axes.transData))


def _unit(letter: str) -> Path:
    """A letter in a box from -0.5 to 0.5 and 0 to 1; below the line it stands on its head."""
    path = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = path.get_extents()
    wide = max(box.width, 0.5 * box.height)  # an I stays narrow
    return Affine2D().translate(-(box.x0 + box.x1) / 2, -box.y0).scale(1 / wide, 1 / box.height).transform_path(path)
