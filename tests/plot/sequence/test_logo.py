"""Logos: letters are as high as their attributions, and stand on each other."""

import numpy as np
import pytest

from jaxplain import plot
from shared.figures import whole

RANDOM = np.random.default_rng(0)


def boxes(figure, line=0):
    """The boxes of all letters, `[n, 4]` (left, bottom, right, top), by place."""
    found = [path.get_extents().extents for part in figure.axes[line].collections for path in part.get_paths()]
    return np.array(sorted(found, key=lambda box: (round(box[0]), box[1])))


def test_letters_are_as_high_as_their_attributions():
    figure = plot.logo([[0.5, 2.0, 0.0, -1.0], [0.0, 0.0, -0.25, 0.0]], start=7, units="logit")
    found = boxes(figure)
    np.testing.assert_allclose(found[:, [1, 3]], [[-1, 0], [0, 0.5], [0.5, 2.5], [-0.25, 0]], atol=1e-6)
    np.testing.assert_allclose(found[:, [0, 2]].mean(axis=1), [7, 7, 7, 8], atol=1e-6)
    assert (found[:, 2] - found[:, 0] <= 0.95).all()
    assert figure.get_supylabel() == "attribution\n(logit)"


def test_only_the_letters_that_are_there_are_drawn_with_a_sequence():
    values = np.arange(8.0).reshape(2, 4) + 1
    found = boxes(plot.logo(values, [[1, 0, 0, 0], [0, 0, 0, 1]], letters="ACGU"))
    np.testing.assert_allclose(found[:, [1, 3]], [[0, 1], [0, 8]], atol=1e-6)


def test_long_sequences_are_broken_into_lines_of_one_scale():
    values = RANDOM.normal(size=(230, 4))
    figure = whole(plot.logo(values, width=100, title="π"))
    assert len(figure.axes) == 3
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    low, high = figure.axes[0].get_ylim()
    assert np.maximum(values, 0).sum(1).max() < high
    assert np.minimum(values, 0).sum(1).min() > low
    assert [len(boxes(figure, line)) for line in range(3)] == [400, 400, 120]


def test_any_sequence_is_drawn_whole():
    for figure in (
        plot.logo([[1]], letters="Ω"),
        plot.logo(np.zeros((3, 4), int)),
        plot.logo(-np.abs(RANDOM.normal(size=(9, 20))), letters="ACDEFGHIKLMNPQRSTVWY", units="nats"),
    ):
        whole(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.logo([[1.0, np.nan]], letters="AB"), "NaN"),
        (lambda: plot.logo(np.ones((3, 5))), "`letters` holds 4, but `attributions` has 5 columns"),
        (lambda: plot.logo(np.ones((3, 4)), np.ones((2, 4))), r"`inputs` has shape \(2, 4\)"),
        (lambda: plot.logo(np.ones((3, 2)), letters=[1, 2]), "`letters` has to be a text"),
        (lambda: plot.logo(np.ones((3, 2)), letters="A "), "`letters` has to be a text"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
