import math
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits

from jaxplain import plot
from jaxplain.evaluate.comparison.table import score_table
from jaxplain.evaluate.faithfulness.deletion import deletion
from jaxplain.internals.layers import layers

RANDOM = np.random.default_rng(0)
DIGITS = load_digits()
IMAGES = (DIGITS.images[:12, :, :, None] / 16).astype(np.float32)
LABELS = DIGITS.target[:12]
MAPS = RANDOM.normal(size=IMAGES.shape).astype(np.float32)
CANCER = load_breast_cancer()
FEATURES = CANCER.data[:60, :12]
NAMES = list(CANCER.feature_names[:12])
EFFECTS = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0) * np.linspace(-2, 1, 12)
PROBABILITIES = np.asarray(jax.nn.softmax(3 * RANDOM.normal(size=(12, 10)), axis=-1))
WORDS = [["a", "film", "worth", "$5", "\n", "_"], ["not", "good", " "]]
WEIGHTS = [RANDOM.normal(size=6), RANDOM.normal(size=(3, 4))]
SENTENCE = ["a", "text", "of", "more", "than", "twenty", "characters"]
EPOCHS = np.arange(20)
HISTORY = {
    "loss": 2 * np.exp(-EPOCHS / 3) + 0.01,
    "validation_loss": 2 * np.exp(-EPOCHS / 3) + 0.1 + 0.01 * EPOCHS,
    "accuracy": 1 - np.exp(-(EPOCHS + 1) / 3),
    "validation_accuracy": 0.95 - 0.9 * np.exp(-(EPOCHS + 1) / 3),
    "gradient_norm": np.exp(-EPOCHS / 5),
}


class Row(NamedTuple):
    path: str
    operation: str
    shape: tuple[int, ...]
    parameters: int
    share: float


ROWS = [Row("conv", "convolution", (8, 8, 16), 160, 0.25), Row("dense", "dot", (10,), 10250, 0.75)]

FIGURES = {
    "samples": [
        lambda: plot.samples(IMAGES, LABELS, limit=9),
        lambda: plot.samples(FEATURES[:5], CANCER.target[:5], names=CANCER.target_names, features=NAMES),
        lambda: plot.samples(np.sin(np.arange(90.0).reshape(3, 30)), ["a", "b", "c"]),
        lambda: plot.samples(RANDOM.normal(size=(2, 30, 3)), kind="signal"),
        lambda: plot.samples(WORDS, [0, 1], names=["bad", "good"]),
        lambda: plot.samples((RANDOM.uniform(size=(2, 6, 7, 3)) * 255).astype(np.uint8)),
    ],
    "heatmaps": [
        lambda: plot.heatmaps(IMAGES[:3], {"a": MAPS[:3], "b": MAPS[:3] ** 2}, LABELS[:3], percentile=95),
        lambda: plot.heatmaps(IMAGES[:2], {"a": MAPS[:2], "b": MAPS[:2]}, scale="method"),
        lambda: plot.heatmaps(IMAGES[:2], {"a": MAPS[:2, ::2, ::2]}, ["one", "two"], scale="shared", overlay=True),
        lambda: plot.heatmaps(IMAGES[:1], 0 * MAPS[:1]),
    ],
    "tokens": [
        lambda: plot.tokens(WORDS, WEIGHTS, [1, 0], names=["bad", "good"]),
        lambda: plot.tokens(SENTENCE, RANDOM.normal(size=7), width=20),
        lambda: plot.tokens(WORDS, WEIGHTS, scale="panel", percentile=90),
    ],
    "activations": [
        lambda: plot.activations({"conv": RANDOM.normal(size=(5, 4, 70)), "tokens": MAPS[0, :, :, 0], "dense": LABELS})
    ],
    "filters": [
        lambda: plot.filters(RANDOM.normal(size=(3, 3, 1, 12))),
        lambda: plot.filters(RANDOM.normal(size=(5, 5, 3, 12)), limit=6),
        lambda: plot.filters(RANDOM.normal(size=(3, 3, 2, 4))),
        lambda: plot.filters(RANDOM.normal(size=(64, 5)), shape=(8, 8, 1)),
    ],
    "predictions": [
        lambda: plot.predictions(IMAGES, PROBABILITIES, LABELS, names=[f"digit {k}" for k in range(10)], limit=5),
        lambda: plot.predictions(IMAGES[:2], [[0.3, 0.7], [1.0, 0.0]]),
    ],
    "confusion_matrix": [
        lambda: plot.confusion_matrix(LABELS, PROBABILITIES.argmax(1)),
        lambda: plot.confusion_matrix([0, 1, 1], [1, 1, 1], names=["malignant", "benign", "unknown"]),
        lambda: plot.confusion_matrix(np.arange(50), np.arange(50)),
    ],
    "learning_curves": [
        lambda: plot.learning_curves(HISTORY, "The model overfits: " + "validation loss rose, " * 12),
        lambda: plot.learning_curves({name: np.stack([v, 1.1 * v]) for name, v in HISTORY.items()}),
        lambda: plot.learning_curves({"loss": [2.0, 1.0]}, "The model is still learning."),
    ],
    "layer_table": [lambda: plot.layer_table(ROWS), lambda: plot.layer_table(ROWS * 4, limit=3)],
    "parameter_histograms": [lambda: plot.parameter_histograms({"a": MAPS, "b": [np.zeros(3), np.array([np.nan, 1])]})],
    "activation_gallery": [lambda: plot.activation_gallery(IMAGES[:7], LABELS[:7], np.linspace(-1e-3, 1e6, 7))],
    "curves": [
        lambda: plot.curves({"a": RANDOM.uniform(size=(9, 5)), "random": RANDOM.uniform(size=5)}, title="deletion")
    ],
    "scores_table": [
        lambda: plot.scores_table({"a": {"d": RANDOM.normal(size=9), "i": 0.5}, "random": {"d": [math.nan, 2.0]}})
    ],
    "attribution_bar": [
        lambda: plot.attribution_bar(EFFECTS, names=NAMES, limit=5),
        lambda: plot.attribution_bar(EFFECTS[0], names=NAMES),
        lambda: plot.attribution_bar([0.0, -1e-9]),
    ],
    "summary": [
        lambda: plot.summary(FEATURES, EFFECTS, names=NAMES, limit=8),
        lambda: plot.summary(FEATURES, 0 * EFFECTS),
    ],
    "timings": [
        lambda: plot.timings(
            {
                "integrated gradients of a CNN": {"jaxplain": (0.1, 0.09, 0.12), "captum": (0.8, 0.7, 0.81)},
                "an epoch": {"fit": (2.0, 1.9, 2.5), "a loop of compiled steps": (2.1, 2.0, 9.0)},
            },
            title="two cores",
        ),
    ],
    "waterfall": [
        lambda: plot.waterfall(EFFECTS[0], 0.3, 0.3 + EFFECTS[0].sum(), values=FEATURES[0], names=NAMES, limit=6),
        lambda: plot.waterfall(EFFECTS[1], 0.3, 5.0, names=NAMES),
    ],
    "dependence": [
        lambda: plot.dependence(FEATURES, EFFECTS, NAMES[1], names=NAMES, colour_by=2),
        lambda: plot.dependence(np.where(FEATURES > 15, np.nan, FEATURES), EFFECTS, 0),
    ],
    "top_examples": [
        lambda: plot.top_examples(IMAGES[:4], [4.0, 3.0, 2.0, 1.0], labels=[f"index {i}" for i in range(4)]),
        lambda: plot.top_examples(IMAGES.reshape(3, 4, 8, 8, 1), [[3.0, 2, 1, math.nan]] * 3, names=["a", "b", "c"]),
    ],
}


def drawn(figure: Figure) -> list[str]:
    """Every text of a figure that is seen."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_visible() and text.get_text()]


ELSEWHERE = {
    **dict.fromkeys(
        (
            *("attribution_strip", "attribution_animation", "drift_curves", "example_dynamics"),
            *("lens_over_training", "prediction_depths"),
        ),
        "plot/dynamics/test_figures.py",
    ),
    **dict.fromkeys(
        ("gradient_flow", "singular_values", "validation_curve", "weight_matrices"), "plot/training/test_training.py"
    ),
    "attribution_clusters": "plot/concept/test_concept.py",
    "concept_scores": "plot/concept/test_concept.py",
    "concept_gallery": "plot/concept/test_dictionary.py",
    "attention_heads": "plot/test_layer.py",
    "activation_atlas": "aggregate/test_unit.py",
    "comparison": "evaluate/comparison/test_compare.py",
    "effects": "aggregate/test_effects.py",
    "feature_dashboard": "concept/test_feature_dashboard.py",
    "importance": "aggregate/test_effects.py",
    "lens_table": "plot/test_layer.py",
    "loss_interpolation": "plot/landscape/test_figures.py",
    "loss_surface": "plot/landscape/test_figures.py",
    "patching_map": "plot/test_layer.py",
    "influential_examples": "plot/test_influential.py",
    "token_map": "plot/test_text.py",
    "traces": "aggregate/test_effects.py",
    "unit_gallery": "aggregate/test_unit.py",
    "cohorts": "plot/tabular/test_cohort.py",
    "decision": "plot/tabular/test_decision.py",
    "force": "plot/tabular/test_force.py",
    "logo": "plot/sequence/test_logo.py",
    "series": "plot/sequence/test_series.py",
    "sound": "plot/sequence/test_sound.py",
}
"""Figures of results that take computing, and the tests that draw them."""


def test_every_public_function_is_drawn_here_or_elsewhere():
    others = {"Animation", "Markup", "TokenFigure", "reading", "tokens_html"}
    assert set(FIGURES) | set(ELSEWHERE) | others == set(plot.__all__)
    for name, file in ELSEWHERE.items():
        assert f"plot.{name}(" in (Path(__file__).parents[1] / file).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(("name", "index"), [(name, i) for name, cases in FIGURES.items() for i in range(len(cases))])
@pytest.mark.sampled(2)
def test_figure_draws_without_a_display_nothing_cut_off_and_no_panel_empty(name, index):
    figure = FIGURES[name][index]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert figure.get_label()
    pixels = np.asarray(canvas.buffer_rgba())
    assert pixels[..., :3].std() > 1
    # What is cut off, or reaches the edge, colours the outermost pixels.
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()
    for axes in figure.axes:
        assert axes.has_data() or axes.texts or not axes.axison or not axes.spines["left"].get_visible()


def test_neither_pyplot_nor_a_backend_is_touched():
    code = "import sys, jaxplain.plot, jaxplain.report; jaxplain.plot.attribution_bar([1.0]).savefig(sys.stderr.buffer)"
    code += "; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == [b"False"]


# Images


def test_samples_keep_one_scale_and_say_what_is_left_out():
    figure = plot.samples(IMAGES * 16 - 4, LABELS, names=list("abcdefghij"), limit=3)
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    np.testing.assert_allclose(shown, IMAGES[:3, ..., 0], atol=1e-6)
    assert all(axes.images[0].get_clim() == (0, 1) for axes in figure.axes)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert figure.get_suptitle() == "first 3 of 12 examples"


def test_samples_find_out_what_they_are():
    assert {"a film worth \\$5 ↵ _", "not good ␣"} <= set(drawn(plot.samples(WORDS)))
    table = plot.samples([[1.0, 2000.0], [3.0, math.nan]], features=["age", "dose"])
    assert {"age", "dose", "1", "2000", "3", "nan"} <= set(drawn(table))
    assert len(plot.samples(np.ones((2, 5))).axes[0].lines) == 1
    assert len(plot.samples(np.ones((2, 5, 3)), kind="signal").axes[0].lines) == 3


def test_heatmaps_sum_channels_and_centre_zero():
    images, maps = RANDOM.uniform(size=(2, 5, 4, 3)), RANDOM.normal(size=(2, 5, 4, 3))
    figure = plot.heatmaps(images, {"a": maps, "b": 10 * maps})
    panels = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    image = panels[1].images[0]
    np.testing.assert_allclose(image.get_array(), maps[0].sum(-1))
    low, high = image.get_clim()
    assert low == -high
    assert high == pytest.approx(np.abs(maps[0].sum(-1)).max())
    assert np.allclose(image.cmap(image.norm(0.0))[:3], 0.97, atol=0.01)
    red, _, blue, _ = image.cmap(image.norm(high))
    assert red > blue


@pytest.mark.parametrize(("scale", "bars"), [("panel", 4), ("method", 2), ("shared", 1)])
def test_heatmap_scales(scale, bars):
    maps = {"a": MAPS[:2], "b": 5 * MAPS[:2]}
    figure = plot.heatmaps(IMAGES[:2], maps, scale=scale)
    ends = [
        axes.images[0].get_clim()[1] for axes in figure.axes if axes.images and axes.images[0].cmap.name == "RdBu_r"
    ]
    largest = np.abs(np.stack([maps["a"], maps["b"]])).max(axis=(2, 3, 4))
    expected = {
        "panel": [largest[0, 0], largest[1, 0], largest[0, 1], largest[1, 1]],
        "method": [largest[0].max(), largest[1].max()] * 2,
        "shared": [largest.max()] * 4,
    }
    np.testing.assert_allclose(ends, expected[scale], rtol=1e-6)
    assert len(figure.axes) == 6 + bars


def test_heatmap_percentile_is_of_values_that_are_not_zero():
    maps = np.zeros((1, 10, 10))
    maps[0, 0] = [*range(1, 10), 1000]
    image = plot.heatmaps(np.zeros((1, 10, 10)), maps, percentile=50).axes[1].images[0]
    assert image.get_clim() == (-5.5, 5.5)


def test_coarse_heatmap_covers_the_image():
    coarse = plot.heatmaps(IMAGES[:1], MAPS[:1, ::4, ::4], overlay=True).axes[1]
    extents = [tuple(image.get_extent()) for image in coarse.images]
    assert extents == [(-0.5, 7.5, 7.5, -0.5)] * 2
    assert np.max(coarse.images[1].get_alpha()) == pytest.approx(1)


def test_filters_one_scale_and_colours():
    kernel = RANDOM.normal(size=(3, 3, 1, 4))
    grid = plot.filters(kernel).axes[:4]
    assert len({axes.images[0].get_clim() for axes in grid}) == 1
    np.testing.assert_allclose(grid[2].images[0].get_array(), kernel[..., 0, 2])
    colours = RANDOM.normal(size=(3, 3, 3, 2))
    image = plot.filters(colours).axes[1].images[0].get_array()
    np.testing.assert_allclose(image, 0.5 + colours[..., 1] / np.abs(colours).max() / 2)
    dense = plot.filters(np.arange(12.0).reshape(6, 2), shape=(2, 3, 1)).axes[1].images[0].get_array()
    np.testing.assert_allclose(dense, [[1, 3, 5], [7, 9, 11]])


def test_activation_tiles_hold_every_channel():
    value = RANDOM.uniform(size=(4, 3, 7))
    tile = plot.activations({"conv": value}).axes[0].images[0].get_array()
    assert np.ma.count(tile) == value.size
    np.testing.assert_allclose(tile[:4, :3], value[..., 0])
    limited = plot.activations({"conv": value}, limit=2).axes[0]
    assert np.ma.count(limited.images[0].get_array()) == 24
    assert limited.get_title(loc="left") == "conv  [4, 3, 7], first 2 channels"


def test_activations_of_a_sign_start_at_zero():
    positive, signed = plot.activations({"relu": [1.0, 2.0], "tanh": [-3.0, 2.0]}).axes[:2]
    assert positive.images[0].get_clim() == (0, 2)
    assert signed.images[0].get_clim() == (-3, 3)


def test_top_examples_leave_unfilled_places_out():
    figure = plot.top_examples(IMAGES[:4].reshape(2, 2, 8, 8), [[2.0, 1.0], [3.0, math.nan]], names=["a", "b"])
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    assert [axes.get_title() for axes in figure.axes] == ["2", "1", "3", ""]


# Classes


def test_predictions_colour_and_order():
    figure = plot.predictions(IMAGES[:2], [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [1, 2], names=["a", "b", "c"], top=3)
    assert [figure.axes[index].get_title() for index in (0, 2)] == ["b", "a, not c"]
    bars = [[patch.get_width() for patch in figure.axes[index].patches] for index in (1, 3)]
    assert bars == [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]
    assert [tick.get_text() for tick in figure.axes[3].get_yticklabels()] == ["a", "b", "c"]


def test_confusion_matrix_counts_and_rates():
    labels, predicted = np.array([0, 0, 0, 1, 1, 3]), np.array([0, 0, 1, 1, 1, 0])
    figure = plot.confusion_matrix(labels, predicted)
    rates = figure.axes[0].images[0].get_array().filled(np.nan)
    expected = np.array([[2 / 3, 1 / 3, 0, 0], [0, 1, 0, 0], [np.nan] * 4, [1, 0, 0, 0]])
    np.testing.assert_allclose(rates, expected)
    assert [text.get_text() for text in figure.axes[0].texts] == ["2\n67 %", "1\n33 %", "2\n100 %", "1\n100 %"]
    assert figure.axes[0].get_title() == "4 of 6 right (66.7 %)"


def test_rare_confusions_are_not_rounded_to_nothing():
    figure = plot.confusion_matrix([0] * 1000, [0] * 999 + [1])
    assert [text.get_text() for text in figure.axes[0].texts] == ["999\n99.9 %", "1\n<1 %"]


# Training


def test_learning_curves_mark_the_best_epoch_and_carry_the_diagnosis():
    figure = plot.learning_curves(types.SimpleNamespace(**HISTORY), "The model overfits.")
    best = int(np.argmin(HISTORY["validation_loss"])) + 1
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "gradient norm"]
    for axes in figure.axes:
        assert any(f"epoch {best}" in text.get_text() for text in axes.get_legend().get_texts())
    assert figure.get_supxlabel() == "The model overfits."
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[1].get_yscale() == "linear"


def test_learning_curves_cut_after_an_early_stop_and_leave_out_what_was_not_measured():
    stopped = {name: np.append(curve, [np.nan, np.nan]) for name, curve in HISTORY.items()}
    stopped["accuracy"] = stopped["validation_accuracy"] = np.full(22, np.nan)
    figure = plot.learning_curves(stopped)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "gradient norm"]
    assert len(figure.axes[0].lines[0].get_xdata()) == 20
    assert not any("not finite" in text for text in drawn(figure))


def test_learning_curves_show_where_a_run_broke():
    broken = {"loss": [1.0, 2.0, np.nan, np.nan], "gradient_norm": [1.0, 9.0, np.inf, 3.0]}
    assert "not finite from epoch 3 on" in drawn(plot.learning_curves(broken))


def test_learning_curves_of_an_ensemble_draw_the_median():
    runs = np.array([[3.0, 2.0, np.nan], [1.0, 1.0, 0.5], [2.0, 4.0, 0.1]])
    thick = plot.learning_curves({"loss": runs}).axes[0].lines[3]
    np.testing.assert_allclose(thick.get_ydata(), [2.0, 2.0, 0.3])


def test_parameter_histograms_count_what_is_not_finite():
    params = {"a": jnp.ones((2, 2), jnp.bfloat16), "b": np.array([1.0, np.nan, np.inf]), "n": np.arange(3)}
    figure = plot.parameter_histograms({**params, "key": jax.random.key(0)})
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title() == "a  [2, 2]\nmean 1, sd 0"
    assert figure.axes[1].get_xlabel() == "2 NaN or infinite"


def test_layer_table_adds_up_counts_over_all_layers():
    texts = drawn(plot.layer_table(ROWS * 2, limit=1))
    assert texts[:5] == ["path", "operation", "shape", "parameters", "share"]
    assert "[8, 8, 16]" in texts
    assert "… and 3 more" in texts
    assert texts[-2:] == ["total", "20,820"]


def test_layer_table_of_a_model():
    def f(x):
        with jax.named_scope("first"):
            y = x @ jnp.ones((300, 40000))
        return y.sum()

    texts = drawn(plot.layer_table(layers(f)(jax.ShapeDtypeStruct((2, 300), jnp.float32))))
    assert texts[:4] == ["path", "operation", "shape", "dtype"]
    assert "operations forward" in texts
    assert {"first", "[2, 40000]", "48 M"} <= set(texts)
    assert "(no module)" in texts


# Scores


def test_curves_mean_interval_and_control():
    table = RANDOM.uniform(size=(30, 4))
    axes = plot.curves({"a": table, "random": table[0]}, x=[0, 1, 2, 4]).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), table.mean(0))
    band = axes.collections[0].get_paths()[0].vertices
    half = 1.96 * table[:, 0].std(ddof=1) / math.sqrt(30)
    assert band[band[:, 0] == 0, 1].max() == pytest.approx(table[:, 0].mean() + half)
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    area = np.trapezoid(table.mean(0), [0, 1, 2, 4]) / 4
    assert axes.get_legend().get_texts()[0].get_text() == f"a  (area {area:.3g})"


def test_curves_of_the_metrics_bring_their_places():
    fraction = np.array([0, 0.5, 1.0])
    class_curve = types.SimpleNamespace(fraction=np.stack([fraction] * 2), score=np.array([[3.0, 1, 0], [5, 1, 0]]))
    axes = plot.curves({"a": class_curve, "random": types.SimpleNamespace(fraction=fraction, score=[4.0, 2, 0])}).axes[
        0
    ]
    np.testing.assert_allclose(axes.lines[0].get_xdata(), fraction)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [4, 1, 0])
    other = types.SimpleNamespace(fraction=fraction**2, score=[4.0, 2, 0])
    with pytest.raises(ValueError, match="fractions differ"):
        plot.curves({"a": class_curve, "random": other})


@pytest.mark.slow
def test_scores_table_of_the_metrics_marks_what_beats_the_control():
    x = jnp.asarray(RANDOM.uniform(1, 2, size=(8, 6)), jnp.float32)
    metrics = {"deletion": deletion(jnp.sum), "constant": deletion(lambda x: 0 * x.sum())}
    table = score_table({"input": x, "reverse": -x}, metrics, x, key=jax.random.key(0), samples=200)
    texts = drawn(plot.scores_table(table))
    mean, half = table.values[0, 0].mean(), 1.96 * table.values[0, 0].std(ddof=1) / math.sqrt(8)
    assert f"{mean:.2f} ± {half:.2f} *" in texts
    assert sum(text.endswith(" *") for text in texts) == 1
    assert sum(text.endswith(" !") for text in texts) == 1
    words = "* better, ! worse than random (95% interval of the paired difference excludes 0)"
    assert "deletion ↓" in texts
    assert any(words in text for text in texts)


def test_scores_table_intervals_best_and_undefined():
    values = np.array([1.0, 2.0, 4.0, np.nan])
    scores = {"a": {"deletion": values}, "b": {"deletion": 3.0}, "random": {"deletion": 0.1}}
    figure = plot.scores_table(scores, better={"deletion": "lower"})
    half = 1.96 * np.std([1, 2, 4], ddof=1) / math.sqrt(3)
    texts = {text.get_text(): text for text in figure.axes[0].texts}
    best = texts[f"2.33 ± {half:.2f}"]
    assert best.get_weight() == "bold"
    assert texts["0.10"].get_weight() == "normal"
    assert {"deletion ↓", "deletion of a: 1 undefined"} <= set(texts)


def test_scores_table_shows_what_rounding_would_hide():
    texts = drawn(plot.scores_table({"a": {"gap": [1e-7, 3e-7]}, "random": {"gap": 1.2}, "none": {"gap": 0.0}}))
    assert {"2.0e-07 ± 2.0e-07", "1.20", "0.00"} <= set(texts)


# Features


def test_attribution_bar_adds_the_rest_up():
    axes = plot.attribution_bar([[1.0, -3.0, 0.5], [-2.0, 1.0, 0.5]], names=["a", "b", "c"], limit=1).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [2.0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", ""]
    assert axes.texts[-1].get_text() == "2 other features: 2 in sum, the largest 1.5"


def test_waterfall_runs_from_the_baseline_to_the_score():
    axes = plot.waterfall([0.5, -2.0, 0.1], 1.0, -0.4, names=["a", "b", "c"]).axes[0]
    bars = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    np.testing.assert_allclose(bars, [[1.0, 1.1], [1.1, 1.6], [1.6, -0.4]])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a", "c"]
    assert "f(x) = -0.4" in [text.get_text() for text in axes.texts]
    assert axes.get_xlim()[0] < -0.4
    assert axes.get_xlim()[1] > 1.6


def test_waterfall_shows_the_completeness_gap_and_hides_none():
    axes = plot.waterfall([0.5, -2.0], 1.0, -0.8, limit=1).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["feature 1", "1 other feature", "completeness gap"]
    assert axes.patches[0].get_width() == pytest.approx(-0.3)


def test_summary_orders_features_and_keeps_every_point():
    x = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]])
    axes = plot.summary(x, [[0.1, 1.0], [0.2, -1.0], [0.3, 0.5]], names=["a", "b"]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a"]
    missing, known = axes.collections[:2]
    np.testing.assert_allclose(missing.get_offsets()[:, 0], [-1.0])
    np.testing.assert_allclose(known.get_offsets()[:, 0], [1.0, 0.5])
    np.testing.assert_allclose(known.get_array(), [0, 1])


def test_summary_piles_points_up_within_their_row():
    axes = plot.summary(np.zeros((200, 2)), np.zeros((200, 2))).axes[0]
    heights = np.asarray(axes.collections[1].get_offsets()[:, 1])
    assert len(np.unique(heights)) == 200
    assert np.abs(heights).max() <= 0.4


def test_dependence_leaves_missing_values_out():
    x = np.array([[1.0, 5.0], [np.nan, 6.0], [3.0, 7.0]])
    axes = plot.dependence(x, 2 * np.nan_to_num(x), "a", names=["a", "b"], colour_by="b").axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[1, 2], [3, 6]])
    np.testing.assert_allclose(axes.collections[0].get_array(), [5, 7])
    assert axes.get_title() == "1 examples without a value are left out"


# Tokens


def test_tokens_sum_embeddings_and_wrap():
    value = RANDOM.normal(size=(7, 4))
    axes = plot.tokens(SENTENCE, value, width=20).axes[0]
    colours = [patch.get_facecolor() for patch in axes.patches]
    sums = value.sum(1)
    end = np.abs(sums).max()
    expected = [matplotlib.colormaps["RdBu_r"]((amount + end) / (2 * end)) for amount in sums]
    np.testing.assert_allclose(colours, expected)
    rows = [round(patch.get_y() - 0.1) for patch in axes.patches]
    assert rows == [0, 0, 0, 0, 0, 1, 1]
    assert all(patch.get_x() + patch.get_width() <= 20.5 for patch in axes.patches)


def test_tokens_html_escapes_everything_and_keeps_values():
    markup = plot.tokens_html([["<b>", "&", "x"]], [[0.5, -1.0, 0.0]], ["<i>"])
    assert "<b>" not in markup
    assert "<i>" not in markup
    assert "&lt;b&gt;</span>" in markup
    assert 'title="0.5"' in markup
    assert "background:#053061;color:white" in markup
    assert markup._repr_html_() == markup
    assert isinstance(markup, plot.Markup)


def test_text_is_drawn_as_it_stands():
    figure = plot.attribution_bar([1.0, 2.0], names=["$a$ and $b$", "_hidden"])
    FigureCanvasAgg(figure).draw()
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [" _hidden", r"\$a\$ and \$b\$"]


# Bad input

NAN = np.where(np.arange(64).reshape(1, 8, 8) == 5, np.nan, 0.0)

BAD = [
    (lambda: plot.samples(IMAGES[0]), "looks like one image"),
    (lambda: plot.samples(IMAGES[:0]), "empty"),
    (lambda: plot.samples(np.zeros((2, 8, 8, 5))), "5 channels"),
    (lambda: plot.samples(IMAGES, LABELS[:3]), r"`labels` has shape \(3,\), but there are 12 examples"),
    (lambda: plot.samples(IMAGES, LABELS, names=["a", "b"]), "`names` holds 2 names, but `labels` holds class 9"),
    (lambda: plot.samples(IMAGES, -LABELS, names=list("abcdefghij")), "classes run from 0"),
    (lambda: plot.samples(IMAGES, kind="video"), "`kind` is 'video'"),
    (lambda: plot.samples(FEATURES, features=["a"]), "`features` holds 1, but 12 are needed"),
    (lambda: plot.samples(IMAGES, limit=0), "`limit` has to be at least 1"),
    (lambda: plot.samples(NAN), "NaN"),
    (lambda: plot.heatmaps(NAN * 0 + 1, {"a": NAN}), r"NaN"),
    (lambda: plot.heatmaps(IMAGES[:1], {"a": NAN}), r"`attributions\['a'\]` has 1 NaN or infinite values"),
    (lambda: plot.heatmaps(IMAGES, {"a": MAPS[:5]}), "holds 12 images"),
    (lambda: plot.heatmaps(IMAGES, {"a": MAPS[0, 0]}), r"has to be \[B, H, W\] or \[B, H, W, C\]"),
    (lambda: plot.heatmaps(IMAGES, {}), "empty"),
    (lambda: plot.heatmaps(IMAGES, MAPS, scale="row"), "'panel', 'method', 'shared'"),
    (lambda: plot.heatmaps(IMAGES, MAPS, percentile=101), r"\(0, 100\]"),
    (lambda: plot.heatmaps(IMAGES, MAPS, percentile=0), "`percentile` has to be finite and positive"),
    (lambda: plot.tokens([], []), "empty"),
    (lambda: plot.tokens(WORDS, WEIGHTS[:1]), "2 sequences, but 1 attributions"),
    (lambda: plot.tokens(["a", "b"], [1.0]), "holds 2 tokens"),
    (lambda: plot.tokens_html(["a"], [np.nan]), "NaN"),
    (lambda: plot.activations({}), "empty"),
    (lambda: plot.activations({"conv": IMAGES}), "without the batch axis"),
    (lambda: plot.filters(np.zeros((9, 4))), r"shape=\(H, W, C\)"),
    (lambda: plot.filters(np.zeros((3, 3, 4))), r"`kernel` has shape \(3, 3, 4\)"),
    (lambda: plot.predictions(IMAGES, 5 * PROBABILITIES), "softmax"),
    (lambda: plot.predictions(IMAGES, PROBABILITIES[:2]), "there are 12 images"),
    (lambda: plot.predictions(IMAGES, PROBABILITIES, names=["a"]), "`names` holds 1, but 10 are needed"),
    (lambda: plot.predictions(IMAGES, PROBABILITIES, LABELS + 5), "class 14"),
    (lambda: plot.confusion_matrix([], []), "empty"),
    (lambda: plot.confusion_matrix([0, 1], [0]), "`labels` holds 2, but there are 1 examples"),
    (lambda: plot.confusion_matrix([0.5], [0]), "integers"),
    (lambda: plot.confusion_matrix([0, 2], [0, 1], names=["a", "b"]), "`names` holds 2 names"),
    (lambda: plot.learning_curves({"accuracy": [1.0]}), "no `loss`"),
    (lambda: plot.learning_curves({"loss": []}), "empty"),
    (lambda: plot.learning_curves({"loss": [1.0], "accuracy": [1.0, 2.0]}), "differ in shape"),
    (lambda: plot.layer_table([]), "empty"),
    (lambda: plot.layer_table([{"a": 1}, {"b": 1}]), "differ in their fields"),
    (lambda: plot.parameter_histograms({"n": np.arange(3)}), "no floating-point arrays"),
    (lambda: plot.activation_gallery(IMAGES, values=[1.0]), "`values` has shape"),
    (lambda: plot.curves({}), "empty"),
    (lambda: plot.curves({"a": [1.0, 2.0], "b": [1.0]}), "one number of points"),
    (lambda: plot.curves({"a": [1.0, 2.0]}, x=[1.0, 0.0]), "rise"),
    (lambda: plot.curves({"a": [1.0, np.nan]}), "NaN"),
    (lambda: plot.scores_table({}), "empty"),
    (lambda: plot.scores_table({"a": {"d": 1.0}}, better={"e": "lower"}), "none of d"),
    (lambda: plot.scores_table({"a": {"d": np.inf}}), "finite"),
    (lambda: plot.attribution_bar([1.0, np.nan]), "NaN"),
    (lambda: plot.attribution_bar([1.0], names=["a", "b"]), "`names` holds 2, but 1 are needed"),
    (lambda: plot.summary(FEATURES, EFFECTS[:5]), r"`values` has shape \(60, 12\), but `attributions` has \(5, 12\)"),
    (lambda: plot.waterfall([1.0, 2.0], np.nan), "NaN"),
    (lambda: plot.waterfall([1.0, 2.0], 0.0, values=[1.0]), "`values` has shape"),
    (lambda: plot.waterfall([1.0, 2.0], [0.0, 1.0]), "has to be a number"),
    (lambda: plot.dependence(FEATURES, EFFECTS, "age", names=NAMES), "none of `names`"),
    (lambda: plot.dependence(FEATURES, EFFECTS, 12), "12 features"),
    (lambda: plot.dependence(FEATURES * np.nan, EFFECTS, 0), "NaN in every example"),
    (lambda: plot.top_examples(IMAGES[:3], [1.0, 2.0]), "does not begin with the shape of `values`"),
    (lambda: plot.top_examples(IMAGES[:1], [np.nan]), "nothing to draw"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_values_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_bad_types_are_refused():
    with pytest.raises(TypeError, match="real numbers"):
        plot.heatmaps(IMAGES[:1], {"a": [[["x"]]]})
    with pytest.raises(TypeError, match="`inputs` has to be an array of real numbers"):
        plot.samples([[1.0, 2.0], [3.0]])
    with pytest.raises(TypeError, match="not texts"):
        plot.tokens([[3, 4]], [[1.0, 2.0]])
    with pytest.raises(TypeError, match="or what `score_table` returned"):
        plot.scores_table([1.0])
    with pytest.raises(TypeError, match="has no fields"):
        plot.layer_table([3])
    with pytest.raises(TypeError, match="draw outside of jit"):
        jax.jit(lambda a: plot.attribution_bar(a))(jnp.ones(3))


def test_jax_arrays_of_low_precision_are_drawn():
    figure = plot.heatmaps(jnp.asarray(IMAGES[:1], jnp.bfloat16), jnp.asarray(MAPS[:1], jnp.bfloat16))
    expected = np.asarray(jnp.asarray(MAPS[0, ..., 0], jnp.bfloat16), np.float64)
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), expected)


def test_timings_say_how_many_times_as_long():
    figure = plot.timings({"work": {"ours": (0.5, 0.4, 0.6), "peer": (1.0, 1.0, 1.0)}, "more": {"ours": (1, 1, 1)}})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["work", "ours", "peer  (2.00 x)", "more", "ours"]
    for times, message in (
        ({}, "is empty"),
        ({"work": {}}, "is empty"),
        ({"work": {"ours": (1.0, 2.0, 3.0)}}, r"times\['work'\]\['ours'\]"),
        ({"work": {"ours": (float("nan"), 1.0, 2.0)}}, "positive seconds"),
        ({"work": {"ours": (1.0, 0.0, 2.0)}}, "positive seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            plot.timings(times)
