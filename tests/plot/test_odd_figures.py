"""Figures of training stay whole and readable with few and many of everything, long names, one of a kind, no numbers.

Each would cut off, overlap or lose a text, or did not draw at all, where sizes are not made for what comes.
"""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxplain import plot, train
from tests.shared.figures import whole

GENERATOR = np.random.default_rng(0)
LONG = "encoder/layers/3/attention/self/query_projection/kernel"
WORDS = "mean of the worst three measurements of the concavity of the contour"
normal, random = GENERATOR.normal, GENERATOR.random


def dynamics(steps, count):
    right = random((steps, count)) < np.linspace(0.1, 0.9, steps)[:, None]
    return train.LearningDynamics(20 * 2 ** np.arange(steps) - 20, random(right.shape), 1 * right, right)


def depths(count, name="block_"):
    layers = tuple(f"{name}{i}" for i in range(count))
    return train.PredictionDepth(
        GENERATOR.integers(0, count + 1, 90), np.ones(90, int), random((count, 90)) > 0.4, layers
    )


def flow(layers, epochs, name="layer_"):
    rows = 10.0 ** -normal(4, 1, (epochs, layers))
    names = [f"{name}{i}" for i in range(layers)]
    return SimpleNamespace(names=names, gradient_rms=rows, update_ratio=rows, dead_share=random((epochs, layers)))


def sweep(settings, seeds=1, epochs=4):
    loss = random((len(next(iter(settings.values()))), seeds, epochs))
    return train.Sweep(settings, train.History(loss, loss, loss))


def surface(loss, path=None):
    return train.Surface(
        np.linspace(-2, 2, 7), np.linspace(-1, 1, 5), loss, path, None if path is None else [0.9, 0.05]
    )


def ways(count, name="from one run to the other, permuted, "):
    place = np.linspace(0, 1, 5)
    return {f"{name}{i}": train.Interpolation(place, 1 + i * place * (1 - place), i / 4) for i in range(count)}


QUICK = {
    "long labels": lambda: plot.attribution_strip(
        random((2, 4, 4)), normal(size=(2, 2, 4, 4)), [0, 9], [WORDS] * 2, scale="shared"
    ),
    "a table's long names": lambda: plot.attribution_strip(
        normal(size=(1, 3)), normal(size=(1, 2, 3)), [0, 9], features=[WORDS, "b", LONG]
    ),
    "many drifts": lambda: plot.drift_curves({f"{LONG} {i}": normal(0.5, 0.1, (2, 4)) for i in range(9)}, range(4)),
    "layers of long names": lambda: plot.prediction_depths(depths(5, LONG), random(90) > 0.3),
    "a lens of long names": lambda: plot.lens_over_training({LONG: normal(size=(2, 3))}, [0, 9]),
    "a flat surface": lambda: plot.loss_surface(surface(np.full((5, 7), 2e17)), title=f"{WORDS}: {LONG}"),
    "flat but for rounding": lambda: plot.loss_surface(surface(1 + 2.3e-16 * (random((5, 7)) > 0.5))),
}
SLOW = {
    "long labels of maps": lambda: plot.heatmaps(random((2, 4, 4)), normal(size=(2, 4, 4)), [WORDS] * 2),
    "one example at one step": lambda: plot.example_dynamics(dynamics(1, 1)),
    "steps of many digits": lambda: plot.example_dynamics(dynamics(12, 40)),
    "one layer": lambda: plot.prediction_depths(dataclasses.replace(depths(1), layers=("a",))),
    "one layer, one epoch": lambda: plot.gradient_flow(flow(1, 1)),
    "matrices of long names": lambda: plot.weight_matrices({f"{LONG}/{i}": normal(size=(2, 2)) for i in range(3)}),
    "many ways": lambda: plot.loss_interpolation(ways(8), title=WORDS),
    "one step": lambda: plot.attribution_strip(random((1, 4, 4)), normal(size=(1, 1, 4, 4)), [0]),
    "many steps": lambda: plot.attribution_strip(
        random((12, 4, 4)), normal(size=(12, 40, 4, 4)), 10**5 * np.arange(40)
    ),
    "one number": lambda: plot.attribution_strip([[1.0]], [[[1.0]]], [0]),
    "few of many": lambda: plot.attribution_strip(
        random((9, 4, 4)), normal(size=(9, 9, 4, 4)), range(9), columns=2, limit=1
    ),
    "many features": lambda: plot.attribution_strip(normal(size=(2, 784)), normal(size=(2, 3, 784)), [0, 1, 2]),
    "many layers": lambda: plot.prediction_depths(depths(50), random(90) > 0.3),
    "a large lens": lambda: plot.lens_over_training({f"block_{i}": normal(size=(40, 3)) for i in range(24)}, range(40)),
    "much flow": lambda: plot.gradient_flow(flow(60, 40, LONG)),
    "no flow": lambda: plot.gradient_flow(
        SimpleNamespace(**{**vars(flow(2, 3)), "gradient_rms": np.full((3, 2), np.nan)})
    ),
    "spectra": lambda: plot.singular_values(train.weight_spectra({LONG: normal(size=(4, 4)), "z": np.zeros((3, 5))})),
    "many settings": lambda: plot.validation_curve(sweep({"rate": np.logspace(-4, 0, 40)}, 2, 40), title=3 * WORDS),
    "one setting": lambda: plot.validation_curve(sweep({"rate": np.ones(1)}, 1, 1)),
    "a large grid": lambda: plot.validation_curve(
        sweep(dict(zip("ab", (a.ravel() for a in np.meshgrid(np.arange(12.0), np.arange(12.0))), strict=True)))
    ),
    "a random search": lambda: plot.validation_curve(sweep({"rate": 10 ** normal(-2, 1, 30), "momentum": random(30)})),
}


def test_figures_are_whole_whatever_comes():
    for name, draw in QUICK.items():
        try:
            whole(draw())
        except Exception as error:
            raise AssertionError(name) from error


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_large_and_small_figures_are_whole(name):
    figure = whole(SLOW[name]())
    assert max(figure.get_size_inches()) < 40


def test_curves_of_many_are_told_apart():
    axes = plot.loss_interpolation(ways(12)).axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines if line.get_linewidth() == 1.6}
    assert len(looks) == 12


def test_the_colours_of_many_settings_are_named():
    """16 of 40, the least and the largest among them, each once."""
    rates = np.arange(1.0, 41.0)
    legend = plot.validation_curve(sweep({"rate": np.repeat(rates, 2)})).axes[1].get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    assert (texts[0], texts[-1], len(texts), len(set(texts))) == ("1", "40", 16, 16)


def test_settings_that_were_run_twice_count_as_seeds():
    """Medians of (1, 3) and of (2, 5): the last run alone would say 3 and 5."""
    loss = np.array([1.0, 2.0, 3.0, 5.0])[:, None, None]
    found = train.Sweep({"a": np.array([0, 1, 0, 1.0]), "b": np.zeros(4)}, train.History(loss, loss, loss))
    assert [text.get_text() for text in plot.validation_curve(found).axes[0].texts] == ["2", "3.5"]


def test_a_random_search_is_drawn_as_points():
    """Of 5 x 5 places five were run: no map of grey ones; the lowest is ringed, what diverged is a cross."""
    loss = np.array([3.0, 1.0, 2.0, np.nan, 4.0])[:, None, None]
    points = {"a": np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "b": np.array([0.1, 0.9, 0.5, 0.2, 0.7])}
    axes = plot.validation_curve(train.Sweep(points, train.History(loss, loss, loss))).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), np.stack([points["b"], points["a"]], 1)[[0, 1, 2, 4]])
    np.testing.assert_allclose(axes.collections[0].get_array(), [3, 1, 2, 4])
    cross, ring = (line.get_xydata() for line in axes.lines)
    np.testing.assert_allclose(np.concatenate([cross, ring]), [[0.2, 4.0], [0.9, 2.0]])
    assert axes.get_title() == "training loss; best: a 2, b 0.9"


def test_ends_of_a_path_at_the_border_are_seen():
    axes = plot.loss_surface(surface(random((5, 7)), np.array([[2.0, 1.0], [-2.0, -1.0]]))).axes[0]
    assert [line.get_clip_on() for line in axes.lines[1:]] == [False, False]


def test_an_animation_keeps_its_colours():
    """The pictures of a GIF have 256 colours; none is further than 16 of 255 from what it stands for."""
    moving = plot.attribution_animation(random((1, 8, 8, 3)), normal(size=(1, 2, 8, 8)) * [[[[0.1]], [[1.0]]]], [0, 1])
    read = Image.open(io.BytesIO(moving.gif()))
    for place, frame in enumerate(moving.frames):
        read.seek(place)
        assert np.abs(np.asarray(read.convert("RGB")).astype(int) - frame).max() <= 16
    assert f'width="{moving.frames.shape[2]}" height="{moving.frames.shape[1]}"' in moving._repr_html_()
    for seconds in (1e-4, 300):
        with pytest.raises(ValueError, match=r"`seconds` is .*; a frame can be shown for 0.02 to 200"):
            plot.attribution_animation(random((1, 8, 8)), normal(size=(1, 2, 8, 8)), [0, 1], seconds=seconds)
