"""Tables as figures, and what figures of cells say as rows of texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from jaxplain.plot.canvas import NEUTRAL, ShownFigure

SIZE = 9.0
LINE, GAP, MARGIN = 0.24, 0.28, 0.18


@dataclasses.dataclass(frozen=True)
class Cell:
    """One text of a table: numbers stand at the right of their column, words at the left; `colour` is behind it."""

    text: str
    right: bool = False
    bold: bool = False
    faint: bool = False
    colour: str = ""


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a figure shows as rows of cells: a page writes it as a table, which can be read on any screen and aloud."""

    heads: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    note: str = ""


F = TypeVar("F", bound=Figure)


def with_grids(figure: F, *grids: Grid) -> F:
    """The figure, which says from now on in rows of texts what it shows."""
    vars(figure)["grids"] = grids
    return figure


def coloured(text: Any, rgba: Any) -> Cell:
    """A number on a colour."""
    return Cell(str(text), right=True, colour=to_hex(rgba))


def draw_table(heads: Sequence[Cell], rows: Sequence[Sequence[Cell]], description: str, note: str = "") -> Figure:
    """Draw rows of cells below their heads, each column as wide as its longest text."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(_width(cell) for cell in column) + GAP for column in columns]
    starts = np.concatenate([[0.0], np.cumsum(widths)])
    notes = note.splitlines()
    high = (len(rows) + 1 + len(notes)) * LINE + 2 * MARGIN
    wide = max(starts[-1], *(_width(Cell(line)) for line in notes), 0.0) + 2 * MARGIN
    figure = ShownFigure(figsize=(wide, high))
    figure.set_label(description)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, wide - MARGIN), ylim=(high - MARGIN, -MARGIN))
    axes.set_axis_off()
    for row, cells in enumerate([heads, *rows]):
        middle = (row + 0.5) * LINE
        if row % 2 == 0 and row > 0:
            axes.fill_between([0, starts[-1]], row * LINE, (row + 1) * LINE, color=NEUTRAL, alpha=0.08, linewidth=0)
        for start, width, cell in zip(starts, widths, cells, strict=False):
            x, side = (start + width - GAP / 2, "right") if cell.right else (start + GAP / 2, "left")
            weight = "bold" if cell.bold or row == 0 else "normal"
            text = axes.text(x, middle, cell.text, ha=side, va="center_baseline", fontsize=SIZE, weight=weight)
            if cell.faint:
                text.set_color(NEUTRAL)
    axes.plot([0, starts[-1]], [LINE, LINE], color=NEUTRAL, linewidth=1)
    for place, line in enumerate(notes):
        axes.text(GAP / 2, (len(rows) + 1.6 + place) * LINE, line, va="center", fontsize=SIZE - 1, color=NEUTRAL)
    return with_grids(figure, Grid(heads, rows, note=note))


def _width(cell: Cell) -> float:
    """Width of a text in inches; bold letters are about an eighth wider."""
    if not cell.text.strip():
        return 0.0
    return 1.13 * TextPath((0, 0), cell.text, size=SIZE).get_extents().width / 72
