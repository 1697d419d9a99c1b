"""A series as lines: the colour of each stretch is that of the sum of its attributions."""

import matplotlib
import numpy as np
import pytest

from jaxplain import plot
from shared.figures import whole

RANDOM = np.random.default_rng(0)
LONG = "acceleration of the left wrist along the forearm"
WAVE = np.sin(np.arange(12.0))
RED = matplotlib.colormaps["RdBu_r"]


def edges(axes):
    """Where the stretches begin and end."""
    return axes.collections[0].get_coordinates()[0, :, 0]


def colours(axes):
    mesh = axes.collections[0]
    return mesh.to_rgba(np.ravel(mesh.get_array()))


def test_stretches_lie_behind_their_steps_in_the_colour_of_their_sums():
    values = np.array([0, 0, 1, 1, 0, -1, 0, 0, 0, 0, 0, 2.0])
    for size, expected in ((1, values), (4, [2, -1, 2])):
        axes = plot.series(WAVE, values, stretch=size).axes[0]
        np.testing.assert_allclose(edges(axes), size * np.arange(12 // size + 1) - 0.5)
        np.testing.assert_allclose(colours(axes), [RED((value + 2) / 4) for value in expected])
        np.testing.assert_allclose(axes.lines[0].get_ydata(), WAVE)
    assert axes.get_xlabel() == "step"


def test_a_line_is_coloured_piece_by_piece():
    values = np.arange(12.0) - 5
    axes = plot.series(WAVE, values, mark="line", stretch=5, rate=10).axes[0]
    (lines,) = axes.collections
    np.testing.assert_allclose(lines.get_array(), [-15, 10, 11])
    pieces = lines.get_segments()
    np.testing.assert_allclose([piece[0, 0] for piece in pieces], [-0.05, 0.45, 0.95])
    np.testing.assert_allclose(pieces[2][1:-1], np.stack([[1.0, 1.1], WAVE[10:]], 1))
    np.testing.assert_allclose(pieces[0][-1], [0.45, (WAVE[4] + WAVE[5]) / 2])
    assert axes.get_xlabel() == "time (s)"


def test_channels_share_a_scale_and_those_that_matter_are_drawn():
    inputs, values = RANDOM.normal(size=(20, 5)), np.zeros((20, 5))
    values[3, 4], values[9, 1], values[9, 2] = 1.0, -4.0, 0.5
    figure = plot.series(inputs, values, names=list("abcde"), limit=2, units="logit")
    first, second, bar = figure.axes
    assert [first.get_ylabel(), second.get_ylabel(), bar.get_ylabel()] == ["b", "e", "attribution (logit)"]
    assert figure.get_suptitle() == "the 2 of 5 channels with the largest attributions"
    np.testing.assert_allclose(colours(first)[9], RED(0.0))
    np.testing.assert_allclose(colours(second)[3], RED((1.0 + 4) / 8))
    whole_steps = plot.series(inputs, values[:, 1])
    assert whole_steps.axes[-1].get_ylabel() == "attribution, of all channels"
    assert len(whole_steps.axes) == 6


def test_long_series_keep_every_attribution_in_a_sum():
    values = RANDOM.normal(size=2500)
    figure = plot.series(np.cumsum(values), values, mark="line")
    sums = figure.axes[0].collections[0].get_array()
    assert len(sums) == 834
    assert sums.sum() == pytest.approx(values.sum())
    assert figure.axes[1].get_ylabel() == "attribution,\nsums of 3 steps"


def test_any_series_is_drawn_whole():
    for figure in (
        plot.series([3], [1]),
        plot.series([0, 0, 0], [0, 0, 0], mark="line", names=["$π$"]),
        plot.series(RANDOM.normal(size=(300, 8)), -RANDOM.random((300, 8)), names=[LONG] * 8),
        plot.series(1e6 * RANDOM.normal(size=(9, 3)), RANDOM.normal(size=(9, 3)), mark="line", rate=1e3),
    ):
        whole(figure)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.series([np.nan], [1.0]), "series: `inputs` has 1 NaN"),
        (lambda: plot.series([1.0], [np.nan]), "series: `attributions` has 1 NaN"),
        (lambda: plot.series([1.0, 2.0], [1.0]), r"`inputs` has shape \(2,\), but `attributions` has \(1,\)"),
        (lambda: plot.series(np.ones((3, 2)), np.ones((3, 1))), r"has shape \(3, 2\), but `attributions`"),
        (lambda: plot.series([1.0, 2.0], [1.0, 2.0], stretch=3), "`stretch` is 3, but there are 2 steps"),
        (lambda: plot.series([1.0], [1.0], mark="dots"), "`mark` is 'dots'"),
        (lambda: plot.series([1.0], [1.0], rate=0), "`rate` has to be finite and positive"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
