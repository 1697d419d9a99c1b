"""Lines from the baseline's score to the predictions: where they are before and after each feature."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import plot
from shared.figures import whole

RANDOM = np.random.default_rng(0)
LONG = "mean of the worst three measurements of the concavity of the contour"
ROWS = np.array([[0.5, -2.0, 0.1], [0.25, 1.0, 0.2], [0.0, -3.0, 0.4]])


def lines(figure):
    return [np.asarray(line) for part in figure.axes[0].collections for line in part.get_segments()]


def names(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_lines_run_from_the_baseline_through_the_features_to_the_score():
    figure = plot.decision(ROWS, 1.0, names=["a", "b", "c"])
    assert names(figure) == ["c", "a", "b"]  # from the bottom; means of the sizes are 7/30, 0.25, 2
    expected = [[1, 1.1, 1.6, -0.4], [1, 1.2, 1.45, 2.45], [1, 1.4, 1.4, -1.6]]
    np.testing.assert_allclose([line[:, 0] for line in lines(figure)], expected)
    np.testing.assert_array_equal(lines(figure)[0][:, 1], [0, 1, 2, 3])
    assert figure.axes[0].get_ylim() == (0, 3)
    assert figure.get_suptitle() == "3 examples; from f(b) = 1 at the bottom to f(x) at the top"
    assert figure.axes[1].get_ylabel() == "f(x)"


def test_others_and_the_gap_are_the_first_steps():
    scores = 1.0 + ROWS.sum(1) + np.array([0.0, 0.5, 0.0])
    figure = plot.decision(ROWS, 1.0, scores, names=["a", "b", "c"], limit=1, units="logit")
    assert names(figure) == ["completeness gap", "2 other features", "b"]
    np.testing.assert_allclose([line[-1, 0] for line in lines(figure)], scores)
    np.testing.assert_allclose(lines(figure)[1][:, 0], [1, 1.5, 1.95, 2.95])
    assert figure.axes[0].get_xlabel() == "score (logit)"
    assert names(plot.decision(ROWS, 1.0, 1.0 + ROWS.sum(1), order=[0, 2])) == [
        *("1 other feature", "feature 2", "feature 0")
    ]


def test_a_baseline_of_each_example_is_where_its_line_begins():
    figure = plot.decision(ROWS, [1.0, 2.0, 3.0])
    assert [line[0, 0] for line in lines(figure)] == [1, 2, 3]
    assert figure.get_suptitle() == "3 examples; from f(b) at the bottom to f(x) at the top"


def test_highlighted_examples_are_named_over_grey_ones():
    for highlight in (1, [1], np.array([False, True, False])):
        figure = plot.decision(ROWS, 1.0, highlight=highlight, labels=["one", "two", "three"])
        (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
        np.testing.assert_allclose(line.get_xdata(), [1, 1.2, 1.45, 2.45])
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["two", "2 other examples"]
    many = RANDOM.normal(size=(30, 4))
    figure = plot.decision(many, 0.0, highlight=np.arange(12))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["12 highlighted examples", "18 other examples"]
    assert sorted(len(part.get_segments()) for part in figure.axes[0].collections) == [12, 18]
    assert not plot.decision(ROWS, 1.0, labels=[7, 8, 9]).axes[0].collections  # all are named


def test_the_link_shows_probabilities_of_sums():
    figure = plot.decision(ROWS[0], 1.0, link="logit", units="margin", values=[40, 2.5, 1], names=["a", "b", "c"])
    np.testing.assert_allclose(lines(figure)[0][:, 0], 1 / (1 + np.exp([-1, -1.1, -1.6, 0.4])))
    assert figure.axes[0].get_xlabel() == "probability, sigmoid of the score (margin)"
    assert names(figure) == ["c = 1", "a = 40", "b = 2.5"]
    assert figure.get_suptitle() == "one example; from sigmoid f(b) = 0.731 at the bottom to sigmoid f(x) at the top"
    assert lines(plot.decision([[999.0]], 0, link="logit"))[0][-1, 0] == 1


def test_units_are_those_of_the_score():
    for name, words in {
        "logit": "logit",
        "probability": "probability",
        "log_probability": "log-probability, nats",
        "margin": "margin of logits",
        "output": "output",
        "loss": "loss",
    }.items():
        score = getattr(jaxplain, name)(lambda params, x: x @ params, jnp.eye(2))
        assert plot.decision(ROWS, 1.0, units=score).axes[0].get_xlabel() == f"score ({words})"
        assert plot.waterfall(ROWS[0], 1.0, units=score).axes[0].get_xlabel().startswith(f"score ({words}); ")
        if "probability" in name or name == "loss":
            with pytest.raises(ValueError, match=f"the score in `units` is a {name}"):
                plot.decision(ROWS, 1.0, units=score, link="logit")
    assert plot.attribution_bar(ROWS, units="€").axes[0].get_xlabel() == "mean |attribution| over 3 examples (€)"
    assert plot.summary(ROWS, ROWS, units="logit").axes[0].get_xlabel() == "attribution (logit)"
    assert plot.dependence(ROWS, ROWS, 0, units="mm").axes[0].get_ylabel() == "attribution of feature 0 (mm)"
    images = np.ones((2, 4, 4))
    assert plot.heatmaps(images, images, units="logit", limit=1).get_suptitle() == (
        "first 1 of 2 examples; attribution (logit)"
    )
    shared = plot.heatmaps(images, images, units="logit", scale="shared")
    assert shared.axes[-1].get_ylabel() == "attribution (logit)"
    assert plot.tokens(["a"], [1.0], units="nats").axes[-1].get_ylabel() == "attribution (nats)"
    assert "attribution (&lt;nats&gt;); red speaks for" in plot.tokens(["a"], [1.0], units="<nats>").markup
    assert plot.token_map(["b"], ["a"], [[1.0]], units="nats").axes[-1].get_ylabel() == "attribution (nats)"
    strip = plot.attribution_strip([[1.0]], [[[1.0]]], [0], units="loss")
    assert strip.get_suptitle() == "attribution (loss)"


@pytest.mark.slow
def test_any_number_of_examples_and_features_is_drawn_whole():
    many = RANDOM.normal(size=(500, 784)) * np.linspace(2, 0, 784)
    for figure in (
        plot.decision([[0.3]], 1, names=["π ≥ 3 — Größe"]),
        plot.decision(np.zeros((3, 2), int), 2),
        plot.decision(-np.abs(ROWS), 0, names=[LONG] * 3, labels=[LONG, "b", "c"]),
        plot.decision(many, 0.0, many.sum(1) + 50, names=[f"{LONG} {k}" for k in range(784)]),
        plot.decision(many[:, :3], 0.0, highlight=[3, 4, 499], link="logit"),
    ):
        whole(figure)


def test_waterfalls_of_one_order_are_compared():
    order = np.argsort(-np.abs(ROWS).mean(0))
    for row in ROWS:
        axes = plot.waterfall(row, 1.0, order=order, limit=2, names=["a", "b", "c"]).axes[0]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a", "1 other feature"]
        np.testing.assert_allclose([patch.get_width() for patch in axes.patches], row[[2, 0, 1]])
    axes = plot.attribution_bar(ROWS[0], order=["c"], names=["a", "b", "c"]).axes[0]
    assert axes.texts[-1].get_text() == "2 other features: -1.5 in sum, the largest -2"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot.decision(ROWS * np.nan, 0.0), "decision: `attributions` has 9 NaN"),
        (lambda: plot.decision(ROWS, [1.0, 2.0]), r"`baseline_score` has shape \(2,\), but there are 3"),
        (lambda: plot.decision(ROWS, 1.0, 2.0), r"`scores` has shape \(\); it has to be \[B\]"),
        (lambda: plot.decision(ROWS, 1.0, values=[1, 2, 3]), r"`values` .* \[D\] of one example"),
        (lambda: plot.decision(ROWS, 1.0, highlight=3), "`highlight` runs from 3 to 3, but there are 3"),
        (lambda: plot.decision(ROWS, 1.0, highlight=[True]), r"`highlight` has shape \(1,\)"),
        (lambda: plot.decision(ROWS, 1.0, highlight=[0.5]), "`highlight` has to be an index"),
        (lambda: plot.decision(ROWS, 1.0, link="probit"), "`link` is 'probit'"),
        (lambda: plot.decision(np.ones((8, 2)), 0, labels=list("abcdefgh")), "`labels` can be told apart of 7"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
