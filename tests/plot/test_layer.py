"""Heads, lens tables and patching maps: what is drawn, and what is refused."""

import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxplain import plot

WEIGHTS = {"block_0/attention": np.full((2, 3, 3), 1 / 3), "block_1/attention": np.eye(3)[None]}
OUTPUTS = {"block_0": np.zeros((3, 4)), "block_1": np.eye(4)[:3] * 9}
EFFECTS = {"block_0": np.array([0.0, 1.0, -0.5]), "block_1": np.array([0.1, 0.0, 2.0])}


def drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()  # nothing is cut off
    assert figure.get_label()
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_a_long_path_stays_beside_its_squares():
    figure = plot.attention_heads({"Decoder/MultiHeadDotProductAttention_1": np.eye(3)[None]})
    label = figure.axes[0].yaxis.label
    assert label.get_text() == "Decoder/\nMultiHeadDotProductAtt\nention_1"
    FigureCanvasAgg(figure).draw()
    assert label.get_window_extent().height < figure.bbox.height
    assert label.get_window_extent().x0 >= 0


def test_heads_are_a_grid():
    figure = plot.attention_heads(WEIGHTS, tokens=["the", "$5", "\n"])
    words = drawn(figure)
    assert len(figure.axes) == 3
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), np.eye(3))
    assert {"the", "\\$5", "↵", "head 1", "block_1/attention"} <= set(words)
    assert "first 1 of 2 layers" in drawn(plot.attention_heads(WEIGHTS, limit=1))


def test_a_lens_table_says_the_most_probable_token():
    figure = plot.lens_table(OUTPUTS, ["no", "yes", "maybe", "_"], tokens=["a", "b", "c"])
    words = drawn(figure)
    assert [word for word in words if word in ("no", "yes", "maybe")] == ["no", "yes", "maybe", "no", "no", "no"]
    chances = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(chances[1], 0.25)
    np.testing.assert_allclose(chances[0], np.exp(9) / (np.exp(9) + 3))


def test_a_patching_map_has_one_scale_and_the_last_layer_on_top():
    figure = plot.patching_map(EFFECTS, tokens=["a", "b", "c"])
    drawn(figure)
    (image,) = figure.axes[0].images
    np.testing.assert_array_equal(image.get_array()[0], EFFECTS["block_1"])
    assert (image.norm.vmin, image.norm.vmax) == (-2.0, 2.0)
    assert "second" in drawn(plot.patching_map(np.ones((2, 3)), rows=["first", "second"]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot.attention_heads({}), "`weights` is empty"),
        (lambda: plot.attention_heads(np.ones((3, 3))), r"it has to be \[heads, T, S\]"),
        (lambda: plot.attention_heads(2 * np.ones((1, 3, 3))), r"not in \[0, 1\]"),
        (lambda: plot.attention_heads(WEIGHTS, tokens=["a"]), "`tokens` holds 1, but 3 are needed"),
        (lambda: plot.lens_table({"a": np.ones((3, 4)), "b": np.ones((2, 4))}), "layers of several shapes"),
        (lambda: plot.lens_table(OUTPUTS, ["a"]), "`vocabulary` holds 1"),
        (lambda: plot.patching_map({"a": np.ones(3), "b": np.ones(2)}), "several lengths"),
        (lambda: plot.patching_map(np.ones(3)), r"it has to be \[layers, T\]"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
