"""One self-contained page of a run: what was trained, how well, what it looks at, and whether that is right."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot import TokenFigure
from jaxplain.program import public
from jaxplain.report.foreign import POLICY, framed
from jaxplain.report.style import PAGE

SMALLEST = 0.6
"""How far a figure shrinks on a narrow screen; its texts of 7 to 10 points stay readable."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values below the names of their columns; `caption` says what they are."""

    columns: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def _repr_html_(self) -> str:
        return _table(self)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    `content` is a text, a matplotlib figure, a `Table`, a mapping, something with `_repr_html_` or `_repr_svg_`, or a
    list of these;
    `alt` describes its figures in words (their own labels do where it is empty); `collapsed` shows the heading alone
    until it is opened.
    """

    heading: str
    content: Any
    alt: str = ""
    collapsed: bool = False

    def _ipython_display_(self) -> None:
        """In a notebook: the heading, and each part as notebooks show it."""
        from IPython.display import HTML, display

        display(HTML(f"<h3>{_text(self.heading)}</h3>"))
        figures = _Figures(80, "png")
        for part in self.content if isinstance(self.content, list | tuple) else [self.content]:
            own = isinstance(part, Figure) or hasattr(part, "_repr_html_") or hasattr(part, "_repr_svg_")
            display(part if own else HTML(_html(part, figures, self.alt, self.heading)))


@public
def report(
    path: str | os.PathLike[str],
    sections: Sequence[Section | tuple[str, Any]],
    *,
    title: str = "Report",
    facts: Mapping[str, Any] | None = None,
    dpi: int = 110,
    image_format: str = "png",
) -> Path:
    """Write one HTML page that needs nothing else: no network, no script, figures inside.

    Contents are drawn in the order given: a text as paragraphs (divided by empty lines), a figure as a picture, a
    mapping of mappings as a table with a row each, another mapping as a table of names and values, a sequence of
    mappings as a table with their keys as columns, a `Table` as it is, and what notebooks show as a picture or as HTML
    (a `draw`ing, the result of `tokens_html`, a data frame) as that: HTML in a frame of its own, in which nothing runs
    and nothing is loaded; the reader can pull the frame longer. All other text is escaped. The page follows the
    reader's light or dark theme, and its policy forbids the network and scripts to all of it.

    Args:
        path: The file to write; its folder has to exist. A file that is there is replaced, at once and only when the
            whole page is made.
        sections: `Section`s or `(heading, content)`.
        title: The page's title.
        facts: What the run was (data, model, seed, accuracy), a table below the title.
        dpi: Dots per inch of PNG figures.
        image_format: "png", or "svg" for figures that stay sharp at any size (large where they hold many points).

    Returns:
        The path. The same data, drawn anew, give the same bytes.

    Raises:
        ValueError: No sections, an unknown format, HTML that would load or run something, rows of unequal length.
        TypeError: Content of an unknown kind.
        FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError: A path that cannot be written. No
            file is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = report(f"{folder}/run.html", [("Scores", {"saliency": {"deletion": 0.3}})], title="Digits")
        ...     "<th scope='row'>saliency</th><td>0.3</td>" in page.read_text(encoding="utf-8").replace('"', "'")
        True
    """
    target = _writable(Path(path))
    check.choice(image_format, ("png", "svg"), "report", "image_format")
    check.count(dpi, "report", "dpi")
    parts = [_as_section(section, index) for index, section in enumerate(sections)]
    if not parts:
        raise ValueError("report: `sections` is empty; pass (heading, content) pairs.")
    figures = _Figures(dpi, image_format)
    head = f"<header><h1>{_text(title)}</h1>{_html(dict(facts), figures, '') if facts else ''}</header>"
    body = "\n".join(_section(part, index, figures) for index, part in enumerate(parts))
    page = _PAGE.format(
        title=_text(title), policy=POLICY, style=PAGE, head=head, navigation=_navigation(parts), body=body
    )
    _replace(target, page)
    return target


def _writable(target: Path) -> Path:
    """Refuse a path that cannot be written, before anything is drawn."""
    folder = target.absolute().parent
    if not folder.exists():
        raise FileNotFoundError(f"report: the folder {folder} does not exist; make it first.")
    if not folder.is_dir():
        raise NotADirectoryError(f"report: {folder} is a file, not a folder.")
    if target.is_dir():
        raise IsADirectoryError(
            f"report: {target} is a folder; pass the path of a file, such as {target / 'report.html'}."
        )
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"report: the folder {folder} is read-only; pass a path in one that can be written.")
    return target


def _replace(target: Path, page: str) -> None:
    """Write aside in the same folder and rename, so that readers see the old page or the whole new one."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        aside.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _as_section(section: Any, index: int) -> Section:
    if isinstance(section, Section):
        return section
    if isinstance(section, tuple) and len(section) == 2 and isinstance(section[0], str):
        return Section(*section)
    raise TypeError(f"report: `sections[{index}]` is {type(section).__name__}; pass a Section or (heading, content).")


def _section(section: Section, index: int, figures: _Figures) -> str:
    content = _html(section.content, figures, section.alt, section.heading)
    opened = "" if section.collapsed else " open"
    return (
        f'<details id="section-{index}"{opened}><summary><h2>{_text(section.heading)}</h2></summary>\n'
        f"{content}\n</details>"
    )


def _navigation(sections: Sequence[Section]) -> str:
    links = (f'<a href="#section-{index}">{_text(part.heading)}</a>' for index, part in enumerate(sections))
    return f"<nav>{' '.join(links)}</nav>" if len(sections) > 1 else ""


@dataclasses.dataclass(frozen=True)
class _Figures:
    """How figures are put into the page."""

    dpi: int
    image_format: str

    def picture(self, figure: Figure, alt: str) -> str:
        """A figure as an image element that holds its own data."""
        buffer = io.BytesIO()
        # Neither a date nor random names of shapes: the same figure gives the same bytes.
        metadata: dict[str, Any] = {"Date": None} if self.image_format == "svg" else {"Software": None}
        with matplotlib.rc_context({"svg.hashsalt": "jaxplain"}):
            figure.savefig(buffer, format=self.image_format, dpi=self.dpi, metadata=metadata)
        kind = "image/svg+xml" if self.image_format == "svg" else "image/png"
        wide = round(figure.get_size_inches()[0] * 96)
        least = f"min-width: {round(SMALLEST * wide)}px"  # on a phone it is scrolled rather than unreadable
        return _image(kind, buffer.getvalue(), alt, f' width="{wide}" style="{least}"')


def _image(kind: str, content: bytes, alt: str, size: str = "") -> str:
    """A picture as an element that holds its own data: what stands in an image neither runs nor loads anything."""
    data = base64.b64encode(content).decode("ascii")
    return f'<figure><img alt="{_text(alt)}"{size} src="data:{kind};base64,{data}"></figure>'


def _html(content: Any, figures: _Figures, alt: str, heading: str = "") -> str:
    """Any content as HTML."""
    if isinstance(content, Figure) and not isinstance(content, TokenFigure):
        return figures.picture(content, alt or str(content.get_label()) or heading)
    if isinstance(content, Table):
        return _table(content)
    if hasattr(content, "_repr_html_"):
        return framed(content._repr_html_(), heading)
    if hasattr(content, "_repr_svg_"):
        return _image("image/svg+xml", content._repr_svg_().encode(), alt or heading)
    if isinstance(content, str):
        paragraphs = (part.strip() for part in content.split("\n\n"))
        return "".join(f"<p>{_text(part)}</p>" for part in paragraphs if part)
    if isinstance(content, Mapping):
        return _table(_as_table(content))
    if isinstance(content, np.ndarray) and content.ndim == 2:
        return _table(Table(range(content.shape[1]), content.tolist()))
    if isinstance(content, Sequence):
        if content and all(isinstance(item, Mapping) for item in content):
            columns = list(dict.fromkeys(key for item in content for key in item))
            return _table(Table(columns, [[item.get(key, "") for key in columns] for item in content]))
        return "\n".join(_html(item, figures, alt, heading) for item in content)
    raise TypeError(
        f"report: the content of section {heading!r} holds {type(content).__name__}; pass text (such as str(...)), "
        "a matplotlib figure, a Table, a mapping, or a list of these."
    )


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
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        first, *rest = row
        cells = "".join(f"<td>{_text(_value(value))}</td>" for value in rest)
        rows.append(f'<tr><th scope="row">{_text(_value(first))}</th>{cells}</tr>')
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="wide"><table>{caption}{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _value(value: Any) -> str:
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


def _text(text: Any) -> str:
    return html.escape(str(text))


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{head}
{navigation}
<main>
{body}
</main>
</body>
</html>
"""
