"""Every figure has one sentence that says how it is read, and every mark on a table of scores is explained."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxplain import plot, report
from jaxplain.concept import Dictionary
from jaxplain.evaluate.comparison.table import ScoreTable
from jaxplain.plot.canvas import NEGATIVE, POSITIVE
from jaxplain.plot.caption import READINGS, drawn
from shared.bad_calls import publics


def drawing():
    """The public functions that draw."""
    functions = {name: getattr(plot, name) for name in plot.__all__}
    return {name: f for name, f in functions.items() if inspect.isfunction(f) and name != "reading"}


def test_every_public_figure_has_one_sentence():
    assert set(READINGS) == set(drawing())
    signed = drawn(report.report).__code__
    for name, function in drawing().items():
        assert function.__code__ is signed, f"plot.{name} is not decorated by `drawn`"
        sentence = READINGS[name]
        assert re.fullmatch(r"[A-Z][^\n]{40,420}[^.]\.", sentence), name
        assert not re.search(r"\. |\.\.|  ", sentence), name


def test_a_figure_knows_its_sentence():
    for figure in (plot.samples(np.zeros((1, 4, 4))), plot.tokens(["a"], [1.0]), plot.tokens_html(["a"], [1.0])):
        assert plot.reading(figure) == READINGS[figure.drawn_by]
    for other in (None, 3, "a figure", np.zeros(2), plot.samples):
        with pytest.raises(TypeError, match="`figure` has to be what a function of"):
            plot.reading(other)


@pytest.mark.slow
def test_every_public_figure_says_its_sentence():
    made = {public.name: public for public in publics() if public.space == "plot" and public.name in READINGS}
    assert set(made) == set(READINGS)
    for name, public in made.items():
        assert plot.reading(public.call()) == READINGS[name]


def scores(low, high):
    """A table of two methods whose differences to the control have these ends."""
    values = np.array([[[1.0, 2.0, 3.0]], [[2.0, 2.0, 2.0]], [[0.0, 1.0, 2.0]]])
    ends = [np.array([[end[0]], [end[1]], [np.nan]]) for end in (low, high)]
    return ScoreTable(
        ("a", "b", "random"),
        ("deletion",),
        ("lower",),
        values,
        values.mean(-1),
        np.zeros((3, 1), int),
        ends[0],
        *ends,
        0.95,
    )


def test_marks_of_scores_are_drawn_and_explained():
    both = [text.get_text() for text in plot.scores_table(scores((-2.0, 0.5), (-1.0, 1.0))).axes[0].texts]
    assert both[2:7] == ["a", "2.00 ± 1.13 *", "b", "2.00 ± 0.00 !", "random"]  # 1.96 * 1 / sqrt(3)
    assert both[8:] == [
        "* better, ! worse than random (95% interval of the paired difference excludes 0)",
        "± half the width of the mean's 95% confidence interval, 1.96 s / sqrt(n)",
    ]
    worse = [text.get_text() for text in plot.scores_table(scores((0.5, -1.0), (1.0, 1.0))).axes[0].texts]
    assert worse[3] == "2.00 ± 1.13 !"
    assert worse[8] == "! worse than random (95% interval of the paired difference excludes 0)"
    none = plot.scores_table({"a": {"d": 1.0}}).axes[0].texts
    assert not any("±" in text.get_text() or "!" in text.get_text() for text in none)


def test_figures_of_cells_say_their_cells():
    labels, said = np.array([0, 0, 1]), np.array([0, 1, 1])
    (grid,) = plot.confusion_matrix(labels, said, names=["cat", "$dog"]).grids
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["cat", "1, 50 %", "1, 50 %"],
        [r"\$dog", "", "1, 100 %"],
    ]
    assert [cell.text for cell in grid.heads] == ["true class", "cat", r"\$dog"]
    (grid,) = plot.samples(np.array([[1.0, 2.0], [3.0, 4.0]]), features=["a", "b"]).grids
    assert [[cell.text for cell in row] for row in grid.rows] == [["0", "1", "2"], ["1", "3", "4"]]
    (grid,) = plot.lens_table({"one": [[0.0, 1.0]], "two": [[9.0, 0.0]]}, ["unbelievable", "b"]).grids
    assert [[cell.text for cell in row] for row in grid.rows] == [["two", "unbelievable"], ["one", "b"]]
    (grid,) = plot.lens_over_training({"one": np.zeros((2, 4))}, [0, 5]).grids
    assert [[cell.text for cell in row] for row in grid.rows] == [["one", "0.25", "0.25"]]
    assert plot.confusion_matrix(np.arange(26), np.arange(26)).grids == ()


def test_what_a_sentence_says_of_colours_is_drawn():
    """Red raises and blue lowers, in every figure of what does."""

    class Axes(Dictionary):
        atoms: Any

        def encode(self, h):
            return h @ self.atoms.T

    board = plot.feature_dashboard(Axes(np.eye(2)), np.eye(2), ["a $b$", "c"], logits=[[1.0, -2.0]] * 2, k=1)
    found = [patch.get_facecolor() for axes in board.axes for patch in axes.patches if patch.get_height() == 0.8]
    assert found == [to_rgba(POSITIVE), to_rgba(NEGATIVE)] * 2
    assert "raises (red) or lowers (blue)" in plot.reading(board)
    assert [text.get_text() for text in board.axes[0].texts] == [r"a \$b\$"]
