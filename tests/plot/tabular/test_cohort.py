"""Groups beside each other: each bar is the mean size of a feature's attributions in its group."""

import numpy as np
import pytest

from jaxplain import plot
from shared.figures import whole

RANDOM = np.random.default_rng(0)
LONG = "mean of the worst three measurements of the concavity of the contour"
ROWS = np.array([[0.5, -2.0, 0.1], [1.5, 0.0, -0.2], [-1.0, 4.0, 0.3]])


def names(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_bars_are_means_of_sizes_with_two_standard_errors():
    for figure in (
        plot.cohorts(ROWS, ["x", "y", "y"], names=["a", "b", "c"], units="logit"),
        plot.cohorts({"x": ROWS[:1], "y": ROWS[1:]}, names=["a", "b", "c"], units="logit"),
    ):
        axes = figure.axes[0]
        assert names(figure) == ["b", "a", "c"]
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [2, 0.5, 0.1, 2, 1.25, 0.25])
        assert legend(figure) == ["x (1 example)", "y (2 examples)"]
        assert axes.get_xlabel() == "mean |attribution| (logit); lines: 2 standard errors"
        # of |0| and |4|: s = 2 sqrt(2), s / sqrt(2) = 2, twice that on each side of 2
        ends = next(line.get_segments()[0][:, 0] for line in axes.collections)
        np.testing.assert_allclose(ends, [-2, 6])


def test_the_rest_is_said_for_each_group():
    figure = plot.cohorts(ROWS, [True, False, True], limit=1)
    assert names(figure) == ["feature 1", "2 other features"]
    assert legend(figure) == ["False (1 example)", "True (2 examples)"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1.7 in sum", "3", "0.95 in sum"]
    assert names(plot.cohorts(ROWS, [0, 0, 0], order=[2, 0])) == ["feature 2", "feature 0", "1 other feature"]


@pytest.mark.slow
def test_any_number_of_groups_is_told_apart_and_drawn_whole():
    many = RANDOM.normal(size=(500, 784))
    for figure in (
        plot.cohorts([[0]], ["$π$"], names=["_Größe"]),
        plot.cohorts(-np.abs(many), np.arange(500) % 14, names=[f"{LONG} {k}" for k in range(784)], limit=3),
        plot.cohorts(many[:, :2], [LONG if k % 2 else "short" for k in range(500)], limit=1),
    ):
        whole(figure)
    looks = {(bar.get_facecolor(), bar.get_hatch()) for bar in plot.cohorts(many, np.arange(500) % 14).axes[0].patches}
    assert len(looks) == 14


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.cohorts(ROWS), "`groups` is missing"),
        (lambda: plot.cohorts(ROWS * np.nan, [1, 2, 3]), "cohorts: `attributions` has 9 NaN"),
        (lambda: plot.cohorts(ROWS, ["a", "b"]), r"`groups` has shape \(2,\), but there are 3"),
        (lambda: plot.cohorts(ROWS, ["a", None, "b"]), "missing for 1 examples .the first is number 1"),
        (lambda: plot.cohorts(ROWS, [1.0, np.nan, 2.0]), "missing for 1 examples"),
        (lambda: plot.cohorts(np.ones((20, 2)), np.arange(20)), "there are 20 groups; 1 to 14"),
        (lambda: plot.cohorts({"a": ROWS, "b": ROWS[:, :2]}), "differ in their features"),
        (lambda: plot.cohorts({"a": ROWS}, [1, 2, 3]), "`groups` belongs to one array"),
        (lambda: plot.cohorts({1: ROWS, "1": ROWS}), "have one name"),
        (lambda: plot.cohorts({}), "there are 0 groups"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
