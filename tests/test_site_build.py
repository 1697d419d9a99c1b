"""The documentation site, built: a part of it without warnings and without requests, equations, the path's code."""

import importlib
from pathlib import Path

import jax
import pytest

import jaxplain

SITE = Path(jaxplain.__file__).parents[1] / "examples" / "site"
PAGES = ("gradients", "maps", "relevance", "scores")


@pytest.fixture(autouse=True)
def _programs(monkeypatch):
    monkeypatch.syspath_prepend(str(SITE))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Sphinx and docutils deprecate parts of each other
def test_a_part_of_the_site_is_built_without_warnings_and_requests(tmp_path):
    for package in ("sphinx", "sphinx_book_theme", "myst_parser", "latex2mathml"):
        pytest.importorskip(package, reason="the extra [docs] is not installed")
    build, reference, sweep = (importlib.import_module(name) for name in ("build", "reference", "sweep"))
    source = tmp_path / "source"
    reference.write(source / "reference", only=PAGES)
    which = (SITE / "which.md").read_text(encoding="utf-8").replace("%table%", reference.table())
    reference.renew(source / "index.md", which + "\n```{toctree}\nreference/" + "\nreference/".join(PAGES) + "\n```\n")
    assert build.sphinx(source, tmp_path, None) == 0
    page = (tmp_path / "html" / "reference" / "gradients.html").read_text(encoding="utf-8")
    assert page.count("<math ") == len(reference.described(reference.families()[1]))
    assert 'id="jaxplain.integrated_gradients"' in page
    assert "Misleads" in page
    assert "Sundararajan" in page
    assert [load for _, load in sweep.external(tmp_path / "html")] == []
    assert len(list((tmp_path / "html").rglob("*.html"))) >= len(PAGES) + 1


def test_every_equation_is_mathml():
    convert = pytest.importorskip("latex2mathml.converter", reason="the extra [docs] is not installed").convert
    for name, entry in importlib.import_module("reference").methods().items():
        assert "<mrow>" in convert(entry["equation"]), name
        assert "\\" not in convert(entry["equation"]), name


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_the_path_runs_from_data_to_control():
    pytest.importorskip("sklearn")
    lessons = importlib.import_module("lessons")
    with jax.numpy_rank_promotion("allow"):  # as it is for whoever reads them
        figures = dict(lessons.run())
    assert len(figures) > 20
    assert {name[:2] for name in figures} == {page.stem[:2] for page in lessons.pages()}
    assert all(figure.axes for figure in figures.values())


def test_what_a_block_says_is_run_and_a_failed_claim_is_told_with_its_line(tmp_path):
    lessons = importlib.import_module("lessons")
    page = tmp_path / "01_a.md"
    page.write_text("# A\n\n```python\nfigure = 1\n```\n\n```python\nassert False\n```\n", encoding="utf-8")
    found = []
    with pytest.raises(AssertionError) as failed:
        found += lessons.run([page])
    assert failed.traceback[-1].lineno + 1 == 8
    (tmp_path / "01_a_0.png").touch()
    (tmp_path / "01_a_0.txt").write_text("one")
    text = lessons.illustrated(page.read_text(encoding="utf-8"), "01_a", tmp_path)
    assert text.count("```{image} /pictures/01_a_0.png") == 1
    assert text.index("figure = 1") < text.index("{image}") < text.index("assert False")
