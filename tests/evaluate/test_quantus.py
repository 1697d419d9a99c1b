"""Equal to Quantus 0.6 where it is right, and right by hand where it is not.

The constants come from `tests/peers/quantus_metrics.py` (Quantus 0.6.0, torch 2.13.0, scikit-image 0.26.0, SciPy
1.17.1).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

EQUAL = {
    "pixel_flipping": [
        [
            2.300213,
            3.354519,
            3.854455,
            3.796802,
            3.764714,
            3.432277,
            1.333413,
            1.333413,
            2.59164,
            3.841373,
            4.174098,
            4.57,
            4.341282,
            4.473928,
            4.459124,
            3.248252,
            3.228432,
            2.968077,
            3.054065,
            2.699163,
            2.468789,
            2.374015,
            2.023445,
            0.639218,
            0.680576,
            0.688537,
            0.352595,
            1.409734,
            2.247231,
            0.950601,
            -0.071355,
            1.203506,
            1.187226,
            -0.029909,
            0.223438,
            0.0,
        ],
        [
            -0.103737,
            -0.098271,
            -0.01656,
            -0.006759,
            -0.067007,
            -0.077482,
            -0.126749,
            -0.044553,
            -0.107304,
            -0.438643,
            -0.713201,
            -0.260829,
            -0.376234,
            -1.093398,
            -1.722625,
            -2.475558,
            -2.069309,
            -2.174424,
            -2.085614,
            -2.085614,
            -1.68894,
            -1.900867,
            -2.567418,
            -2.583236,
            -2.450294,
            -1.977956,
            -2.652282,
            -2.800967,
            -1.206068,
            -1.345288,
            -1.167388,
            -1.406907,
            -1.743069,
            -1.179218,
            -0.578655,
            0.0,
        ],
        [
            4.695138,
            4.492838,
            4.19965,
            3.108923,
            4.570338,
            4.716397,
            4.363572,
            4.639748,
            4.753988,
            4.751375,
            4.722383,
            4.713413,
            4.692794,
            4.686003,
            4.686003,
            4.344698,
            4.236228,
            3.968988,
            3.871857,
            1.653668,
            2.472353,
            2.366831,
            2.947048,
            3.806984,
            3.272585,
            2.100425,
            1.216932,
            0.825907,
            0.980905,
            0.470377,
            0.371816,
            0.959584,
            -1.150459,
            -0.923994,
            -0.818114,
            0.0,
        ],
    ],
    "faithfulness_estimate": [-0.083305, -0.027607, 0.024302],
    "region_perturbation": [
        [1.190888, 0.941718, -0.204361, -0.828038, -0.319894, -0.95826, 1.025492, 0.214382, 2.013878],
        [0.011013, -0.076573, 0.005187, 0.013014, 0.053939, 0.427938, 0.621727, 0.25698, -0.075788],
        [-0.165627, -0.213566, -0.097834, 0.346494, -0.126585, 0.019821, 0.037949, 1.734958, 4.565643],
    ],
    "selectivity": [
        [0.82299, 1.07216, 2.218239, 2.841916, 2.333771, 2.972138, 0.988386, 1.799496, 0.0],
        [-0.086801, 0.000785, -0.080974, -0.088802, -0.129726, -0.503726, -0.697515, -0.332768, 0.0],
        [4.73127, 4.779209, 4.663477, 4.219149, 4.692229, 4.545822, 4.527694, 2.830686, 0.0],
    ],
    "sparseness": [0.385558, 0.467453, 0.383595],
    "entropy": [3.329198, 3.220223, 3.344465],
    "effective_complexity": [24.0, 19.0, 22.0],
    "pointing_game": [1.0, 0.0, 1.0],
    "top_k_intersection": [0.142857, 0.142857, 0.142857],
    "relevance_rank_accuracy": [0.222222, 0.25, 0.222222],
    "relevance_mass_accuracy": [0.528957, 0.96718, 0.042344],
    "roc_auc": [0.526749, 0.420139, 0.473251],
    "spearman": [-0.053388],
    "structural_similarity": [-0.111382, -0.015692],
}

KEY = jax.random.key(0)


def arrays():
    """The arrays of the script, channels last."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1.0, (3, 1, 6, 6)).astype(np.float32)
    x[:, 0, 2, 3] = 0.0
    a = rng.normal(size=(3, 1, 6, 6)).astype(np.float32)
    mask = np.zeros((3, 6, 6), bool)
    mask[0, 1:4, 2:5], mask[1, :2, :], mask[2, 3:, 3:] = True, True, True
    params = rng.normal(size=(36, 5)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    return x[:, 0, :, :, None], a[:, 0, :, :, None], mask, params


X, A, MASK, PARAMS = arrays()
Y = np.array([0, 1, 2])
F = jaxplain.logit(lambda p, x: jnp.tanh(x.reshape(x.shape[0], -1) @ p[0]) @ p[1], PARAMS)


def evaluate(m, a=A, mask=MASK, x=X, y=Y):
    return jaxplain.evaluate.evaluate_batch(m, x, a, y, key=KEY, mask=mask)


@pytest.mark.slow
def test_curves():
    curve = evaluate(jaxplain.evaluate.pixel_flipping(F)).score
    np.testing.assert_allclose(curve[:, 1:], EQUAL["pixel_flipping"], atol=1e-4)
    patches = evaluate(
        jaxplain.evaluate.deletion_curve(F, groups=np.arange(36).reshape(6, 6) // 12 * 3 + np.arange(6) // 2)
    )
    np.testing.assert_allclose(patches.score[:, 1:], EQUAL["selectivity"], atol=1e-4)
    drops = np.array(EQUAL["region_perturbation"])
    aopc = evaluate(jaxplain.evaluate.region_perturbation(F, window=2))
    np.testing.assert_allclose(aopc, drops.sum(axis=1) / 10, atol=1e-4)
    areas = np.concatenate([np.asarray(jax.vmap(F)(X, Y))[:, None], np.array(EQUAL["selectivity"])], axis=1)
    np.testing.assert_allclose(
        evaluate(jaxplain.evaluate.selectivity(F, window=2)), (areas[:, 1:] + areas[:, :-1]).mean(axis=1) / 2, atol=1e-4
    )


ONE_NUMBER = {
    "faithfulness_estimate": jaxplain.evaluate.faithfulness_estimate(F),
    "sparseness": jaxplain.evaluate.sparseness(),
    "entropy": jaxplain.evaluate.entropy(),
    "effective_complexity": jaxplain.evaluate.effective_complexity(tolerance=0.5),
    "pointing_game": jaxplain.evaluate.pointing_game(),
    "top_k_intersection": jaxplain.evaluate.top_k_intersection(7),
    "relevance_rank_accuracy": jaxplain.evaluate.relevance_rank_accuracy(),
    "relevance_mass_accuracy": jaxplain.evaluate.relevance_mass_accuracy(),
    "roc_auc": jaxplain.evaluate.roc_auc(),
}


@pytest.mark.parametrize("name", ONE_NUMBER)
def test_one_number(name):
    np.testing.assert_allclose(evaluate(ONE_NUMBER[name]), EQUAL[name], atol=1e-4)


def test_attribution_localization_of_positive_attributions():
    # The library's setting keeps negative values in the total; with none left both agree with the definition.
    inside = np.maximum(A[..., 0], 0.0)
    share = (inside * MASK).sum((1, 2)) / inside.sum((1, 2))
    np.testing.assert_allclose(evaluate(jaxplain.evaluate.attribution_localization()), share, atol=1e-6)
    weighted = share * 36 / MASK.sum((1, 2))
    np.testing.assert_allclose(evaluate(jaxplain.evaluate.attribution_localization(weighted=True)), weighted, rtol=1e-5)


@pytest.mark.slow
def test_similarities_equal_scipy_and_scikit_image():
    u, v = np.random.default_rng(1).normal(size=(2, 12, 10)).astype(np.float32)
    np.testing.assert_allclose(
        jaxplain.evaluate.spearman(np.round(u, 0), np.round(v, 0)), EQUAL["spearman"][0], atol=1e-6
    )
    uniform, gaussian = EQUAL["structural_similarity"]
    np.testing.assert_allclose(jaxplain.evaluate.structural_similarity(u, v), uniform, atol=1e-5)
    np.testing.assert_allclose(jaxplain.evaluate.structural_similarity(u, v, sigma=1.0), gaussian, atol=1e-5)


# Where the library is wrong; what it says is in the comments, printed by the script.


def test_monotonicity_is_not_one_for_every_attribution():  # it says 1.0 for these and for their opposites
    np.testing.assert_array_equal(evaluate(jaxplain.evaluate.monotonicity(F)), [0.0, 0.0, 0.0])
    linear = jaxplain.evaluate.monotonicity(lambda x: x.sum())
    assert float(linear(jnp.array([1.0, -1.0]), jnp.array([1.0, 2.0]))) == 0.0  # 0, 1, 0
    assert float(linear(jnp.array([1.0, 1.0]), jnp.array([1.0, 2.0]))) == 1.0  # 0, 1, 2


def test_an_empty_mask_is_no_hit():  # it says 1.0
    assert np.isnan(evaluate(jaxplain.evaluate.pointing_game(), mask=np.zeros_like(MASK))).all()


@pytest.mark.slow
def test_road_scores_every_example():  # it says 1.0, the accuracy of the first 64 (and 0.711 with batch_size=90)
    x = np.ones((90, 6, 6, 1), np.float32)  # what is imputed in a constant image is that constant
    a = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    right = np.arange(90) < 64
    m = jaxplain.evaluate.road(lambda x, sign: 1.0 * (sign * x.mean() > 0), fractions=(0.5,), sigma=0.0)
    values = evaluate(m, a, None, x, np.where(right, 1.0, -1.0).astype(np.float32))
    np.testing.assert_array_equal(values, right)
    assert float(values.mean()) == pytest.approx(64 / 90)


@pytest.mark.slow
def test_sensitivity_n_scores_every_example():  # it says 0.525 of both attributions, true and (last 26) opposite
    w = np.random.default_rng(1).normal(size=(6, 6, 1)).astype(np.float32)
    x = np.random.default_rng(2).uniform(0.1, 1.0, (90, 6, 6, 1)).astype(np.float32)
    sign = np.where(np.arange(90) < 64, 1.0, -1.0)
    m = jaxplain.evaluate.sensitivity_n(lambda x, _: jnp.sum(jnp.asarray(w) * x), sizes=4, samples=8)
    values = evaluate(m, sign[:, None, None, None] * w * x, None, x, np.zeros(90, int))
    np.testing.assert_allclose(values, sign, atol=1e-5)  # a sum over a subset is what its removal takes away


def test_completeness_is_a_distance_and_no_comparison_of_floats():  # it says False for 59 of 90 true attributions
    w = np.random.default_rng(1).normal(size=36).astype(np.float32)
    x = np.random.default_rng(2).uniform(0.1, 1.0, (90, 36)).astype(np.float32)
    x[:, 0] = 0.0
    m = jaxplain.evaluate.completeness(lambda x, _: jnp.asarray(w) @ x)
    assert float(evaluate(m, w * x, None, x, np.zeros(90, int)).max()) < 1e-6 * np.abs(w * x).sum(1).max()


def test_examples_are_not_normalised_together():  # its default divides a batch by the largest value in it
    m = jaxplain.evaluate.effective_complexity(tolerance=0.5)
    scaled = A.copy()
    scaled[1:] *= 1000.0
    assert float(evaluate(m)[0]) == float(evaluate(m, scaled)[0]) == EQUAL["effective_complexity"][0]
