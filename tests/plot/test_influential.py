"""Queries beside their training examples: images, rows and texts, signs and empty places."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxplain import plot, report
from jaxplain.influence import Influence

VALUES = np.array([[0.5, -2.0, 1.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
LOSS = Influence(VALUES, None, "score", False, "by hand", {})
RANDOM = np.random.default_rng(0)
KINDS = {
    "image": (RANDOM.random((4, 8, 8, 1)), RANDOM.random((2, 8, 8, 1))),
    "row": (RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(2, 3))),
    "text": (["a film", "a long and winding text that wraps", "not $5", "_good"], ["one", "two"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_stands_beside_what_made_it(kind):
    inputs, queries = KINDS[kind]
    figure = plot.influential_examples(LOSS, inputs, queries, labels=[0, 1, 1, 0], query_labels=["a", "b"], k=2)
    titles = [axes.get_title() for axes in figure.axes]
    # Of a loss what lowers it helps; the second query has no helpful example, and its places stay empty.
    assert titles == ["query", "-2", "", "+1", "+0.5", "query", "", "", "+0.4", "+0.3"]
    assert figure.axes[1].get_xlabel() == "1"
    assert "lower" in figure.get_suptitle()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    assert (np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) == 255).all()
    assert figure.get_label()


def test_what_does_not_fit_is_refused():
    inputs, queries = KINDS["image"]
    for call, words in {
        lambda: plot.influential_examples(LOSS, inputs[:3], queries, k=1): "`inputs` holds 3, but `influence` holds 4",
        lambda: plot.influential_examples(LOSS, inputs, queries[:1], k=1): "`queries` holds 1",
        lambda: plot.influential_examples(LOSS, inputs, KINDS["text"][1], k=1): "of the kind 'image'",
        lambda: plot.influential_examples(LOSS, inputs, queries, k=9): "`k` is 9",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    more = plot.influential_examples(LOSS, inputs, queries, k=1, limit=1)
    assert "first 1 of 2 queries" in more.get_suptitle()


def test_a_section_of_a_report_says_what_the_method_says_of_itself(tmp_path):
    inputs, queries = KINDS["image"]
    found = LOSS._replace(checks={"metasmoothness": 0.97, "tried": {1.0: 0.5}})
    section = report.influence_section(found, inputs, queries, k=1)
    page = report.report(tmp_path / "page.html", [section]).read_text(encoding="utf-8")
    assert "metasmoothness" in page
    assert "0.97" in page
    assert "of the score, for one whole example" in page
