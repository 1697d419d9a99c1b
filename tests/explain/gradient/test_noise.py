"""SmoothGrad, its square and VarGrad: a loop over the same draws, closed forms, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

KEY, SIGMA = jax.random.key(11), 0.3
X = jnp.array([0.2, -1.0, 1.5])


def draws(key, samples):
    """The noise of each sample, as `add_noise` defines it: sample, then use, then leaf."""
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, s), 0), 0) for s in range(samples)]
    return np.stack([np.asarray(jax.random.normal(k, (3,)), np.float64) for k in keys])


@pytest.mark.slow
def test_statistics_equal_a_loop_over_the_draws():
    points = np.asarray(X) + SIGMA * draws(KEY, 7)
    gradients = np.cos(points)
    expected = {
        jaxplain.smoothgrad: gradients.mean(0),
        jaxplain.smoothgrad_squared: (gradients**2).mean(0),
        jaxplain.vargrad: gradients.var(0),
    }
    for wrapper, value in expected.items():
        for size in (1, 3, 7):
            e = wrapper(jaxplain.gradient(lambda x: jnp.sin(x).sum()), sigma=SIGMA, samples=7, batch_size=size)
            np.testing.assert_allclose(e(KEY, X), value, atol=1e-6)


def test_smoothing_a_sine_shrinks_it():
    e = jaxplain.smoothgrad(jaxplain.gradient(lambda x: jnp.sin(x).sum()), sigma=SIGMA, samples=4000, batch_size=1000)
    np.testing.assert_allclose(e(KEY, X), np.cos(X) * np.exp(-(SIGMA**2) / 2), atol=0.02)


@pytest.mark.slow
def test_a_small_variance_beside_a_large_mean_stays_right():
    e = jaxplain.vargrad(jaxplain.gradient(lambda x: (1e4 * x + x**2 / 2).sum()), sigma=1e-1, samples=50, batch_size=7)
    np.testing.assert_allclose(e(KEY, X), (0.1 * draws(KEY, 50)).var(0), rtol=0.02)


def test_random_explanations_get_a_key_for_each_sample():
    inner = jaxplain.expected_gradients(lambda x: (x**2).sum(), samples=1)
    e = jaxplain.smoothgrad(inner, sigma=0.0, samples=64)
    found = e(KEY, X)
    assert float(jnp.abs(found - X**2).max()) < 0.3 * float((X**2).max())
    alphas = [
        float(jax.random.uniform(jax.random.fold_in(jax.random.fold_in(k, 0), 1)))
        for k in (jax.random.fold_in(jax.random.fold_in(KEY, s), 1) for s in range(64))
    ]
    np.testing.assert_allclose(found, 2 * np.asarray(X) ** 2 * np.mean(alphas), rtol=1e-5)


def test_no_noise_is_the_explanation_itself():
    e = jaxplain.gradient(lambda x: jnp.sin(x).sum())
    np.testing.assert_allclose(jaxplain.smoothgrad(e, sigma=0.0, samples=3)(KEY, X), np.cos(X), rtol=1e-6)
    np.testing.assert_array_equal(jaxplain.vargrad(e, sigma=0.0, samples=3)(KEY, X), 0.0)


@pytest.mark.parametrize(
    ("wrapper", "settings", "text"),
    [
        (jaxplain.smoothgrad, {"sigma": -0.1}, "sigma"),
        (jaxplain.smoothgrad, {"sigma": jnp.ones(3)}, "`sigma` has to be a number"),
        (jaxplain.smoothgrad, {"sigma": 0.1, "samples": 0}, "samples"),
        (jaxplain.vargrad, {"sigma": 0.1, "samples": 1}, "at least 2"),
        (jaxplain.smoothgrad_squared, {"sigma": 0.1, "batch_size": 0}, "batch_size"),
    ],
)
def test_settings_out_of_range(wrapper, settings, text):
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        wrapper(jaxplain.gradient(lambda x: x.sum()), **settings)
    assert wrapper.__name__ in str(caught.value)


def test_a_missing_key_is_said_by_explain_batch():
    e = jaxplain.smoothgrad(jaxplain.gradient(lambda x: x.sum()), sigma=0.1)
    with pytest.raises(ValueError, match=r"smoothgrad.*key=jax.random.key"):
        jaxplain.explain_batch(e, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="threefry"):
        jaxplain.explain_batch(e, jnp.ones((2, 3)), key=jax.random.key(0, impl="rbg"))
