"""Normalisations inside transformations and networks, what looks like one, and numbers that were once wrong."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.node import open_score

X = jax.random.normal(jax.random.key(0), (8,))
W = jax.random.normal(jax.random.key(1), (8,))


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5)


def found(f, x=X):
    graph = open_score(lambda x: f(x).sum(), x, (), "test").graph
    return [node.kind for node in graph.walk() if node.kind in ("normalization", "product", "quotient")]


@pytest.mark.slow
def test_equinox_and_nnx_agree_and_give_the_closed_form():
    # R_i = x_i d/dx_i of the linear map c (x - mean(x)) @ w, by hand in NumPy, with c = 1 / sqrt(var + 1e-5)
    a, b = eqx.nn.LayerNorm(8), nnx.LayerNorm(8, epsilon=1e-5, rngs=nnx.Rngs(0))
    right = [-1.123, -0.908, 0.292, 0.054, 0.133, 0.373, -0.816, 0.241]
    x, w = np.asarray(X, np.float64), np.asarray(W, np.float64)
    np.testing.assert_allclose(x / np.sqrt(x.var() + 1e-5) * (w - w.mean()), right, atol=1e-3)
    for module in (a, b):
        f = lambda x, module=module: module(x) @ W  # noqa: E731
        np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon(1e-7))(X), right, atol=1e-3)
        lifted = jaxplain.deep_lift(f)(X)
        np.testing.assert_allclose(lifted, [-1.125, -0.908, 0.293, 0.055, 0.133, 0.375, -0.818, 0.241], atol=1e-3)
        np.testing.assert_allclose(lifted.sum(), f(X) - f(0 * X), rtol=1e-5)


@pytest.mark.slow
def test_a_bound_of_a_variance_is_no_relu_to_guided_backpropagation():
    module = eqx.nn.LayerNorm(8)
    f = lambda x: jax.nn.relu(module(x) * 2) @ W  # noqa: E731
    rows = jaxplain.audit(jaxplain.guided_backprop(f))(X)
    assert [row.operation for row in rows] == ["relu"]
    h, back = jax.vjp(lambda x: module(x) * 2, X)
    np.testing.assert_allclose(
        jaxplain.guided_backprop(f)(X), back(jnp.maximum(W, 0) * (h > 0))[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_transformations_change_nothing():
    rows = jax.random.normal(jax.random.key(2), (3, 8))

    def apart(x):
        return (layer_norm(x) * W).sum(-1)

    def scanned(rows):
        return lax.scan(lambda h, x: (h + apart(x), None), jnp.zeros(()), rows)[0]

    forms = {
        "rows": lambda x: apart(x * 1.0)[:].sum() if x.ndim == 1 else (layer_norm(x) * W[None]).sum(),
        "vmap": lambda x: jax.vmap(apart)(x).sum(),
        "jit": lambda x: jax.vmap(jax.jit(apart))(x).sum(),
        "remat": lambda x: jax.vmap(jax.checkpoint(apart))(x).sum(),
        "scan": scanned,
        "transposed": lambda x: jax.vmap(apart, in_axes=1)(x.T).sum(),
    }
    one = jnp.stack([jaxplain.lrp(apart, relevance.epsilon(1e-7))(x) for x in rows])
    lifted = jnp.stack([jaxplain.deep_lift(apart, baseline=jnp.flip(X))(x) for x in rows])
    for name, f in forms.items():
        np.testing.assert_allclose(
            jaxplain.lrp(f, relevance.epsilon(1e-7))(rows), one, rtol=1e-4, atol=1e-5, err_msg=name
        )
        a = jaxplain.deep_lift(f, baseline=jnp.broadcast_to(jnp.flip(X), rows.shape))(rows)
        np.testing.assert_allclose(a, lifted, rtol=1e-3, atol=1e-4, err_msg=name)
    batch = jaxplain.explain_batch(jaxplain.lrp(apart, relevance.epsilon(1e-7)), rows)
    np.testing.assert_allclose(batch, one, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_statistics_that_are_used_again_keep_their_own_relevance():
    # Reversible normalisation: y std + mean of a normalised x is x again, and of a linear model in between linear.
    def f(x):
        mean, std = x.mean(), jnp.sqrt(x.var() + 1e-5)
        return (((x - mean) / std) @ W) * lax.stop_gradient(std) + mean

    centred = X * (W - W.mean() + 1 / 8)
    np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon(1e-7))(X), centred, rtol=1e-3, atol=1e-4)
    a = jaxplain.lrp(lambda x: layer_norm(x) @ W + jnp.tanh(x.var()), relevance.epsilon(1e-7))(X)
    b, c = (
        jaxplain.lrp(g, relevance.epsilon(1e-7))(X) for g in (lambda x: layer_norm(x) @ W, lambda x: jnp.tanh(x.var()))
    )
    np.testing.assert_allclose(a, b + c, rtol=1e-3, atol=1e-4)


def test_nested_and_stacked_normalisations_are_as_many_nodes():
    assert found(lambda x: layer_norm(layer_norm(x))) == ["normalization"] * 2
    assert found(lambda x: layer_norm(x) + layer_norm(2 * x)) == ["normalization"] * 2
    assert found(lambda x: x + layer_norm(x)) == ["normalization"]
    assert found(lambda x: layer_norm(x + jnp.tanh(x))) == ["normalization"]


def test_what_is_no_normalisation_is_none():
    others = {
        "elementwise root": lambda x: x / jnp.sqrt(1 + x**2),
        "softmax": jax.nn.softmax,
        "the scale of another": lambda x: x[:4] * lax.rsqrt(jnp.mean(x[4:] ** 2) + 1e-5),
        "times a standard deviation": lambda x: x * jnp.std(x),
        "over a variance": lambda x: x / jnp.var(x),
        "a share": lambda x: x / x.sum(),
        "squares": lambda x: x**2 * lax.rsqrt(jnp.mean(x**2)),
        "a nonlinear top": lambda x: jax.nn.relu(x) * lax.rsqrt(jnp.mean(x**2)),
    }
    for name, f in others.items():
        assert "normalization" not in found(f), name


@pytest.mark.slow
def test_a_product_with_one_over_a_sum_is_what_the_quotient_is():
    sums = {
        "absolute": lambda x: jnp.abs(x).sum(),
        "largest": lambda x: jnp.abs(x).max() + 0.1,
        "plain": lambda x: x.sum(),
    }
    for name, size in sums.items():
        one, two = (
            jaxplain.lrp(lambda x, f=f: f(x) @ W, relevance.epsilon(1e-7))(X)
            for f in (lambda x, s=size: x * (1 / s(x)), lambda x, s=size: x / s(x))
        )
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6, err_msg=name)
        a = jaxplain.deep_lift(lambda x, s=size: (x * (1 / s(x))) @ W, baseline=jnp.flip(X) + 0.5)(X)
        f = lambda x, s=size: (x * (1 / s(x))) @ W  # noqa: E731
        np.testing.assert_allclose(a.sum(), f(X) - f(jnp.flip(X) + 0.5), rtol=1e-4, err_msg=name)


def test_more_that_looks_like_one_is_noted():
    def in_a_loop(x):
        square = lax.fori_loop(0, 8, lambda i, s: s + x[i] ** 2, 0.0)
        return x * lax.rsqrt(square / 8 + 1e-5)

    others = {
        "loop": in_a_loop,
        "softmax by a reciprocal": lambda x: jnp.exp(x) * (1 / jnp.exp(x).sum()),
        "fourth powers": lambda x: x / (jnp.mean(x**4) + 1e-5) ** 0.25,
    }
    for name, f in others.items():
        notes = [row.note for row in jaxplain.audit(jaxplain.lrp(lambda x, f=f: f(x) @ W, relevance.epsilon()))(X)]
        assert sum(map(bool, notes)) == 1, name


def test_the_audit_names_what_scales_as_a_normalisation_does():
    def f(x):
        with jax.named_scope("gate"):
            scaled = x[:4] * lax.rsqrt(jnp.mean(x[4:] ** 2) + 1e-5)
        return scaled.sum() + (layer_norm(x) * W).sum() + x[0] * x[1]

    table = jaxplain.audit(jaxplain.lrp(f, relevance.epsilon()))(X)
    assert [row.path for row in table if row.note] == ["gate"]
    (row,) = (row for row in table if row.note)
    assert row.operation == "mul"
    assert "normalisation" in row.note
    assert row.note in str(table)
    plain = jaxplain.audit(jaxplain.lrp(lambda x: layer_norm(x) @ W, relevance.epsilon()))(X)
    assert not any(row.note for row in plain)
    assert "note" not in str(plain)
    lifted = jaxplain.audit(jaxplain.deep_lift(f))(X)
    assert [row.path for row in lifted if row.note] == ["gate"]
