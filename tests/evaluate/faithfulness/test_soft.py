"""Soft sufficiency and comprehensiveness: closed form, the correction for the scores' size, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.evaluate import (
    f_fidelity,
    imputed_baseline,
    soft_comprehensiveness,
    soft_sufficiency,
    symmetric_relevance_gain,
)

KEY = jax.random.key(7)
S = np.array([5.0, 3.0, 1.0, 0.5, 0.5], np.float32)
A = np.array([2.0, 4.0, -1.0, 0.0, 0.0], np.float32)


def total(x):
    return jnp.sum(x)


def chances(r, p):
    """By bisection: the widest c for which p + c (r - mean r) stays in [0, 1]."""
    low, high = 0.0, 1e3
    for _ in range(200):
        c = (low + high) / 2
        q = p + c * (r - r.mean())
        low, high = (c, high) if q.min() >= 0 and q.max() <= 1 else (low, c)
    return p + low * (r.astype(np.float64) - r.mean())


@pytest.mark.parametrize("made", [soft_sufficiency, soft_comprehensiveness])
def test_of_an_additive_score_it_is_the_mean_share_that_is_likely(made):
    fractions = (0.2, 0.5, 0.8)
    m = made(total, fractions=fractions, samples=3000, batch_size=1000)
    judge = jax.jit(m)
    for a in (S, A):
        q = np.stack([chances(a, p) for p in fractions])
        np.testing.assert_allclose(q.mean(1), fractions, atol=1e-9)
        expected = (q @ S).mean() / S.sum()
        np.testing.assert_allclose(judge(KEY, S, a), expected, atol=0.02)
    np.testing.assert_allclose(judge(KEY, S, np.ones(5, np.float32)), 0.5, atol=0.02)  # knows nothing
    assert m.better == "higher"


def test_the_size_of_the_attributions_is_out():
    for made in (soft_sufficiency, soft_comprehensiveness):
        m = made(lambda x: jnp.tanh(x).sum(), samples=10)
        judge = jax.jit(m)
        one = judge(KEY, S, A)
        for factor in (1e-3, 50.0):
            np.testing.assert_allclose(judge(KEY, S, factor * A), one, rtol=1e-6)
        np.testing.assert_allclose(judge(KEY, S, A + 8.0), one, rtol=1e-6)  # and their mean: only differences count


@pytest.mark.slow
def test_values_of_a_group_share_the_chance_and_are_drawn_by_themselves():
    words = jnp.ones((2, 200))
    groups = jnp.array([0, 1])
    a = jnp.array([1.0, 0.0])
    m = soft_sufficiency(lambda x: x.sum(), fractions=(0.25,), samples=4, groups=groups)
    # The chances are 1/2 and 0: half of the first word's values are kept, which is a quarter of all.
    np.testing.assert_allclose(m(KEY, words, a), 0.25, atol=0.05)


def test_it_is_undefined_where_nothing_is_lost_without_the_input():
    falling = jax.jit(soft_sufficiency(lambda x: -x.sum(), samples=2))
    assert np.isnan(falling(KEY, S, S))
    assert np.isnan(falling(KEY, 0 * S, S))
    assert np.isnan(jax.jit(soft_comprehensiveness(lambda x: 0 * x.sum(), samples=2))(KEY, S, S))
    odd = jax.jit(soft_sufficiency(total, samples=2))
    for value in (np.nan, np.inf, -np.inf):  # no likelihoods follow from what has no middle
        assert np.isnan(odd(KEY, S, np.where(np.arange(5) == 2, np.float32(value), A)))
    assert np.isnan(odd(KEY, S, np.array([3e38, 3e38, 3e38, 0, 0], np.float32)))  # their sum is none


def test_bad_input_is_named():
    for fractions in ((), (0.0,), (1.0,), (0.5, float("nan"))):
        with pytest.raises(ValueError, match="fractions"):
            soft_sufficiency(total, fractions=fractions)
    with pytest.raises(ValueError, match="samples"):
        soft_comprehensiveness(total, samples=0)
    with pytest.raises(TypeError, match="soft_comprehensiveness: it is random"):
        soft_comprehensiveness(total)(S, S)


@pytest.mark.slow
@pytest.mark.parametrize(
    "made", [symmetric_relevance_gain, f_fidelity, soft_sufficiency], ids=lambda made: made.__name__
)
def test_tokens_imputation_and_traced_groups(made):
    def judge(f, x, a, **settings):
        m = made(f, **settings)
        return m(*([KEY] if m.needs_key else []), x, a)

    table, tokens = jax.random.normal(KEY, (10,)), jnp.array([3, 5, 2, 7])
    one = judge(lambda t: table[t].sum() + 9.0, tokens, jnp.arange(4.0), baseline=0)
    rows = judge(lambda x: x.sum() + 9.0, table[tokens], jnp.arange(4.0), baseline=table[0])
    np.testing.assert_allclose(one, rows, rtol=1e-4)
    image = jax.random.uniform(KEY, (4, 4, 1))
    assert np.isfinite(judge(lambda x: jnp.sum(x * x), image, image, baseline=imputed_baseline()))
    groups = jnp.array([0, 0, 1, 1, 2])
    if made is f_fidelity:
        with pytest.raises(ValueError, match="pass concrete groups"):
            jax.jit(lambda g: judge(total, S, A, groups=g))(groups)
        return
    extra = {"steps": 3} if made is symmetric_relevance_gain else {}
    traced = jax.jit(lambda g: judge(total, S, A, groups=g, **extra))(groups)
    np.testing.assert_allclose(traced, judge(total, S, A, groups=groups), rtol=1e-5)
