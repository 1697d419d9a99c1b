"""One self-contained page of a run: what was trained, how well, what it looks at, and whether that is right."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.program import public
from jaxplain.report.content import Table, Writer
from jaxplain.report.foreign import POLICY
from jaxplain.report.gallery import FILTERS, switches_style
from jaxplain.report.script import POLICY_OF_SCRIPT, SCRIPT
from jaxplain.report.style import GALLERY, PAGE
from jaxplain.report.word import clean

__all__ = ["Section", "Table", "report"]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report.

    `content` is a text, a matplotlib figure, a `Table`, a mapping, something with `_repr_html_` or `_repr_svg_`, or a
    list of these; `alt` describes its figures in words (their own labels do where it is empty); `collapsed` shows the
    heading alone until it is opened; `reading` is a sentence below the heading that says how the section is read (each
    figure has its own below it).
    """

    heading: str
    content: Any
    alt: str = ""
    collapsed: bool = False
    reading: str = ""

    def _ipython_display_(self) -> None:
        """In a notebook: the heading, and each part as notebooks show it."""
        from IPython.display import HTML, display

        display(HTML(f"<h3>{clean(self.heading)}</h3>" + (f"<p>{clean(self.reading)}</p>" if self.reading else "")))
        writer = Writer(80, "png", interactive=False)
        for part in self.content if isinstance(self.content, list | tuple) else [self.content]:
            own = isinstance(part, Figure) or hasattr(part, "_repr_html_") or hasattr(part, "_repr_svg_")
            display(part if own else HTML(writer.html(part, self.alt, self.heading)))


@public
def report(
    path: str | os.PathLike[str],
    sections: Sequence[Section | tuple[str, Any]],
    *,
    title: str = "Report",
    facts: Mapping[str, Any] | None = None,
    dpi: int = 110,
    image_format: str = "png",
    interactive: bool = True,
) -> Path:
    """Write one HTML page that needs nothing else: no network, figures inside.

    Contents are drawn in the order given: a text as paragraphs (divided by empty lines), a figure as a picture, a
    mapping of mappings as a table with a row each, another mapping as a table of names and values, a sequence of
    mappings as a table with their keys as columns, a `Table` as it is, and what notebooks show as a picture or as HTML
    (a `draw`ing, the result of `tokens_html`, a data frame) as that: HTML in a frame of its own, in which nothing runs
    and nothing is loaded; the reader can pull the frame longer. All other text is escaped, and characters that are not
    seen (controls, overrides of the writing direction) are written as their numbers.

    Below each figure of `jaxplain.plot` stands how it is read (`plot.reading`); figures of cells (scores, layers, a
    confusion matrix) are written as tables, which can be read on a telephone and aloud. The page follows the reader's
    light or dark theme. Its policy forbids the network to all of it, and scripts but for one: what sorts, filters and
    reads the maps of `examples_section` is admitted by its hash. Pages without such a section hold no script.

    Args:
        path: The file to write; its folder has to exist. A file that is there is replaced, at once and only when the
            whole page is made.
        sections: `Section`s or `(heading, content)`.
        title: The page's title.
        facts: What the run was (data, model, seed, accuracy), a table below the title.
        dpi: Dots per inch of PNG figures.
        image_format: "png", or "svg" for figures that stay sharp at any size (large where they hold many points).
        interactive: Whether examples can be sorted, filtered and read cell by cell, by a script of 8 kB; without it the
            page holds no script and its policy forbids all. Methods and colours are switched without a script.

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
    writer = Writer(dpi, image_format, interactive)
    head = f"<header><h1>{clean(title)}</h1>{writer.html(dict(facts)) if facts else ''}</header>"
    body = "\n".join(_section(part, index, writer) for index, part in enumerate(parts))
    scripted = interactive and writer.galleries > 0
    page = _PAGE.format(
        title=clean(title),
        policy=POLICY_OF_SCRIPT if scripted else POLICY,
        style=PAGE + GALLERY + switches_style(writer.methods) if writer.galleries else PAGE,
        head=head,
        navigation=_navigation(parts),
        body=f"{FILTERS}\n{body}" if writer.galleries else body,
        script=f"<script>{SCRIPT}</script>\n" if scripted else "",
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


def _section(section: Section, index: int, writer: Writer) -> str:
    content = writer.html(section.content, section.alt, section.heading)
    opened = "" if section.collapsed else " open"
    reading = f'<p class="reading">{clean(section.reading)}</p>\n' if section.reading else ""
    return (
        f'<details id="section-{index}"{opened}><summary><h2>{clean(section.heading)}</h2></summary>\n'
        f"{reading}{content}\n</details>"
    )


def _navigation(sections: Sequence[Section]) -> str:
    links = (f'<a href="#section-{index}">{clean(part.heading)}</a>' for index, part in enumerate(sections))
    return f'<nav aria-label="sections">{" ".join(links)}</nav>' if len(sections) > 1 else ""


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
{script}</body>
</html>
"""
