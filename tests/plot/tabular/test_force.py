"""One bar: its segments end at the prediction from both sides, and their lengths are the attributions."""

import numpy as np
import pytest

from jaxplain import plot
from shared.figures import whole

RANDOM = np.random.default_rng(0)
LONG = "mean of the worst three measurements of the concavity of the contour"


def segments(figure):
    return np.array([(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[0].patches])


def names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def said(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_segments_meet_at_the_score_and_are_as_long_as_attributions():
    figure = plot.force([0.5, -2.0, 1.25], 1.0, names=["age", "dose", "time"], values=[40, 2.5, 1], units="logit")
    # f(x) = 1 + 0.5 - 2 + 1.25 = 0.75: the red ones before it, the largest next to it, the blue one after it.
    np.testing.assert_allclose(segments(figure), [[-0.5, 0.75], [-1.0, -0.5], [0.75, 2.75]])
    left, right = figure.axes[:2]
    assert names(left) == ["time = 1: +1.25", "age = 40: +0.5"]
    assert names(right) == ["dose = 2.5: -2"]
    assert left.get_ylim() == right.get_ylim()
    assert left.get_xlabel() == "score (logit)"
    assert left.texts[0].get_text() == "f(x) = 0.75"
    assert said(figure) == ["raises the score, +1.75 in sum", "lowers the score, -2 in sum", "baseline, f(b) = 1"]
    dashed, end = left.lines[-2:]
    assert (dashed.get_xdata()[0], end.get_xdata()[0]) == (1.0, 0.75)


def test_what_is_not_drawn_and_what_is_missing_are_segments():
    figure = plot.force([3.0, -1.0, 0.5, -0.25], 1.0, 4.0, limit=2)
    # others: 0.5 - 0.25; gap: 4 - (1 + 2.25) = 0.75, in grey
    np.testing.assert_allclose(segments(figure), [[1.0, 4.0], [0.75, 1.0], [0.0, 0.75], [4.0, 5.0]])
    assert names(figure.axes[0]) == ["feature 0: +3", "2 other features: +0.25", "completeness gap: +0.75"]
    assert said(figure)[-1] == "completeness gap, which counts for its side's sum"
    widths = np.diff(segments(figure))[:, 0]
    assert widths[:3].sum() - widths[3] == pytest.approx(4.0 - 1.0)


def test_a_fixed_order_is_kept():
    figure = plot.force([3.0, 1.0, 0.5], 0.0, names=["a", "b", "c"], order=["c", "a"])
    assert names(figure.axes[0]) == ["c: +0.5", "a: +3", "1 other feature: +1"]


@pytest.mark.slow
def test_any_number_of_features_is_drawn_whole():
    many = RANDOM.normal(size=784)
    for figure in (
        plot.force([0.3], 1, names=["π ≥ 3 — Größe"]),
        plot.force([0, 0], 2),
        plot.force([-1, -2, -3], 7, names=[LONG] * 3, values=[1, 2, 3]),
        plot.force(many, 0.0, many.sum() + 9, names=[f"{LONG} {k}" for k in range(784)]),
    ):
        whole(figure)
    np.testing.assert_allclose(np.diff(segments(figure)).sum(), np.abs(_parts(many)).sum() + 9)
    assert plot.force([0, 0], 2).axes[0].get_title() == "2 of the parts add nothing"


def _parts(many):
    order = np.argsort(-np.abs(many))[:10]
    return [*many[order], np.delete(many, order).sum()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.force([1.0, np.nan], 0.0), "force: `attributions` has 1 NaN"),
        (lambda: plot.force([1.0], np.inf), "`baseline_score` has 1 NaN or infinite"),
        (lambda: plot.force([1.0, 2.0], 0.0, order=[2]), "`order` holds 2, but there are 2 features"),
        (lambda: plot.force([1.0, 2.0], 0.0, order=["a"], names=["b", "c"]), "'a', which is none of `names`"),
        (lambda: plot.force([1.0, 2.0], 0.0, order=[1, 1]), "`order` holds feature 1 twice"),
        (lambda: plot.force([1.0, 2.0], 0.0, order=[]), "`order` is empty"),
        (lambda: plot.force([1.0, 2.0], 0.0, order="ab"), "`order` has to be a sequence"),
        (lambda: plot.force([1.0, 2.0], 0.0, units=3), "`units` has to be a text"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize("score", [0.0, 0.5, -3e6, 1e-9])
@pytest.mark.parametrize("draw", [plot.force, plot.waterfall])
def test_an_axis_of_scores_that_do_not_move_has_no_offset(draw, score):
    figure = draw([0.0, 0.0], score)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert "+" not in axes.xaxis.get_offset_text().get_text().lstrip("+")
    low, high = axes.get_xlim()
    assert low < score < high
    assert high - low >= 0.01 * abs(score)
