"""Tables as figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from jaxplain.plot.canvas import NEUTRAL, ShownFigure

SIZE = 9.0
LINE, GAP, MARGIN = 0.24, 0.28, 0.18


@dataclasses.dataclass(frozen=True)
class Cell:
    """One text of a table: numbers stand at the right of their column, words at the left."""

    text: str
    right: bool = False
    bold: bool = False
    faint: bool = False


def draw_table(heads: Sequence[Cell], rows: Sequence[Sequence[Cell]], description: str, note: str = "") -> Figure:
    """Draw rows of cells below their heads, each column as wide as its longest text."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(_width(cell) for cell in column) + GAP for column in columns]
    starts = np.concatenate([[0.0], np.cumsum(widths)])
    high = (len(rows) + 1) * LINE + 2 * MARGIN + (LINE if note else 0)
    wide = max(starts[-1], _width(Cell(note))) + 2 * MARGIN
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
    if note:
        axes.text(GAP / 2, (len(rows) + 1.6) * LINE, note, va="center", fontsize=SIZE - 1, color=NEUTRAL)
    return figure


def _width(cell: Cell) -> float:
    """Width of a text in inches; bold letters are about an eighth wider."""
    if not cell.text.strip():
        return 0.0
    return 1.13 * TextPath((0, 0), cell.text, size=SIZE).get_extents().width / 72
