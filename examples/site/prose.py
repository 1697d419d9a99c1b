"""Docstrings as reStructuredText: names in backticks become links or code, what Sphinx takes for marks is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

SECTIONS = ("Args", "Returns", "Raises", "Example", "Attributes", "Yields")
EMPHASIS = re.compile(r"((?<![\w*\\])\*\w[\w ]*\*(?![\w*]))")
SPAN = re.compile(r"(``?)(.+?)\1", re.DOTALL)
Link = Callable[[str], str | None]


def no_link(name: str) -> None:
    """No name is one of ours."""
    return


def inline(text: str, link: Link = no_link) -> str:
    """One paragraph: `link` says the full name of what stands in backticks, or None where it is only code."""
    parts, end = [], 0
    for match in SPAN.finditer(text):
        parts.append(escaped(text[end : match.start()]))
        before, after = text[: match.start()][-1:], text[match.end() :][:1]
        parts.append(f"{_apart(before)}{code(match[2], link)}{_apart(after)}")
        end = match.end()
    return "".join([*parts, escaped(text[end:])])


def _apart(neighbour: str) -> str:
    """What keeps a mark apart from a letter beside it."""
    return "\\ " if neighbour.isalnum() else ""


def code(text: str, link: Link) -> str:
    """What stood in backticks: a link to a name of ours, or literal text."""
    text = " ".join(text.split())
    full = link(text)
    return f":py:obj:`{text} <{full}>`" if full else f"``{text}``"


def escaped(text: str) -> str:
    """Text without meaning for Sphinx; a bullet at the start of a line stays one."""
    lines = []
    for line in text.split("\n"):
        indent, bullet, rest = re.match(r"(\s*)((?:[*-] )?)(.*)", line, re.DOTALL).groups()
        parts = EMPHASIS.split(rest)  # what is emphasised stays so
        parts[::2] = [re.sub(r"([\\*|])", r"\\\1", part) for part in parts[::2]]
        rest = "".join(parts)
        lines.append(indent + bullet + re.sub(r"(?<=\w)_(?!\w)", r"\\_", rest))
    return "\n".join(lines)


def docstring(lines: Sequence[str], link: Link = no_link) -> list[str]:
    """A Google docstring for napoleon: each paragraph by `inline`, formulas as they stand, examples untouched."""
    result: list[str] = []
    section = ""
    for block in _blocks(lines):
        head = re.fullmatch(r"(\w+):", block[0])
        if head and head[1] in SECTIONS:
            section, block = head[1], block[1:]
            result += [":returns:" if section == "Returns" else f"{section}:"]
        elif section and not block[0].startswith(" "):
            section = ""
        if not section and block[0].startswith("    "):
            result += ["::", "", *block, ""]
        elif block and block[0].lstrip().startswith(">>>"):
            result += [*block, ""]
        else:
            result += [*inline("\n".join(block if section else fields(block)), link).split("\n"), ""]
    return result


def fields(block: Sequence[str]) -> list[str]:
    """A paragraph that lists fields, `name: text` with longer texts indented, as a list; others as they are."""
    heads = [re.fullmatch(r"([a-z_][\w, ]*): (.+)", line) for line in block if not line.startswith(" ")]
    if len(heads) < 2 or not all(heads):
        return list(block)
    return [f"  {line.strip()}" if line.startswith(" ") else f"- {line}" for line in block]


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Paragraphs; the head of a section goes with what follows it."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.rstrip())
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def sentence(doc: str, word: str) -> str:
    """The sentence that begins with `word:` in a docstring, without the word; empty where there is none."""
    match = re.search(rf"\b{word}(?:, ([^:]*:))?:?\s+((?:[^.]|\.(?=\S))*)\.", doc)
    return " ".join(f"{match[1] or ''} {match[2]}".split()) if match else ""


def source(doc: str) -> str:
    """The paragraph of a docstring that begins with "Source:", without the word; empty where there is none."""
    match = re.search(r"^\s*Source: (.*?)(?:\n\s*\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    return " ".join(match[1].split()) if match else ""
