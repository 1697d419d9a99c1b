"""The pages of the reference, made of families.toml, methods.toml and the docstrings; nothing is written by hand."""

from __future__ import annotations

import functools
import inspect
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prose

import jaxplain

SITE = Path(__file__).parent
NEEDS = {
    "derivatives": "derivatives of the score",
    "scores": "scores alone: any function",
    "layer": "a layer of the model",
    "rules": "the model's operations, each by a rule",
}
AXIOMS = {
    "linear": "linear in the score",
    "dummy": "nothing to what the score ignores",
    "symmetric": "equals to equals",
    "invariant": "same function, same answer",
}


@functools.cache
def families() -> list[dict[str, Any]]:
    """The pages: file, title, what it is about, namespace, names."""
    return tomllib.loads((SITE / "families.toml").read_text(encoding="utf-8"))["page"]


@functools.cache
def methods() -> dict[str, dict[str, Any]]:
    """What is said of each attribution method beside its docstring."""
    return tomllib.loads((SITE / "methods.toml").read_text(encoding="utf-8"))


def full(space: str, name: str) -> str:
    """A name with its namespace."""
    return ".".join(filter(None, ("jaxplain", space, name)))


def value(space: str, name: str) -> Any:
    """What a name stands for."""
    return getattr(getattr(jaxplain, space) if space else jaxplain, name)


def listed() -> Iterator[tuple[str, str, str]]:
    """Every name that a page holds: its page, namespace and name."""
    for page in families():
        for name in page["names"]:
            yield page["file"], page.get("space", ""), name


def described(page: dict[str, Any]) -> list[str]:
    """The attribution methods of a page."""
    return [name for name in page["names"] if name not in page.get("helpers", ())] if page.get("methods") else []


@functools.cache
def places() -> dict[str, str]:
    """Full names by what docstrings write: with the namespace, or alone where only one namespace or the top has it."""
    found: dict[str, str] = {}
    short: dict[str, list[str]] = {}
    for _, space, name in listed():
        whole = full(space, name)
        found[whole] = whole
        found[whole.removeprefix("jaxplain.")] = whole
        short.setdefault(name, []).append(whole)
    for name, several in short.items():
        if len(several) == 1:
            found.setdefault(name, several[0])
    return found


def link(space: str) -> prose.Link:
    """The full name of what a docstring of a namespace writes in backticks, None where it is no public name."""

    def found(text: str) -> str | None:
        near = full(space, text) if space else ""
        return places().get(near) or places().get(text)

    return found


def space_of(name: str) -> str:
    """The namespace that a full name (of a class's member, too) stands in."""
    first = name.split(".")[1]
    return first if first in jaxplain.NAMESPACES else ""


def heading(text: str, mark: str) -> list[str]:
    """A heading."""
    return [text, mark * len(text), ""]


def directive(space: str, name: str) -> list[str]:
    """The docstring of a name, by autodoc."""
    thing = value(space, name)
    kind = "class" if inspect.isclass(thing) else "function" if callable(thing) else "data"
    options = ["   :members:"] if kind == "class" else []
    return [f".. auto{kind}:: {full(space, name)}", *options, ""]


def facts(space: str, name: str) -> list[tuple[str, str]]:
    """What the table of a method says."""
    doc, entry, where = inspect.getdoc(value(space, name)) or "", methods()[name], link(space)
    axioms = [text for axiom, text in AXIOMS.items() if entry.get(axiom)]
    rows = [
        ("Needs", NEEDS[entry["needs"]]),
        ("Cost", prose.inline(prose.sentence(doc, "Cost"), where)),
        ("Sums to", prose.escaped(entry.get("sums", ""))),
        ("Axioms", "; ".join(axioms)),
        ("Misleads", prose.inline(entry["misleads"], where)),
        ("Source", prose.inline(prose.source(doc), where)),
    ]
    return [(head, text) for head, text in rows if text]


def method(space: str, name: str, pictured: bool) -> list[str]:
    """The section of an attribution method: equation, table, picture, docstring."""
    lines = [*heading(name, "-"), ".. math::", "", f"   {methods()[name]['equation']}", "", ".. list-table::"]
    lines += ["   :widths: 15 85", "   :class: facts", ""]
    for head, text in facts(space, name):
        lines += [f"   * - {head}", f"     - {text}"]
    lines += [""]
    if pictured:
        alt = f"{name}: attributions of an image of a digit, of a row of a table, and of a sentence"
        image = [f".. image:: /pictures/{name}.png", f"   :alt: {alt}", "   :class: picture"]
        lines += [".. container:: pictured", "", *(f"   {line}" for line in image), ""]
    return [*lines, *directive(space, name)]


def page(family: dict[str, Any], pictures: Path | None) -> str:
    """The text of a page."""
    space, special = family.get("space", ""), described(family)
    lines = [*heading(family["title"], "="), prose.inline(family["about"], link(space)), ""]
    lines += [f"All names stand in ``{full(space, '').rstrip('.')}``.", ""]
    for name in family["names"]:
        if name in special:
            lines += method(space, name, pictures is not None and (pictures / f"{name}.png").exists())
        else:
            lines += [*heading(name, "-"), *directive(space, name)]
    return "\n".join(lines)


def index() -> str:
    """The first page of the reference: the other pages, and every name with its first line."""
    lines = [
        *heading("Reference", "="),
        "Every public name, each on one page.",
        "",
        ".. toctree::",
        "   :maxdepth: 1",
        "",
    ]
    lines += [f"   {family['file']}" for family in families()]
    for family in families():
        space = family.get("space", "")
        lines += ["", *heading(family["title"], "-"), ".. list-table::", "   :widths: 30 70", ""]
        for name in family["names"]:
            doc = inspect.getdoc(value(space, name)) or ""
            first = " ".join(doc.partition("\n\n")[0].split())
            told = first if inspect.isclass(value(space, name)) or callable(value(space, name)) else "A constant."
            lines += [f"   * - :py:obj:`{name} <{full(space, name)}>`", f"     - {prose.inline(told, link(space))}"]
    return "\n".join([*lines, ""])


def table() -> str:
    """Which method has which axioms and what it costs, as a MyST table of all methods."""
    rows = [f"| method | needs | sums to | {' | '.join(AXIOMS.values())} | cost |", "| --- " * (len(AXIOMS) + 4) + "|"]
    for family in families():
        space = family.get("space", "")
        for name in described(family):
            entry, doc = methods()[name], inspect.getdoc(value(space, name)) or ""
            cost = prose.sentence(doc, "Cost").replace("|", "\\|")
            marks = " | ".join("yes" if entry.get(axiom) else "" for axiom in AXIOMS)
            where = f"{{py:obj}}`{name} <{full(space, name)}>`"
            rows.append(f"| {where} | {entry['needs']} | {entry.get('sums', '')} | {marks} | {cost} |")
    return "\n".join(rows)


def write(folder: Path, pictures: Path | None = None, only: tuple[str, ...] | None = None) -> None:
    """Write the pages of the reference into a folder; `only` some of them, for a quick look."""
    folder.mkdir(parents=True, exist_ok=True)
    for family in families():
        if only is None or family["file"] in only:
            renew(folder / f"{family['file']}.rst", page(family, pictures))
    if only is None:
        renew(folder / "index.rst", index())


def renew(path: Path, text: str) -> None:
    """Write a file if it says something else: what is as it was is not built again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
