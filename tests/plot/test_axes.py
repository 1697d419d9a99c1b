"""Axes of numbers that hardly move are read off as they stand: no offset beside them, nothing over anything else."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axis import Axis

from jaxplain import plot, train
from tests.shared.figures import whole

GENERATOR = np.random.default_rng(0)
PLACES = np.linspace(0, 1, 6)


def near(move, *shape):
    """Numbers about a million, apart by a share of it."""
    return 1e6 * (1 + move * GENERATOR.random(shape))


def runs(loss):
    return train.Sweep({"rate": np.arange(1.0, 4.0)}, train.History(loss, loss, loss))


def effect(move):
    return SimpleNamespace(grid=near(move, 6).cumsum()[-1] * (1 + move * PLACES), score=near(move, 3, 6))


def surface(move):
    loss = near(move, 5, 7)
    return train.Surface(np.linspace(-2, 2, 7), np.linspace(-1, 1, 5), loss, None, None)


FIGURES = {
    "waterfall": lambda move: plot.waterfall(1e6 * move * np.array([1.0, -2.0, 0.5]), 1e6),
    "force": lambda move: plot.force(1e6 * move * np.array([1.0, -2.0, 0.5]), 1e6),
    "decision": lambda move: plot.decision(1e6 * move * GENERATOR.normal(size=(4, 3)), 1e6),
    "decision of probabilities": lambda move: plot.decision(move * GENERATOR.normal(size=(4, 3)), 3.0, link="logit"),
    "dependence": lambda move: plot.dependence(near(move, 9, 2), near(move, 9, 2), 0, colour_by=1),
    "summary": lambda move: plot.summary(near(move, 9, 2), near(move, 9, 2)),
    "effects": lambda move: plot.effects({"a": effect(move), "b": effect(move)}),
    "curves": lambda move: plot.curves({"a": near(move, 5, 6), "random": near(move, 5, 6)}),
    "learning curves": lambda move: plot.learning_curves({"loss": near(move, 6), "validation_loss": near(move, 6)}),
    "settings": lambda move: plot.validation_curve(runs(near(move, 3, 2, 4))),
    "interpolation": lambda move: plot.loss_interpolation({"a": train.Interpolation(PLACES, near(move, 6), 1.0)}),
    "surface": lambda move: plot.loss_surface(surface(move)),
    "traces": lambda move: plot.traces({"v": near(move, 6, 2)}, {"v": near(move, 6)}),
    "signals": lambda move: plot.samples(near(move, 3, 6)),
    "series": lambda move: plot.series(near(move, 6, 2), GENERATOR.normal(size=(6, 2))),
    "parameters": lambda move: plot.parameter_histograms({"a": near(move, 50), "b": near(move, 50)}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_numbers_that_hardly_move_have_no_offset(name):
    for move in (1e-3, 1e-5, 1e-9, 0.0):
        figure = whole(FIGURES[name](move))
        offsets = [axis.get_offset_text().get_text() for axis in figure.findobj(Axis)]
        assert not [text for text in offsets if "+" in text or text.count("1e") > 1], (move, offsets)
        for axis in figure.findobj(Axis):
            low, high = sorted(axis.get_view_interval())
            seen = [t.label1.get_text() for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            seen = [text for text in seen if text]
            assert len(set(seen)) == len(seen), (move, seen)


@pytest.mark.parametrize(
    "name", ["effects", "curves", "learning curves", "interpolation", "traces", "signals", "series"]
)
def test_rounding_is_drawn_flat(name):
    """What moves by less than float32 can tell does not fill the axis."""
    axes = FIGURES[name](1e-9).axes[0]
    low, high = axes.get_ylim()
    assert high - low > 0.05 * 1e6
