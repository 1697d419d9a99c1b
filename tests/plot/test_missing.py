"""What is missing of one example or feature is seen as that, and leaves the others as they are."""

import io

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba

from jaxplain import plot

GENERATOR = np.random.default_rng(0)


def opaque(figure):
    """The colours of the points of a figure's first axes, as drawn."""
    figure.savefig(io.BytesIO(), dpi=20)
    (points,) = (part for part in figure.axes[0].collections if isinstance(part, PathCollection))
    return points.get_facecolor()


def test_a_point_without_a_value_to_colour_it_is_grey():
    """It was clear, that is, not there."""
    x = GENERATOR.normal(size=(5, 2))
    x[1, 1] = np.nan
    colours = opaque(plot.dependence(x, np.ones((5, 2)), 0, colour_by=1))
    np.testing.assert_allclose(colours[1], to_rgba("0.7"))
    assert (colours[:, 3] == 1).all()
    x[:, 1] = np.nan
    np.testing.assert_allclose(opaque(plot.dependence(x, np.ones((5, 2)), 0, colour_by=1)), [to_rgba("0.7")] * 5)


def test_a_category_that_is_missing_is_grey():
    pandas = pytest.importorskip("pandas", reason="data frames")
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "kind": ["x", None, "y"]})
    colours = opaque(plot.dependence(frame, np.ones((3, 2)), "a", colour_by="kind"))
    np.testing.assert_allclose(colours[1], to_rgba("0.7"))


def test_an_error_that_is_missing_leaves_the_others():
    """Lines at two of three bars, and the label says that one is unknown."""
    axes = plot.importance([1.0, -2.0, 0.5], [0.1, np.nan, 0.2]).axes[0]
    (bars,) = (part for part in axes.containers if getattr(part, "errorbar", None))
    segments = [row for row in bars.errorbar.lines[2][0].get_segments() if len(row) == 2 and np.isfinite(row).all()]
    lengths = {round(float(row[0, 1])): float(np.diff(row[:, 0])[0]) for row in segments}
    assert lengths == pytest.approx({1: 0.4, 2: 0.8})
    assert axes.get_xlabel() == "importance (lines: 2 standard errors; unknown of 1)"
    assert plot.importance([1.0], [np.nan]).axes[0].get_xlabel() == "importance"


def test_an_infinite_value_leaves_the_colours_of_the_others():
    rows = np.array([[0.0], [1.0], [2.0], [np.inf], [-np.inf], [np.nan]])
    figure = plot.samples(rows, features=["a"])
    image = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)[:, 0]
    np.testing.assert_allclose(image[:3], [0, 0.5, 1])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2", "inf", "-inf", "nan"]
