"""LRP and DeepLIFT through products of many values and maxima over segments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import relevance

RULES = ("rescale", "reveal_cancel")


@pytest.mark.slow
def test_relevance_of_a_product_is_shared_by_its_factors():
    x = jnp.array([2.0, -3.0, 0.5, 4.0])
    r = jaxplain.lrp(jnp.prod, relevance.epsilon())(x)
    np.testing.assert_allclose(r, np.full(4, -12 / 4), rtol=1e-5)
    # The k-th cumulative product gives each of its k factors a k-th: 2, -6, -3, -12.
    r = jaxplain.lrp(lambda x: jnp.cumprod(x).sum(), relevance.epsilon())(x)
    np.testing.assert_allclose(r, [2 - 3 - 1 - 3, -3 - 1 - 3, -1 - 3, -3], rtol=1e-5)
    r = jaxplain.lrp(lambda x: jax.lax.cumprod(x, reverse=True).sum(), relevance.epsilon())(x)
    np.testing.assert_allclose(r, [-3, -3 - 2, -3 - 2 + 1, -3 - 2 + 1 + 4], rtol=1e-5)
    # A product of two is the product: half each.
    np.testing.assert_allclose(jaxplain.lrp(jnp.prod, relevance.epsilon())(x[:2]), [-3, -3], rtol=1e-5)


@pytest.mark.slow
def test_differences_of_a_product_by_hand():
    # Of two factors: (a + a0) / 2. Of (3, 3, 3) from zeros, each the same: 27 / 3.
    np.testing.assert_allclose(jaxplain.deep_lift(jnp.prod, baseline=1.0)(jnp.array([3.0, 5.0])), [6.0, 8.0], rtol=1e-6)
    np.testing.assert_allclose(jaxplain.deep_lift(jnp.prod)(jnp.full(3, 3.0)), [9.0, 9.0, 9.0], rtol=1e-6)
    # From zeros, x_1 x_2 x_3 is shared out equally whatever the values are: integrals of t^2.
    np.testing.assert_allclose(jaxplain.deep_lift(jnp.prod)(jnp.array([1.0, 2.0, -3.0])), [-2.0, -2.0, -2.0], rtol=1e-6)


SEGMENTS = jnp.array([0, 2, 0, 2, 2, 4])
W = jax.random.normal(jax.random.key(0), (6, 6))


def attention(x):
    """One head of graph attention, made stable by the largest logit of each segment."""
    h = jnp.outer(x, W[0]) + W
    logits = jax.nn.leaky_relu(h @ W[1])
    largest = jax.ops.segment_max(logits, SEGMENTS, num_segments=5)
    weights = jnp.exp(logits - largest[SEGMENTS])
    weights = weights / jax.ops.segment_sum(weights, SEGMENTS, num_segments=5)[SEGMENTS]
    return (jax.ops.segment_sum(weights[:, None] * h, SEGMENTS, num_segments=5) * W[:5]).sum()


FUNCTIONS = {
    "product": lambda x: jnp.prod(x + 1),
    "products in rows": lambda x: (jnp.prod(jnp.outer(x, W[0]) + 1, axis=1) * W[1]).sum(),
    "product of all": lambda x: jnp.prod(jnp.outer(x[:3], x[3:]) + 1),
    "a long product": lambda x: jnp.prod(1 + 0.02 * jnp.tile(x, 20)),
    "cumulative": lambda x: jnp.cumprod(x) @ W[0],
    "cumulative in rows": lambda x: (jnp.cumprod(jnp.outer(x, W[0]), axis=0) * W).sum(),
    "backwards": lambda x: jax.lax.cumprod(x, reverse=True) @ W[0],
    "behind a layer": lambda x: jnp.prod(jax.nn.relu(x @ W) + 0.5),
    "survival": lambda x: jnp.cumprod(1 - jax.nn.sigmoid(x @ W)) @ W[0],
    "segment maximum": lambda x: jnp.where(
        jnp.array([1, 0, 1, 0, 1]) > 0, jax.ops.segment_max(x, SEGMENTS, 5), 0
    ).sum(),
    "segment minimum": lambda x: jax.ops.segment_min(x @ W, SEGMENTS, 5)[jnp.array([0, 2, 4])].sum(),
    "maximum at": lambda x: x.at[jnp.array([1, 3])].max(2 * x[:2]) @ W[0],
    "graph attention": attention,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_deep_lift_is_complete(name):
    f, x, b = FUNCTIONS[name], jax.random.normal(jax.random.key(1), (6, 6)), jax.random.normal(jax.random.key(2), (6,))
    for rule in RULES:
        a = jax.jit(jax.vmap(jaxplain.deep_lift(f, baseline=b, rule=rule)))(x)
        np.testing.assert_allclose(a.sum(1), jax.vmap(f)(x) - f(b), rtol=1e-4, atol=3e-5)


@pytest.mark.slow
def test_a_segments_relevance_goes_to_its_winner():
    x = jnp.array([3.0, -1.0, 1.0, 4.0, 2.0, 5.0])
    f = lambda x: jax.ops.segment_max(x, SEGMENTS, 5)[jnp.array([0, 2, 4])] @ jnp.array([1.0, 2.0, 3.0])  # noqa: E731
    np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon())(x), [3.0, 0, 0, 8.0, 0, 15.0], rtol=1e-5)
    low = lambda x: jax.ops.segment_min(x, SEGMENTS, 5)[jnp.array([0, 2])].sum()  # noqa: E731
    np.testing.assert_allclose(jaxplain.lrp(low, relevance.epsilon())(x + 2), [0, 1.0, 3.0, 0, 0, 0], rtol=1e-5)


def test_stable_graph_attention_has_relevance():
    r = jax.jit(jaxplain.lrp(attention, relevance.epsilon()))(jax.random.normal(jax.random.key(1), (6,)))
    assert r.shape == (6,)
    assert bool(jnp.isfinite(r).all())
