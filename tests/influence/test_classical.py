"""Products of gradients, TracIn, TRAK, representer points and nearest neighbours, against their formulas."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxplain import influence, train
from jaxplain.influence.trak import project

KEY = jax.random.key(0)


def network(params, x):
    return jnp.tanh(x @ params["a"] + params["c"][None]) @ params["b"] * params["scale"]


def problem(count=9):
    x = jax.random.normal(jax.random.key(1), (count, 3))
    a, b = (jax.random.normal(jax.random.key(k), s) for k, s in ((2, (3, 4)), (3, (4, 3))))
    return {"a": a, "b": b, "c": jnp.full(4, 0.1), "scale": jnp.ones(())}, (x, jnp.arange(count) % 3)


def gradients(apply, params, x, y, criterion):
    def one(x, y):
        gradient = jax.grad(lambda p: criterion(apply(p, x[None])[0], y))(params)
        return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(gradient)])

    return np.asarray(jax.vmap(one)(x, y))


@pytest.mark.slow
def test_products_of_gradients_are_those_of_the_whole_matrix(double):
    params, (x, y) = problem()
    queries = influence.query_scores(network, (x[:4] + 1, y[:4]), influence.log_odds, higher_is_better=True)
    learnt = gradients(network, params, x, y, train.cross_entropy)
    asked = gradients(network, params, x[:4] + 1, y[:4], influence.log_odds)
    right = -asked @ learnt.T
    norms = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(learnt, axis=1)[None]
    for given in (queries, lambda params: queries(params)):  # by layers' inputs, and along directions
        for similarity, values in (("dot", right), ("cosine", right / norms)):
            found = influence.gradient_similarity(network, params, (x, y), given, similarity=similarity, batch_size=4)
            np.testing.assert_allclose(found.values, values, rtol=1e-9, atol=1e-12)
            assert found.units is None
    last = np.zeros(learnt.shape[1])
    last[12:24] = 1.0  # the leaves are a, b, c, scale
    found = influence.gradient_similarity(network, params, (x, y), queries, last_layer=True)
    np.testing.assert_allclose(found.values, -(asked * last) @ learnt.T, rtol=1e-9, atol=1e-12)
    own = influence.self_influence(network, params, (x, y))
    np.testing.assert_allclose(own, -np.sum(learnt**2, axis=1), rtol=1e-9)
    damped = influence.self_influence(network, params, (x, y), damping=0.5, curvature="fisher")
    inverse = np.linalg.inv(learnt.T @ learnt + 0.5 * np.eye(learnt.shape[1]))
    np.testing.assert_allclose(damped, -np.einsum("np,pq,nq->n", learnt, inverse, learnt), rtol=1e-8)


class Shared(nn.Module):
    """Dense layers over many positions, wide and narrow, and a convolution."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(2, (3,), param_dtype=jnp.float64)(x)
        x = nn.Dense(32, param_dtype=jnp.float64)(x)  # by its gradients
        x = jnp.tanh(nn.Dense(32, param_dtype=jnp.float64)(x)).mean(axis=1)  # by pairs of positions
        return nn.Dense(3, param_dtype=jnp.float64)(x)


@pytest.mark.slow
def test_shared_weights_are_summed_over_positions(double):
    module = Shared()
    x, y = jax.random.normal(KEY, (5, 3, 2)), jnp.arange(5) % 3
    params = module.init(KEY, x[:1])
    queries = influence.query_scores(module.apply, (x[:2] + 1, y[:2]))
    learnt = gradients(module.apply, params, x, y, train.cross_entropy)
    asked = gradients(module.apply, params, x[:2] + 1, y[:2], train.cross_entropy)
    found = influence.gradient_similarity(module.apply, params, (x, y), queries)
    np.testing.assert_allclose(found.values, -asked @ learnt.T, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_tracin_with_every_step_is_the_derivative_to_first_order(double):
    params, (x, y) = problem(6)
    queries = influence.query_scores(network, (x[:2] + 1, y[:2]))
    rate = 1e-6
    run = train.training_run(
        network, params, (x, y), key=KEY, epochs=1, batch_size=6, optimizer=optax.sgd(rate), every=1
    )
    checkpoints = jax.jit(lambda run: run.trajectory()[1])(run)
    assert jax.tree.leaves(checkpoints)[0].shape[0] == run.steps == 1
    found = influence.tracin(network, checkpoints, (x, y), queries, learning_rates=rate / 6)
    right = influence.unrolled(run, queries, masks=0).values
    np.testing.assert_allclose(found.values, right, rtol=1e-4)
    with pytest.raises(ValueError, match="those of another model"):
        influence.tracin(network, {"w": jnp.ones((1, 3, 3))}, (x, y), queries)
    with pytest.raises(ValueError, match=r"`learning_rates` has shape \(3,\), but there are 1 checkpoints"):
        influence.tracin(network, checkpoints, (x, y), queries, learning_rates=jnp.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("damping", [0.3, None])
def test_trak_is_its_formula_where_nothing_is_projected(double, damping):
    params, (x, y) = problem()
    stacked = jax.tree.map(lambda a: jnp.stack([a, a * 1.1]), params)
    found = influence.trak(
        network, stacked, (x, y), (x[:2] + 1, y[:2]), key=KEY, dimension=None, damping=damping, batch_size=4
    )
    maps, shares = 0.0, 0.0
    for factor in (1.0, 1.1):
        p = jax.tree.map(lambda a, factor=factor: a * factor, params)
        phi, asked = (gradients(network, p, u, y[: len(u)], influence.log_odds) for u in (x, x[:2] + 1))
        penalty = 1e-6 * np.sum(phi**2) / phi.shape[1] if damping is None else damping
        maps += asked @ phi.T @ np.linalg.inv(phi @ phi.T + penalty * np.eye(9)) / 2
        shares += (1 - np.asarray(jax.nn.softmax(network(p, x)))[np.arange(9), y]) / 2
    np.testing.assert_allclose(found.values, maps * shares[None], rtol=1e-7, atol=1e-9)
    assert (found.units, found.higher_is_better) == (None, True)


def test_projected_products_are_unbiased_and_rest_on_no_cut():
    u, v = jax.random.normal(KEY, (2, 50))
    both = jnp.stack([u, v])
    draws = jax.jit(jax.vmap(lambda key: jnp.prod(project(both, key, 4), axis=0).sum()))(jax.random.split(KEY, 300))
    error = draws.std() / jnp.sqrt(300)
    assert abs(draws.mean() - u @ v) < 4 * error
    cuts = [project(both, KEY, 8, chunk) for chunk in (50, 7)]
    np.testing.assert_allclose(cuts[0], cuts[1], rtol=1e-5, atol=1e-5)


def test_log_odds_stay_finite_where_the_probability_is_one():
    value, slope = jax.value_and_grad(influence.log_odds)(jnp.array([500.0, 0.0, 0.0]), 0)
    assert float(value) == pytest.approx(500 - math.log(2))
    np.testing.assert_allclose(slope, [1.0, -0.5, -0.5])
    z = jnp.array([0.3, -0.2, 1.0])
    p = jax.nn.softmax(z)[2]
    assert float(influence.log_odds(z, 2)) == pytest.approx(float(jnp.log(p / (1 - p))), rel=1e-5)


def with_bias(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"] + params["c"][None]


@pytest.mark.slow
def test_representer_contributions_sum_to_the_logit(double):
    params, (x, y) = problem()
    params = {"a": params["a"], "b": params["b"], "c": jnp.zeros(3)}
    found = influence.representer_points(with_bias, params, (x, y), (x[:3] + 1, y[:3]), damping=0.05)
    assert found.checks["gap"] < 1e-6
    np.testing.assert_allclose(found.values.sum(1), found.scores, atol=1e-6)
    # The layer that it trains on to is the minimum: its gradient vanishes, by the penalty's own formula.
    features = np.concatenate([np.tanh(x @ params["a"]), np.ones((9, 1))], axis=1)
    probes = np.concatenate([np.tanh((x[:3] + 1) @ params["a"]), np.ones((3, 1))], axis=1)

    def objective(layer):
        return jnp.sum(jax.vmap(train.cross_entropy)(features @ layer, y)) + 0.05 * jnp.sum(layer**2) / 2

    layer = jnp.zeros((5, 3))
    second, first = jax.jit(jax.hessian(objective)), jax.jit(jax.grad(objective))
    for _ in range(30):
        layer = layer - jnp.linalg.solve(second(layer).reshape(15, 15), first(layer).reshape(-1)).reshape(5, 3)
    np.testing.assert_allclose(found.scores, (probes @ layer)[np.arange(3), y[:3]], rtol=1e-6)
    with pytest.raises(ValueError, match="is not that of the model"):
        influence.representer_points(network, {**problem()[0], "scale": jnp.full((), 2.0)}, (x, y), (x, y), damping=1.0)


def test_neighbour_values_are_those_of_all_coalitions():
    rng = np.random.default_rng(0)
    features, probes = rng.normal(size=(6, 2)), rng.normal(size=(3, 2))
    labels, answers = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 1, 1])
    for neighbours in (1, 2, 8):
        found = influence.knn_shapley(features, labels, probes, answers, neighbours=neighbours)

        def utility(subset, q, neighbours=neighbours):
            near = sorted(subset, key=lambda i: np.sum((features[i] - probes[q]) ** 2))[:neighbours]
            return sum(labels[i] == answers[q] for i in near) / neighbours

        for q, i in itertools.product(range(3), range(6)):
            others = [j for j in range(6) if j != i]
            value = sum(
                (utility((*s, i), q) - utility(s, q)) / (6 * math.comb(5, size))
                for size in range(6)
                for s in itertools.combinations(others, size)
            )
            assert float(found.values[q, i]) == pytest.approx(value, abs=1e-6)
        np.testing.assert_allclose(found.values.sum(1), found.scores, atol=1e-6)  # v(empty) = 0
    with pytest.raises(ValueError, match="`query_features` 3"):
        influence.knn_shapley(features, labels, np.ones((2, 3)), answers[:2])
    with pytest.raises(TypeError, match="`labels` has dtype float"):
        influence.knn_shapley(features, labels + 0.5, probes, answers)
