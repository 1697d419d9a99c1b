"""Completeness: closed forms, dtypes, transformations, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.baseline.absent import gaussian_noise
from jaxplain.evaluate.axioms.completeness import completeness

W = jnp.array([1.0, -2.0, 0.5])
X = jnp.array([3.0, 1.0, -4.0])
B = jnp.array([0.5, -1.0, 2.0])


def linear(x, bias=7.0):
    return W @ x + bias


def test_a_linear_model_is_shared_out_completely():
    m = completeness(linear, baseline=B)
    assert float(m(X, W * (X - B))) < 1e-6 * abs(float(linear(X) - linear(B)))
    assert float(m(X, W * (X - B), -100.0)) < 1e-4


def test_the_gap_is_absolute_and_relative_to_the_change_plus_the_floor():
    a = W * X + jnp.array([0.0, -0.25, 0.0])
    change = float(linear(X) - linear(jnp.zeros(3)))
    np.testing.assert_allclose(completeness(linear)(X, a), 0.25, rtol=1e-5)
    np.testing.assert_allclose(
        completeness(linear, relative=True, floor=0.5)(X, a), 0.25 / (abs(change) + 0.5), rtol=1e-5
    )
    assert np.isnan(completeness(lambda x: 0.0 * x.sum(), relative=True, floor=0.0)(X, 0 * X))
    assert completeness(linear).better == "lower"


def test_maps_and_three_channels():
    x = jax.random.normal(jax.random.key(0), (4, 4, 3))
    for a in (x, x.sum(-1)):
        np.testing.assert_allclose(completeness(jnp.sum)(x, a), 0.0, atol=1e-5)


def test_integer_leaves_do_not_count():
    x = {"ids": jnp.array([1, 2]), "values": jnp.array([1.0, 2.0])}
    a = {"ids": jnp.array([50.0, 50.0]), "values": jnp.array([2.0, 4.0])}
    assert float(completeness(lambda x: (x["values"] * x["ids"].sum()).sum())(x, a)) == 3.0


def test_a_random_baseline_is_the_draw_of_the_same_key():
    m, key = completeness(linear, baseline=gaussian_noise(1.0)), jax.random.key(3)
    assert m.needs_key
    drawn = gaussian_noise(1.0)(key, X)
    np.testing.assert_allclose(m(key, X, W * (X - drawn)), 0.0, atol=1e-5)


def test_transformations_and_dtypes():
    x = jax.random.normal(jax.random.key(0), (5, 3))
    a = jax.random.normal(jax.random.key(1), (5, 3))
    m = completeness(linear)
    loop = [float(m(*row)) for row in zip(x, a, strict=True)]
    np.testing.assert_allclose(jax.vmap(m)(x, a), loop, atol=1e-6)
    np.testing.assert_allclose(jax.jit(m)(x[0], a[0]), loop[0], atol=1e-6)
    many = jnp.full(4096, 1 / 128, jnp.bfloat16)  # the sum of 32 is lost when it is taken in bfloat16
    gap = completeness(lambda x: x.astype(jnp.float32).sum())(many, many)
    assert gap.dtype == jnp.float32
    assert float(gap) < 1e-4
    assert np.isnan(m(X, X * jnp.nan))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: completeness(linear)(X, jnp.ones(2)), ValueError, r"shape \(2,\), but `x` has shape \(3,\)"),
        (lambda: completeness(linear, baseline=jnp.ones(2))(X, X), ValueError, "does not broadcast"),
        (lambda: completeness(linear)(X * jnp.inf, X), ValueError, "NaN or infinite"),
        (lambda: completeness(linear)(jnp.arange(3), X), TypeError, "only floating-point values are changed"),
        (lambda: completeness(linear, floor=-1.0), ValueError, "floor"),
        (lambda: completeness(3.0), TypeError, "function"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
