"""Marks whose change no other test would see: arrows, colours of words, dark bytes, sums of what is left out."""

import numpy as np
from matplotlib.colors import to_hex, to_rgba

from jaxplain import plot, report
from jaxplain.influence import Influence
from jaxplain.plot.canvas import RIGHT, WRONG, readable


def test_words_on_a_colour_are_read():
    assert [readable(to_rgba(c)) for c in ("white", "#fee090", "#08306b", "black")] == ["black"] * 2 + ["white"] * 2


def test_arrows_say_that_values_lie_beyond():
    maps = np.array([[[1.0, 2.0], [3.0, 3.9]]])
    for percentile, extend in ((100, "neither"), (90, "both")):
        figure = plot.heatmaps(np.zeros((1, 2, 2)), maps, percentile=percentile)
        assert figure.axes[-1]._colorbar.extend == extend


def test_dark_bytes_stay_dark():
    """Bytes are shares of 255, whatever the brightest one is."""
    dark = np.full((2, 8, 8), 51, np.uint8)
    assert plot.samples(dark).axes[0].images[0].get_array().max() == 0.2
    bright = report.examples_section(np.full_like(dark, 255), np.ones((2, 8, 8))).content
    found = report.examples_section(dark, np.ones((2, 8, 8))).content
    assert found.columns[1].cells[0] != bright.columns[1].cells[0]


def test_what_is_left_out_keeps_its_sign():
    axes = plot.waterfall([5.0, -1.0, -2.0, -3.0], 0.0, limit=1).axes[0]
    assert sorted(round(patch.get_width(), 9) for patch in axes.patches) == [-6, 5]
    assert "-6" in [text.get_text() for text in axes.texts]


def test_what_helps_is_green():
    found = Influence(np.array([[0.5, -1.0]]), None, "score", True, "unrolled", {})
    axes = plot.influential_examples(found, np.zeros((2, 8, 8)), np.zeros((1, 8, 8)), k=1).axes
    assert [to_hex(part.title.get_color()) for part in axes[1:]] == [RIGHT, WRONG]


def test_a_missing_feature_is_a_grey_point():
    x = np.array([[1.0], [np.nan], [3.0]])
    grey, coloured = plot.summary(x, np.array([[1.0], [-1.0], [2.0]])).axes[0].collections
    np.testing.assert_allclose(grey.get_offsets()[:, 0], [-1.0])
    assert len(coloured.get_offsets()) == 2
