"""The code of the path's pages: run in their order in one Python, each figure saved for the page."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxplain

PATH = Path(__file__).parent / "path"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    """The pages, in their order."""
    return sorted(PATH.glob("[0-9]*.md"))


def run(only: list[Path] | None = None) -> Iterator[tuple[str, Any]]:
    """Run every block; yields the name of its picture and the figure for each block that makes one."""
    names: dict[str, Any] = {"__name__": "path"}
    for page in pages() if only is None else only:
        for number, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
            line = page.read_text(encoding="utf-8")[: match.start()].count("\n") + 1
            names.pop("figure", None)
            exec(compile("\n" * line + match[1], str(page), "exec"), names)
            if "figure" in names:
                yield f"{page.stem}_{number}", names["figure"]


def illustrated(text: str, stem: str, folder: Path) -> str:
    """A page's text with a picture below each block that made one; `/pictures/` stands for `folder`."""
    count = iter(range(len(BLOCK.findall(text))))

    def with_picture(match: re.Match[str]) -> str:
        name = f"{stem}_{next(count)}"
        if not (folder / f"{name}.png").exists():
            return match[0]
        alt = (folder / f"{name}.txt").read_text(encoding="utf-8") or "the figure that this code makes"
        image = f"```{{image}} /pictures/{name}.png\n:alt: {alt}\n:class: picture\n```"
        return f"{match[0]}\n\n:::{{container}} pictured\n{image}\n:::"

    return BLOCK.sub(with_picture, text)


def draw(folder: Path) -> None:
    """Run the path and save its figures, with what they show in words, unless those there are of the same programs."""
    mark, now = folder / "path.digest", digest([*pages(), Path(__file__)])
    if mark.exists() and mark.read_text() == now:
        return
    for name, figure in run():
        figure.savefig(folder / f"{name}.png", dpi=110)
        label = " ".join(str(figure.get_label()).split())
        (folder / f"{name}.txt").write_text(label, encoding="utf-8")
    mark.write_text(now)


def digest(files: list[Path]) -> str:
    """What pictures depend on: these files, and the library."""
    package = Path(jaxplain.__file__).parent
    return hashlib.sha256(b"".join(file.read_bytes() for file in [*sorted(package.rglob("*.py")), *files])).hexdigest()


if __name__ == "__main__":
    jaxplain.keep_programs(quiet=True)
    draw(Path(sys.argv[1]))
