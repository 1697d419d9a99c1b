"""Effects over a dataset: closed forms of linear and additive scores, NumPy references, categories, bad input."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import data, plot
from jaxplain.aggregate.importance import Importance

KEY = jax.random.key(0)
DATA = np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32)
WEIGHTS = jnp.array([2.0, -1.0, 0.5, 0.0])


def interacting(x, k=1.0):
    return k * jnp.sin(x[0]) * x[1] + x[2] ** 2


@pytest.mark.slow
def test_linear_closed_forms():
    mean = DATA.mean(axis=0, dtype=np.float64)
    for feature in range(4):
        effect = jaxplain.aggregate.partial_dependence(lambda x: WEIGHTS @ x + 3, feature, batch_size=10)(DATA)
        rest = float(WEIGHTS @ mean - WEIGHTS[feature] * mean[feature])
        np.testing.assert_allclose(effect.score, WEIGHTS[feature] * effect.grid + rest + 3, atol=1e-5)
        local = jaxplain.aggregate.accumulated_local_effects(lambda x: WEIGHTS @ x + 3, feature, batch_size=10)(DATA)
        np.testing.assert_allclose(local.score, WEIGHTS[feature] * (local.grid - mean[feature]), atol=1e-5)
        assert int(local.counts.sum()) == 53
        assert int(effect.counts.sum()) == 53


@pytest.mark.slow
def test_additive_closed_forms():
    drawn, score = data.additive_tabular(KEY, 200)
    rows = drawn.inputs
    terms = np.asarray(jax.vmap(score.terms)(rows), np.float64)
    for feature in range(0, rows.shape[1], 3):
        effect = jaxplain.aggregate.partial_dependence(score, feature, points=9)(rows)
        own = jax.vmap(lambda v, i=feature: score.terms(jnp.full(rows.shape[1], v))[i])(effect.grid)
        rest = terms.sum(axis=1).mean() - terms[:, feature].mean()
        np.testing.assert_allclose(effect.score, own + rest, atol=1e-5)
        local = jaxplain.aggregate.accumulated_local_effects(score, feature, grid=np.asarray(effect.grid))(rows)
        np.testing.assert_allclose(np.diff(local.score), np.diff(own), atol=1e-5)
        curves = jaxplain.aggregate.individual_conditional_expectation(score, feature, points=9, batch_size=7)(rows)
        assert curves.score.shape == (200, 9)
        np.testing.assert_allclose(curves.score.mean(axis=0), effect.score, atol=1e-5)
        np.testing.assert_allclose(curves.score[3], own + terms[3].sum() - terms[3, feature], atol=1e-5)


def test_curves_equal_numpy():
    grid = np.array([-1.0, 0.5, 2.0])
    k = np.linspace(0.5, 2, 53).astype(np.float32)
    effect = jaxplain.aggregate.partial_dependence(interacting, 0, grid=grid, batch_size=8)(DATA, k)
    expected = [(k * np.sin(v) * DATA[:, 1] + DATA[:, 2] ** 2).mean() for v in grid]
    np.testing.assert_allclose(effect.score, expected, atol=1e-5)
    centered = jaxplain.aggregate.individual_conditional_expectation(interacting, 0, grid=grid, centered=True)(DATA, k)
    np.testing.assert_allclose(centered.score, k[:, None] * DATA[:, 1:2] * (np.sin(grid) - np.sin(-1.0)), atol=1e-5)
    edges = np.quantile(DATA[:, 0], [0, 0.25, 0.5, 0.75, 1])
    local = jaxplain.aggregate.accumulated_local_effects(interacting, 0, grid=edges, batch_size=8)(DATA, 2.0)
    curve = [0.0]
    for low, high in itertools.pairwise(edges):
        inside = (DATA[:, 0] > low) & (DATA[:, 0] <= high) | ((low == edges[0]) & (DATA[:, 0] <= low))
        curve.append(curve[-1] + (2 * (np.sin(high) - np.sin(low)) * DATA[inside, 1]).mean())
    curve -= np.interp(DATA[:, 0], edges, curve).mean()
    np.testing.assert_allclose(local.score, curve, atol=1e-5)


def test_curves_equal_scikit_learns():
    pytest.importorskip("sklearn")
    from sklearn.inspection import partial_dependence
    from sklearn.kernel_ridge import KernelRidge

    rows = DATA.astype(np.float64)
    model = KernelRidge(kernel="rbf", gamma=0.3).fit(rows, np.sin(rows[:, 0]) * rows[:, 1] + rows[:, 2])

    def score(x):
        return jnp.exp(-0.3 * ((x[None] - DATA) ** 2).sum(axis=1)) @ jnp.asarray(model.dual_coef_, jnp.float32)

    for feature in (0, 2):
        right = partial_dependence(model, rows, [feature], kind="both", method="brute", grid_resolution=7)
        (grid,), (mean,), (each,) = right["grid_values"], right["average"], right["individual"]
        effect = jaxplain.aggregate.partial_dependence(score, feature, grid=grid, batch_size=20)(DATA)
        np.testing.assert_allclose(effect.score, mean, atol=1e-5)
        curves = jaxplain.aggregate.individual_conditional_expectation(score, feature, grid=grid)(DATA)
        np.testing.assert_allclose(curves.score, each, atol=1e-5)


def test_local_effects_by_hand():
    # f = x_1 x_2 over (0, 1), (1, 3), (2, 5), (3, -1), intervals (0, 1.5] and (1.5, 3], the first value in the first:
    # mean x_2 is (1 + 3) / 2 = 2 and (5 - 1) / 2 = 2, so the curve is 0, 3, 6; the data lie on it at 0, 2, 4, 6.
    rows = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0], [3.0, -1.0]], np.float32)
    e = jaxplain.aggregate.accumulated_local_effects(lambda x: x[0] * x[1], 0, grid=[0.0, 1.5, 3.0])
    effect = e(rows)
    np.testing.assert_allclose(effect.score, [-3.0, 0.0, 3.0], atol=1e-6)
    assert np.asarray(effect.counts).tolist() == [0, 2, 2]
    # With another row in the second interval, (3, 8): the slope there is (5 - 1 + 8) / 3 = 4, the curve 0, 3, 9, the
    # data on it at 0, 2, 5, 9, 9 with the mean 5.
    effect = e(np.concatenate([rows, np.array([[3.0, 8.0]], np.float32)]))
    np.testing.assert_allclose(effect.score, [-5.0, -2.0, 4.0], atol=1e-6)
    # Ends at data: a value that is an end lies in the interval below it.
    effect = jaxplain.aggregate.accumulated_local_effects(lambda x: x[0] * x[1], 0)(rows)
    np.testing.assert_allclose(np.diff(effect.score), [(1 + 3) / 2, 5, -1], atol=1e-6)
    # Repeated values, more than `points`: 5 of 0 and one each of 1, 2, 3; quantiles that coincide are one end.
    many = np.stack([[0, 0, 0, 0, 0, 1, 2, 3], np.arange(8)], axis=1).astype(np.float32)
    effect = jaxplain.aggregate.accumulated_local_effects(lambda x: x[0] * x[1], 0, points=3)(many)
    np.testing.assert_allclose(effect.grid, [0, 3])
    np.testing.assert_allclose(effect.score, 10.5 * (np.array([0, 3]) / 3 - 0.25), atol=1e-5)


def test_dependent_features_mislead_partial_dependence_and_not_local_effects():
    one = np.random.default_rng(1).uniform(0, 1, 2000)
    rows = np.stack([one, one], axis=1).astype(np.float32)  # the source's example: x_1 = x_2, f = x_1 x_2 off the line

    def score(x):
        return jnp.where(jnp.abs(x[0] - x[1]) < 0.2, x[0], 100.0)

    local = jaxplain.aggregate.accumulated_local_effects(score, 0)(rows)
    np.testing.assert_allclose(np.diff(local.score), np.diff(local.grid), atol=1e-4)
    assert np.abs(jaxplain.aggregate.partial_dependence(score, 0)(rows).score).max() > 50


def test_categories_are_groups_and_trees_are_inputs():
    kind = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    rows = {"kind": kind, "size": np.linspace(0, 1, 12, dtype=np.float32), "id": np.arange(12)}
    groups = {"kind": np.zeros(3, int), "size": np.array(1), "id": np.array(2)}
    price = jnp.array([1.0, 5.0, 2.0])

    def score(x):
        return price @ x["kind"] + 10 * x["size"] + 0.0 * x["id"]

    effect = jaxplain.aggregate.partial_dependence(score, 0, groups=groups)(rows)
    assert effect.grid.shape == (3, 3)
    np.testing.assert_array_equal(effect.grid, np.eye(3))
    np.testing.assert_allclose(effect.score, price + 5.0, rtol=1e-5)
    assert np.asarray(effect.counts).tolist() == [4, 4, 4]
    np.testing.assert_allclose(
        jaxplain.aggregate.partial_dependence(score, 1, groups=groups)(rows).grid, rows["size"], rtol=1e-6
    )
    with pytest.raises(ValueError, match="no order"):
        jaxplain.aggregate.accumulated_local_effects(score, 0, groups=groups)(rows)
    with pytest.raises(ValueError, match="combinations"):
        jaxplain.aggregate.partial_dependence(lambda x: x.sum(), 0, groups=np.zeros(4, int))(DATA)


@pytest.mark.slow
def test_permutation_importance_equals_numpy():
    targets = np.asarray(DATA @ WEIGHTS)

    def loss(x, y):
        return (WEIGHTS @ x - y) ** 2

    m = jaxplain.aggregate.permutation_importance(loss, samples=3, batch_size=10)
    result = m(KEY, DATA, targets)
    for feature in range(4):
        for sample in range(3):
            order = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(KEY, feature), sample), 53)
            change = WEIGHTS[feature] * (DATA[np.asarray(order), feature] - DATA[:, feature])
            np.testing.assert_allclose(result.values[sample, feature], (change**2).mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.score, 0, atol=1e-9)
    assert np.argmax(result.mean) == 0
    np.testing.assert_allclose(result.mean[3], 0, atol=1e-9)
    np.testing.assert_allclose(result.standard_error, result.values.std(axis=0, ddof=1) / np.sqrt(3), rtol=1e-5)
    together = jaxplain.aggregate.permutation_importance(loss, groups=np.array([0, 0, 1, 1]), samples=2)(
        KEY, DATA, targets
    )
    assert together.mean.shape == (2,)
    many = jaxplain.aggregate.permutation_importance(loss, samples=100)(KEY, DATA, targets)
    expected = 2 * np.asarray(WEIGHTS) ** 2 * DATA.var(axis=0)  # the mean over all permutations
    assert (np.abs(many.mean - expected) <= 4 * many.standard_error + 1e-6).all()


def test_one_program_serves_all_features():
    traces = []

    def score(x):
        traces.append(1)
        return x.sum()

    for feature in range(4):
        jaxplain.aggregate.partial_dependence(score, feature, points=5)(DATA)
        if feature == 0:
            count = len(traces)
    assert len(traces) == count


def test_bad_input():
    def score(x):
        return x.sum()

    with pytest.raises(ValueError, match="`feature` is 4, but there are 4"):
        jaxplain.aggregate.partial_dependence(score, 4)(DATA)
    with pytest.raises(ValueError, match="rising"):
        jaxplain.aggregate.accumulated_local_effects(score, 0, grid=[1.0, 0.0])(DATA)
    with pytest.raises(ValueError, match="single value"):
        jaxplain.aggregate.accumulated_local_effects(score, 0)(np.ones((5, 2), np.float32))
    with pytest.raises(ValueError, match=r"`grid` has shape \(2, 2\)"):
        jaxplain.aggregate.partial_dependence(score, 0, grid=np.ones((2, 2)))(DATA)
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.aggregate.partial_dependence(score, 0)(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="score `f` is NaN or infinite"):
        jaxplain.aggregate.partial_dependence(lambda x: jnp.log(x).sum(), 0)(DATA)
    with pytest.raises(ValueError, match="score `f` is NaN or infinite"):
        jaxplain.aggregate.permutation_importance(lambda x: jnp.log(x).sum())(KEY, DATA)
    with pytest.raises(ValueError, match="one example"):
        jaxplain.aggregate.permutation_importance(score)(KEY, DATA[:1])
    with pytest.raises(ValueError, match="argument 1"):
        jaxplain.aggregate.partial_dependence(lambda x, y: x.sum() * y, 0)(DATA, np.ones(3))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(jaxplain.aggregate.partial_dependence(score, 0))(DATA)
    with pytest.raises(TypeError, match="integers"):
        jaxplain.aggregate.partial_dependence(score, 0, groups=np.ones(4))
    with pytest.raises(ValueError, match="no value is in group"):
        jaxplain.aggregate.permutation_importance(score, groups=np.array([0, 2, 2, 0]))


def test_figures():
    curve = jaxplain.aggregate.individual_conditional_expectation(interacting, 0, points=6)(DATA)
    kinds = SimpleNamespace(grid=np.eye(2), score=np.array([1.0, -1.0]))
    figure = plot.effects({"a": curve, "kind": kinds}, data={"a": DATA[:, 0]}, categories={"kind": ["red", "blue"]})
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "kind"]
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["red", "blue"]
    mean = next(line for line in figure.axes[0].get_lines() if line.get_linewidth() > 1.5)
    np.testing.assert_allclose(mean.get_ydata(), curve.score.mean(axis=0), rtol=1e-5)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    result = Importance(np.array([0.1, 2.0, -0.5]), np.array([0.1, 0.1, 0.1]), None, None)
    bars = plot.importance(result, names=["a", "b", "c"], limit=2)
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ["b", "c"]
    steps = np.arange(6.0).reshape(3, 2)
    traced = plot.traces({"value": steps}, {"value": steps[:, 0]}, names=["x", "y"], inputs=steps)
    assert len(traced.axes) == 3
    np.testing.assert_allclose(traced.axes[1].get_lines()[1].get_ydata(), steps[:, 1])
    with pytest.raises(ValueError, match="empty"):
        plot.effects({})
    with pytest.raises(ValueError, match="grid of 2 values and a score of 3"):
        plot.effects({"a": SimpleNamespace(grid=[0.0, 1.0], score=[0.0, 1.0, 2.0])})
    with pytest.raises(ValueError, match="same names"):
        plot.traces({"a": steps}, {"b": steps[:, 0]})
    with pytest.raises(ValueError, match="same steps"):
        plot.traces({"a": steps}, {"a": np.zeros(5)})
    with pytest.raises(ValueError, match="`error` has shape"):
        plot.importance([1.0, 2.0], [1.0])
