"""The grid of methods and metrics: controls, removals, marks, ranks, intervals, costs, CSV, figure; models compared."""

import csv
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import plot

KEY = jax.random.key(0)
W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 1)), jnp.float32)
X = jax.random.uniform(jax.random.key(1), (12, 4, 4, 1)) + 0.1
MASK = jnp.zeros((12, 4, 4), bool).at[:, :2].set(True)


def score(x):
    return jnp.sum(W * x)


METHODS = {
    "gradient": jaxplain.gradient,
    "integrated": functools.partial(jaxplain.integrated_gradients, steps=4),
    "smooth": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=3),
}
METRICS = {
    "deletion": functools.partial(jaxplain.evaluate.deletion, steps=4),
    "correlation": functools.partial(jaxplain.evaluate.faithfulness_correlation, samples=8, size=4),
    "sensitivity": functools.partial(jaxplain.evaluate.max_sensitivity, radius=0.01, samples=2),
    "pointing": jaxplain.evaluate.pointing_game,
    "sparseness": jaxplain.evaluate.sparseness(),
    "largest": lambda x, a: a.max(),
}


@pytest.fixture(scope="module")
def table():
    return jaxplain.evaluate.compare(score, METHODS, METRICS, (X,), KEY, mask=MASK, samples=50)


@pytest.mark.slow
def test_controls_and_removals_are_always_there(table):
    blurred = tuple(f"blurred {name}" for name in METHODS)
    assert table.methods == (*METHODS, "random", "input", "edges", *blurred)
    assert table.control == (False,) * 3 + (True,) * 6
    assert table.metrics[:4] == ("deletion (zeros)", "deletion (mean)", "correlation (zeros)", "correlation (mean)")
    assert table.better == ("lower", "lower", "higher", "higher", "lower", "higher", "higher", None)
    assert table.values.shape == (9, 8, 12)
    assert table.score == "score"


@pytest.mark.slow
def test_methods_that_meet_their_own_baseline_are_marked(table):
    marked = {(table.methods[i], table.metrics[j]) for i, j in zip(*np.nonzero(table.own_baseline), strict=True)}
    assert marked == {("integrated", "deletion (zeros)"), ("integrated", "correlation (zeros)")}


@pytest.mark.slow
def test_cells_are_the_metrics_values(table):
    e = jaxplain.integrated_gradients(score, steps=4)
    a = jaxplain.explain_batch(e, X)
    np.testing.assert_allclose(
        table.values[1, 0],
        jaxplain.evaluate.evaluate_batch(jaxplain.evaluate.deletion(score, steps=4), X, a),
        rtol=1e-5,
    )
    mean = X.mean(0)
    np.testing.assert_allclose(
        table.values[1, 1],
        jaxplain.evaluate.evaluate_batch(jaxplain.evaluate.deletion(score, steps=4, baseline=mean), X, a),
        rtol=1e-4,
    )
    np.testing.assert_allclose(table.values[1, 2], 1.0, atol=1e-4)
    np.testing.assert_allclose(table.values[0, 4], 0.0, atol=1e-6)  # the gradient of a linear score does not move
    np.testing.assert_allclose(table.values[5, 7], jaxplain_edges(X).max((1, 2, 3)), rtol=1e-5)
    assert (table.low <= table.mean + 1e-6).all()
    assert (table.mean <= table.high + 1e-6).all()


def jaxplain_edges(x):
    """Sobel's operator, in NumPy."""
    out = np.zeros(x.shape)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            part = padded[:, i : i + 3, j : j + 3, 0]
            out[:, i, j, 0] = np.hypot((part * kernel).sum((1, 2)), (part * kernel.T).sum((1, 2)))
    return out


def test_ranks_costs_and_agreement(table):
    ranks = table.ranks
    assert table.best("correlation (zeros)") == "integrated"
    assert np.isnan(ranks[:, -1]).all()
    np.testing.assert_allclose(ranks[:, :7].sum(axis=0), 45.0)
    agreement = table.rank_agreement
    np.testing.assert_allclose(np.diag(agreement)[:7], 1.0)
    np.testing.assert_allclose(agreement[:7, :7], agreement[:7, :7].T)
    assert table.gradients[0] == 1.0
    assert table.gradients[1] > 4.0
    assert table.gradients[4] == 0.0
    assert (table.seconds > 0).all()
    with pytest.raises(ValueError, match="no direction"):
        table.best("largest")


def test_text_csv_and_figure(table, tmp_path):
    text = str(table)
    assert "[random]" in text
    assert "~" in text
    assert "score: score" in text
    table.to_csv(tmp_path / "grid.csv")
    with open(tmp_path / "grid.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9 * 8
    first = lines[0]
    assert (first["method"], first["metric"], first["better"]) == ("gradient", "deletion (zeros)", "lower")
    assert float(first["mean"]) == pytest.approx(table.mean[0, 0])
    figure = plot.comparison(table)
    words = [t.get_text() for axes in figure.axes for t in axes.texts] + [
        t.get_text() for axes in figure.axes for t in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    assert any("integrated" in word for word in words)
    assert any("deletion (zeros)" in word for word in words)
    with pytest.raises(TypeError, match="compare"):
        plot.comparison({"a": 1})


def test_undefined_examples_are_counted_and_left_out():
    masks = MASK.at[:3].set(False)
    table = jaxplain.evaluate.compare(
        score,
        {"gradient": jaxplain.gradient},
        {"pointing": jaxplain.evaluate.pointing_game},
        (X,),
        KEY,
        mask=masks,
        samples=20,
    )
    assert (table.undefined == 3).all()
    assert "(3 undefined)" in str(table)
    assert np.isfinite(table.mean).all()


@pytest.mark.slow
def test_the_same_key_gives_the_same_grid_and_a_data_set_serves():
    data = SimpleNamespace(inputs=X.reshape(12, 16), targets=jnp.arange(12) % 2, truth=None)
    f = jaxplain.logit(lambda p, x: x @ p, jnp.asarray(np.random.default_rng(1).normal(size=(16, 2)), jnp.float32))
    metrics = {
        "road": functools.partial(jaxplain.evaluate.road, baseline=0.5),
        "randomization": lambda method: jaxplain.evaluate.parameter_randomization(
            lambda p: method(jaxplain.logit(lambda p, x: x @ p, p)), f.params
        ),
    }
    one, two = (
        jaxplain.evaluate.compare(f, {"gradient": jaxplain.gradient}, metrics, data, KEY, samples=20) for _ in range(2)
    )
    np.testing.assert_array_equal(one.values, two.values)
    assert one.methods == ("gradient", "random", "input")
    assert one.metrics == ("road (zeros)", "road (mean)", "road (own)", "randomization")
    assert one.score == "logit"
    np.testing.assert_allclose(one.values[2, 3], 1.0, atol=1e-6)  # the input does not depend on the parameters


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"methods": {}}, ValueError, "at least one method"),
        ({"metrics": {}}, ValueError, "at least one metric"),
        ({"methods": {"random": jaxplain.gradient}}, ValueError, "name of a control"),
        ({"removals": {"zeros": 0.0}}, ValueError, "pass two"),
        ({"metrics": {"m": lambda q: q}}, TypeError, "first parameter"),
        ({"metrics": {"m": 3}}, TypeError, "metrics"),
        ({"metrics": {"curve": jaxplain.evaluate.deletion_curve}}, ValueError, "one number for each"),
        ({"data": X}, TypeError, "`data`"),
        ({"metrics": {"pointing": jaxplain.evaluate.pointing_game}}, ValueError, "mask"),
    ],
)
def test_bad_input_is_named(change, error, text):
    given = {
        "methods": {"gradient": jaxplain.gradient},
        "metrics": {"entropy": jaxplain.evaluate.entropy},
        "data": (X,),
    }
    given |= change
    with pytest.raises(error, match=text):
        jaxplain.evaluate.compare(
            score, given["methods"], given["metrics"], given["data"], KEY, removals=given.get("removals"), samples=5
        )


def linear(params, x):
    return x @ params


def test_models_are_compared_against_re_seeded_trainings():
    rng = np.random.default_rng(2)
    base, other = rng.normal(size=(2, 6, 3)).astype(np.float32)
    models = [
        (linear, jnp.asarray(m + 0.01 * rng.normal(size=(6, 3)), jnp.float32)) for m in (base, base, other, other)
    ]
    x = jnp.asarray(rng.normal(size=(20, 6)), jnp.float32)
    result = jaxplain.evaluate.compare_models(jaxplain.input_x_gradient, models, (x,), recipes=(0, 0, 1, 1), top=4)
    assert result.agreement[0, 1] > result.agreement[0, 2]
    assert result.within.mean() > 0.9
    assert result.between.mean() < 0.6
    worst = np.argsort(result.between - result.within, kind="stable")[:4]
    np.testing.assert_array_equal(result.changed, worst)
    assert "re-seeded" in str(result)
    assert "different" in str(result)
    labels = result.predictions[0]
    from scipy.stats import spearmanr

    a, b = (np.asarray(models[k][1])[:, labels[5]] * np.asarray(x[5]) for k in (0, 2))
    np.testing.assert_allclose(result.similarity[0, 2, 5], spearmanr(a, b).statistic, atol=1e-6)
    alone = jaxplain.evaluate.compare_models(jaxplain.gradient, models[:2], (x, jnp.zeros(20, int)))
    assert np.isnan(alone.between).all()
    with pytest.raises(ValueError, match="two models"):
        jaxplain.evaluate.compare_models(jaxplain.gradient, models[:1], (x,))
    with pytest.raises(ValueError, match="recipes"):
        jaxplain.evaluate.compare_models(jaxplain.gradient, models, (x,), recipes=(0, 1))
    with pytest.raises(ValueError, match="key"):
        jaxplain.evaluate.compare_models(METHODS["smooth"], models, (x,))


@pytest.mark.parametrize("kind", ["black box", "callback", "while loop", "whole numbers"])
def test_a_score_without_a_gradient_is_compared_and_its_unit_is_undefined(kind):
    rows = np.random.default_rng(0).integers(1, 5, (4, 3))
    weights = np.array([1.0, -2.0, 0.5], np.float32)

    def weighted(rows):
        return np.float32(rows @ weights)

    def in_jax(x):
        return x @ weights

    scores = {
        "black box": jaxplain.black_box(weighted),
        "callback": lambda x: jax.pure_callback(
            weighted, jax.ShapeDtypeStruct((), jnp.float32), x, vmap_method="broadcast_all"
        ),
        "while loop": lambda x: jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] + 1, in_jax(x)), (0, 0.0))[1],
        "whole numbers": in_jax,
    }
    x = rows if kind == "whole numbers" else rows.astype(np.float32)
    methods = {"ablation": functools.partial(jaxplain.feature_ablation, baseline=0)}
    settings = {"removals": {"zeros": 0, "ones": 1}, "samples": 20}

    def made(f, x):
        return jaxplain.evaluate.compare(f, methods, {"deletion": jaxplain.evaluate.deletion}, (x,), KEY, **settings)

    found, expected = made(scores[kind], x), made(in_jax, rows.astype(np.float32))
    assert np.isnan(found.gradients).all()
    assert expected.gradients[0] > 0
    np.testing.assert_allclose(found.values[0], expected.values[0], rtol=1e-6)
    assert "nan" not in str(found)
