"""Retraining, values of examples over coalitions, and what judges an attribution."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import influence, train

KEY = jax.random.key(0)


def network(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


def made(count=5, **changes):
    x = jax.random.normal(jax.random.key(1), (count, 2))
    y = (x[:, 0] > 0).astype(int)
    a, b = (jax.random.normal(jax.random.key(k), s) for k, s in ((2, (2, 3)), (3, (3, 2))))
    settings = {"key": KEY, "epochs": 3, "batch_size": count, "optimizer": optax.sgd(0.5), **changes}
    queries = influence.query_scores(network, (x[:2] + 0.3, y[:2]), influence.log_odds, higher_is_better=True)
    return train.training_run(network, {"a": a, "b": b}, (x, y), **settings), queries


def table(run, queries):
    """The score after training on every coalition, each by a call of its own."""
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=run.count)))
    score = jax.jit(lambda run, w: queries(run(w)))
    return {tuple(np.flatnonzero(mask)): np.asarray(score(run, jnp.asarray(mask))) for mask in masks}


def test_values_over_all_coalitions_are_brute_force(double):
    run, queries = made(4)
    scores = table(run, queries)
    n = run.count
    weights = {
        "data_shapley": lambda s: 1 / (n * math.comb(n - 1, s)),
        "banzhaf": lambda s: 1 / 2 ** (n - 1),
        # the integral of t^s (1 - t)^(n - 1 - s) over Beta(1, 4): s + 0 and n - 1 - s + 3 of n + 2 choose
        "beta_shapley": lambda s: 4 * math.factorial(s) * math.factorial(n + 2 - s) / math.factorial(n + 3),
    }
    for name, weight in weights.items():
        settings = {"alpha": 4.0} if name == "beta_shapley" else {}
        found = getattr(influence, name)(run, queries, batch_size=4, **settings)
        for i in range(n):
            others = [j for j in range(n) if j != i]
            right = sum(
                weight(size) * (scores[tuple(sorted((*s, i)))] - scores[s])
                for size in range(n)
                for s in itertools.combinations(others, size)
            )
            np.testing.assert_allclose(found.values[:, i], right, rtol=1e-9, atol=1e-12)
        total = np.asarray(found.values.sum(1))
        exact = scores[tuple(range(n))] - scores[()]
        assert np.allclose(total, exact, rtol=1e-9) == (name == "data_shapley")
        assert not np.any(found.checks["standard_error"])


@pytest.mark.slow
def test_drawn_values_lie_within_their_errors():
    run, queries = made(5)
    for name, samples in (("data_shapley", 80), ("banzhaf", 400), ("beta_shapley", 80)):
        method = getattr(influence, name)
        exact = method(run, queries, batch_size=32).values
        found = method(run, queries, samples=samples, key=KEY, batch_size=32)
        error = np.asarray(found.checks["standard_error"])
        assert (np.abs(found.values - exact) < 4 * error + 1e-6).all(), name
        assert (error > 0).all()


@pytest.mark.slow
def test_retraining_is_one_training_after_another():
    run, queries = made(5)
    weights = jnp.array([[1.0, 0, 1, 1, 0], [0.5, 1, 1, 0, 2], [1, 1, 1, 1, 1], [1, 1, 1, 0, 1]])
    one = jax.jit(influence.retraining(run, queries).__call__)
    right = jnp.stack([one(row) for row in weights])
    found = influence.retrain(run, weights, queries, batch_size=3)  # in blocks, the last one short
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
    without = influence.leave_one_out(run, queries, rows=[3, 4, 0], batch_size=3)
    np.testing.assert_allclose(without.values[:, 0], right[2] - right[3], rtol=1e-4, atol=1e-5)
    assert without.units == "score"
    for call, words in {
        lambda: influence.retrain(run, jnp.ones((2, 4)), queries): r"`weights` has shape \(2, 4\), but there are 5",
        lambda: influence.retrain(run, jnp.zeros((2, 5)), queries): "row 0 of `weights` leaves no example",
        lambda: influence.retrain(run, weights, lambda p: run.data.inputs[0][:, 0]): "does not depend",
        lambda: influence.leave_one_out(run, queries, rows=[5]): "`rows` run to 5",
        lambda: influence.random_masks(KEY, 2, 5, fraction=0.0): "`fraction` has to be finite and positive",
        lambda: influence.random_masks(KEY, 2, 1): "leaves none",
        lambda: influence.data_shapley(run, queries, samples=3): "need `key=`",
        lambda: influence.data_shapley(made(13)[0], queries): "have 2\\^13 coalitions",
        lambda: influence.beta_shapley(run, queries, alpha=-1.0): "`alpha`",
        lambda: influence.data_out_of_bag(run, queries, key=KEY): "has to score the 5 training examples",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.slow
def test_out_of_bag_values_are_means_over_the_trainings_without():
    run, _ = made(5)
    data = (run.data.inputs[0], run.data.targets)
    queries = influence.query_scores(network, data)
    mean, error = influence.data_out_of_bag(run, queries, samples=12, key=KEY, batch_size=12)
    draws = np.asarray(jax.random.randint(KEY, (12, 5), 0, 5))
    counts = np.stack([np.bincount(row, minlength=5) for row in draws])
    scores = np.asarray(influence.retrain(run, counts, queries, batch_size=12))
    for i in range(5):
        own = scores[counts[:, i] == 0, i]
        assert float(mean[i]) == pytest.approx(own.mean(), rel=1e-4)
        assert float(error[i]) == pytest.approx(own.std(ddof=1) / math.sqrt(len(own)), rel=1e-3)


def test_the_linear_datamodeling_score_is_a_mean_rank_correlation():
    rng = np.random.default_rng(0)
    masks = (rng.random((40, 6)) > 0.5).astype(float)
    masks[:, 0] = 1.0
    values = rng.normal(size=(3, 6))
    scores = (masks @ values.T) ** 3
    scores[:, 2] = rng.normal(size=40)
    found = influence.linear_datamodeling_score(values, masks, scores, samples=50)
    np.testing.assert_allclose(found.per_query[:2], 1.0)
    rank = np.argsort(np.argsort(masks @ values[2])), np.argsort(np.argsort(scores[:, 2]))
    assert found.per_query[2] == pytest.approx(np.corrcoef(*rank)[0, 1], abs=0.05)  # but for ties
    assert found.low <= found.mean <= found.high
    assert found.fraction == pytest.approx(np.mean(masks == 0))
    assert influence.linear_datamodeling_score(np.ones((3, 6)), masks[:, :6] * 0 + 1, scores, samples=2).mean == 0
    rows = influence.compare_influence(
        {"right": values}, masks, scores, costs={"right": {"seconds": 0.5, "gradients": 40}}
    )
    assert [row["method"] for row in rows] == ["right", "random"]
    assert rows[0]["above_random"]
    assert rows[0]["cost"]["seconds"] == 0.5
    for call, words in {
        lambda: influence.linear_datamodeling_score(values, masks, scores[:, :2]): r"`scores` has shape \(40, 2\)",
        lambda: influence.linear_datamodeling_score(values, masks[:2], scores[:2]): "make no rank correlation",
        lambda: influence.linear_datamodeling_score(values, masks * 0, scores): "leaves no example",
        lambda: influence.linear_datamodeling_score(values * np.nan, masks, scores): "`influence` has 18 NaN",
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


def test_the_curves_know_the_rows_beside_them():
    planted = np.array([True, False, True, False, False])
    curve = influence.mislabel_curve([5.0, 1.0, 3.0, 4.0, 0.0], planted, others={"loss": [9, 0, 8, 1, 1]}, points=5)
    assert curve.rows["method"].tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert curve.areas == {"random": 0.5, "method": pytest.approx(5 / 6), "loss": 1.0}
    assert curve.beaten == ("loss",)
    with pytest.raises(ValueError, match="marks 0 of 5"):
        influence.mislabel_curve(np.ones(5), np.zeros(5))


@pytest.mark.slow
def test_leaving_out_what_matters_most_changes_most():
    run, queries = made(5)
    exact = influence.leave_one_out(run, queries)
    curve = influence.leave_out_curve(run, queries, exact, counts=(1,))
    np.testing.assert_allclose(curve.rows["method"], -exact.values.max(1).mean(), rtol=1e-4)
    assert set(curve.rows) == {"method", "random", "loss", "gradient_norm"}
    assert curve.areas["method"] <= min(curve.areas.values())  # one left out: nothing is better
    scores = np.asarray(exact.scores)
    turned = influence.counterfactual_curve(run, queries, exact, counts=(1,), threshold=float(scores.min()) - 0.01)
    assert 0 <= turned.rows["method"][0] <= 1
    with pytest.raises(ValueError, match="leave none of 5"):
        influence.leave_out_curve(run, queries, exact, counts=(5,))


@pytest.mark.slow
def test_one_more_step_on_what_helps_raises_the_score():
    run, queries = made(5)
    params = run()
    data = (run.data.inputs[0], run.data.targets)
    products = influence.gradient_similarity(network, params, data, queries)
    found = influence.tail_patch(run, queries, products, k=1, step_size=1e-3)
    # One step on one example changes the score by its product of gradients, to first order.
    np.testing.assert_allclose(found["method"], 1e-3 * products.values.max(1), rtol=0.05, atol=2e-6)
    assert (found["method"] >= found["random"] - 2e-6).all()
    with pytest.raises(ValueError, match="`k` is 9"):
        influence.tail_patch(run, queries, products, k=9)


def test_tops_and_streams():
    values = jnp.array([[0.5, -2.0, 1.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
    loss = influence.Influence(values, None, "score", False, "by hand", {})
    top = influence.top_examples(loss, 2)
    assert top.helpful.tolist() == [[1, -1], [-1, -1]]  # of a loss, what lowers it
    assert top.harmful.tolist() == [[2, 0], [3, 2]]
    np.testing.assert_allclose(top.helpful_values, [[-2.0, 0], [0, 0]])

    def method(columns):
        return loss._replace(values=values[:, columns])

    streamed = influence.top_over_blocks(method, [jnp.array([0, 1]), jnp.array([2]), jnp.array([3])], k=2)
    for whole, part in zip(top, streamed, strict=True):
        assert np.asarray(part).tolist() == np.asarray(whole).tolist()
    with pytest.raises(ValueError, match="`k` is 9"):
        influence.top_examples(loss, 9)
    with pytest.raises(ValueError, match="gave no block"):
        influence.top_over_blocks(method, [])
