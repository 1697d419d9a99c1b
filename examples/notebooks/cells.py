"""The cells that a script of the folder above has as a notebook; what they print and draw is not made here.

A notebook is its script, cut where a reader would stop: the docstring becomes the first text, each function a cell, and
the body of `main`, no longer a function, a cell for each step, which ends where something is printed or drawn. Comments
between statements become texts. Three things are added, and nothing else is changed: what the script is told on the
command line stands in a cell of its own; a figure is shown where the script saves it; so are the sections of a page,
where a script writes a page and no figures.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parent.parent
MADE_BY = "python examples/notebooks/make.py"

_FOR_TOOLS = re.compile(r"\s*#\s*(noqa|fmt:|type:|ruff:).*$")
_SHOWN = {"savefig": "figure", "svg": "drawing"}
"""What a statement does with something drawn, and the name that it is given where it has none."""


class Cell(NamedTuple):
    """A cell: "markdown" or "code", and its source."""

    kind: str
    source: str


class NotUnrolled(ValueError):
    """A script that is not built as the others: its body cannot be laid open."""


def scripts() -> list[Path]:
    """The scripts that have a notebook: all with a `main`."""
    return [path for path in sorted(SCRIPTS.glob("*.py")) if "\ndef main(" in path.read_text(encoding="utf-8")]


def cells(source: str, name: str) -> list[Cell]:
    """The cells of a script.

    Args:
        source: The script.
        name: Its file's name.

    Raises:
        NotUnrolled: It does not end with the call of `main`, or a variable of `main` has the name of something else.
    """
    source = with_displays(source)
    tree, lines = ast.parse(source), source.splitlines()
    main, last = _main(tree, name)
    parts = [node for node in tree.body[1:-1] if node is not main]
    imports = [node for node in parts if isinstance(node, ast.Import | ast.ImportFrom)]
    before = [node for node in last.body if ast.unparse(node) != "main()"]
    title, _, text = (ast.get_docstring(tree) or "").partition("\n\n")
    made = [Cell("markdown", f"# {title}\n\n{text}\n\n{_note(name)}"), Cell("code", _told(name, imports))]
    made += [Cell("code", _between(lines, imports[0], imports[-1]))]
    pieces = [node for node in parts if node not in imports]
    made += [Cell("markdown", "## The pieces")] * bool(pieces) + list(_pieces(lines, pieces, imports[-1]))
    made += [Cell("markdown", "## The run")]
    steps = list(_steps(lines, main))
    place = next(index for index, cell in enumerate(steps) if cell.kind == "code")
    steps[place] = Cell("code", "\n".join([*map(ast.unparse, before), steps[place].source]))
    return [*made, *steps]


def with_displays(source: str) -> str:
    """A script that shows what it draws, where it saves it."""
    lines, tree = source.splitlines(), ast.parse(source)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Expr | ast.Assign)]
    found = {node: drawn for node in statements if (drawn := _drawn(node))}
    if not any(isinstance(node, ast.Attribute) and node.attr == "savefig" for node in ast.walk(tree)):
        found |= {node: drawn for node in statements if (drawn := _page(node))}
    for node in sorted(found, key=lambda node: -node.lineno):
        attribute, subject = found[node]
        indent, words = " " * node.col_offset, ast.get_source_segment(source, subject)
        own = lines[node.lineno - 1 : node.end_lineno]
        if any(isinstance(inner, ast.Call) for inner in ast.walk(subject)):
            given = f"{indent}{_SHOWN[attribute]} = {words}".splitlines()
            own = [*given, *"\n".join(own).replace(words, _SHOWN[attribute], 1).splitlines()]
            words = _SHOWN[attribute]
        star = "*" * (attribute == "report")
        lines[node.lineno - 1 : node.end_lineno] = [*own, f"{indent}display({star}{words})"]
    return "\n".join(lines) + "\n"


def _drawn(statement: ast.Expr | ast.Assign) -> tuple[str, ast.expr] | None:
    """What a statement saves: `figure.savefig(...)`, `path.write_text(drawing.svg)`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute) and node.attr in _SHOWN and isinstance(statement, ast.Expr):
            return node.attr, node.value
    return None


def _page(statement: ast.Expr | ast.Assign) -> tuple[str, ast.expr] | None:
    """The variable whose sections a statement writes to a page, `report.report(path, sections)`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "report.report":
            return ("report", node.args[1]) if isinstance(node.args[1], ast.Name) else None
    return None


def _main(tree: ast.Module, name: str) -> tuple[ast.FunctionDef, ast.If]:
    """A script's `main` and the lines that call it, where its body may as well stand outside of it."""
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    last = tree.body[-1]
    if len(mains) != 1 or not isinstance(last, ast.If) or ast.unparse(last.body[-1]) != "main()":
        raise NotUnrolled(f"{name}: it has to end with `if __name__ == '__main__':` and the call of its `main`.")
    (main,) = mains
    inside = [node for part in main.body for node in _own(part)]
    if any(isinstance(node, ast.Return | ast.Yield | ast.Global | ast.Nonlocal) for node in inside):
        raise NotUnrolled(f"{name}: `main` returns early, yields or names globals; write it as plain steps.")
    others = set().union(*(stored(node) for node in tree.body if node is not main)) | set(dir(builtins))
    if shadowed := stored(*main.body) & others:
        raise NotUnrolled(f"{name}: variables of `main` hide what has their name outside: {sorted(shadowed)}; rename.")
    return main, last


def stored(*nodes: ast.AST) -> set[str]:
    """Names that statements give a value to, not counting those inside functions and comprehensions."""
    names: set[str] = set()
    for inner in (inner for node in nodes for inner in _own(node)):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            names.add(inner.name)
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in inner.names}
        elif isinstance(inner, ast.NamedExpr):
            names.add(inner.target.id)
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
    return names


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """A node and those below it that share its variables."""
    yield node
    for inner in ast.iter_child_nodes(node) if not isinstance(node, _APART) else ():
        if isinstance(inner, _COMPREHENSION):
            yield from (part for part in ast.walk(inner) if isinstance(part, ast.NamedExpr))
        else:
            yield from _own(inner)


_APART = ast.FunctionDef | ast.ClassDef | ast.Lambda
_COMPREHENSION = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def _note(name: str) -> str:
    stem = name.removesuffix(".py")
    return (
        f"*Made from [`{name}`](../{name}) and executed on a CPU by `{MADE_BY} {stem}`. The steps of the run are the "
        "body of the script's `main`; figures are shown where the script saves them.*"
    )


def _told(name: str, imports: Iterable[ast.stmt]) -> str:
    """The cell that stands for the command line, and for the folder of the script."""
    lines = ['# What the script is told on the command line; without "--quick" it runs in full.', "import sys", ""]
    beside = {path.stem for path in SCRIPTS.glob("*.py")}
    if any(isinstance(node, ast.ImportFrom) and node.module in beside for node in imports):
        lines.append('sys.path.insert(0, "..")  # where the scripts are that this one imports')
    return "\n".join([*lines, f'sys.argv = ["{name}", "--quick"]'])


def _pieces(lines: list[str], nodes: list[ast.stmt], previous: ast.stmt) -> Iterator[Cell]:
    """Functions and classes, one a cell; values that stand together; their docstrings as texts."""
    together: list[ast.stmt] = []
    for node in nodes:
        alone = isinstance(node, ast.FunctionDef | ast.ClassDef) or _is_text(node)
        comment, _ = _above(lines, previous, node)
        if together and (alone or comment):
            yield Cell("code", _between(lines, together[0], together[-1]))
            together = []
        if comment:
            yield Cell("markdown", comment)
        if _is_text(node):
            yield Cell("markdown", textwrap.dedent(ast.literal_eval(node.value)))
        elif alone:
            yield Cell("code", _between(lines, node, node))
        else:
            together.append(node)
        previous = node
    if together:
        yield Cell("code", _between(lines, together[0], together[-1]))


def _steps(lines: list[str], main: ast.FunctionDef) -> Iterator[Cell]:
    """The body of `main`: a cell ends before an empty line or a comment, and where something is printed or shown."""
    together: list[ast.stmt] = []
    for node in main.body:
        comment, apart = _above(lines, together[-1], node) if together else ("", False)
        if together and (comment or apart or _parses(together[-1]) or (_speaks(together[-1]) and not _speaks(node))):
            yield Cell("code", _opened(lines, together))
            together = []
        if comment:
            yield Cell("markdown", comment)
        together.append(node)
    yield Cell("code", _opened(lines, together))


def _parses(node: ast.stmt) -> bool:
    return any(isinstance(inner, ast.Attribute) and inner.attr == "parse_args" for inner in ast.walk(node))


def _speaks(node: ast.stmt) -> bool:
    """Whether a step prints or shows something."""
    calls = (inner.func for inner in _own(node) if isinstance(inner, ast.Call))
    return any(isinstance(call, ast.Name) and call.id in ("print", "display") for call in calls)


def _opened(lines: list[str], nodes: list[ast.stmt]) -> str:
    """Statements of a function as statements of a notebook: four spaces to the left."""
    return "\n".join(line.removeprefix("    ") for line in _between(lines, nodes[0], nodes[-1]).split("\n"))


def _between(lines: list[str], first: ast.stmt, last: ast.stmt) -> str:
    """The lines of statements, as they are but for remarks to the linter."""
    chosen = lines[_start(first) - 1 : last.end_lineno]
    return "\n".join(_FOR_TOOLS.sub("", line) for line in chosen if line == "" or _FOR_TOOLS.sub("", line))


def _start(node: ast.stmt) -> int:
    """The first line of a statement, its decorators included."""
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _above(lines: list[str], previous: ast.stmt, node: ast.stmt) -> tuple[str, bool]:
    """The comment between two statements, as a text, and whether an empty line is there."""
    gap = [_FOR_TOOLS.sub("", line).strip() for line in lines[previous.end_lineno : _start(node) - 1]]
    return "\n".join(line.lstrip("# ") for line in gap if line), any(not line for line in gap)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
