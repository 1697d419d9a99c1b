"""Every example is a notebook as well: made from the script, with what it printed and drew, readable in a browser."""

import ast
import importlib.util
import io
import json
import os
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "notebooks"
SCRIPTS = [path for path in sorted((ROOT / "examples").glob("*.py")) if "\ndef main(" in path.read_text("utf-8")]
NAMES = [path.stem for path in SCRIPTS]


def _module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CELLS = _module("cells")
MAKE = _module("make")


def stored(name):
    """The cells of a notebook in the repository."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def joined(cells, kind):
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)


def printed(cells):
    """What a notebook says, cell by cell."""
    return ["".join("".join(o.get("text", "")) for o in cell.get("outputs", ())) for cell in cells]


def test_every_notebook_is_its_script():
    assert len(NAMES) >= 33
    old = [f"{CELLS.MADE_BY} {path.stem}" for path in SCRIPTS if not MAKE.is_current(path)]
    assert old == [], "these notebooks are not what their scripts give; make them anew by the commands"
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NAMES)


def statements(body):
    """Statements without what shows a figure, without the names that figures have for it, and without docstrings."""
    kept = []
    for node in body:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, statements(getattr(node, field)))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Expr) and ast.unparse(node).startswith("display("):
            continue
        name = ast.unparse(kept[-1].targets[0]) if kept and isinstance(kept[-1], ast.Assign) else ""
        if name in ("figure", "drawing") and isinstance(node, ast.Expr) and f"{name}." in ast.unparse(node):
            first, _, last = ast.unparse(node).partition(f"{name}.")
            node = ast.parse(f"{first}{ast.unparse(kept.pop().value)}.{last}").body[0]
        kept.append(node)
    return kept


def code_of(script):
    """A script's statements in the order in which they run, the body of `main` in its place."""
    tree = ast.parse(script)
    *parts, last = tree.body
    (main,) = [node for node in parts if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert ast.unparse(last.body[-1]) == "main()"
    return statements([*(node for node in parts if node is not main), *last.body[:-1], *main.body])


def test_the_code_is_the_scripts_and_the_texts_are_its_words():
    """Read without the program that made them: the code cells but the first, joined, are the script."""
    for path in SCRIPTS:
        script, cells = path.read_text(encoding="utf-8"), stored(path.stem)
        first, *rest = [cell for cell in cells if cell["cell_type"] == "code"]
        assert f'sys.argv = ["{path.name}", "--quick"]' in "".join(first["source"])
        mine = statements(ast.parse(joined(rest, "code")).body)
        assert [ast.unparse(node) for node in mine] == [ast.unparse(node) for node in code_of(script)], path.stem
        texts = joined(cells, "markdown")
        assert ast.get_docstring(ast.parse(script)) in texts.removeprefix("# "), path.stem
        for token in tokenize.generate_tokens(io.StringIO(script).readline):
            if token.type == tokenize.COMMENT and not re.match(r"# (noqa|fmt:|ruff:|type:)", token.string):
                assert token.string.lstrip("# ") in texts + joined(rest, "code"), (path.stem, token.string)


def test_a_changed_script_is_seen():
    path = SCRIPTS[NAMES.index("tabular")]
    source = path.read_text(encoding="utf-8")
    own = CELLS.cells(source, path.name)
    for changed in (source.replace("steps=32", "steps=33"), source.replace("Three\nfigures", "Some\nfigures")):
        assert changed != source
        assert CELLS.cells(changed, path.name) != own
    assert CELLS.cells(source + "\n\n", path.name) == own


PLAIN = '''"""Title.

Expect it."""

import sys

X = 1


def main() -> None:
{body}


if __name__ == "__main__":
    main()
'''


def made(body):
    """The code cells of a script with this body of `main`."""
    cells = CELLS.cells(PLAIN.format(body="\n".join(f"    {line}" for line in body.splitlines())), "plain.py")
    return [cell.source for cell in cells if cell.kind == "code"]


def test_steps_end_where_something_is_said():
    cells = made("a = 1\nprint(a)\nprint(2 * a)\nb = 2\n\nc = 3\n# Words.\nd = 4")
    assert cells[-4:] == ["a = 1\nprint(a)\nprint(2 * a)", "b = 2", "c = 3", "d = 4"]


def test_what_is_saved_is_shown():
    assert made("a.savefig(1)")[-1] == "a.savefig(1)\ndisplay(a)"
    assert made("plot(\n    2,\n).savefig(1)")[-1] == "figure = plot(\n    2,\n)\nfigure.savefig(1)\ndisplay(figure)"
    loop = made("for a in b:\n    a[0].savefig(1)")[-1]
    assert loop == "for a in b:\n    a[0].savefig(1)\n    display(a[0])"
    assert made("p.write_text(d(1).svg)")[-1] == "drawing = d(1)\np.write_text(drawing.svg)\ndisplay(drawing)"
    assert made("print(report.report(p, s))")[-1] == "print(report.report(p, s))\ndisplay(*s)"
    assert "display(*s)" not in made("a.savefig(1)\nreport.report(p, s)")[-1]  # its figures were shown


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("X = 2", r"variables of `main` hide .*\['X'\]; rename"),
        ("for sys in (1,):\n    pass", r"\['sys'\]"),
        ("list = 2", r"\['list'\]"),
        ("return", "returns early"),
    ],
)
def test_what_would_mean_something_else_outside_of_main_is_refused(body, words):
    with pytest.raises(CELLS.NotUnrolled, match=words):
        made(body)
    assert made("a = [X for X in (1, 2)]\nf = lambda sys: sys")  # these are variables of their own


def test_notebooks_are_small_and_hold_nothing_of_the_machine():
    sizes = {path.stem: path.stat().st_size for path in FOLDER.glob("*.ipynb")}
    assert {name: size for name, size in sizes.items() if size > MAKE.LARGEST} == {}
    assert sum(sizes.values()) <= 4_000_000
    for name in sizes:
        cells = stored(name)
        assert [cell["id"] for cell in cells] == [f"cell-{place:02d}" for place in range(len(cells))]
        assert not any(cell["metadata"] for cell in cells), name
        said = json.dumps([{k: v for k, v in c.items() if k != "attachments"} for c in cells])
        said = re.sub(r'"image/png": "[^"]*"', "", said)
        found = re.search(r"/tmp/|/home/|/opt/|/usr/|/work/|0x[0-9a-f]{6}|jaxplain-progress|Traceback", said)
        assert found is None, (name, found)
        counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
        assert counts == list(range(1, len(counts) + 1)), name
        assert "False" not in "".join(printed(cells)), name  # a claim that an example checks is printed as True


def test_every_notebook_shows_something():
    for name in NAMES:
        kinds = {kind for cell in stored(name) for output in cell.get("outputs", ()) for kind in output.get("data", ())}
        assert kinds & {"image/png", "image/svg+xml", "text/html"} or name in TABLES, name


TABLES = {"known_mechanisms"}
"""Examples that print and draw nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabular", "keras_port"])
def test_executed_anew_it_says_the_same(name):
    pytest.importorskip("nbclient", reason="the extra [notebooks] is not installed")
    pytest.importorskip("ipykernel", reason="the extra [notebooks] is not installed")
    again = MAKE.executed(SCRIPTS[NAMES.index(name)])
    number = r"-?\d+\.?\d*(?:e[-+]\d+)?"
    for old, new in zip(printed(stored(name)), printed(again.cells), strict=True):
        assert re.sub(number, "#", old) == re.sub(number, "#", new)
        for first, second in zip(re.findall(number, old), re.findall(number, new), strict=True):
            # another processor adds in another order
            assert float(first) == pytest.approx(float(second), rel=0.2, abs=0.02)


BROWSED = NAMES if os.environ.get("JAXPLAIN_ALL_NOTEBOOKS") else NAMES[::6]
"""Every sixth; all of them where this variable is set."""


@pytest.mark.slow
def test_notebooks_open_in_a_browser(tmp_path):
    """No request, no error in the console, every picture drawn, every heading there."""
    pytest.importorskip("nbconvert", reason="the extra [notebooks] is not installed")
    from shared.notebook_page import browser, opened, page

    if browser() is None:
        pytest.skip("there is no Chromium on this machine")
    bad = tmp_path / "bad.html"
    bad.write_text("<h1>Bad</h1><img src='http://example.com/a.png'><script>nothing()</script>", encoding="utf-8")
    control = opened([bad], tmp_path)
    assert control.requests == ["http://example.com/a.png"]
    assert "nothing is not defined" in control.console[0]
    assert control.pages[0]["broken"] == 1

    pages = {name: page(FOLDER / f"{name}.ipynb", tmp_path / f"{name}.html") for name in BROWSED}
    found = opened(list(pages.values()), tmp_path)
    assert found.requests == []
    assert found.console == []
    assert len(found.pages) == len(pages)
    for name, seen in zip(pages, found.pages, strict=True):
        pictures = sum("image/png" in o.get("data", {}) for cell in stored(name) for o in cell.get("outputs", ()))
        assert seen["images"] >= pictures, name
        assert seen["broken"] == 0, name
        assert seen["cells"] == len(stored(name)), name
        assert seen["title"] in joined(stored(name), "markdown"), name
