"""Features drawn and reported: strongest examples, maximal inputs, logit weights, density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxplain import concept, plot, report

ROWS = np.array([[3.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [2.0, 0.0, 0.0]], np.float32)
IMAGES = np.random.default_rng(0).random((4, 5, 5))


class Axes(concept.Dictionary):
    """Rectified coordinates."""

    atoms: jax.Array

    def encode(self, h):
        return jax.nn.relu(h @ self.atoms.T)


D = Axes(jnp.eye(3), site=concept.Site("block", "0" * 32))


def test_a_row_for_each_feature_most_often_active_first():
    logits = np.arange(6.0).reshape(3, 2) - 2
    figure = plot.feature_dashboard(
        D, ROWS, IMAGES, k=2, limit=2, visualizations={0: IMAGES[0]}, logits=logits, names=["a", "b"]
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["3", "2"]
    assert titles[5:7] == ["2", "1"]
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["feature 0", "feature 2"]
    assert [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()] == ["active in 75 %", "active in 50 %"]
    FigureCanvasAgg(figure).draw()
    silent = plot.feature_dashboard(D, ROWS, ["one", "two", "three", "four"], features=[1], k=1)
    assert silent.axes[0].get_title() == ""  # no example has it
    assert figure.get_label() == "2 features of a dictionary of 3"


def test_a_section_says_what_the_dictionary_is_worth(tmp_path):
    section = report.dictionary_section(D, ROWS, IMAGES, k=1, facts={"loss recovered": 0.875})
    page = report.report(tmp_path / "page.html", [section]).read_text(encoding="utf-8")
    for words in ("loss recovered", "0.875", "variance explained", "block", "dead features"):
        assert words in page


def test_what_does_not_fit_is_told():
    for call, words in {
        lambda: plot.feature_dashboard(D, ROWS, IMAGES[:3]): "`inputs` has 3 examples, but `activations` has 4",
        lambda: plot.feature_dashboard(D, ROWS, IMAGES, features=[3]): r"`features` names \[3\]",
        lambda: plot.feature_dashboard(D, ROWS, IMAGES, logits=np.ones((2, 2))): "`logits` has 2 rows",
        lambda: plot.feature_dashboard(D, ROWS[:, :2], IMAGES): r"describes activations \[..., 3\]",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
