"""The symmetric relevance gain: closed form, what falls out of it, other models, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.evaluate import deletion, symmetric_relevance_gain

W = np.asarray(jax.random.normal(jax.random.key(0), (7,)), np.float64)
X = np.asarray(jax.random.normal(jax.random.key(1), (7,)), np.float32)
A = np.asarray(jax.random.normal(jax.random.key(2), (7,)), np.float32)


def linear(x):
    return jnp.asarray(W, jnp.float32) @ x


def test_the_gain_of_an_additive_score_is_the_difference_of_partial_sums():
    s, judge = W * X, jax.jit(symmetric_relevance_gain(linear))
    for a in (s, A, -s):
        most, least = (s[np.argsort(order, kind="stable")] for order in (-a, a))
        expected = (np.cumsum(most) - np.cumsum(least))[:-1].sum() / 7
        np.testing.assert_allclose(judge(X, a.astype(np.float32)), expected, atol=1e-5)
    np.testing.assert_allclose(judge(X, np.zeros(7, np.float32)), 0.0, atol=1e-6)  # ties go the same way in both
    assert symmetric_relevance_gain(linear).better == "higher"


def test_it_is_the_difference_of_two_areas_whatever_the_steps():
    def f(x):
        return jnp.tanh(x @ x) + linear(x)

    for steps, batch_size in ((None, 1), (3, 4)):
        given = {"steps": steps, "baseline": 0.3}
        area = jax.jit(deletion(f, **given))
        got = symmetric_relevance_gain(f, batch_size=batch_size, **given)(X, A)
        np.testing.assert_allclose(got, area(X, -A) - area(X, A), atol=1e-5)


def test_a_baseline_that_moves_both_curves_alike_falls_out():
    # f has a part that any removal at all destroys: it is in both orders, so that the gain does not see it.
    def brittle(x):
        return linear(x) + 100.0 * jnp.all(x != 0)

    m, n = symmetric_relevance_gain(linear), symmetric_relevance_gain(brittle)
    np.testing.assert_allclose(n(X, A), m(X, A), atol=1e-4)
    assert abs(float(deletion(brittle)(X, A) - deletion(linear)(X, A))) > 5


@pytest.mark.slow
def test_windows_groups_and_a_layer_of_a_flax_model():
    import flax.linen as nn

    image = jax.random.normal(jax.random.key(3), (4, 4, 2))
    model = nn.Sequential([nn.Conv(2, (3, 3)), nn.relu, lambda x: x.reshape(x.shape[0], -1), nn.Dense(3)])
    params = model.init(jax.random.key(0), image[None])
    f = jaxplain.logit(model.apply, params)
    a = jax.random.normal(jax.random.key(4), (4, 4, 2))
    groups = np.arange(4).reshape(2, 2).repeat(2, 0).repeat(2, 1)
    one = symmetric_relevance_gain(f, window=2)(image, a, 1)
    np.testing.assert_allclose(symmetric_relevance_gain(f, groups=groups)(image, a, 1), one, atol=1e-6)
    assert np.isfinite(one)
    body, head = jaxplain.split(f, "layers_0")
    hidden = body(image, 1)
    assert np.isfinite(symmetric_relevance_gain(head, steps=3)(hidden, hidden, image, 1))
    with pytest.raises(ValueError, match="not both"):
        symmetric_relevance_gain(f, window=2, groups=groups)


def test_one_step_is_refused_since_it_orders_nothing():
    with pytest.raises(ValueError, match=r"symmetric_relevance_gain: `steps` .* at least 2"):
        symmetric_relevance_gain(lambda x: x.sum(), steps=1)
    assert symmetric_relevance_gain(lambda x: x.sum(), steps=2)(jnp.arange(4.0), jnp.arange(4.0)) > 0
