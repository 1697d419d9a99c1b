"""Sampled Shapley values: honest errors, what pairs of orders gain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared.coalitions import by_coalitions, game
from shared.methods import network as parameters
from shared.methods import rectified, smooth

KEY = jax.random.key(0)

GAMES = {
    "smooth": (jaxplain.logit(smooth, parameters(features=6)), [0.9, -1.1, 0.8, 1.2, -0.7, 1.0]),
    "rectified": (jaxplain.logit(rectified, parameters(features=6)), [0.9, -1.1, 0.8, 1.2, -0.7, 1.0]),
    "skewed": (lambda x, _: jnp.exp(0.8 * x.sum()), [1.2, -0.9, 0.7, -1.4, 0.4, 1.0, -0.6]),
    "few orders": (lambda x, _: x.prod() + x[0] * x[1], [0.8, 0.9, 1.0, 1.1, 1.2]),
    "steps": (lambda x, _: x.max(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
}


def estimates(name, **settings):
    """2,000 estimates with their errors, and the exact values."""
    score, x = GAMES[name][0], jnp.array(GAMES[name][1])
    e = jaxplain.shapley_sampling_with_error(score, batch_size=10_000, **settings)
    result = jax.jit(lambda e, keys: jax.vmap(e, (0, None, None))(keys, x, 1))(e, jax.random.split(KEY, 2000))
    return result, jaxplain.shapley_values(score, batch_size=128)(x, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_standard_errors_are_honest(name):
    result, exact = estimates(name)
    covered = ((result.low <= exact[None]) & (exact[None] <= result.high)).mean(axis=0)
    assert ((covered >= 0.93) & (covered <= 0.97)).all(), covered
    spread = result.attribution.std(axis=0)
    np.testing.assert_allclose(jnp.sqrt(jnp.square(result.standard_error).mean(axis=0)), spread, rtol=0.06)
    bias = (result.attribution.mean(axis=0) - exact) / (spread / np.sqrt(2000))
    assert np.abs(bias).max() < 4


@pytest.mark.slow
def test_few_skewed_pairs_are_corrected_for():
    result, exact = estimates("skewed", samples=48)
    covered = ((result.low <= exact[None]) & (exact[None] <= result.high)).mean(axis=0)
    t = 2.0686576104  # of 23 degrees of freedom
    plain = (jnp.abs(result.attribution - exact[None]) <= t * result.standard_error).mean(axis=0)
    assert (covered > plain).all(), (covered, plain)
    assert (covered > 0.87).all(), covered


@pytest.mark.slow
def test_intervals_are_those_of_the_pairs_of_orders():
    """The estimate, its error and its interval from the single pairs, in NumPy, whatever the chunks."""
    score, x = GAMES["skewed"][0], jnp.array(GAMES["skewed"][1])
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, 0), p) for p in range(20)]

    def added(ranks):
        values = [float(score(jnp.where(ranks < size, x, 0.0), 1)) for size in range(8)]
        return np.diff(values)[ranks]

    ranks = [np.asarray(jax.random.permutation(key, 7)) for key in keys]
    pairs = np.array([(added(r) + added(6 - r)) / 2 for r in ranks])
    mean, error = pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(20)
    skewness = ((pairs - mean) ** 3).mean(axis=0) / pairs.std(axis=0) ** 3
    t = 2.0930240544  # of 19 degrees of freedom, two-sided 95 %
    centre = mean + skewness * error * (1 + t**2) / (6 * np.sqrt(20))
    for size in (1, 36, 1000):
        result = jax.jit(jaxplain.shapley_sampling_with_error(score, samples=40, batch_size=size))(KEY, x, 1)
        for found, wanted in zip(result, (mean, error, centre - t * error, centre + t * error), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_intervals_allow_for_rounding():
    """Pairs of orders cancel interactions of two features: every pair is exact, and only rounding is left."""
    x = jnp.linspace(-1.0, 2.0, 6)
    e = jaxplain.shapley_sampling_with_error(lambda x: x.sum() ** 2 + 100, samples=64)
    exact = x * x.sum()
    result = jax.vmap(e, (0, None))(jax.random.split(KEY, 200), x)
    assert ((result.low <= exact[None]) & (exact[None] <= result.high)).all()
    assert (result.high - result.low).max() < 1e-3


@pytest.mark.slow
def test_antithetic_orders_lower_the_error():
    score = jaxplain.logit(smooth, parameters(features=6))
    x = jnp.array([0.9, -1.1, 0.8, 1.2, -0.7, 1.0])
    values, _ = game(x, jnp.zeros(6), 6, lambda x: score(x, 1))
    phi = by_coalitions(values, 6)
    random = np.random.default_rng(0)
    plain = []
    for _ in range(500):
        estimate = np.zeros(6)
        for _ in range(8):
            number = 0
            for i in random.permutation(6):
                estimate[i] += (values[number | 1 << i] - values[number]) / 8
                number |= 1 << i
        plain.append(estimate)
    paired = jax.vmap(jaxplain.shapley_sampling(score, samples=8), (0, None, None))(jax.random.split(KEY, 500), x, 1)
    assert np.square(np.asarray(paired) - phi).mean() < 0.5 * np.square(np.array(plain) - phi).mean()
