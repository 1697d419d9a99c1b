"""Contents of a page as HTML: texts, tables, figures, and what brings its own."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from jaxplain.plot import TokenFigure, reading
from jaxplain.report.foreign import framed
from jaxplain.report.gallery import Gallery
from jaxplain.report.word import clean

READABLE = 11.0
"""Pixels of a figure's smallest letters on a narrow screen, where a wide figure is scrolled."""
SMALLEST, LARGEST = 0.6, 1.4
"""How far a figure shrinks and grows for that."""
SENTENCE = 24
"""Letters from which on a text in a table is read as a sentence and stands at the left."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values below the names of their columns; `caption` says what they are."""

    columns: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def _repr_html_(self) -> str:
        return _table(self)


@dataclasses.dataclass
class Writer:
    """Writes the contents of one page; knows how figures are put into it, and counts what needs the script."""

    dpi: int
    image_format: str
    interactive: bool
    galleries: int = 0
    methods: int = 0

    def html(self, content: Any, alt: str = "", heading: str = "") -> str:
        """Any content as HTML; a figure of ours with the sentence that says how it is read."""
        if isinstance(content, Gallery):
            self.galleries += 1
            self.methods = max(self.methods, len(content.methods))
            return content.html(self.galleries, interactive=self.interactive)
        if isinstance(content, Figure) and not isinstance(content, TokenFigure):
            return self._figure(content, alt or str(content.get_label()) or heading)
        if isinstance(content, Table):
            return _table(content)
        if hasattr(content, "_repr_html_"):
            return framed(content._repr_html_(), heading) + _caption(content, "p")
        if hasattr(content, "_repr_svg_"):
            image = _image("image/svg+xml", content._repr_svg_().encode(), alt or heading)
            return f"<figure>{image}</figure>"
        if isinstance(content, str):
            paragraphs = (part.strip() for part in content.split("\n\n"))
            return "".join(f"<p>{clean(part)}</p>" for part in paragraphs if part)
        if isinstance(content, Mapping):
            return _table(_as_table(content))
        if isinstance(content, np.ndarray) and content.ndim == 2:
            return _table(Table(range(content.shape[1]), content.tolist()))
        if isinstance(content, Sequence):
            if content and all(isinstance(item, Mapping) for item in content):
                columns = list(dict.fromkeys(key for item in content for key in item))
                return _table(Table(columns, [[item.get(key, "") for key in columns] for item in content]))
            return "\n".join(self.html(item, alt, heading) for item in content)
        raise TypeError(
            f"report: the content of section {heading!r} holds {type(content).__name__}; pass text (such as str(...)), "
            "a matplotlib figure, a Table, a mapping, or a list of these."
        )

    def _figure(self, figure: Figure, alt: str) -> str:
        """A figure: of cells as tables, any other as an image element that holds its own data."""
        grids = getattr(figure, "grids", ())
        if grids:
            tables = "".join(_grid(grid, alt) for grid in grids)
            return f'<figure class="cells">{tables}{_caption(figure)}</figure>'
        buffer = io.BytesIO()
        # Neither a date nor random names of shapes: the same figure gives the same bytes.
        metadata: dict[str, Any] = {"Date": None} if self.image_format == "svg" else {"Software": None}
        with matplotlib.rc_context({"svg.hashsalt": "jaxplain"}):
            figure.savefig(buffer, format=self.image_format, dpi=self.dpi, metadata=metadata)
        kind = "image/svg+xml" if self.image_format == "svg" else "image/png"
        wide = round(figure.get_size_inches()[0] * 96)
        letters = READABLE / _letters(figure)
        usual, narrow = (round(wide * min(most, max(SMALLEST, letters))) for most in (1.0, LARGEST))
        size = f' width="{wide}" style="--usual: {usual}px; --narrow: {narrow}px"'
        return (
            f'<figure><div class="drawn">{_image(kind, buffer.getvalue(), alt, size)}</div>{_caption(figure)}</figure>'
        )


def _letters(figure: Figure) -> float:
    """The size of a figure's smallest text, in pixels of a page."""
    written = (text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible())
    return min((float(text.get_fontsize()) for text in written if text.get_text().strip()), default=10.0) * 96 / 72


def _caption(figure: Any, tag: str = "figcaption") -> str:
    """How a figure is read, where it is one of ours."""
    return f'<{tag} class="reading">{clean(reading(figure))}</{tag}>' if hasattr(figure, "drawn_by") else ""


def _image(kind: str, content: bytes, alt: str, size: str = "") -> str:
    """A picture as an element that holds its own data: what stands in an image neither runs nor loads anything."""
    data = base64.b64encode(content).decode("ascii")
    return f'<img alt="{clean(alt)}"{size} loading="lazy" src="data:{kind};base64,{data}">'


def _grid(grid: Any, alt: str) -> str:
    """The rows of a figure of cells, in its colours."""
    heads = [_cell(cell, "th", ' scope="col"') for cell in grid.heads]
    rows = [[_cell(cells[0], "th", ' scope="row"'), *(_cell(cell, "td") for cell in cells[1:])] for cells in grid.rows]
    note = f"<p>{_drawn(grid.note)}</p>" if grid.note else ""
    label = f' aria-label="{clean(alt)}"' if not grid.caption else ""
    return _frame(_drawn(grid.caption), heads, rows, label) + note


def _cell(cell: Any, tag: str, more: str = "") -> str:
    words = _drawn(cell.text)
    words = f"<b>{words}</b>" if cell.bold and tag == "td" else words
    faint = "faint" if cell.faint else ""
    side = "" if cell.right or tag == "th" else "words"
    kind = " ".join(filter(None, (faint, side)))
    style = f' style="background: {cell.colour}; color: {_over(cell.colour)}"' if cell.colour else ""
    return f"<{tag}{more}{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}{style}>{words}</{tag}>"


def _over(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "#fff"


def _drawn(text: str) -> str:
    """A text that was made for matplotlib: a dollar has a stroke before it there, an underscore a space."""
    return clean(text.replace(r"\$", "$").strip())


def _as_table(content: Mapping[Any, Any]) -> Table:
    """A mapping of mappings with a row each, or of values with a row each."""
    if content and all(isinstance(row, Mapping) for row in content.values()):
        columns = list(dict.fromkeys(key for row in content.values() for key in row))
        return Table(["", *columns], [[name, *(row.get(key, "") for key in columns)] for name, row in content.items()])
    return Table([], [[name, value] for name, value in content.items()])


def _table(table: Table) -> str:
    """A table; its first column names the rows."""
    widths = {len(row) for row in table.rows} | ({len(table.columns)} if table.columns else set())
    if len(widths) > 1:
        raise ValueError(f"report: the rows of a table differ in length ({sorted(widths)}).")
    heads = [f'<th scope="col">{clean(column)}</th>' for column in table.columns]
    rows = []
    for row in table.rows:
        first, *rest = row
        cells = (_value_cell(value) for value in rest)
        rows.append([f'<th scope="row">{clean(value_text(first))}</th>', *cells])
    return _frame(clean(table.caption), heads, rows)


def _value_cell(value: Any) -> str:
    words = ' class="words"' if isinstance(value, str) and (len(value) > SENTENCE or _is_word(value)) else ""
    return f"<td{words}>{clean(value_text(value))}</td>"


def _is_word(text: str) -> bool:
    return any(map(str.isalpha, text)) and not any(map(str.isdigit, text))


def _frame(caption: str, heads: Sequence[str], rows: Iterable[Iterable[str]], label: str = "") -> str:
    """A table of cells that are elements already, in a frame that scrolls it where it is wide."""
    caption = f"<caption>{caption}</caption>" if caption else ""
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f'<div class="wide"><table{label}>{caption}{head}<tbody>{body}</tbody></table></div>'


def value_text(value: Any) -> str:
    """A cell's text: four significant digits, and a dash where nothing is defined."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    return str(value)
