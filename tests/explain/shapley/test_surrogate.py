"""LIME: the weighted regression on its own masks, scikit-learn's solutions, closed forms, superpixels, bad input."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.shapley.surrogate import Lime, _ridge, lasso
from shared.methods import network as parameters
from shared.methods import smooth
from shared.peer_network import BASELINE, FIRST, MASKS, SECOND, X, lime_weights

KEY = jax.random.key(0)


def f(x):
    return jnp.tanh(x @ FIRST) @ SECOND


def design(e, n):
    """The masks and weights that a call with KEY draws."""
    draw = functools.partial(e.sample, jax.random.fold_in(KEY, 0), n=n, present=None)
    masks, weights = jax.vmap(draw)(jnp.arange(e.samples))
    return np.asarray(masks), np.asarray(weights, np.float64)


def regression(masks, weights, scores, penalty):
    """Weighted ridge with a free intercept, by its normal equations."""
    w = weights / weights.sum()
    centred, target = masks - w @ masks, scores - w @ scores
    return np.linalg.solve(
        centred.T @ (w[:, None] * centred) + penalty * np.eye(masks.shape[1]), centred.T @ (w * target)
    )


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_ridge_equals_numpy_on_the_same_masks(penalty):
    e = jaxplain.lime(f, baseline=jnp.asarray(BASELINE), samples=100, penalty=penalty, batch_size=33)
    masks, weights = design(e, 5)
    assert masks[0].all()
    np.testing.assert_allclose(weights, lime_weights(masks, 0.25), rtol=1e-4)
    scores = np.tanh(np.where(masks, X, BASELINE) @ FIRST) @ SECOND
    expected = regression(masks.astype(float), weights, scores.astype(float), penalty)
    np.testing.assert_allclose(e(KEY, jnp.asarray(X)), expected, atol=2e-5)


@pytest.mark.slow
def test_linear_scores_get_their_terms():
    weights, x, b = jnp.array([1.0, -2.0, 0.0, 3.0]), jnp.array([2.0, 1.0, 5.0, -1.0]), jnp.array([0.5, 0.0, 1.0, 1.0])
    a = jaxplain.lime(lambda x: weights @ x + 7, baseline=b, samples=64)(KEY, x)
    np.testing.assert_allclose(a, weights * (x - b), atol=1e-5)
    background = jnp.stack([b, 2 * b, 3 * b])
    a = jaxplain.lime(lambda x: weights @ x, baseline=background, samples=64, batch_size=4)(KEY, x)
    np.testing.assert_allclose(a, weights * (x - 2 * b), atol=1e-5)


# scikit-learn 1.9.1, by tests/peers/shapley.py
RIDGE = [0.6077806272229687, -1.0870335964222424, 1.584079737640134, 0.09808393459878245, 0.3468163566376699]
LASSO = [0.8163451188261548, -1.452131437646837, 2.225156883520413, 0.1869889904685906, 0.46325773766881234]


class _Given(Lime):
    """LIME on masks that are given."""

    masks: jax.Array | None = None

    def sample(self, key, index, n, present):
        kept = self.masks[index]
        distance = 1 - jnp.sqrt(kept.mean())
        return kept, jnp.exp(-jnp.square(distance / self.kernel_width))


@pytest.mark.slow
@pytest.mark.parametrize(("regression", "penalty", "expected"), [("ridge", 0.1, RIDGE), ("lasso", 0.01, LASSO)])
def test_scikit_learn_on_the_same_masks(regression, penalty, expected):
    e = jaxplain.lime(
        f, baseline=jnp.asarray(BASELINE), samples=40, kernel_width=0.5, regression=regression, penalty=penalty
    )
    fields = {field.name: getattr(e, field.name) for field in dataclasses.fields(e)}
    np.testing.assert_allclose(_Given(**fields, masks=jnp.asarray(MASKS))(KEY, jnp.asarray(X)), expected, atol=2e-5)


@pytest.mark.slow
def test_lasso_is_the_minimum_sets_zeros_and_has_a_gradient():
    a = jax.random.normal(KEY, (30, 8))
    products, moments = a.T @ a / 30, jnp.array([1.0, -0.5, 0.2, 0.05, -0.02, 0.6, -0.8, 0.0])
    beta = lasso(products, moments, jnp.asarray(0.4), None)
    slope = np.asarray(products @ beta - moments)
    zero = np.asarray(beta) == 0
    assert zero.any()
    assert not zero.all()
    np.testing.assert_allclose(slope[~zero], -0.4 * np.sign(beta[~zero]), atol=1e-5)
    assert (np.abs(slope[zero]) <= 0.4 + 1e-5).all()
    assert not lasso(products, moments, jnp.asarray(2.0), None).any()
    np.testing.assert_allclose(
        lasso(products, moments, jnp.asarray(0.0), None), _ridge(products, moments, jnp.zeros(()), None), atol=1e-4
    )

    def energy(scale):
        return jnp.square(lasso(products, scale * moments, jnp.asarray(0.1), None)).sum()

    numeric = (energy(1.001) - energy(0.999)) / 0.002
    np.testing.assert_allclose(jax.grad(energy)(1.0), numeric, rtol=1e-2)


@pytest.mark.slow
def test_kernel_width_and_groups():
    score = jaxplain.logit(smooth, parameters(features=6))
    x = jax.random.normal(KEY, (6,))
    groups = jnp.array([0, 1, 2, 0, 1, 2])
    a = jaxplain.lime(score, groups=groups, samples=64)(KEY, x, 1)
    np.testing.assert_allclose(a[:3], a[3:], rtol=1e-5)
    mapped = jax.vmap(lambda g: jaxplain.lime(score, groups=g, max_groups=3, samples=64)(KEY, x, 1))(groups[None])[0]
    np.testing.assert_allclose(mapped, a, atol=1e-5)
    two = jax.vmap(lambda g: jaxplain.lime(score, groups=g, max_groups=4, samples=64)(KEY, x, 1))(groups[None] % 2)
    assert bool(jnp.isfinite(two).all())
    widths = [jaxplain.lime(score, samples=256, kernel_width=w)(KEY, x, 1) for w in (0.05, 5.0)]
    assert np.abs(widths[0] - widths[1]).max() > 1e-3


def test_superpixels():
    pytest.importorskip("skimage")
    image = np.zeros((16, 16, 3), np.float32)
    image[:, 8:] = 1.0
    groups = np.asarray(jaxplain.baseline.superpixels(image, 8))
    assert groups.shape == (16, 16)
    assert set(groups.ravel()) == set(range(groups.max() + 1))
    assert not set(groups[:, :8].ravel()) & set(groups[:, 8:].ravel())
    a = jaxplain.lime(lambda x: x[:, 8:].sum(), groups=groups, samples=64)(KEY, jnp.asarray(image))
    np.testing.assert_allclose(a.sum(), 384, rtol=1e-4)
    assert np.asarray(jaxplain.baseline.superpixels(image[..., 0], 4)).shape == (16, 16)


@pytest.mark.slow
def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match="5 features without penalty needs at least 6"):
        jaxplain.lime(f, samples=5)(KEY, jnp.asarray(X))
    assert jaxplain.lime(f, samples=5, penalty=0.1)(KEY, jnp.asarray(X)).shape == (5,)
    with pytest.raises(ValueError, match="`kernel_width` has to be finite and positive"):
        jaxplain.lime(f, kernel_width=0.0)
    with pytest.raises(ValueError, match="`penalty`"):
        jaxplain.lime(f, penalty=-1.0)
    with pytest.raises(ValueError, match="'ridge', 'lasso'"):
        jaxplain.lime(f, regression="tree")
    with pytest.raises(ValueError, match="score `f` is NaN"):
        jaxplain.lime(lambda x: jnp.log(x).sum(), samples=32)(KEY, jnp.ones(3))
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        jaxplain.baseline.superpixels(np.ones(3))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(jaxplain.baseline.superpixels)(jnp.ones((4, 4)))
    monkeypatch.setitem(__import__("sys").modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match="jaxplain\\[images\\]"):
        jaxplain.baseline.superpixels(np.ones((4, 4)))
