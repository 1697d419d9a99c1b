"""The documentation site, by its sources: every name on one page, every method described, every call of ours there is.

What needs Sphinx stands in `test_site_build.py`.
"""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import jaxplain
from shared.methods import METHODS

SITE = Path(jaxplain.__file__).parents[1] / "examples" / "site"


@pytest.fixture(scope="module", autouse=True)
def _programs():
    """The site's programs import each other by name."""
    sys.path.insert(0, str(SITE))
    yield
    sys.path.remove(str(SITE))


def program(name):
    return importlib.import_module(name)


def names_of_all():
    """Every public name: its namespace, itself and what it stands for."""
    for space in ("", *jaxplain.NAMESPACES):
        module = getattr(jaxplain, space) if space else jaxplain
        for name in module.__all__:
            yield space, name, getattr(module, name)


def test_every_public_name_stands_on_exactly_one_page():
    reference = program("reference")
    listed = [(space, name) for _, space, name in reference.listed()]
    assert sorted(listed) == sorted(set(listed))
    there = {id(reference.value(*place)) for place in listed if not isinstance(reference.value(*place), str)}
    missing = [(s, n) for s, n, value in names_of_all() if (s, n) not in listed and id(value) not in there]
    assert missing == []  # add what is new to a page of examples/site/families.toml
    assert set(listed) <= {(space, name) for space, name, _ in names_of_all()}
    assert len({page["file"] for page in reference.families()}) == len(reference.families())
    for page in reference.families():
        assert set(page.get("helpers", ())) <= set(page["names"]), page["file"]


def attribution_methods():
    """What the folders of methods offer under public names, by the folders and not by the site."""
    public = {name: space for space, name, _ in reversed(list(names_of_all()))}
    for folder in ("gradient", "backward", "cam", "perturbation", "shapley"):
        module = importlib.import_module(f"jaxplain.explain.{folder}")
        yield from (name for name in module.__all__ if name in public and inspect.isfunction(getattr(module, name)))


NO_METHODS = {"audit", "estimate_patterns", "image_regions", "relevance_balance"}


def test_every_attribution_method_is_described():
    reference = program("reference")
    told, shown = reference.methods(), {n for page in reference.families() for n in reference.described(page)}
    assert shown == set(told)
    assert set(attribution_methods()) - NO_METHODS <= shown
    for name, entry in told.items():
        assert entry["equation"].count("{") == entry["equation"].count("}"), name
        assert 60 < len(entry["misleads"]) < 420, name
        assert entry["needs"] in reference.NEEDS, name
        assert set(entry) <= {"equation", "misleads", "needs", "sums", *reference.AXIOMS}, name


def test_a_method_without_an_entry_is_caught(monkeypatch):
    reference = program("reference")
    fewer = {name: entry for name, entry in reference.methods().items() if name != "lime"}
    monkeypatch.setattr(reference, "methods", lambda: fewer)
    with pytest.raises(AssertionError):
        test_every_attribution_method_is_described()


def test_axioms_are_those_that_tests_hold():
    told = program("reference").methods()
    for name in {row.name for row in METHODS}:
        rows = [row for row in METHODS if row.name == name]
        for axiom in ("linear", "dummy", "symmetric"):
            held = any(getattr(row, axiom) for row in rows)
            assert told[name].get(axiom, False) == held, (name, axiom)
        if any(row.complete for row in rows):
            assert told[name]["sums"], name
    claimed = {name for name, entry in told.items() if {"linear", "dummy", "symmetric"} & set(entry)}
    assert claimed <= {row.name for row in METHODS}


def test_every_method_has_a_cost_and_a_source():
    prose, reference = program("prose"), program("reference")
    for page in reference.families():
        for name in reference.described(page):
            doc = inspect.getdoc(reference.value(page.get("space", ""), name))
            assert prose.sentence(doc, "Cost"), name
            assert prose.sentence("Cost, for n: two. More.", "Cost") == "for n: two"
    assert prose.source(doc), name


def test_every_method_is_drawn_or_said_why_not():
    shown, told = program("shown"), program("reference").methods()
    assert set(shown.METHODS) | set(shown.NOT_DRAWN) == set(told)
    assert not set(shown.METHODS) & set(shown.NOT_DRAWN)
    assert {name for name, _ in shown.ABSENT} <= set(shown.METHODS)


def cells():
    """Their call and ours, of every table."""
    for page in sorted((SITE / "from").glob("*.md")):
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("|") and not line.startswith("| ---"):
                columns = re.findall(r"(?:`[^`]*`|[^|`])+", line)
                yield page.stem, *(column.strip() for column in columns if column.strip())


def resolved(node):
    """What a dotted name of jaxplain stands for; None for other expressions."""
    if isinstance(node, ast.Name):
        return jaxplain if node.id == "jaxplain" else None
    if isinstance(node, ast.Attribute):
        inner = resolved(node.value)
        return None if inner is None else getattr(inner, node.attr)
    return None


def test_every_call_of_ours_is_there_and_takes_these_settings():
    rows = [row for row in cells() if row[2] != "jaxplain"]
    assert len(rows) > 150
    for page, _, *ours in rows:
        assert len(ours) == 1, (page, ours)
        assert re.fullmatch(r"`[^`]+`", ours[0]), (page, ours)
        tree = ast.parse(ours[0].strip("`"))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and resolved(node) is not None]
        assert names, ours
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = resolved(call.func)
            if function is not None:
                settings = {keyword.arg: None for keyword in call.keywords}
                inspect.signature(function).bind(*call.args, **settings)


def test_the_path_is_code_in_the_order_of_its_list():
    lessons = program("lessons")
    pages = lessons.pages()
    listed = re.findall(r"^\d\d_\w+$", (SITE / "path" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [page.stem for page in pages] == listed
    for page in pages:
        blocks = lessons.BLOCK.findall(page.read_text(encoding="utf-8"))
        assert blocks, page
        for block in blocks:
            ast.parse(block)
        assert any("assert " in block for block in blocks) or page.stem == "03_inside", page


EXTERNAL = {
    ".html": [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<link rel="preload" href="https://a.example/f.woff2">',
        '<img alt="" src="http://a.example/b.png">',
        '<img srcset="a.png 1x, https://a.example/b.png 2x">',
        '<p style="background: url(https://a.example/b.png)">',
        "<style>@import 'https://a.example/b.css';</style>",
        "<script>fetch('https://a.example/')</script>",
        '<iframe src="https://a.example"></iframe>',
    ],
    ".css": ["@import url(https://a.example/b.css);", "a { background: url('//a.example/b.png') }"],
    ".js": [
        "s.src = 'https://a.example/b.js'",
        'import("https://a.example/b.js")',
        "x.open('GET', 'https://a.example')",
    ],
}
INTERNAL = {
    ".html": [
        '<a href="https://arxiv.org/abs/1703.01365">paper</a>',
        '<link rel="canonical" href="https://a.example/">',
        '<script src="_static/a.js"></script><img src="data:image/png;base64,//8A">',
        '<math xmlns="http://www.w3.org/1998/Math/MathML"></math>',
    ],
    ".css": ["/* https://getbootstrap.com */ a { background: url(b.png) }"],
    ".js": ["// see https://a.example\nconst x = 'http://www.w3.org/2000/svg'"],
}


def test_what_is_loaded_from_elsewhere_is_found_and_a_link_is_not():
    sweep = program("sweep")
    for kind, texts in EXTERNAL.items():
        for text in texts:
            assert len(sweep.loads(text, kind)) == 1, text
    for kind, texts in INTERNAL.items():
        for text in texts:
            assert sweep.loads(text, kind) == [], text


def test_docstrings_keep_their_words_and_lose_what_sphinx_takes_for_marks():
    prose = program("prose")
    link = {"gradient": "jaxplain.gradient"}.get
    assert prose.inline("As `gradient` of `x` at *args and |x|, x_ too", link) == (
        r"As :py:obj:`gradient <jaxplain.gradient>` of ``x`` at \*args and \|x\|, x\_ too"
    )
    assert prose.inline("`n`th") == r"``n``\ th"
    lines = ["First.", "", "Args:", "    x: `[N]`.", "", "Returns:", "    What: `x`. Cost: one pass."]
    assert prose.docstring(lines) == [
        *("First.", "", "Args:", "    x: ``[N]``.", "", ":returns:", "    What: ``x``. Cost: one pass.", ""),
    ]
    assert prose.docstring(["a: one", "    more", "b, c: two"]) == ["- a: one", "  more", "- b, c: two", ""]
    assert prose.docstring(["    a = b", "", ">>> f(*x)", "1"]) == ["::", "", "    a = b", "", ">>> f(*x)", "1", ""]
    assert prose.sentence("Cost: one pass of 1.5 f.x. More.", "Cost") == "one pass of 1.5 f.x"
    assert prose.sentence("Cost, for n: two. More.", "Cost") == "for n: two"
    assert prose.source('a\n\nSource: A 2020, "B",\nequation 3.\n') == 'A 2020, "B", equation 3.'


def test_every_example_becomes_a_page_that_is_run_with_quick(tmp_path):
    gallery = program("gallery")
    gallery.copy(tmp_path / "examples")
    scripts = sorted(path.stem for path in (tmp_path / "examples").glob("*.py"))
    assert scripts == sorted(path.stem for path in SITE.parent.glob("*.py"))
    assert set(gallery.QUICK) <= set(scripts)
    for stem in scripts:
        doc = ast.get_docstring(ast.parse((tmp_path / "examples" / f"{stem}.py").read_text(encoding="utf-8")))
        title, line, empty, *text = doc.split("\n")
        assert (set(line), len(line), empty) == ({"="}, len(title), ""), stem
        assert len(text) > 3, stem
    made = gallery.arguments({}, {"src_file": str(tmp_path / "examples" / "road.py")})
    assert made == ["--quick", "--output", str(tmp_path / "made" / "road")]
    pattern = gallery.settings(tmp_path / "examples", False)["filename_pattern"]
    assert [stem for stem in scripts if re.search(pattern, f"/a/{stem}.py")] == sorted(gallery.QUICK)
    pattern = gallery.settings(tmp_path / "examples", True)["filename_pattern"]
    assert all(re.search(pattern, f"/a/{stem}.py") for stem in scripts)
