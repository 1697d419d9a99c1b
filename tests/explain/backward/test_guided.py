"""Guided backpropagation and deconvolution: by hand, on every form of ReLU, and refused where there is none."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain

W1 = jax.random.normal(jax.random.key(0), (4, 6))
W2 = jax.random.normal(jax.random.key(1), (6, 5))
W3 = jax.random.normal(jax.random.key(2), (5,))
X = jax.random.normal(jax.random.key(3), (4,))


def functional(x):
    return jnp.maximum(jax.nn.relu(x @ W1) @ W2, 0) @ W3


def by_hand(x, gated):
    """A NumPy reference, unit by unit, from the papers."""
    z1 = np.asarray(x) @ np.asarray(W1)
    z2 = np.maximum(z1, 0) @ np.asarray(W2)
    r = np.asarray(W3)
    for z, w in ((z2, W2), (z1, W1)):
        kept = [float(g) if g > 0 and (not gated or v > 0) else 0.0 for g, v in zip(r, z, strict=True)]
        r = np.array([sum(float(w[i, k]) * kept[k] for k in range(len(kept))) for i in range(w.shape[0])])
    return r


@pytest.mark.slow
def test_both_by_hand():
    np.testing.assert_allclose(jaxplain.guided_backprop(functional)(X), by_hand(X, True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jaxplain.deconvnet(functional)(X), by_hand(X, False), rtol=1e-5, atol=1e-6)


def test_as_many_equations_are_rewritten_as_there_are_relus():
    def f(x):
        with jax.named_scope("body"):
            x = jax.nn.relu(x @ W1)
        x = jnp.where(x > 0, x, 0) * jnp.tanh(x)
        return jax.nn.relu6(x @ W2) @ W3

    rows = jaxplain.audit(jaxplain.guided_backprop(f))(X)
    assert [row.operation for row in rows] == ["relu", "relu", "relu6"]
    assert [row.path for row in rows] == ["body", "", ""]
    assert str(rows).count("guided") == 3
    looped = lambda x: lax.scan(lambda h, _: (jax.nn.relu(h) - 0.1, None), x, None, length=3)[0].sum()  # noqa: E731
    assert len(jaxplain.audit(jaxplain.deconvnet(looped))(X)) == 1


def test_a_function_without_relus_is_refused():
    for method in (jaxplain.guided_backprop, jaxplain.deconvnet):
        with pytest.raises(ValueError, match=r"no ReLU .*tanh"):
            method(lambda x: jnp.tanh(x @ W1).sum())(X)
        with pytest.raises(ValueError, match="no activation function"):
            method(lambda x: (x @ W1).sum())(X)
    with pytest.raises(ValueError, match="no ReLU"):  # one that the input does not reach
        jaxplain.guided_backprop(lambda x: x.sum() + jax.nn.relu(W3).sum())(X)


@pytest.mark.slow
def test_other_activations_keep_their_derivative():
    f = lambda x: (jax.nn.gelu(x) + jax.nn.relu(x - 100)).sum()  # noqa: E731
    np.testing.assert_allclose(jaxplain.guided_backprop(f)(X), jax.grad(f)(X), rtol=1e-6)


@pytest.mark.slow
def test_a_batch_equals_single_examples_with_ties_in_max_pooling():
    images = jnp.round(jax.random.normal(jax.random.key(5), (4, 6, 6, 1)))  # many equal values

    def f(x):
        h = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (3, 3, 1), (2, 2, 1), "VALID")
        return jax.nn.relu(h - 0.5).sum()

    for method in (jaxplain.guided_backprop, jaxplain.deconvnet):
        e = method(f)
        together = jaxplain.explain_batch(e, images)
        one = jax.jit(e)
        np.testing.assert_allclose(together, jnp.stack([one(x) for x in images]), rtol=1e-6)


def test_pytrees_and_bad_input():
    f = lambda x: jax.nn.relu(x["a"] * x["n"]).sum()  # noqa: E731
    x = {"a": jnp.array([1.0, -1.0]), "n": jnp.array([2, 3])}
    a = jaxplain.guided_backprop(f)(x)
    assert a["a"].tolist() == [2.0, 0.0]
    assert a["n"].tolist() == [0.0, 0.0]
    with pytest.raises(TypeError, match="split"):
        jaxplain.guided_backprop(f)({"a": jnp.array([1]), "n": jnp.array([2])})
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.guided_backprop(functional)(X.at[0].set(jnp.nan))
    with pytest.raises(ValueError, match="one number"):
        jaxplain.guided_backprop(lambda x: jax.nn.relu(x))(X)
    with pytest.raises(TypeError, match="changes no backward pass"):
        jaxplain.audit(jaxplain.gradient(functional))


FORMS = {
    "relu": (jax.nn.relu, [0, 0, 1, 1, 1]),
    "maximum": (lambda v: jnp.maximum(v, 0.0), [0, 0, 1, 1, 1]),
    "zero first": (lambda v: jnp.maximum(0.0, v), [0, 0, 1, 1, 1]),
    "where": (lambda v: jnp.where(v > 0, v, 0.0), [0, 0, 1, 1, 1]),
    "where with zero": (lambda v: jnp.where(v >= 0, v, 0.0), [0, 0, 1, 1, 1]),
    "clipped below": (lambda v: jnp.clip(v, 0.0), [0, 0, 1, 1, 1]),
    "by absolute value": (lambda v: 0.5 * (v + jnp.abs(v)), [0, 0, 1, 1, 1]),
    "relu6": (jax.nn.relu6, [0, 0, 1, 0, 0]),
    "clip": (lambda v: jnp.clip(v, 0.0, 6.0), [0, 0, 1, 0, 0]),
    "clamp": (lambda v: jax.lax.clamp(0.0, v, 6.0), [0, 0, 1, 0, 0]),
    "minimum of maximum": (lambda v: jnp.minimum(jnp.maximum(v, 0.0), 6.0), [0, 0, 1, 0, 0]),
}


@pytest.mark.parametrize("name", FORMS)
def test_at_the_corners_the_slope_is_that_of_the_formula(name):
    f, open_ = FORMS[name]
    x = jnp.array([-1.0, 0.0, 2.0, 6.0, 7.0])
    assert jaxplain.guided_backprop(lambda v: (f(v) * jnp.arange(1.0, 6)).sum())(x).tolist() == (
        [factor * slope for factor, slope in zip(range(1, 6), open_, strict=True)]
    )


SPELLINGS = {
    "an array of zeros": lambda h: jnp.maximum(h, jnp.zeros(2)),
    "select": lambda h: jnp.select([h > 0], [h], 0.0),
    "where with an array": lambda h: jnp.where(h > jnp.zeros(2), h, jnp.zeros(2)),
    "times zero": lambda h: jnp.where(h > jnp.zeros(2), h, 0 * h),
    "piecewise": lambda h: jnp.piecewise(h, [h > 0], [lambda v: v, lambda v: 0 * v]),
    "a mapped branch": lambda h: jax.vmap(lambda v: jax.lax.cond(v > 0, lambda v: v, lambda v: 0 * v, v))(h),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_what_may_be_a_relu_is_one_or_is_refused(name):
    mix, out, x = jnp.array([[1.0, -2.0], [1.0, 1.0]]), jnp.array([1.0, -1.0]), jnp.array([1.0, 3.0])

    def net(activation):
        return lambda x: (activation(jax.nn.relu(x) @ mix) * out).sum()

    for method in (jaxplain.guided_backprop, jaxplain.deconvnet):
        wanted = method(net(jax.nn.relu))(x)
        with contextlib.suppress(ValueError):
            np.testing.assert_allclose(method(net(SPELLINGS[name]))(x), wanted)
            continue
        with pytest.raises(ValueError, match=r"may be a ReLU or not.*Write ReLUs as"):
            method(net(SPELLINGS[name]))(x)


def test_a_choice_by_a_mask_or_by_the_models_own_will_is_no_relu():
    mask, x = jnp.array([True, False]), jnp.array([1.0, 3.0])
    f = lambda x: jnp.where(mask, jax.nn.relu(x), 0.0).sum()  # noqa: E731
    np.testing.assert_array_equal(jaxplain.guided_backprop(f)(x), [1, 0])
    g = lambda x: jnp.where(jax.lax.stop_gradient(x) > 2 * jnp.ones(2), jax.nn.relu(x), 0.0).sum()  # noqa: E731
    np.testing.assert_array_equal(jaxplain.guided_backprop(g)(x), [0, 1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_learnt_slope_is_no_relu_and_not_refused(dtype):
    """A PReLU chooses between two values that both follow x."""
    slope, x = jnp.array([0.1, 0.3], dtype), jnp.array([-1.0, 3.0], dtype)
    prelu = lambda h: jnp.where(h >= 0, h, slope * h)  # noqa: E731
    f = lambda x: (prelu(x) - jax.nn.relu(x)).astype(jnp.float32).sum()  # noqa: E731
    a = jaxplain.guided_backprop(f)(x)  # the ReLU lets no negative gradient through
    np.testing.assert_allclose(np.asarray(a, np.float32), [0.1, 1.0], rtol=1e-2)


def test_a_clip_far_away_is_no_relu_there():
    f = lambda x: (jnp.clip(x, 0, 1e4) + jax.nn.relu(x)).sum()  # noqa: E731
    np.testing.assert_array_equal(jaxplain.guided_backprop(f)(jnp.array([2e4, 1.0, -1.0])), [1, 2, 0])
