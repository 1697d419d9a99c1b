"""Ablation, permutation, occlusion and RISE: closed forms, captum's numbers, memory, what is refused."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared import recorded_captum as captum
from shared.recorded_captum import TARGETS, A, B, peers_model, wave

W = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5, 2)), jnp.float32)
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5, 2)), jnp.float32)


def linear(x):
    return (W * x).sum() + 3.0


PEER = jaxplain.logit(peers_model, (wave(1, 20, 6), wave(2, 3, 6), wave(3, 6, 3)))


def test_ablation_of_a_linear_model():
    baseline = 0.25
    drops = W * (X - baseline)
    a = jax.jit(jaxplain.feature_ablation(linear, baseline=baseline, batch_size=4))(X)
    np.testing.assert_allclose(a, np.broadcast_to(drops.sum(-1, keepdims=True), X.shape), atol=1e-5)
    groups = jnp.arange(60).reshape(6, 5, 2) % 7
    a = jax.jit(jaxplain.feature_ablation(linear, baseline=baseline, groups=groups, batch_size=3))(X)
    sums = np.bincount(np.ravel(groups), np.ravel(drops), 7)
    np.testing.assert_allclose(a, sums[groups], atol=1e-5)


def test_groups_that_span_leaves_and_integers_that_stay():
    x = {"a": jnp.array([1.0, 2.0, 3.0]), "b": jnp.array([4.0, 5.0]), "id": jnp.array([7])}
    groups = {"a": jnp.array([0, 1, 1]), "b": jnp.array([1, 2]), "id": jnp.array([0])}

    def f(x):
        return x["a"].sum() * x["b"].prod() + x["id"].sum()

    a = jaxplain.feature_ablation(f, groups=groups, batch_size=2)(x)
    np.testing.assert_allclose(a["a"], [20.0, 120.0, 120.0])
    np.testing.assert_allclose(a["b"], [120.0, 120.0])
    assert a["id"].tolist() == [0]


@pytest.mark.slow
def test_groups_that_differ_from_example_to_example():
    x = jnp.stack([X[..., 0], 2 * X[..., 0]])
    groups = jnp.stack([jnp.arange(30).reshape(6, 5) % 4, jnp.arange(30).reshape(6, 5) // 11])

    def f(x):
        return (W[..., 0] * x).sum()

    for most in (None, 4):
        a = jax.jit(
            jax.vmap(lambda x, g, most=most: jaxplain.feature_ablation(f, groups=g, max_groups=most, batch_size=7)(x))
        )(x, groups)
        for row in range(2):
            np.testing.assert_allclose(a[row], jaxplain.feature_ablation(f, groups=groups[row])(x[row]), atol=1e-5)
    few = jax.vmap(lambda x, g: jaxplain.feature_ablation(f, groups=g, max_groups=3)(x))(x, groups)
    assert bool(jnp.isnan(few[0]).all())
    assert bool(jnp.isfinite(few[1]).all())


def occluded(f, x, window, stride, baseline):
    """The definition, window by window in NumPy."""
    x = np.asarray(x, np.float64)
    window = tuple(window) + x.shape[len(window) :]
    stride = tuple(stride) + x.shape[len(stride) :]
    total, count = np.zeros(x.shape), np.zeros(x.shape)
    starts = [range(0, -(-(n - w) // s) * s + 1, s) for n, w, s in zip(x.shape, window, stride, strict=True)]
    for start in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, x.ndim):
        place = tuple(slice(a, a + w) for a, w in zip(start, window, strict=True))
        hidden = x.copy()
        hidden[place] = baseline
        total[place] += f(x) - f(hidden)
        count[place] += 1
    return total / count


@pytest.mark.parametrize(
    ("window", "stride"), [((2, 2), (1, 2)), ((4, 3, 1), (3, 2, 1)), ((3,), (2,)), ((6, 5), (6, 5)), ((5, 2), (4, 1))]
)
@pytest.mark.sampled(2)
def test_occlusion_is_the_mean_over_windows(window, stride):
    weights = np.asarray(W, np.float64)
    wanted = occluded(lambda x: (weights * x).sum(), X, window, stride, 0.5)
    e = jaxplain.occlusion(linear, window=window, stride=stride, baseline=0.5, batch_size=3)
    np.testing.assert_allclose(jax.jit(e)(X), wanted, atol=1e-5)


@pytest.mark.slow
def test_occlusion_of_signals_and_pytrees():
    f = lambda x: (x["a"] * jnp.arange(5.0)).sum() + x["b"].sum()  # noqa: E731
    x = {"a": jnp.ones(5), "b": jnp.ones((2, 2)), "id": jnp.array(1)}
    a = jaxplain.occlusion(f, window={"a": 2, "b": (1,), "id": 1}, stride={"a": 1, "b": 1, "id": 1})(x)
    np.testing.assert_allclose(
        a["a"], occluded(lambda v: (v * np.arange(5)).sum(), np.ones(5), (2,), (1,), 0.0), atol=1e-5
    )
    np.testing.assert_allclose(a["b"], 2.0)
    assert int(a["id"]) == 0


@pytest.mark.slow
def test_permutation_of_a_linear_model():
    data = jax.random.normal(jax.random.key(0), (9, 6, 5, 2))
    wanted = (W * (X - data.mean(0))).sum(-1, keepdims=True)
    a = jax.jit(jaxplain.feature_permutation(linear, data, batch_size=5))(X)
    np.testing.assert_allclose(a, np.broadcast_to(wanted, X.shape), atol=1e-5)
    drawn = jaxplain.feature_permutation(linear, data, samples=9, batch_size=40)
    np.testing.assert_allclose(jax.jit(drawn)(jax.random.key(1), X), a, atol=1e-5)  # all rows, in another order
    one = jaxplain.feature_permutation(linear, data[:1])
    np.testing.assert_allclose(
        jax.jit(one)(X), jax.jit(jaxplain.feature_ablation(linear, baseline=data[0]))(X), atol=1e-5
    )


@pytest.mark.slow
def test_permutation_draws_do_not_depend_on_the_chunk():
    data = jax.random.normal(jax.random.key(0), (50, 6, 5, 2))
    groups = jnp.arange(30).reshape(6, 5) % 3
    results = [
        jax.jit(jaxplain.feature_permutation(linear, data, groups=groups, samples=10, batch_size=size))(
            jax.random.key(3), X
        )
        for size in (1, 4, 30)
    ]
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("probability", [0.3, 0.5])
def test_rise_has_its_expectation_for_independent_cells(probability):
    """Differences within four standard errors, taken from independent keys."""
    w, x = jnp.array([1.0, -2.0, 0.0, 0.5]), jnp.array([2.0, 1.0, 3.0, -1.0])
    for settings in ({"cells": 4}, {"groups": jnp.arange(4)}):
        e = jaxplain.rise(lambda x: (w * x).sum(), probability=probability, samples=500, batch_size=500, **settings)
        a = np.asarray(jax.jit(jax.vmap(e, (0, None)))(jax.random.split(jax.random.key(0), 64), x))
        differences = a[:, :, None] - a[:, None, :]
        wanted = (1 - probability) * np.subtract.outer(np.asarray(w * x), np.asarray(w * x))
        error = differences.std(0, ddof=1) / np.sqrt(64)
        assert (np.abs(differences.mean(0) - wanted) <= 4 * error + 1e-6).all()


@pytest.mark.slow
def test_rise_masks_have_mean_p_are_smooth_and_cover_channels_alike():
    seen = jaxplain.rise(lambda x: 1.0 + 0 * x.sum(), cells=(2, 2), probability=0.3, samples=4000, batch_size=1000)
    a = jax.jit(seen)(jax.random.key(0), X)  # of a constant score: the mean mask over p
    np.testing.assert_allclose(a, 1.0, atol=0.1)
    np.testing.assert_array_equal(a[..., 0], a[..., 1])
    chunks = [
        jax.jit(jaxplain.rise(linear, cells=3, samples=50, batch_size=size))(jax.random.key(0), X)
        for size in (1, 7, 50)
    ]
    np.testing.assert_allclose(chunks[0], chunks[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(chunks[0], chunks[2], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_equals_captum():
    for row in range(2):
        x = {"a": A[row], "b": B[row]}
        fixed = lambda a, k, b: PEER({"a": a, "b": b}, k)  # noqa: E731
        e = jaxplain.occlusion(fixed, window=(3, 2), stride=(2, 1), baseline=0.3, batch_size=4)
        wanted = np.reshape(captum.OCCLUSION, (2, 4, 5))[row]
        np.testing.assert_allclose(jax.jit(e)(x["a"], TARGETS[row], x["b"]), wanted, atol=2e-6)
        groups = {"a": jnp.arange(20).reshape(4, 5) // 7, "b": jnp.array([0, 3, 2])}
        baseline = {"a": jnp.float32(0.2), "b": jnp.float32(-0.1)}
        a = jax.jit(jaxplain.feature_ablation(PEER, baseline=baseline, groups=groups, batch_size=4))(x, TARGETS[row])
        np.testing.assert_allclose(a["a"], np.reshape(captum.ABLATION, (2, 4, 5))[row], atol=2e-6)
        np.testing.assert_allclose(a["b"], np.reshape(captum.ABLATION_B, (2, 3))[row], atol=2e-6)


def temporary_bytes(e, *inputs):
    return jax.jit(e).lower(*inputs).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.optimized
def test_memory_does_not_grow_with_samples():
    x = jnp.ones((28, 28, 1))
    score = lambda x: jnp.tanh(x @ jnp.ones((1, 8))).sum()  # noqa: E731
    few, many = (
        temporary_bytes(jaxplain.rise(score, samples=samples, batch_size=16), jax.random.key(0), x)
        for samples in (1_000, 10_000)
    )
    assert many <= 1.1 * few
    one, more = (
        temporary_bytes(functools.partial(_ablated, score, groups), x)
        for groups in (jnp.arange(28) // 14, jnp.arange(28))
    )
    assert more <= 1.1 * one


def _ablated(score, groups, x):
    return jaxplain.feature_ablation(score, groups=groups, batch_size=1)(x)


def test_new_settings_do_not_retrace():
    traces = []

    def score(x, k):
        traces.append(1)
        return (x * k).sum()

    x = jnp.ones((3, 4))
    for baseline in (0.0, 0.5):
        jaxplain.explain_batch(jaxplain.occlusion(score, window=2, baseline=jnp.float32(baseline)), x, 1.0)
    count = len(traces)
    jaxplain.explain_batch(jaxplain.occlusion(score, window=2, baseline=jnp.float32(0.7)), x, 2.0)
    assert len(traces) == count


def test_bad_input_is_named():
    x = jnp.ones((6, 5, 2))
    with pytest.raises(ValueError, match=r"`groups` has shape \(5, 6\), but `x` has shape \(6, 5, 2\)"):
        jaxplain.feature_ablation(linear, groups=jnp.zeros((5, 6), jnp.int32))(x)
    with pytest.raises(ValueError, match="no value is in group 1"):
        jaxplain.feature_ablation(linear, groups=jnp.array([0, 2, 2]))
    with pytest.raises(TypeError, match="integers"):
        jaxplain.feature_ablation(linear, groups=jnp.ones(3))
    with pytest.raises(ValueError, match="window is 7 long along axis 0"):
        jaxplain.occlusion(linear, window=(7, 2))(x)
    with pytest.raises(ValueError, match="no window covers"):
        jaxplain.occlusion(linear, window=(2, 2), stride=(3, 1))(x)
    with pytest.raises(TypeError, match="whole numbers"):
        jaxplain.occlusion(linear, window=1.5)
    with pytest.raises(ValueError, match="at least 1"):
        jaxplain.occlusion(linear, window=(0, 1))
    with pytest.raises(ValueError, match="`samples` is 4, but `data` has 3 rows"):
        jaxplain.feature_permutation(linear, jnp.ones((3, 2)), samples=4)
    with pytest.raises(ValueError, match="data"):
        jaxplain.feature_permutation(linear, jnp.ones((3, 6, 4, 2)))(x)
    with pytest.raises(ValueError, match="cells"):
        jaxplain.rise(linear, cells=(7, 1))(jax.random.key(0), x)
    with pytest.raises(ValueError, match="probability"):
        jaxplain.rise(linear, probability=1.0)
    with pytest.raises(TypeError, match="split"):
        jaxplain.occlusion(linear, window=1, baseline=0.0)(jnp.arange(4))


def test_keys_are_asked_for_where_something_is_drawn_and_only_there():
    x, noise = jnp.ones(4), jaxplain.baseline.uniform_noise(0.0, 1.0)
    for e in (
        jaxplain.rise(jnp.sum, samples=3),
        jaxplain.feature_ablation(jnp.sum, baseline=noise),
        jaxplain.feature_permutation(jnp.sum, jnp.zeros((3, 4)), samples=2),
        jaxplain.shapley_sampling(jnp.sum),
        jaxplain.shapley_values(jnp.sum, baseline=noise),
        jaxplain.kernel_shap(jnp.sum),
        jaxplain.lime(jnp.sum),
        jaxplain.owen_values(jnp.sum, jnp.arange(4), samples=2),
    ):
        for inputs in ((x,), (x, 1), ()):
            with pytest.raises(TypeError, match=rf"{e.name}: it is random and needs a key first"):
                e(*inputs)
        with pytest.raises(TypeError, match="without an input"):
            e(jax.random.key(0))
    for e in (jaxplain.occlusion(jnp.sum, window=1), jaxplain.shapley_values(jnp.sum)):
        with pytest.raises(TypeError, match="`x` is a key, but nothing is drawn"):
            e(jax.random.key(0), x)


@pytest.mark.slow
def test_scores_that_are_not_finite_are_refused():
    f = lambda x: jnp.log(x[0]) + x[1]  # noqa: E731
    for e in (jaxplain.feature_ablation(f), jaxplain.occlusion(f, window=1)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            e(jnp.ones(2))
        assert not bool(jnp.isfinite(jax.jit(e)(jnp.ones(2))).all())
    np.testing.assert_array_equal(
        jaxplain.occlusion(jnp.sum, window=np.int64(2))(jnp.ones(4)), jaxplain.occlusion(jnp.sum, window=2)(jnp.ones(4))
    )
    with pytest.raises(ValueError, match="NaN or infinite"):
        jaxplain.rise(f, samples=20)(jax.random.key(0), jnp.ones(2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        jaxplain.feature_permutation(f, jnp.zeros((2, 2)))(jnp.ones(2))


@pytest.mark.slow
def test_a_baseline_that_is_the_input_is_a_warning():
    for e in (jaxplain.feature_ablation(jnp.sum), jaxplain.occlusion(jnp.sum, window=1)):
        with pytest.warns(UserWarning, match="zero by construction"):
            assert not e(jnp.zeros(3)).any()
        with pytest.warns(UserWarning, match="zero by construction"):
            jaxplain.explain_batch(e, jnp.zeros((2, 3)))
        with pytest.warns(UserWarning, match="for 1 of 2 examples"):
            jaxplain.explain_batch(e, jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    masked = jaxplain.rise(jnp.sum, samples=3)
    with pytest.warns(UserWarning, match="zero by construction"):
        masked(jax.random.key(0), jnp.zeros(3))
    with pytest.warns(UserWarning, match="zero by construction"):
        jaxplain.explain_batch(masked, jnp.zeros((2, 3)), key=jax.random.key(0))
    with pytest.warns(UserWarning, match="`data` equals `x` in every value") as caught:
        assert not jaxplain.feature_permutation(jnp.sum, jnp.ones((4, 3)))(jnp.ones(3)).any()
    assert len(caught) == 1
