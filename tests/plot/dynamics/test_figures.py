"""Figures over training say what they were given: values, steps, order, words."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jaxplain import plot, report, train
from tests.shared.figures import whole

GENERATOR = np.random.default_rng(0)
MAPS = GENERATOR.normal(size=(2, 5, 6, 6))
IMAGES = GENERATOR.random((2, 6, 6))
STEPS = [0, 1, 10, 100, 1000]
RIGHT = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]], bool)


def dynamics():
    return train.LearningDynamics(np.array([0, 10, 20]), 1.0 - RIGHT, 1 * RIGHT, RIGHT)


def depths():
    probes = np.array([[1, 0, 0], [1, 1, 0]])
    return train.PredictionDepth(np.array([0, 1, 2]), np.array([1, 1, 1]), probes, ("input", "$output"))


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def test_a_strip_of_images():
    figure = whole(plot.attribution_strip(IMAGES, MAPS, STEPS, [3, 4], columns=3))
    titled = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in titled] == ["input", "step 0", "step 10", "step 1000"]
    assert figure._suptitle.get_text() == "3 of 5 checkpoints"
    maps = [axes for axes in figure.axes if axes.images and axes not in (figure.axes[0], figure.axes[4])][:6]
    for axes, values in zip(maps, MAPS[:, [0, 2, 4]].reshape(6, 6, 6), strict=True):
        np.testing.assert_array_equal(shown(axes), values)
    ends = [axes.images[0].norm.vmax for axes in maps]
    np.testing.assert_allclose(ends, np.repeat(np.abs(MAPS[:, [0, 2, 4]]).max(axis=(1, 2, 3)), 3))
    panel = plot.attribution_strip(IMAGES, MAPS, STEPS, scale="panel", limit=1)
    assert panel.axes[2].images[0].norm.vmax == np.abs(MAPS[0, 1]).max()
    shared = plot.attribution_strip(IMAGES, MAPS[..., None], STEPS, scale="shared")
    assert shared.axes[3].images[0].norm.vmax == np.abs(MAPS).max()


def test_a_strip_of_a_table():
    figure = plot.attribution_strip(IMAGES[:, 0], MAPS[:, :, 0], STEPS, features=["$a", "b", "c", "d", "e", "f"])
    np.testing.assert_array_equal(shown(figure.axes[0]), MAPS[0, :, 0].T)
    ends = [axes.images[0].norm.vmax for axes in figure.axes[:2]]
    np.testing.assert_allclose(ends, np.abs(MAPS[:, :, 0]).max(axis=(1, 2)))
    shared = plot.attribution_strip(IMAGES[:, 0], MAPS[:, :, 0], STEPS, scale="shared")
    assert {axes.images[0].norm.vmax for axes in shared.axes[:2]} == {np.abs(MAPS[:, :, 0]).max()}
    whole(figure)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(map(str, STEPS))
    assert figure.axes[0].get_yticklabels()[0].get_text().startswith(r"\$a = ")


def test_an_animation():
    moving = plot.attribution_animation(IMAGES, MAPS[:, :2], [0, 3], ["<a>", "b"], seconds=0.1)
    assert moving.frames.shape == (2, 340, 400, 3)
    assert (moving.frames[0] != moving.frames[1]).any()
    read = Image.open(io.BytesIO(moving.gif()))
    assert (read.n_frames, read.info["duration"], read.info["loop"]) == (2, 100, 0)
    assert moving._repr_html_().startswith('<img alt="Attributions of 2 images over 2 steps')
    below_above = np.array([-1.0, 1.0]).reshape(1, 2, 1, 1) * np.ones((1, 2, 6, 6))
    frames = plot.attribution_animation(IMAGES[:1], below_above, [0, 3]).frames
    red, blue = ((np.abs(frames - np.array(c)) <= 1).all(axis=-1).sum(axis=(1, 2)) for c in ((103, 0, 31), (5, 48, 97)))
    assert red[0] < 500 < 5000 < red[1]
    assert blue[1] < 500 < 5000 < blue[0]
    assert repr(moving) == "Animation(2 frames of 400 x 340 pixels, 0.1 s each)"


@pytest.mark.slow
def test_an_animation_is_saved_and_stands_in_a_report(tmp_path):
    moving = plot.attribution_animation(IMAGES[:1], MAPS[:1, :2], [0, 3], scale="shared")
    again = plot.attribution_animation(IMAGES[:1], MAPS[:1, :2], [0, 3], scale="shared")
    assert moving.gif() == again.gif()
    assert moving.save(tmp_path / "run.gif").read_bytes() == moving.gif()
    page = report.report(tmp_path / "page.html", [("Moving", moving)]).read_text()
    assert "data:image/gif;base64," in page


def test_examples():
    figure = whole(plot.example_dynamics(dynamics()))
    curves, each, counts = figure.axes
    right, kept = (line.get_ydata() for line in curves.lines)
    np.testing.assert_allclose(right, [0.5, 0.25, 0.75])
    np.testing.assert_allclose(kept, [0.25, 0.25, 0.75])
    np.testing.assert_array_equal(shown(each), RIGHT[:, [0, 1, 2, 3]].T)
    assert [bar.get_height() for bar in counts.patches] == [3, 1]
    assert "4 examples at 3 checkpoints: 3 right at the end (half of them by step 20), 1 wrong" in figure.get_label()


def test_depths():
    figure = whole(plot.prediction_depths(depths(), [1, 1, 0]))
    bars, lines = figure.axes
    assert [bar.get_height() for bar in bars.patches] == [1, 1, 0, 0, 0, 1]
    np.testing.assert_allclose(lines.lines[0].get_ydata(), [1 / 3, 2 / 3])
    assert [text.get_text() for text in bars.get_xticklabels()] == ["input", r"\$output", "none"]
    assert [bar.get_height() for bar in plot.prediction_depths(depths()).axes[0].patches] == [1, 1, 1]


def test_drift():
    drift = np.array([[np.nan, 0.2, 1.0], [np.nan, 0.4, 1.0], [np.nan, 0.9, 1.0]])
    axes = whole(plot.drift_curves({"a": drift, "b": [0.5, 0.7, 1.0]}, [0, 5, 9])).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [np.nan, 0.5, 1.0])
    half = 1.96 * drift[:, 1].std(ddof=1) / np.sqrt(3)
    band = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[band[:, 0] == 5][:, 1].max(), 0.5 + half)
    wide = plot.drift_curves([0.0, 0.1, 0.5, 0.9, 1.0], STEPS).axes[0]
    assert wide.get_xscale() == "symlog"


def test_a_lens():
    outputs = {"block_0": np.zeros((2, 4)), "block_1": np.array([[0, 0, 0, 0], [0, 0, np.log(3), 0]])}
    axes = whole(plot.lens_over_training(outputs, [0, 10])).axes[0]
    np.testing.assert_allclose(shown(axes), [[0.25, 0.5], [0.25, 0.25]])
    assert axes.get_title() == "probability of class 2"
    assert axes.get_yticklabels()[0].get_text() == "block_1"
    np.testing.assert_allclose(shown(plot.lens_over_training(outputs, [0, 10], 0).axes[0])[0], [0.25, 1 / 6])


def test_wrong_calls_are_told():
    def deep(depth, layers=("input", "$output")):
        return dataclasses.replace(depths(), depth=depth, layers=layers)

    strip, moving = plot.attribution_strip, plot.attribution_animation
    for call, kind, words in (
        (lambda: strip(IMAGES, MAPS[0], STEPS), ValueError, "attribution_strip: `inputs`"),
        (lambda: strip(IMAGES, MAPS[:1], STEPS), ValueError, "pass the same examples"),
        (lambda: strip(IMAGES, MAPS * np.nan, STEPS), ValueError, "`attributions`"),
        (lambda: strip(IMAGES, MAPS, STEPS[:4]), ValueError, r"`steps` has shape \(4,\), but there are 5 checkpoints"),
        (lambda: strip(IMAGES, MAPS, STEPS[::-1]), ValueError, "`steps` has to be rising whole numbers"),
        (lambda: strip(IMAGES, MAPS, STEPS, columns=1), ValueError, "`columns` has to be at least 2"),
        (lambda: strip(IMAGES, MAPS, STEPS, scale="row"), ValueError, "`scale` is 'row'"),
        (lambda: moving(IMAGES, MAPS, STEPS, seconds=0), ValueError, "`seconds`"),
        (lambda: moving(IMAGES[:, 0], MAPS[:, :, 0], STEPS), ValueError, "rows of a table do not move"),
        (lambda: plot.example_dynamics(RIGHT), TypeError, "has to be a LearningDynamics"),
        (lambda: plot.prediction_depths(RIGHT), TypeError, "has to be a PredictionDepth"),
        (lambda: plot.prediction_depths(deep(np.array([0, 5]))), ValueError, "depths up to 5"),
        (lambda: plot.prediction_depths(deep(np.zeros((2, 3), int))), ValueError, "`found.depth`"),
        (lambda: plot.prediction_depths(deep(np.zeros(3, int), ("a",))), ValueError, "agreements of shape"),
        (lambda: plot.prediction_depths(depths(), [1, 0]), ValueError, "`right` holds 2, but `found` holds 3"),
        (lambda: plot.prediction_depths(depths(), [1, 0, 3]), ValueError, "whether each answer is right"),
        (lambda: plot.drift_curves({}, [0]), ValueError, "`drift` is empty"),
        (lambda: plot.drift_curves([2.0, 1.0], [0, 1]), ValueError, "holds no correlations"),
        (lambda: plot.drift_curves([np.nan, np.nan], [0, 1]), ValueError, "holds no correlations"),
        (lambda: plot.lens_over_training({}, [0, 1]), ValueError, r"pass \{layer: \[S, K\]\}"),
        (lambda: plot.lens_over_training({"a": np.ones((2, 3))}, [0, 1], 3), ValueError, "there are 3 classes"),
    ):
        with pytest.raises(kind, match=words):
            call()
