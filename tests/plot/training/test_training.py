"""Figures and the section of a training run: what is drawn where, what is written, what is refused."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import plot, report, train
from tests.shared.figures import whole

ROWS = np.array([[1e-6, 1e-3, 1.0], [1e-5, 0.0, 0.5]])
LAYERS = train.LayerHistory(
    ROWS,
    1e-3 * ROWS,
    np.ones((2, 3)),
    np.array([[0, 2, 4], [1, 2, 4]]),
    ("a/$x$", "b", "c"),
    (4,) * 3,
    (4,) * 3,
    (True,) * 3,
)
HISTORY = train.History(np.array([1.0, 0.5]), np.array([0.5, 0.6]), np.ones(2), layers=LAYERS)
PARAMS = {"dense": {"kernel": np.arange(6.0).reshape(2, 3) - 2, "bias": np.zeros(3)}, "conv": np.ones((2, 2, 1, 4))}


def sweep(rates=(0.01, 0.1, 10.0), validation=True, seeds=2):
    draw = np.random.default_rng(0)
    loss = draw.random((len(rates), seeds, 4)) / np.array(rates)[:, None, None]
    loss[-1, -1, 2:] = np.nan
    return train.Sweep(
        {"learning_rate": np.array(rates)}, train.History(loss, loss, loss, 2 * loss if validation else None)
    )


def test_layers_by_epochs():
    figure = whole(plot.gradient_flow(HISTORY))
    gradient, _, dead = figure.axes[:3]
    assert [axes.get_title() for axes in figure.axes[:3]] == ["gradient of a weight", "update / weight", "dead units"]
    assert [text.get_text() for text in gradient.get_yticklabels()] == ["a/\\$x\\$", "b", "c"]
    values = gradient.images[0].get_array()
    np.testing.assert_allclose(values.filled(0), LAYERS.gradient_rms.T)
    np.testing.assert_array_equal(values.mask, LAYERS.gradient_rms.T == 0)  # grey: no logarithm
    np.testing.assert_allclose(dead.images[0].get_array(), LAYERS.dead_share.T)
    assert dead.images[0].norm.vmax == 1
    stopped = SimpleNamespace(
        names=LAYERS.names,
        **{
            k: np.vstack([getattr(LAYERS, k), np.full((2, 3), np.nan)])
            for k in ("gradient_rms", "update_ratio", "dead_share")
        },
    )
    assert plot.gradient_flow(stopped).axes[0].images[0].get_array().shape == (3, 2)
    broken = jax.tree.map(lambda a: np.where(np.arange(2)[:, None] > 0, np.inf, a), LAYERS)
    assert plot.gradient_flow(broken).axes[0].images[0].get_array().mask[:, 1].all()
    assert "first 2 of 3 layers" in plot.gradient_flow(LAYERS, limit=2).get_suptitle()


def test_weights_and_their_singular_values():
    figure = whole(plot.weight_matrices(PARAMS))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["conv\n2 x 2 x 1 x 4", "dense/kernel\n2 x 3"]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), PARAMS["dense"]["kernel"])
    assert figure.axes[0].images[0].get_array().shape == (4, 4)
    kernel = np.arange(6.0).reshape(2, 1, 3)
    turned = plot.weight_matrices({"w": kernel}, channel_axis=0).axes[0].images[0].get_array()
    np.testing.assert_array_equal(turned, [[0, 3], [1, 4], [2, 5]])
    assert "first 1 of 2 matrices" in plot.weight_matrices(PARAMS, limit=1).get_suptitle()
    spectra = train.weight_spectra({"w": jnp.diag(jnp.array([9.0, 3.0, 0.1])), "v": jnp.eye(2)})
    figure = whole(plot.singular_values(spectra))
    np.testing.assert_allclose(figure.axes[1].lines[0].get_ydata(), [9, 3, 0.1], rtol=1e-5)
    assert figure.axes[1].get_yscale() == "log"
    assert float(figure.axes[1].lines[1].get_ydata()[0]) == pytest.approx(float(spectra["w"].edge))


def test_losses_over_a_setting():
    found = sweep()
    figure = whole(plot.validation_curve(found, title="$5 rates"))
    left, right = figure.axes
    median = np.median(np.asarray(found.scores), axis=1)
    assert left.get_title() == f"best: {found.best['learning_rate']:.3g}"
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["training (last)", "validation (lowest)", "diverged (1 runs)"]
    lines = {line.get_label(): line for line in left.lines}
    np.testing.assert_allclose(lines["validation (lowest)"].get_ydata(), median[np.isfinite(median)])
    assert left.get_xscale() == "log"
    assert len(right.lines) == 6
    alone = plot.validation_curve(sweep(validation=False))
    assert alone.axes[0].get_legend().get_texts()[0].get_text() == "training (last)"
    broken = train.Sweep({"a": np.array([1.0])}, train.History(*[np.full((1, 1, 2), np.nan)] * 3))
    assert plot.validation_curve(broken).axes[0].get_title() == "all diverged"


def test_losses_over_two_settings():
    values = np.array([3.0, 2.0, 1.0, np.nan])[:, None, None] * np.ones((1, 3, 2))
    points = {"rate": np.array([0.1, 0.1, 0.2, 0.2]), "momentum": np.array([0.0, 0.9, 0.0, 0.9])}
    figure = whole(plot.validation_curve(train.Sweep(points, train.History(values, values, values))))
    (axes,) = figure.axes
    assert axes.get_title() == "training loss; best: rate 0.2, momentum 0"
    assert [text.get_text() for text in axes.texts] == ["3", "2", "1", "diverged"]


def test_what_cannot_be_drawn_is_refused():
    three = {name: np.ones(3) for name in "abc"}
    for call, words in {
        lambda: plot.gradient_flow(HISTORY._replace(layers=None)): "without `layers`; train with fit",
        lambda: plot.gradient_flow(jax.tree.map(lambda a: a[None], LAYERS)): "of one run",
        lambda: plot.gradient_flow(LAYERS, limit=0): "`limit`",
        lambda: plot.weight_matrices({"b": np.ones(3)}): "no floating-point array of two axes",
        lambda: plot.weight_matrices({"w": np.full((2, 2), np.nan)}): "NaN",
        lambda: plot.weight_matrices(PARAMS, channel_axis=7): "`channel_axis` is 7",
        lambda: plot.weight_matrices(PARAMS, percentile=0): "`percentile`",
        lambda: plot.singular_values({}): "`spectra` is empty",
        lambda: plot.singular_values(jax.vmap(train.weight_spectra)({"w": jnp.ones((2, 3, 3))})): "one set of params",
        lambda: plot.validation_curve(train.Sweep(three, sweep().history)): "draw one or two settings",
        lambda: plot.validation_curve(train.Sweep({"a": np.ones(2)}, sweep().history)): "values for 3 runs",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    for call, words in {
        lambda: plot.singular_values({"a": np.ones(3)}): "pass what train.weight_spectra",
        lambda: plot.validation_curve(HISTORY): "pass what train.hyperparameter_sweep",
    }.items():
        with pytest.raises(TypeError, match=words):
            call()


def test_a_section_of_a_report_holds_all_of_it(tmp_path):
    section = report.training_section(HISTORY, params=PARAMS, sweep=sweep())
    page = report.report(tmp_path / "page.html", [section]).read_text(encoding="utf-8")
    for words in (
        "The model is dead: 4 of 4 units of c",
        "update / weight",
        "2 of 4",
        "effective rank",
        "dense/kernel",
    ):
        assert words in page
    assert page.count("<img") == 5
    short = report.training_section(SimpleNamespace(loss=[1.0, 0.5]), diagnosis="As it is.")
    assert short.content[0] == "As it is."
    assert len(short.content) == 2


def test_a_section_says_what_it_leaves_out():
    tables = [
        part for part in report.training_section(HISTORY, params=PARAMS, limit=1).content if hasattr(part, "rows")
    ]
    measured, layers, spectra = tables
    assert measured.rows[0] == ("final loss", 0.5)
    assert layers.caption.startswith("The layers in epoch 2,")
    name, count, gradient, ratio, dead = layers.rows[0]
    assert (name, count, dead) == ("a/$x$", 4, "1 of 4")
    np.testing.assert_allclose([gradient, ratio], [1e-5 / 2, 1e-8], rtol=1e-5)  # a norm of 1e-5 over four numbers
    assert "in which the model uses them (the first 1 of 3)." in layers.caption
    assert spectra.caption.endswith("(the first 1 of 2).")
    assert [len(table.rows) for table in (layers, spectra)] == [1, 1]
