"""Total Sobol indices: analytic ones, CRAFT's reference numbers, masks on codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept
from jaxplain.concept.dictionary import sobol

WEIGHTS = np.arange(1.0, 6.0, dtype=np.float32)
ADDITIVE = WEIGHTS**2 / np.sum(WEIGHTS**2)


def additive(mask):
    return jnp.sum(WEIGHTS * mask)


def ishigami(mask):
    x = 2 * jnp.pi * mask - jnp.pi
    return jnp.sin(x[0]) + 7 * jnp.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * jnp.sin(x[0])


def ishigami_indices(a=7.0, b=0.1):
    """Ishigami and Homma 1990: V1 = (1 + b pi^4 / 5)^2 / 2, V2 = a^2 / 8, V13 = b^2 pi^8 (1/18 - 1/50)."""
    v1, v2, v13 = 0.5 * (1 + b * np.pi**4 / 5) ** 2, a**2 / 8, b**2 * np.pi**8 * (1 / 18 - 1 / 50)
    return np.array([v1 + v13, v2, v13]) / (v1 + v2 + v13), v1 + v2 + v13


def test_an_additive_function_and_ishigamis():
    """Tolerances are those of 4,096 points: 0.004, where the errors of 4 keys were up to 0.0025."""
    total, variance = ishigami_indices()
    np.testing.assert_allclose(total, [0.5576, 0.4424, 0.2437], atol=1e-4)
    for key in (None, jax.random.key(0)):
        found = concept.sobol_indices(additive, 5, samples=4096, key=key, batch_size=512)
        np.testing.assert_allclose(found.total, ADDITIVE, atol=0.004)
        np.testing.assert_allclose(found.variance, np.sum(WEIGHTS**2) / 12, rtol=0.01)
        np.testing.assert_allclose(found.mean, WEIGHTS.sum() / 2, rtol=0.001)
        found = concept.sobol_indices(ishigami, 3, samples=4096, key=key, batch_size=512)
        np.testing.assert_allclose(found.total, total, atol=0.004)
        np.testing.assert_allclose(found.variance, variance, rtol=0.01)


def jansen(outputs, samples):
    """The estimator of CRAFT's reference, from its paper: the design first, then one with each column replaced."""
    own, others = outputs[:samples], outputs[samples:].reshape(-1, samples)
    return np.sum((others - own) ** 2, axis=1) / (2 * samples * np.var(own, ddof=1))


@pytest.mark.parametrize("sequence", ["halton", "sobol"])
def test_without_a_key_the_numbers_are_those_of_the_reference(sequence):
    from scipy.stats import qmc

    sampler = {"halton": qmc.Halton, "sobol": qmc.Sobol}[sequence](6, scramble=False)
    points = sampler.random(32)
    a, b = points[:, :3], points[:, 3:]
    replaced = [np.where(np.arange(3) == i, b, a) for i in range(3)]
    x = 2 * np.pi * np.concatenate([a, *replaced]) - np.pi
    outputs = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    found = concept.sobol_indices(ishigami, 3, samples=32, sequence=sequence)
    np.testing.assert_allclose(found.total, jansen(outputs, 32), rtol=1e-4)


def test_points_that_are_no_power_of_two_are_the_first_ones():
    a, b = sobol.design(2, 20, None, "sobol")
    whole = sobol.design(2, 32, None, "sobol")
    np.testing.assert_array_equal(a, whole[0][:20])
    np.testing.assert_array_equal(b, whole[1][:20])
    assert ((np.asarray(a) >= 0) & (np.asarray(a) < 1)).all()


def test_a_function_that_does_not_vary_has_no_indices():
    found = concept.sobol_indices(lambda mask: 0 * mask.sum() + 3.3, 2)
    assert np.isnan(found.total).all()
    np.testing.assert_allclose(found.mean, 3.3, rtol=1e-5)


def apply(params, x):
    with jax.named_scope("parts"):
        h = jax.nn.relu(x)
    return h.sum(axis=1) @ params


PARAMS = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
F = jaxplain.logit(apply, PARAMS)
X = jnp.array([[1.0, 0.0, 3.0], [0.5, 2.0, 1.0]])


def test_masks_of_concepts_hold_at_every_place_and_batches_do_not_matter():
    body, head = jaxplain.split(F, "parts")
    dictionary = concept.NonNegativeDictionary(jnp.eye(3), site=concept.layer_site(F, "parts", X, 0))
    h = body(X, 0)
    found = concept.sobol_importance(dictionary, head, h, X, 0, samples=1024)
    weights = np.array([1.5 * 1.0, 2.0 * 2.0, 0.0])  # sums over places times the head's weights
    np.testing.assert_allclose(found.total, weights**2 / np.sum(weights**2), atol=0.005)
    again = concept.sobol_importance(dictionary, head, h, X, 0, samples=1024, batch_size=7)
    np.testing.assert_allclose(again.total, found.total, atol=1e-5)
    other = jaxplain.split(jaxplain.logit(apply, 2 * PARAMS), "parts")[1]
    with pytest.raises(ValueError, match="the dictionary describes the layer 'parts' of a model"):
        concept.sobol_importance(dictionary, other, h, X, 0)


def test_bad_calls_are_told():
    for bad, words in {
        lambda: concept.sobol_indices(additive, 0): "`dimension` has to be at least 1",
        lambda: concept.sobol_indices(additive, 5, samples=1): "`samples` has to be at least 2",
        lambda: concept.sobol_indices(additive, 5, sequence="grid"): "`sequence`",
        lambda: concept.sobol_indices(lambda mask: mask, 5): "has to return one number",
        lambda: concept.sobol_importance(np.eye(3), additive, np.ones(3)): "`dictionary`",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            bad()


@pytest.mark.parametrize("masks", [4, 20])
def test_errors_of_additive_functions_are_those_that_the_documentation_says(masks):
    weights = np.random.default_rng(masks).normal(size=masks)
    right = weights**2 / np.sum(weights**2)
    for samples, most in ((32, 0.12), (128, 0.03), (512, 0.006)):
        errors = []
        for key in (None, *map(jax.random.key, range(4))):
            a, b = map(np.asarray, sobol.design(masks, samples, key, "sobol"))
            assert ((a >= 0) & (a < 1)).all()
            own = a @ weights
            found = np.mean((weights * (a - b)) ** 2, axis=0) / (2 * own.var(ddof=1))
            errors.append(np.abs(found - right).max())
        assert np.mean(errors) < most, (samples, errors)
