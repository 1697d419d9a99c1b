"""Which built pages load something from elsewhere? A link that a reader may follow is no load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

ELSEWHERE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "audio": ("src",),
    "video": ("src", "poster"),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "track": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
PLAIN_LINKS = {"canonical", "alternate", "author", "license", "next", "prev", "search", "index", "help", "copyright"}
IN_STYLE = re.compile(
    r"@import\s+[\"']?\s*(?:url\()?\s*[\"']?(?:https?:)?//[^\s\"')]+|url\(\s*[\"']?(?:https?:)?//[^\s\"')]+", re.I
)
IN_SCRIPT = re.compile(
    r"(?:\bfetch\(|\bimport\(|\bimportScripts\(|\bWebSocket\(|\bEventSource\(|\bsendBeacon\(|\.open\([^,)]*,|"
    r"\.(?:src|href|action)\s*=)\s*[\"'`](?:https?:|wss?:)?//[^\"'`]+",
    re.IGNORECASE,
)


class Page(HTMLParser):
    """What a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at what the tag loads."""
        values = {name: value or "" for name, value in attrs}
        names = LOADED.get(tag, ())
        if tag == "link" and not set(values.get("rel", "").lower().split()) <= PLAIN_LINKS:
            names = ("href",)
        for name in names:
            for part in values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]:
                if ELSEWHERE.match(part):
                    self.found.append(f"<{tag} {name}={part.strip()}>")
        self.found += IN_STYLE.findall(values.get("style", ""))
        self.inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        """Leave a style or script."""
        self.inside = ""

    def handle_data(self, data: str) -> None:
        """Look into styles and scripts of the page itself."""
        if self.inside == "style":
            self.found += IN_STYLE.findall(data)
        if self.inside == "script":
            self.found += IN_SCRIPT.findall(data)


def loads(text: str, kind: str) -> list[str]:
    """What a text of the kind ".html", ".svg", ".css" or ".js" loads from elsewhere."""
    if kind in (".css", ".js"):
        return (IN_STYLE if kind == ".css" else IN_SCRIPT).findall(text)
    page = Page()
    page.feed(text)
    return page.found


def external(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every load from elsewhere in a folder of built pages: the file and the load."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".svg", ".css", ".js"):
            for found in loads(path.read_text(encoding="utf-8", errors="replace"), path.suffix):
                yield path.relative_to(folder), found
