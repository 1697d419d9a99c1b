"""Adversarial examples and counterfactuals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared import recorded_captum as captum
from shared.methods import network, rectified
from shared.recorded_captum import TARGETS, A, B, peers_model, wave

PARAMS = (wave(1, 20, 6), wave(2, 3, 6), wave(3, 6, 3))
MASK = (jnp.arange(20).reshape(4, 5) % 3 > 0).astype(jnp.float32)
X = jnp.array([0.5, -1.0, 2.0, 0.25])


def attacked(a, k, b):
    return jaxplain.loss(peers_model, PARAMS)({"a": a, "b": b}, k)


def test_equals_captum():
    ball = {"low": -1.0, "high": 1.0}
    cases = {
        "FGSM": (jaxplain.fgsm(attacked, epsilon=0.1, low=-0.9, high=0.9, mask=MASK), TARGETS),
        "PGD_LINF": (jaxplain.pgd(attacked, epsilon=0.15, step_size=0.04, steps=7, mask=MASK, **ball), TARGETS),
        "PGD_L2": (jaxplain.pgd(attacked, epsilon=0.3, step_size=0.1, steps=5, norm="l2", mask=MASK, **ball), TARGETS),
        "PGD_TARGETED": (
            jaxplain.pgd(attacked, epsilon=0.3, step_size=0.1, steps=5, norm="l2", targeted=True, **ball),
            jnp.array([1, 1]),
        ),
    }
    for name, (e, targets) in cases.items():
        found = jax.jit(jax.vmap(e))(A, targets, B)
        np.testing.assert_allclose(found, np.reshape(getattr(captum, name), (2, 4, 5)), atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_attacks_stay_inside_their_ball_and_raise_the_loss():
    f = jaxplain.loss(rectified, network())
    for norm, length in (("linf", lambda d: jnp.abs(d).max()), ("l2", jnp.linalg.norm)):
        for direction in ("sign", "gradient"):
            e = jaxplain.pgd(f, epsilon=0.2, step_size=0.1, steps=8, norm=norm, direction=direction)
            found = jax.jit(e)(X, 1)
            assert float(length(found - X)) <= 0.2 * (1 + 1e-5)
            assert float(f(found, 1)) > float(f(X, 1))
            lowered = jaxplain.pgd(
                f, epsilon=0.2, step_size=0.1, steps=8, norm=norm, direction=direction, targeted=True
            )
            assert float(f(jax.jit(lowered)(X, 1), 1)) <= float(f(X, 1))


def test_of_a_linear_loss_the_best_point_of_the_ball_is_found():
    w = jnp.array([3.0, -4.0, 0.0, 1.0])
    f = lambda x: (w * x).sum()  # noqa: E731
    one = jaxplain.fgsm(f, epsilon=0.5)(X)
    np.testing.assert_allclose(one, X + 0.5 * jnp.sign(w), atol=1e-6)
    many = jaxplain.pgd(f, epsilon=0.5, step_size=0.2, steps=20)(X)
    np.testing.assert_allclose(many, one, atol=1e-6)
    steep = jaxplain.pgd(f, epsilon=0.5, step_size=0.2, steps=20, norm="l2", direction="gradient")(X)
    np.testing.assert_allclose(steep, X + 0.5 * w / jnp.linalg.norm(w), atol=1e-6)


@pytest.mark.slow
def test_random_starts_are_uniform_in_the_ball_and_the_mask_holds():
    mask = jnp.array([1.0, 0.0, 1.0, 1.0])
    flat = lambda x: 0 * x.sum()  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 4000)
    for norm in ("linf", "l2"):
        e = jaxplain.pgd(flat, epsilon=0.5, step_size=0.1, steps=1, norm=norm, random_start=True, mask=mask)
        offset = np.asarray(jax.jit(jax.vmap(e, (0, None)))(keys, X) - X[None])
        assert not offset[:, 1].any()
        np.testing.assert_allclose(offset.mean(0), 0.0, atol=0.02)
        if norm == "linf":
            np.testing.assert_allclose(offset[:, [0, 2, 3]].std(0), 0.5 / np.sqrt(3), rtol=0.05)
        else:  # of a point uniform in a 4-ball, each coordinate has the variance r^2 / 6
            np.testing.assert_allclose(offset[:, [0, 2, 3]].std(0), 0.5 / np.sqrt(6), rtol=0.05)


def test_pytrees_keep_their_integers_and_dtypes():
    x = {"v": jnp.ones(2, jnp.bfloat16), "id": jnp.array(3)}
    f = lambda x: (x["v"].astype(jnp.float32) * jnp.array([1.0, -1.0])).sum() + x["id"]  # noqa: E731
    found = jaxplain.pgd(f, epsilon=0.5, step_size=0.5, steps=2, norm="l2")(x)
    assert found["v"].dtype == jnp.bfloat16
    assert int(found["id"]) == 3
    np.testing.assert_allclose(found["v"].astype(jnp.float32), 1 + 0.5 / np.sqrt(2) * np.array([1, -1]), rtol=1e-2)


def test_counterfactuals_of_a_linear_score():
    w = jnp.array([3.0, -4.0, 0.5])
    x = jnp.array([1.0, 1.0, 1.0])
    f = lambda x: (w * x).sum()  # noqa: E731
    short = 5.0 - float(f(x))
    euclid = jax.jit(jaxplain.counterfactual(f, threshold=5.0, norm="l2", steps=1500))(x)
    assert bool(euclid.reached)
    assert float(euclid.score) >= 5.0
    np.testing.assert_allclose(euclid.distance, short / jnp.linalg.norm(w), rtol=1e-3)
    np.testing.assert_allclose(euclid.x - x, short * w / (w**2).sum(), atol=0.01)
    sparse = jax.jit(jaxplain.counterfactual(f, threshold=5.0, steps=1500))(x)  # the L1 way is along the largest weight
    np.testing.assert_allclose(sparse.distance, short / 4, rtol=0.05)
    units = jax.jit(jaxplain.counterfactual(f, threshold=5.0, norm="l2", scale=jnp.array([10.0, 1.0, 1.0])))(x)
    scaled = w * jnp.array([10.0, 1.0, 1.0])
    np.testing.assert_allclose(units.distance, short / jnp.linalg.norm(scaled), rtol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.05, 1.0, 30.0])
def test_counterfactuals_of_linear_scores_are_the_nearest_points_near_and_far(gap):
    """|gap| over the Euclidean norm of the weights, and over their largest for the L1 distance, with default steps."""
    w = jax.random.normal(jax.random.key(1), (12,))
    x = {"a": jnp.ones((2, 5)), "b": jnp.full(2, 3.0), "id": jnp.array(1)}

    def f(x, scale):
        return scale * (w[:10] @ x["a"].reshape(-1) + w[10:] @ x["b"] + 7)

    for norm, dual in (("l2", jnp.linalg.norm(w)), ("l1", jnp.abs(w).max())):
        found = []
        for scale in (1.0, 1000.0):  # the score's units do not matter
            threshold = f(x, scale) + scale * gap * dual
            result = jax.jit(jaxplain.counterfactual(f, threshold=threshold, norm=norm))(x, scale)
            assert bool(result.reached)
            assert float(result.score) >= float(threshold)
            np.testing.assert_allclose(result.distance, gap, rtol=0.005 if norm == "l2" else 0.03)
            found.append(result)
        change = jnp.concatenate([(result.x[k] - x[k]).reshape(-1) for k in ("a", "b")])
        length = jnp.linalg.norm(change) if norm == "l2" else jnp.abs(change).sum()
        np.testing.assert_allclose(length, result.distance, rtol=1e-3)
        np.testing.assert_allclose(found[0].distance, found[1].distance, rtol=0.02)


def test_counterfactuals_respect_bounds_and_masks_and_say_when_they_fail():
    w = jnp.array([3.0, -4.0, 0.5])
    f = lambda x: (w * x).sum()  # noqa: E731
    e = jaxplain.counterfactual(f, threshold=2.0, mask=jnp.array([1.0, 0.0, 1.0]), low=0.0, high=1.0)
    found = jax.jit(e)(jnp.array([0.2, 0.0, 0.2]))
    assert bool(found.reached)
    assert float(found.x[1]) == 0.0
    assert float(found.x.max()) <= 1.0
    failed = jax.jit(jaxplain.counterfactual(f, threshold=100.0, low=0.0, high=1.0, steps=50))(jnp.zeros(3))
    assert not bool(failed.reached)
    already = jax.jit(jaxplain.counterfactual(f, threshold=-1.0, steps=20))(jnp.zeros(3))
    np.testing.assert_array_equal(already.x, 0.0)
    assert float(already.distance) == 0.0


@pytest.mark.slow
def test_counterfactuals_change_a_network_s_answer_in_a_batch():
    f = jaxplain.margin(rectified, network())
    x = jax.random.normal(jax.random.key(0), (4, 4))
    others = (jax.vmap(lambda x: jnp.argmin(rectified(network(), x[None])[0]))(x)).astype(jnp.int32)
    found = jaxplain.explain_batch(jaxplain.counterfactual(f, norm="l2", steps=300), x, others)
    assert bool(found.reached.all())
    assert (np.asarray(jax.vmap(f)(found.x, others)) >= -1e-5).all()


def test_bad_input_is_named():
    f = jnp.sum
    with pytest.raises(ValueError, match="epsilon"):
        jaxplain.fgsm(f, epsilon=-1.0)
    with pytest.raises(ValueError, match="norm"):
        jaxplain.pgd(f, epsilon=1.0, step_size=0.1, norm="l1")
    with pytest.raises(ValueError, match="step_size"):
        jaxplain.pgd(f, epsilon=1.0, step_size=0.0)
    with pytest.raises(ValueError, match="mask"):
        jaxplain.fgsm(f, epsilon=1.0, mask=jnp.ones(3))(X)
    with pytest.raises(ValueError, match="high - low"):
        jaxplain.fgsm(f, epsilon=1.0, low=1.0, high=0.0)
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.fgsm(lambda x: jnp.log(-x[2]), epsilon=1.0)(X)
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.pgd(lambda x: jnp.log(-x[2]), epsilon=1.0, step_size=0.1)(X)
    with pytest.raises(TypeError, match="needs a key first"):
        jaxplain.pgd(f, epsilon=1.0, step_size=0.1, random_start=True)(X)
    with pytest.raises(TypeError, match="optax"):
        jaxplain.counterfactual(f, optimizer=3)
    with pytest.raises(ValueError, match="scale"):
        jaxplain.counterfactual(f, scale=0.0)
    with pytest.raises(ValueError, match="broadcast"):
        jaxplain.counterfactual(f, mask=jnp.ones(3))(X)
    with pytest.raises(TypeError, match="split"):
        jaxplain.pgd(f, epsilon=1.0, step_size=0.1)(jnp.arange(3))
