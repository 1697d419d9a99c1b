"""Figures of landscapes: contours, the path and its axes' words, what is not finite, barriers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import plot, train
from tests.shared.figures import whole

X, Y = np.linspace(-2, 2, 9), np.linspace(-1, 1, 7)
BOWL = X[None] ** 2 + 10 * Y[:, None] ** 2
PATH = np.array([[2.0, 1.0], [0.5, -0.5], [0.0, 0.0]])


def test_a_surface_is_drawn_with_its_path():
    figure = plot.loss_surface(train.Surface(X, Y, BOWL + 0.01, PATH, np.array([0.9, 0.085])), title="$x of a_b")
    whole(figure)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "first principal direction (90 % of the variance)"
    assert axes.get_ylabel() == "second principal direction (8.5 % of the variance)"
    np.testing.assert_array_equal(np.stack(axes.lines[0].get_data(), 1), PATH)
    ring, star = axes.lines[1:]
    assert (ring.get_marker(), *ring.get_xydata()[0]) == ("o", 2.0, 1.0)
    assert (star.get_marker(), *star.get_xydata()[0]) == ("*", 0.0, 0.0)
    levels = axes.collections[0].levels
    np.testing.assert_allclose(np.diff(np.log(levels)), np.log(levels[1] / levels[0]), rtol=1e-6)
    assert "a path of 3 points" in figure.get_label()


def test_the_lowest_band_lies_where_the_loss_is_lowest():
    """A loss of 2 - x - 2 y is lowest at the right and the top."""
    lowest = plot.loss_surface(train.Surface(X, Y, 2 - X[None] - 2 * Y[:, None])).axes[0].collections[0].get_paths()[0]
    assert lowest.contains_point((1.99, 0.99))
    assert not any(lowest.contains_point(corner) for corner in ((-1.99, 0.99), (1.99, -0.99), (-1.99, -0.99)))


def test_surfaces_without_a_path_flat_or_not_finite():
    plain = plot.loss_surface(train.Surface(X, Y, BOWL - 3))
    assert (plain.axes[0].get_xlabel(), plain.axes[0].lines[:]) == ("first direction", [])
    np.testing.assert_allclose(np.diff(plain.axes[0].collections[0].levels), 14 / 17)
    holes = np.where(BOWL > 9, np.nan, BOWL)
    holes[0, 0] = np.inf
    with_holes = plot.loss_surface(train.Surface(X, Y, holes), path=PATH[:2])
    assert "points are not finite" in with_holes.get_label()
    assert len(with_holes.axes[0].lines) == 3
    for figure in (plain, with_holes, plot.loss_surface(train.Surface(X, Y, 0 * BOWL + 2))):
        whole(figure)


def test_ways_between_solutions_are_drawn_with_their_barriers():
    place = np.linspace(0, 1, 11)
    ways = {
        "straight": train.Interpolation(place, place * (1 - place), 0.25),
        "$curve_": train.Interpolation(place, 0 * place, 0.0),
    }
    figure = plot.loss_interpolation(ways, title="two runs")
    whole(figure)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["straight  (barrier 0.25)", r"\$curve_  (barrier 0)"]


def test_what_is_no_landscape_is_refused():
    surface = train.Surface(X, Y, BOWL)
    for call, words in {
        lambda: plot.loss_surface(BOWL): "pass what jaxplain.train.loss_surface returned",
        lambda: plot.loss_surface(surface._replace(loss=BOWL.T)): r"`surface.loss` has shape \(9, 7\)",
        lambda: plot.loss_surface(surface._replace(loss=np.nan * BOWL)): "no finite value",
        lambda: plot.loss_surface(surface, path=np.ones((3, 3))): "`path` has shape",
        lambda: plot.loss_surface(surface, levels=1): "`levels` has to be at least 2",
        lambda: plot.loss_interpolation({}): "`values` is empty",
        lambda: plot.loss_interpolation({"a": jnp.ones(3)}): r"`values\['a'\]` is",
        lambda: plot.loss_interpolation({"a": train.Interpolation(X, Y, 0.0)}): "9 positions and 7 losses",
        lambda: plot.loss_interpolation({"a": train.Interpolation(X, X, X)}): r"`values\['a'\].barrier` has shape",
    }.items():
        with pytest.raises((TypeError, ValueError), match=words):
            call()
