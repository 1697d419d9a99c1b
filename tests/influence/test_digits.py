"""On real digits: EK-FAC against leave-one-out retraining, to the end of training in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxplain import influence


def softmax(params, x):
    return x @ params["w"] + params["b"][None]


@pytest.mark.slow
def test_ekfac_foretells_leave_one_out_retraining_of_softmax_regression(double):
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = jnp.asarray(x[order] / 16), jnp.asarray(y[order])
    count, decay = 300, 0.01
    (x, y), asked = (x[:count], y[:count]), (x[count : count + 20], y[count : count + 20])
    onehot, features = jax.nn.one_hot(y, 10), jnp.concatenate([x, jnp.ones((count, 1))], axis=1)

    def slope(layer, weights):
        return features.T @ (weights[:, None] * (jax.nn.softmax(features @ layer) - onehot)) + decay * count * layer

    def curvature(layer):
        p = jax.nn.softmax(features @ layer)
        middle = jax.vmap(lambda p: jnp.diag(p) - jnp.outer(p, p))(p)
        left = jnp.einsum("nkl,ni->nikl", middle, features)
        return jnp.einsum("nikl,nj->ikjl", left, features).reshape(650, 650) + decay * count * jnp.eye(650)

    whole, layer = jnp.ones(count), jnp.zeros((65, 10))
    for _ in range(8):  # Newton
        factor = jax.scipy.linalg.cho_factor(curvature(layer))
        layer = layer - jax.scipy.linalg.cho_solve(factor, slope(layer, whole).reshape(-1)).reshape(65, 10)
    assert jnp.abs(slope(layer, whole)).max() < 1e-9

    def without(row):  # the optimum without one example, by steps with the curvature of all
        weights = whole.at[row].set(0.0)

        def step(_, layer):
            return layer - jax.scipy.linalg.cho_solve(factor, slope(layer, weights).reshape(-1)).reshape(65, 10)

        end = jax.lax.fori_loop(0, 15, step, layer)
        return queries({"w": end[:-1], "b": end[-1]}), jnp.abs(slope(end, weights)).max()

    queries = influence.query_scores(softmax, asked)
    params = {"w": layer[:-1], "b": layer[-1]}
    scores, rest = jax.jit(lambda rows: jax.lax.map(without, rows, batch_size=30))(jnp.arange(count))
    assert rest.max() < 1e-6
    changes = np.asarray(queries(params)[None] - scores)  # what each example adds
    for solver, least in (("explicit", 0.99), ("ekfac", 0.85)):
        found = influence.influence_function(
            softmax, params, (x, y), queries, solver=solver, damping=decay * count, batch_size=100
        )
        each = [np.corrcoef(found.values[q], changes[:, q])[0, 1] for q in range(20)]
        assert np.mean(each) > least, (solver, each)
        assert found.checks.get("diagonal", ()) == ()
