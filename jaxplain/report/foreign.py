"""HTML that others made, put into a page so that it neither runs, nor loads, nor changes what stands around it.

Whether a markup is harmless cannot be read off it: a browser reads it by other rules than any parser here. So the
browser itself holds it: a document of its own in a sandboxed frame (no script, no form, no way to the page around it)
under a policy that forbids every load. Two kinds of elements pass those walls, since a policy has no word about opening
a connection: links and further frames. They are refused by their text, which is safe without parsing, because no tag
starts without these very letters.
"""

from __future__ import annotations

import html
import math
import re
from html.parser import HTMLParser
from typing import Any

from jaxplain.report.style import FRAME
from jaxplain.report.word import clean

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content security policy of the page and of each frame: figures and styles that are inside, and nothing else."""

_HEAD = f"""<!DOCTYPE html>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta http-equiv="x-dns-prefetch-control" content="off">
<style>{FRAME}</style>
"""

_REFUSED = re.compile(r"<(link|iframe|frameset|frame|fencedframe|portal|object|embed|applet|script|base|meta)", re.I)


def framed(markup: Any, heading: str) -> str:
    """A frame that holds foreign HTML.

    Args:
        markup: What an object's `_repr_html_` returned.
        heading: The section that it stands in, for the frame's title and for errors.

    Returns:
        One element. Cost: the markup is read twice.

    Raises:
        TypeError: No text.
        ValueError: It holds an element or attribute that is there to run or load something: told rather than left dead.
    """
    if not isinstance(markup, str):
        raise TypeError(
            f"report: `_repr_html_` of the content of section {heading!r} returned {type(markup).__name__}, not a text."
        )
    found = [f"<{name.lower()}>" for name in _REFUSED.findall(markup)] or _read(_Scan(), markup).found
    if found:
        raise ValueError(
            f"report: the HTML in section {heading!r} holds {', '.join(dict.fromkeys(found))}; a report neither "
            "runs scripts nor loads files. Pass a figure or a table instead."
        )
    height = min(max(1.9 * _read(_Lines(), markup).count() + 1.5, 3), 40)
    return (
        f'<iframe sandbox="" title="{clean(heading)}" style="height: {height:.1f}rem" '
        f'srcdoc="{html.escape(_HEAD + markup)}"></iframe>'
    )


def _read(parser: Any, markup: str) -> Any:
    parser.feed(markup)
    parser.close()
    return parser


class _Scan(HTMLParser):
    """Finds what is plainly there to load or run something, to say so; what it misses the frame holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        if tag == "form":
            self.found.append("<form>")
        for name, value in attrs:
            link = (value or "").strip().lower()
            loads = name in ("src", "srcset", "data", "poster") and not link.startswith("data:")
            runs = name.startswith("on") or (name in ("href", "xlink:href") and link.startswith("javascript:"))
            if loads or runs or (name == "style" and "url(" in link):
                self.found.append(f"{name}={value!r}")

    def handle_data(self, data: str) -> None:
        """Look at a style sheet, which can load files too."""
        if self.lasttag == "style" and ("@import" in data or "url(" in data):
            self.found.append("<style> that loads a file")


class _Lines(HTMLParser):
    """Guesses how many lines of a page a markup takes: a frame without scripts cannot measure itself."""

    BLOCKS = re.compile("br|dd|details|div|dt|h[1-6r]|li|p|pre|section|table|tr")
    WIDTH = 70
    """Letters in a line."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths = [0]
        self.silent = False
        self.pixels = 0.0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A block starts a line, and a picture says its own height."""
        self.silent = tag in ("style", "title")
        if self.BLOCKS.fullmatch(tag):
            self.lengths.append(0)
        if tag in ("p", "pre", "table"):  # with a margin above and below
            self.pixels += 32
        if tag in ("svg", "img", "canvas"):
            stated = re.match(r"[0-9]{1,5}", dict(attrs).get("height") or "")
            self.pixels += float(stated[0]) if stated else 150.0

    def handle_endtag(self, tag: str) -> None:
        """The end of a style sheet is the end of silence."""
        self.silent = False

    def handle_data(self, data: str) -> None:
        """Letters lengthen their line."""
        if not self.silent:
            self.lengths[-1] += len(data.strip())

    def count(self) -> float:
        """Lines of text, and pictures in lines."""
        return sum(math.ceil(length / self.WIDTH) for length in self.lengths) + self.pixels / 28
