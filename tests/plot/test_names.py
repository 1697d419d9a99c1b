"""Long names, names with signs of mathematics, numbers of any size: figures stay whole, nothing is lost."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.text import Text

from jaxplain import plot, train
from jaxplain.influence import Influence
from jaxplain.plot.canvas import wrapped
from jaxplain.plot.values import apart, number, signed
from tests.shared.figures import whole

GENERATOR = np.random.default_rng(0)
LONG = "mean of the worst three measurements of the concavity of the contour of a cell's nucleus"
PATH = "encoder/layers/3/attention/self/query_projection/kernel"
normal, random = GENERATOR.normal, GENERATOR.random
PICTURES = random((2, 8, 8))
PLACES = np.linspace(0, 1, 5)


def effect(*names):
    return {name: SimpleNamespace(grid=PLACES, score=PLACES) for name in names}


def influence():
    return Influence(normal(size=(1, 4)), None, "score", True, "unrolled", {})


FIGURES = {
    "importance": lambda a, b: plot.importance([1.0, -2.0], names=[a, b]),
    "effects": lambda a, b: plot.effects(effect(a, b), ylabel=a),
    "categories": lambda a, b: plot.effects(
        {"x": SimpleNamespace(grid=[0, 1], score=[1.0, 2.0])}, categories={"x": [a, b]}
    ),
    "dependence": lambda a, b: plot.dependence(normal(size=(9, 2)), normal(size=(9, 2)), 0, names=[a, b], colour_by=1),
    "curves": lambda a, b: plot.curves({a: PLACES, b: PLACES}, title=a),
    "heat maps": lambda a, b: plot.heatmaps(PICTURES, {a: normal(size=(2, 8, 8)), b: PICTURES}),
    "predictions": lambda a, b: plot.predictions(PICTURES, [[0.4, 0.6], [1, 0]], [0, 0], names=[a, b]),
    "confusion": lambda a, b: plot.confusion_matrix([0, 1], [0, 1], names=[a, b]),
    "parameters": lambda a, b: plot.parameter_histograms({a: normal(size=9), b: normal(size=9)}),
    "samples": lambda a, b: plot.samples(PICTURES, [a, b]),
    "signals": lambda a, b: plot.samples(normal(size=(2, 9)), [a, b]),
    "rows": lambda a, b: plot.samples(normal(size=(2, 2)), [a, b], features=[a, b]),
    "texts": lambda a, b: plot.samples([["a"], ["b"]], [a, b]),
    "top examples": lambda a, b: plot.top_examples(PICTURES, [1.0, 0.5], labels=[a, b], value_name=a),
    "top of rows": lambda a, b: plot.top_examples(PICTURES[:, None], [[1.0], [0.5]], names=[a, b], value_name=a),
    "gallery": lambda a, b: plot.activation_gallery(PICTURES, [a, b], [1.0, 2.0]),
    "units": lambda a, b: plot.unit_gallery(PICTURES, [1.0, 2.0], units=[a, b]),
    "tokens": lambda a, b: plot.tokens([["a"], ["b"]], [[1.0], [2.0]], [a, b], scale="panel"),
    "timings": lambda a, b: plot.timings({a: {a: (0.1, 0.1, 0.2), b: (0.2, 0.1, 0.3)}}, title=a),
    "traces": lambda a, b: plot.traces({a: normal(size=(5, 2))}, {a: PLACES}, names=[a, b]),
    "heads": lambda a, b: plot.attention_heads({a: np.eye(2)[None]}, tokens=[a, b]),
    "lens": lambda a, b: plot.lens_table({a: np.eye(2), b: np.eye(2)}, vocabulary=[a, b], tokens=[a, b]),
    "patching": lambda a, b: plot.patching_map({a: [1.0, 2.0], b: [0.0, 1.0]}, tokens=[a, b]),
    "influence": lambda a, b: plot.influential_examples(
        influence(), random((4, 8, 8)), random((1, 8, 8)), labels=[a, b, a, b], query_labels=[a], k=1
    ),
    "concepts": lambda a, b: plot.concept_gallery(PICTURES[:, None], [1.0, 0.5], names=[a, b]),
    "strip": lambda a, b: plot.attribution_strip(
        normal(size=(1, 2)), normal(size=(1, 2, 2)), [0, 1], [a], features=[a, b]
    ),
    "ways": lambda a, b: plot.loss_interpolation({a: train.Interpolation(PLACES, PLACES, 0.0)}, title=b),
}


@pytest.mark.parametrize("name", FIGURES)
def test_long_names_fit(name):
    whole(FIGURES[name](LONG, PATH))


@pytest.mark.parametrize("name", FIGURES)
def test_dollars_are_escaped_once(name):
    """Not at all, a pair is mathematics; twice, there is a stroke before it."""
    figure = whole(FIGURES[name]("$a_1$ x", "cost_$"))
    said = " ".join(text.get_text() for text in figure.findobj(Text))
    assert r"\$a_1" in said
    assert r"\\$" not in said
    assert said.count("$") == said.count(r"\$")
    assert "\\" not in figure.get_label()


def test_the_end_of_a_long_name_stays():
    """It tells paths apart, and holds a value."""
    assert wrapped("abcdefghij", 4, 1) == "ab…j"
    assert wrapped("one two", 10, 1) == "one two"
    for name in (LONG, PATH * 3, r"\$" * 60):
        for width, lines in ((6, 1), (16, 2), (40, 2)):
            found = wrapped(f"{name} = 3", width, lines)
            assert found.endswith("3")
            assert found.count("\n") < lines
            assert max(map(len, found.split("\n"))) <= width
            assert found.count("$") == found.count(r"\$")
    figure = plot.force([1.0, -2.0], 0.0, names=[2 * LONG, 3 * PATH], values=[7.0, 8.0])
    said = " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")
    assert "= 7: +1" in said
    assert "= 8: -2" in said


@pytest.mark.parametrize("values", [[-2e12, 4e10], [1e12, -1e-3], [0.0, 0.0], [-1.0, -2.0], [1e-300, -1e-300]])
def test_numbers_beside_bars_have_room(values):
    whole(plot.attribution_bar(values, names=["a_long_name", "x"]))


def test_numbers_are_written_alike():
    assert [number(v) for v in (999.6, -999.96, 1234.5, -0.0, 99999.4, 0.5)] == [
        "1000", "-1000", "1234", "0", "99999", "0.5",
    ]  # fmt: skip
    assert [signed(v) for v in (1234.5, -0.0, -2.0, 1e-12)] == ["+1234", "+0", "-2", "+1e-12"]
    assert apart([1e6, 1e6 + 1, 1e6 + 2]) == ["1000000", "1000001", "1000002"]
    assert apart([0.1, 0.1]) == ["0.1", "0.1"]


def test_one_step_is_a_point():
    """A line of one point is nothing."""
    one = [
        plot.traces({"v": [[1.0]]}, {"v": [2.0]}).axes,
        plot.samples(np.ones((2, 1))).axes,
        plot.learning_curves({"loss": [[1.0], [2.0]]}).axes,
    ]
    for axes in one:
        lines = [line for part in axes for line in part.lines if len(line.get_xdata()) == 1]
        assert lines
        assert all(line.get_marker() not in ("None", None) for line in lines)


def test_many_curves_are_told_apart():
    figures = (
        plot.curves({f"a{k}": random(4) for k in range(20)}),
        plot.traces({"v": random((4, 20))}, {"v": random(4)}),
    )
    for axes, width in ((figures[0].axes[0], 1.6), (figures[1].axes[1], 1.4)):
        lines = [line for line in axes.lines if line.get_linewidth() == width]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines) == 20


def test_html_of_texts_has_no_strokes():
    found = plot.tokens_html([["$a", "b"]], [[1.0, 2.0]], ["$1$ and _x"], units="k$")
    assert "<strong>$1$ and _x</strong>" in found
    assert "attribution (k$); red" in found
    assert "\\" not in found
