"""The rules of relevance propagation against a reference in matrix form, written from the papers in NumPy."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.backward import relevance

DRAW = np.random.default_rng(0)
SIZES = (5, 7, 4, 3)
WEIGHTS = [DRAW.normal(size=shape) for shape in itertools.pairwise(SIZES)]
BIASES = [0.3 * DRAW.normal(size=size) for size in SIZES[1:]]
X = DRAW.normal(size=5)
LOW, HIGH = X.min() - 0.5, X.max() + 0.7


def pos(a):
    return np.maximum(a, 0)


def neg(a):
    return np.minimum(a, 0)


def away(z):
    return z + 1e-6 * np.where(z >= 0, 1, -1)


def proportional(parts, offset, r):
    """parts[i, k] / (sum_i parts[i, k] + offset[k]) r[k], summed over k."""
    return (parts / away(parts.sum(0) + offset)[None] * r[None]).sum(1)


def epsilon(x, w, b, r):
    return proportional(x[:, None] * w, b, r)


def gamma(x, w, b, r):
    parts = x[:, None] * w
    z = parts.sum(0) + b
    favoured = np.where(z[None] >= 0, pos(parts), neg(parts))
    return proportional(parts + 0.25 * favoured, b + 0.25 * np.where(z >= 0, pos(b), neg(b)), r)


def alpha_beta(alpha, beta):
    def rule(x, w, b, r):
        parts = x[:, None] * w
        return alpha * proportional(pos(parts), pos(b), r) - beta * proportional(neg(parts), neg(b), r)

    return rule


def w_square(x, w, b, r):
    return proportional(w**2, 0 * b, r)


def flat(x, w, b, r):
    return proportional(np.ones_like(w), 0 * b, r)


def z_box(x, w, b, r):
    return proportional(x[:, None] * w - LOW * pos(w) - HIGH * neg(w), 0 * b, r)


RULES = {
    "epsilon": (relevance.epsilon, epsilon),
    "gamma": (relevance.gamma, gamma),
    "alpha_beta": (relevance.alpha_beta, alpha_beta(2, 1)),
    "z_plus": (relevance.z_plus, alpha_beta(1, 0)),
    "w_square": (lambda: relevance.w_square(bias=False), w_square),
    "flat": (relevance.flat, flat),
}


def score(x, k, weights=WEIGHTS, biases=BIASES):
    for place, (w, b) in enumerate(zip(weights, biases, strict=True)):
        x = x @ jnp.asarray(w, jnp.float32) + jnp.asarray(b, jnp.float32)
        x = jax.nn.relu(x) if place < 2 else x
    return x[k]


def reference(rule, first=None, biases=BIASES, k=1):
    hidden = [X]
    for w, b in zip(WEIGHTS, biases, strict=True):
        hidden.append(pos(hidden[-1]) @ w + b if len(hidden) > 1 else X @ w + b)
    r = np.where(np.arange(3) == k, hidden[-1], 0)
    for place in (2, 1, 0):
        x = X if place == 0 else pos(hidden[place])
        r = (first if first and place == 0 else rule)(x, WEIGHTS[place], biases[place], r)
    return r, hidden[-1][k]


X32 = jnp.asarray(X, jnp.float32)


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.sampled(2)
def test_rules_in_matrix_form(name):
    make, rule = RULES[name]
    right, _ = reference(rule)
    np.testing.assert_allclose(jaxplain.lrp(score, make())(X32, 1), right, rtol=1e-4, atol=1e-5)


def test_composites_in_matrix_form():
    composite = {"dense": relevance.epsilon, "first": relevance.z_box(LOW, HIGH)}
    right, _ = reference(epsilon, z_box)
    np.testing.assert_allclose(jaxplain.lrp(score, composite)(X32, 1), right, rtol=1e-4, atol=1e-5)
    right, _ = reference(alpha_beta(1, 0), z_box)
    np.testing.assert_allclose(
        jaxplain.lrp(score, relevance.deep_taylor(LOW, HIGH))(X32, 1), right, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ["epsilon", "gamma", "z_plus", "w_square", "flat"])
def test_what_the_theory_conserves(name):
    unbiased = [0 * b for b in BIASES]
    e = jaxplain.lrp(lambda x, k: score(x, k, biases=unbiased), RULES[name][0]())
    right, output = reference(RULES[name][1], biases=unbiased)
    np.testing.assert_allclose(e(X32, 1).sum(), output, rtol=1e-4)
    np.testing.assert_allclose(e(X32, 1), right, rtol=1e-3, atol=1e-5)


def test_alpha_beta_counts_the_sign_of_contributions():
    one = lambda x: x @ jnp.array([1.0, -2.0])  # noqa: E731
    for rule in (relevance.alpha_beta(1, 0), relevance.z_plus, relevance.gamma(1e6), relevance.epsilon()):
        np.testing.assert_allclose(jaxplain.lrp(one, rule)(jnp.array([3.0, -1.0])), [3.0, 2.0], rtol=1e-5)
    # With x = [3, 1] the contributions are 3 and -2, and f = 1: alpha gives the first 2, beta takes 1 from the other.
    np.testing.assert_allclose(jaxplain.lrp(one, relevance.alpha_beta())(jnp.array([3.0, 1.0])), [2.0, -1.0], rtol=1e-5)


def test_gamma_of_zero_is_epsilon_and_a_large_gamma_is_z_plus():
    explain = lambda rule: jaxplain.lrp(score, rule)(X32, 2)  # noqa: E731
    np.testing.assert_allclose(explain(relevance.gamma(0.0)), explain(relevance.epsilon()), rtol=1e-4, atol=1e-5)
    positive = lambda x: jnp.abs(x) @ jnp.abs(jnp.asarray(WEIGHTS[0][:, 0], jnp.float32))  # noqa: E731
    np.testing.assert_allclose(
        jaxplain.lrp(positive, relevance.gamma(1e5))(X32), jaxplain.lrp(positive, relevance.z_plus)(X32), rtol=1e-4
    )


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"alpha - beta has to be 1.*differ by 1\.5"):
        relevance.alpha_beta(2.0, 0.5)
    with pytest.raises(ValueError, match="beta 0 or more"):
        relevance.alpha_beta(0.5, -0.5)
    with pytest.raises(ValueError, match="stabiliser"):
        relevance.epsilon(0.0)
    with pytest.raises(ValueError, match=r"gamma.*zero or more"):
        relevance.gamma(-1.0)
    with pytest.raises(ValueError, match="`low` has to be at most `high`"):
        relevance.z_box(1.0, 0.0)
    with pytest.raises(TypeError, match="alpha_beta: `alpha` has to be a number, not '2'"):
        relevance.alpha_beta("2", 1.0)
    with pytest.raises(TypeError, match="z_box: `high` has to be a number"):
        relevance.z_box(0.0, "1")
    narrow = jaxplain.lrp(score, {"first": relevance.z_box(jnp.full(3, -9.0), 9.0)})
    with pytest.raises(ValueError, match=r"z_box: `low` has shape \(3,\), which does not fit the layer's input"):
        narrow(X32, 1)


@pytest.mark.slow
def test_a_box_that_does_not_hold_the_input_is_refused():
    def f(x, k):
        with jax.named_scope("net"):
            return score(x, k)

    e = jaxplain.lrp(f, {"first": relevance.z_box(0.0, 1.0)})
    outside = r"the input of 'dense' \(affine\) in 'net', whose rule is z_box, lies outside of its bounds"
    with pytest.raises(ValueError, match=outside):
        e(X32, 1)
    with pytest.raises(ValueError, match=outside):
        jaxplain.explain_batch(e, X32[None], 1)
    assert bool(jnp.isnan(jax.jit(e)(X32, 1)).all())
    wide = jaxplain.lrp(score, {"first": relevance.z_box(jnp.full(5, -9.0), 9.0)})
    assert bool(jnp.isfinite(jaxplain.explain_batch(wide, X32[None], 1)).all())
