"""The score of a region against numbers by hand; Seg-Grad-CAM in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import vision

X = np.asarray(jax.random.normal(jax.random.key(0), (3, 4, 2)))
PARAMS = np.array([[1.0, -2.0, 0.5], [3.0, 0.5, -1.0]], np.float32)
MASK = np.zeros((3, 4), bool)
MASK[1:, :2] = True


def apply(params, x):
    """Logits of each pixel alone, of what a layer keeps of it."""
    with jax.named_scope("conv"):
        h = jax.nn.relu(x * 1.0)
    return h @ params


def test_the_class_is_added_up_in_the_region_alone():
    logits = np.maximum(X, 0) @ PARAMS
    total, mean = vision.region_score(apply, PARAMS), vision.region_score(apply, PARAMS, mean=True)
    weights = np.linspace(0, 1, 12).reshape(3, 4).astype(np.float32)
    for k in range(3):
        assert float(total(X, (MASK, k))) == pytest.approx(logits[MASK][:, k].sum(), rel=1e-5)
        assert float(mean(X, (MASK, k))) == pytest.approx(logits[MASK][:, k].mean(), rel=1e-5)
        assert float(mean(X, (weights, k))) == pytest.approx((weights * logits[..., k]).sum() / 6, rel=1e-5)
    expected = MASK[..., None] * (X > 0) * PARAMS[:, 1]
    np.testing.assert_allclose(jaxplain.gradient(total)(X, (MASK, 1)), expected, rtol=1e-6)


@pytest.mark.slow
def test_relevance_adds_up_to_the_region():
    total = vision.region_score(apply, PARAMS)
    summed = jaxplain.lrp(total, jaxplain.relevance.epsilon())(X, (MASK, 1)).sum()
    assert float(summed) == pytest.approx(float(total(X, (MASK, 1))), rel=1e-5)


def test_with_grad_cam_it_is_seg_grad_cam():
    """Of y = sum over the mask of sum_c A_c w_ck: the weights are the mask's share times w_ck."""
    alpha = PARAMS[:, 0] * MASK.mean()
    expected = np.maximum(np.maximum(X, 0) @ alpha, 0)
    found = jaxplain.grad_cam(vision.region_score(apply, PARAMS), "conv")(X, (MASK, 0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_places_may_have_any_axes():
    """A volume with a slice that the mask leaves out, a sequence."""
    for shape in ((2, 3, 4), (5,)):
        x = np.asarray(jax.random.normal(jax.random.key(1), (*shape, 2)))
        mask = np.zeros(shape, bool)
        mask[0] = True
        f, logits = vision.region_score(apply, PARAMS), np.maximum(x, 0) @ PARAMS
        assert float(f(x, (mask, 1))) == pytest.approx(logits[0, ..., 1].sum(), rel=1e-5)
        e = jaxplain.gradient(f)
        found = jaxplain.explain_batch(e, np.stack([x, x]), (np.stack([mask, ~mask]), np.array([1, 0])))
        np.testing.assert_allclose(found[0], mask[..., None] * (x > 0) * PARAMS[:, 1], rtol=1e-6)
        with pytest.raises(ValueError, match="is empty"):
            f(x, (0 * mask, 1))
        with pytest.raises(ValueError, match="is empty"):
            jaxplain.explain_batch(e, np.stack([x, x]), (np.stack([mask, 0 * mask]), np.array([1, 0])))
    with pytest.raises(ValueError, match="is empty"):
        vision.region_score(apply, PARAMS)(X, (1.0, 1))


def test_it_is_linear_in_the_mask():
    f = vision.region_score(apply, PARAMS)
    one, other = np.asarray(jax.random.uniform(jax.random.key(2), (2, 3, 4)))
    both = float(f(X, (one + 2 * other, 1)))
    assert both == pytest.approx(float(f(X, (one, 1))) + 2 * float(f(X, (other, 1))), rel=1e-5)


def test_a_batch_has_a_mask_and_a_class_for_each_example():
    e = jaxplain.gradient(vision.region_score(apply, PARAMS))
    masks, classes = np.stack([MASK, ~MASK]), np.array([0, 2])
    found = jaxplain.explain_batch(e, np.stack([X, X]), (masks, classes))
    for one, mask, k in zip(found, masks, classes, strict=True):
        np.testing.assert_allclose(one, mask[..., None] * (X > 0) * PARAMS[:, k], rtol=1e-6)
    with pytest.raises(ValueError, match=r"mask, of shape .* is empty"):
        jaxplain.explain_batch(e, np.stack([X, X]), (np.stack([MASK, 0 * MASK]), classes))
    with pytest.raises(ValueError, match="target 3 is outside the model's 3 outputs"):
        jaxplain.explain_batch(e, np.stack([X, X]), (masks, np.array([0, 3])))
    f = jax.jit(vision.region_score(apply, PARAMS))
    assert bool(jnp.isnan(f(X, (MASK, 3))))


def scored(target):
    return vision.region_score(apply, PARAMS)(X, target)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: scored(1), TypeError, r"region_score: the `target` has to be the pair \(mask, class\), not 1"),
        (lambda: scored((MASK.T, 1)), ValueError, r"mask has shape \(4, 3\), but the outputs have \(3, 4, 3\)"),
        (lambda: scored((0 * MASK, 1)), ValueError, "is empty"),
        (lambda: scored((MASK - 0.5, 1)), ValueError, "negative or not finite"),
        (lambda: scored((np.where(MASK, np.nan, 1), 1)), ValueError, "negative or not finite"),
        (lambda: scored(("all", 1)), TypeError, "`target`"),
        (lambda: scored((MASK, 3)), ValueError, "target 3 is outside"),
        (lambda: vision.region_score(apply, PARAMS, mean=1), TypeError, "`mean` has to be True or False"),
        (lambda: vision.region_score(PARAMS, PARAMS), TypeError, "`apply` has to be a function"),
    ],
)
def test_what_is_no_region_is_told(call, error, words):
    with pytest.raises(error, match=words):
        call()
