"""Integrated Hessians, and softplus in the place of kinks."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program.integration import logarithmic_gauss
from jaxplain.program.node.smooth import smoothed
from shared.methods import network, rectified, smooth

X = jnp.array([0.5, -1.0, 2.0, 0.25])


def test_the_logarithmic_rule_integrates_polynomials_exactly():
    for steps in (1, 5, 32, 64):
        nodes, weights = logarithmic_gauss(steps)
        assert weights.min() > 0
        for power in (0, 1, steps, 2 * steps - 1):
            np.testing.assert_allclose((weights * nodes**power).sum(), 1 / (power + 1) ** 2, rtol=1e-9)


def test_equals_the_double_integral_of_a_polynomial():
    def f(x):
        return x[0] * x[1] ** 2 + 3 * x[2] ** 3 + x[0]

    b = jnp.array([0.5, -0.5, 0.25, 0.0])
    g = np.asarray(jaxplain.integrated_hessians(f, baseline=b, steps=6)(X))
    n = 400
    grid = (np.arange(n) + 0.5) / n
    u = np.outer(grid, grid).reshape(-1)
    x0, x1, x2, _ = (np.asarray(b)[:, None] + np.asarray(X - b)[:, None] * u).astype(np.float64)
    d = np.asarray(X - b, np.float64)
    wanted = np.zeros((4, 4))
    wanted[0, 1] = wanted[1, 0] = d[0] * d[1] * np.mean(u * 2 * x1)
    wanted[1, 1] = d[1] ** 2 * np.mean(u * 2 * x0) + d[1] * np.mean(2 * x0 * x1)
    wanted[2, 2] = d[2] ** 2 * np.mean(u * 18 * x2) + d[2] * np.mean(9 * x2**2)
    wanted[0, 0] = d[0] * np.mean(x1**2 + 1)
    np.testing.assert_allclose(g, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rows_sum_to_integrated_gradients_on_a_smooth_network():
    f = jaxplain.logit(smooth, network())
    g = jaxplain.integrated_hessians(f, steps=32, batch_size=3)(X, 1)
    np.testing.assert_allclose(g.sum(1), jaxplain.integrated_gradients(f, steps=64)(X, 1), atol=1e-4)
    np.testing.assert_allclose(g, g.T, atol=1e-5)


@pytest.mark.slow
def test_piecewise_linear_networks_are_refused_and_smoothed():
    f = jaxplain.logit(rectified, network())
    with pytest.raises(ValueError, match=r"smooth=beta"):
        jaxplain.integrated_hessians(f)(X, 1)

    def softplus_network(params, x):
        hidden = jax.nn.softplus(5.0 * (x @ params["first"] + params["bias"][None])) / 5.0
        return hidden @ params["second"]

    g = jaxplain.integrated_hessians(f, smooth=5.0, steps=64, batch_size=4)(X, 1)
    same = jaxplain.logit(softplus_network, network())
    np.testing.assert_allclose(g, jaxplain.integrated_hessians(same, steps=64, batch_size=4)(X, 1), atol=1e-5)
    np.testing.assert_allclose(g.sum(1), jaxplain.integrated_gradients(same, steps=128)(X, 1), atol=1e-3)


class Convolutional(nn.Module):
    """Convolution, ReLU, max pooling, LayerNorm, a dense layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(2, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(3)(nn.LayerNorm(epsilon=0.5)(x.reshape(x.shape[0], -1)))


@pytest.mark.slow
def test_a_convolutional_network_with_max_pooling_and_parameters_as_arguments():
    module, x = Convolutional(), jax.random.normal(jax.random.key(0), (4, 4, 1))
    params = module.init(jax.random.key(1), x[None])
    f = jaxplain.logit(module.apply, params)
    with pytest.raises(ValueError, match="max pooling"):
        jaxplain.integrated_hessians(f)(x, 0)
    e = jaxplain.integrated_hessians(f, smooth=4.0, steps=24, batch_size=16)
    g = jaxplain.explain_batch(e, jnp.stack([x, 2 * x]), 0)
    assert g.shape == (2, 4, 4, 1, 4, 4, 1)
    score = smoothed(lambda v: f(v, 0), 4.0, "test", x)
    ig = jax.jit(jaxplain.integrated_gradients(score, steps=64))(x)
    np.testing.assert_allclose(g[0].sum((3, 4, 5)), ig, atol=1e-3)


def kinked(f, *args):
    with pytest.raises(ValueError, match="kinks"):
        smoothed(f, None, "test", *args)


def test_kinks_are_found_where_a_derivative_passes_and_nowhere_else():
    z = jnp.array([0.3, -0.7, 1.2])
    for f in (
        jax.nn.relu, jnp.abs, jax.nn.relu6, jax.nn.leaky_relu, jax.nn.selu, jax.nn.hard_tanh, jnp.max, jnp.sort,
        lambda v: jnp.where(v > 0, v, 0.0), lambda v: jnp.clip(v, -0.5, 0.5), lambda v: jnp.maximum(v, 0.1),
        lambda v: jax.jit(jax.nn.relu)(v), lambda v: jax.checkpoint(jax.nn.relu)(v), jnp.sign,
        lambda v: jax.lax.scan(lambda c, s: (jax.nn.relu(c + s), c), v[0], v)[0],
        lambda v: jax.lax.cond(v[0] > 0, jnp.sum, lambda u: -jnp.sum(u), v), functools.partial(jax.nn.elu, alpha=2.0),
    ):  # fmt: skip
        kinked(lambda v, f=f: f(v).sum(), z)
    for f in (
        jax.nn.gelu, jax.nn.silu, jax.nn.softplus, jax.nn.elu, jax.nn.celu, jax.nn.soft_sign, jax.nn.log_softmax,
        jax.nn.softmax, jax.nn.logsumexp, jax.nn.log_sigmoid, jnp.tanh, lambda v: v * (jax.lax.stop_gradient(v) > 0),
        lambda v: v * jax.nn.relu(jax.lax.stop_gradient(v)), lambda v: nn.LayerNorm().apply({"params": {
            "scale": jnp.ones(3), "bias": jnp.zeros(3)}}, v), lambda v: jax.nn.relu(jnp.ones(3)) * v,
        lambda v: jnp.linalg.norm(v)[None],
    ):  # fmt: skip
        smoothed(lambda v, f=f: f(v).sum(), None, "test", z)


def test_smooth_versions_tend_to_what_they_replace_and_equal_softplus():
    z = jnp.array([0.3, -0.7, 1.2])
    soft = jax.nn.softplus(3 * z) / 3
    for f, wanted in (
        (jax.nn.relu, soft),
        (lambda v: jnp.where(v > 0, v, 0.0), soft),
        (lambda v: jnp.where(v <= 0, 0.0, v), soft),
        (lambda v: jnp.maximum(0.0, v), soft),
        (jax.nn.leaky_relu, 0.01 * z + 0.99 * soft),
        (jnp.abs, soft + jax.nn.softplus(-3 * z) / 3),
        (lambda v: jax.lax.scan(lambda c, s: (c, jax.nn.relu(s)), 0.0, v)[1], soft),
        (lambda v: jax.checkpoint(jax.nn.relu)(v), soft),
        (jnp.max, jax.nn.logsumexp(3 * z) / 3),
    ):
        np.testing.assert_allclose(smoothed(f, 3.0, "test", z)(z), wanted, rtol=1e-5)
        np.testing.assert_allclose(smoothed(f, 1e4, "test", z)(z), f(z), atol=2e-4)
    with pytest.raises(ValueError, match="cannot replace"):
        smoothed(lambda v: jnp.sort(v).sum(), 3.0, "test", z)


def test_a_pytree_gives_a_tree_of_trees_and_a_warning_says_what_is_zero():
    x = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0), "id": jnp.array([1, 2])}
    g = jaxplain.integrated_hessians(lambda x: x["a"].prod() * x["b"], steps=4)(x)
    assert g["a"]["b"].shape == (2,)
    assert g["id"]["a"].shape == (2, 2)
    np.testing.assert_allclose(g["a"]["b"], g["b"]["a"], rtol=1e-5)
    np.testing.assert_allclose(sum(leaf.sum() for leaf in jax.tree.leaves(g)), 6.0, rtol=1e-5)
    with pytest.warns(UserWarning, match="so the explanation is zero, or NaN"):
        jaxplain.integrated_hessians(jnp.sum, steps=2)(jnp.zeros(2))
