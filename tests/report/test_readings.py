"""Each section of each report function says in one sentence how it is read, and each figure in it does, too."""

import inspect
import re
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxplain
from jaxplain import plot, report
from jaxplain.report.reading import EXPLANATIONS, SECTIONS
from shared.bad_calls import publics
from shared.html_page import Page

MAKERS = [name for name in report.__all__ if name.endswith("_section")]


def one_sentence(text):
    return re.fullmatch(r"[A-Z][^\n]{30,420}[^.]\.", text) and not re.search(r"\. |\.\.|  ", text)


def test_every_section_has_one_sentence():
    assert set(SECTIONS) == set(MAKERS)
    for name, text in {**SECTIONS, **EXPLANATIONS}.items():
        assert one_sentence(text), name
    for name in MAKERS:
        assert f'reading=SECTIONS["{name}"]' in inspect.getsource(getattr(report, name))


def test_a_page_says_how_its_sections_and_figures_are_read(tmp_path):
    bars = plot.attribution_bar([1.0, -2.0])
    sections = [report.Section("One", [bars, "words"], reading="Long is much."), ("Two", plot.tokens(["a"], [0.5]))]
    page = Page(report.report(tmp_path / "page.html", sections).read_text(encoding="utf-8"))
    for sentence in ("Long is much.", plot.reading(bars), plot.reading(plot.tokens(["a"], [0.5]))):
        assert page.texts.count(sentence) == 1


def test_figures_of_cells_are_tables(tmp_path):
    table = plot.scores_table({"a": {"d": [1.0, 2.0]}, "random": {"d": 3.0}}, better={"d": "lower"})
    confusion = plot.confusion_matrix([0, 1], [0, 0], names=["$cat_", "_dog"])
    page = Page(report.report(tmp_path / "page.html", [("A", [table, confusion])]).read_text(encoding="utf-8"))
    assert page.all("img") == []
    for words in ("d ↓", "1.50 ± 0.98", "$cat_", "_dog", "1, 100 %"):
        assert words in page.texts
    assert {"b"} <= {tag for tag, _ in page.elements}
    assert [cell["style"] for cell in page.all("td") if "style" in cell] == ["background: #08306b; color: #fff"] * 2


def test_a_run_says_which_params_were_kept():
    validation = [1.0, 0.3, 0.2, 0.205]
    for more, said in (
        ({"validation_loss": validation}, " The params of epoch 3, of the lowest validation loss, were kept."),
        ({"validation_loss": [*validation[:3], 0.9]}, "(the params of epoch 3 were kept)."),
        ({"validation_loss": [1.0, 0.3, 0.2, 0.1]}, ""),
        ({}, ""),
    ):
        words = report.training_section(SimpleNamespace(loss=[1.0, 0.3, 0.25, 0.2], **more)).content[0]
        assert words.endswith(said)
        assert ("were kept" in words) is bool(said)


@pytest.mark.slow
def test_every_section_and_every_figure_in_it(tmp_path):
    made = {public.name: public for public in publics() if public.space == "report" and public.name in MAKERS}
    assert set(made) == set(MAKERS)
    for name, public in made.items():
        section = public.call()
        assert section.reading == SECTIONS[name]
        content = section.content if isinstance(section.content, list) else [section.content]
        for figure in (part for part in content if isinstance(part, Figure)):
            assert plot.reading(figure)
        text = report.report(tmp_path / "page.html", [section], dpi=20).read_text(encoding="utf-8")
        assert text.count('class="reading"') == 1 + sum(hasattr(part, "drawn_by") for part in content)


@pytest.mark.slow
def test_the_folders_page_shows_model_data_class_and_prediction(tmp_path):
    x = np.random.default_rng(0).random((12, 4, 4, 1)).astype(np.float32)
    y = np.arange(12) % 3

    def network(params, x):
        return x.reshape(len(x), -1) @ params

    e = jaxplain.integrated_gradients_with_gap(jaxplain.logit(network, jnp.tile(jnp.arange(3.0), (16, 1))), steps=4)
    found = jaxplain.explain_dataset(e, (x, y), batch_size=6, out=tmp_path / "run").explanations
    path = report.explanations_page(tmp_path / "page.html", found, data=(x, y), names=["<cat>", "dog", "cow"])
    page = Page(path.read_text(encoding="utf-8"))
    for words in (
        "model",
        "data",
        "<cat>",
        "dog",
        "cow",
        "✓ right",
        "✗ wrong",
        "highest score",
        "wrong",
        "class",
        "prediction",
    ):
        assert words in page.texts, words
    (model,) = [text for text in page.texts if "network" in text]
    assert model.endswith("params: float32[16, 3]")
    assert "12 examples of float32[4, 4, 1], all explained" in page.texts
    assert "the logit of the data's targets" in page.texts
    rows = [row for row in page.all("tr") if "data-keys" in row]
    assert len(rows) == 9  # of eight examples, and of the mean over all
    assert len([image for image in page.all("img") if image.get("class") == "input"]) == 8
    assert len([image for image in page.all("img") if image.get("class") == "map"]) == 9
    for text in EXPLANATIONS:
        if text not in ("The strongest features", "Values and attributions"):
            assert text in page.texts
            assert EXPLANATIONS[text] in page.texts
