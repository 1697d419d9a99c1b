"""Metrics of maps alone: localization, complexity, similarity, agreement over a dataset; bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

import jaxplain
from jaxplain.evaluate.similarity import ranks

MASK = jnp.zeros((4, 5), bool).at[1:3, 1:4].set(True)  # 6 of 20
MAPS = {
    "attribution_localization": jaxplain.evaluate.attribution_localization(),
    "relevance_mass_accuracy": jaxplain.evaluate.relevance_mass_accuracy(),
    "relevance_rank_accuracy": jaxplain.evaluate.relevance_rank_accuracy(),
    "top_k_intersection": jaxplain.evaluate.top_k_intersection(3),
    "pointing_game": jaxplain.evaluate.pointing_game(),
    "roc_auc": jaxplain.evaluate.roc_auc(),
    "focus": jaxplain.evaluate.focus(),
}
every = pytest.mark.parametrize("name", MAPS)


@every
def test_a_uniform_map_gets_the_area_fraction(name):
    expected = 0.5 if name == "roc_auc" else 6 / 20
    np.testing.assert_allclose(MAPS[name](jnp.full((4, 5), 0.3), MASK), expected, rtol=1e-6)


@every
def test_the_mask_itself_is_perfect_and_its_complement_hopeless(name):
    np.testing.assert_allclose(MAPS[name](1.0 * MASK, MASK), 1.0)
    np.testing.assert_allclose(MAPS[name](1.0 - MASK, MASK), 0.0)


@every
def test_colour_is_summed_over_channels_where_the_mask_has_none(name):
    a = jax.random.normal(jax.random.key(1), (4, 5, 3)) + 0.5
    np.testing.assert_allclose(MAPS[name](a, MASK), MAPS[name](a.sum(-1), MASK), rtol=1e-5)
    full = jnp.broadcast_to(MASK[..., None], a.shape)
    assert np.isfinite(MAPS[name](a, full))
    np.testing.assert_allclose(MAPS[name](a.sum(-1), full), MAPS[name](a.sum(-1), MASK), rtol=1e-5)


@every
def test_empty_and_full_masks(name):
    a = jax.random.normal(jax.random.key(2), (4, 5))
    assert np.isnan(MAPS[name](a, jnp.zeros((4, 5), bool)))
    whole = MAPS[name](a, jnp.ones((4, 5), bool))
    assert np.isnan(whole) if name == "roc_auc" else float(whole) == pytest.approx(1.0)


@every
def test_not_a_number_and_bad_shapes(name):
    a = jnp.ones((4, 5)).at[0, 0].set(jnp.nan)
    assert np.isnan(MAPS[name](a, MASK))
    with pytest.raises(ValueError, match=r"attribution has shape \(3, 5\)"):
        MAPS[name](jnp.ones((3, 5)), MASK)
    with pytest.raises(TypeError, match="boolean"):
        MAPS[name](jnp.ones((4, 5)), 0.5 * MASK)


def test_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    a = np.round(rng.normal(size=40), 0)
    mask = rng.random(40) < 0.4
    np.testing.assert_allclose(jaxplain.evaluate.roc_auc()(a, mask), roc_auc_score(mask, a), atol=1e-6)


def test_pointing_within_a_tolerance_and_signed_shares():
    a = jnp.zeros((4, 5)).at[3, 4].set(1.0)  # the nearest pixel of the mask, (2, 3), is sqrt(2) away
    assert float(jaxplain.evaluate.pointing_game()(a, MASK)) == 0.0
    assert float(jaxplain.evaluate.pointing_game(tolerance=1)(a, MASK)) == 0.0
    assert float(jaxplain.evaluate.pointing_game(tolerance=2)(a, MASK)) == 1.0
    line = jnp.array([3.0, -1.0])
    np.testing.assert_allclose(
        jaxplain.evaluate.relevance_mass_accuracy()(line, jnp.array([True, False])), 1.5, rtol=1e-6
    )
    assert np.isnan(jaxplain.evaluate.relevance_mass_accuracy()(jnp.array([1.0, -1.0]), jnp.array([True, False])))
    assert np.isnan(jaxplain.evaluate.attribution_localization()(-jnp.ones(2), jnp.array([True, False])))
    with pytest.raises(ValueError, match="`k` is 30"):
        jaxplain.evaluate.top_k_intersection(30)(a, MASK)
    with pytest.raises(ValueError, match="tolerance needs maps"):
        jaxplain.evaluate.pointing_game(tolerance=1)(line, jnp.array([True, False]))


def test_ties_at_the_border_count_by_their_expected_share():
    a = jnp.array([5.0, 2.0, 2.0, 2.0, 0.0])
    mask = jnp.array([True, True, False, False, False])
    np.testing.assert_allclose(jaxplain.evaluate.top_k_intersection(2)(a, mask), (1 + 1 / 3) / 2)


def test_focus_on_a_mosaic():
    images = jnp.arange(4.0)[:, None, None, None] * jnp.ones((4, 2, 2, 1))
    picture, tiles = jaxplain.evaluate.mosaic(images, jnp.array([True, False, False, True]))
    np.testing.assert_array_equal(picture[..., 0], np.kron([[0, 1], [2, 3]], np.ones((2, 2))))
    np.testing.assert_array_equal(tiles, np.kron([[1, 0], [0, 1]], np.ones((2, 2))).astype(bool))
    np.testing.assert_allclose(jaxplain.evaluate.focus()(picture, tiles), 3 / 6)
    with pytest.raises(ValueError, match="four `images`"):
        jaxplain.evaluate.mosaic(images[:3], jnp.ones(4, bool))


@pytest.mark.parametrize("n", [1, 4, 49])
def test_sparseness_and_entropy_of_one_hot_and_uniform(n):
    one = jnp.zeros(n).at[n // 2].set(-3.0)
    np.testing.assert_allclose(jaxplain.evaluate.sparseness()(one), (n - 1) / n, atol=1e-6)
    np.testing.assert_allclose(jaxplain.evaluate.sparseness()(jnp.full(n, 0.1)), 0.0, atol=1e-6)
    np.testing.assert_allclose(jaxplain.evaluate.entropy()(one), 0.0, atol=1e-6)
    np.testing.assert_allclose(jaxplain.evaluate.entropy()(jnp.full(n, -0.1)), np.log(n), atol=1e-5)


def test_complexity_of_zeros_pytrees_and_extremes():
    assert np.isnan(jaxplain.evaluate.sparseness()(jnp.zeros(3)))
    assert np.isnan(jaxplain.evaluate.entropy()(jnp.zeros(3)))
    assert float(jaxplain.evaluate.effective_complexity()(jnp.zeros(3))) == 0.0
    parts = {"a": jnp.array([0.0, 0.0]), "b": jnp.array([[2.0, 0.0]])}
    np.testing.assert_allclose(jaxplain.evaluate.sparseness()(parts), 0.75)
    np.testing.assert_allclose(jaxplain.evaluate.sparseness()(1e30 * jnp.array([0.0, 0.0, 3.0])), 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(jaxplain.evaluate.sparseness()(1e-30 * jnp.array([0.0, 0.0, 3.0])), 2 / 3, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_spearman_and_pearson_equal_scipy(seed):
    rng = np.random.default_rng(seed)
    u, v = np.round(rng.normal(size=(2, 60)), 1 - seed // 2)
    np.testing.assert_allclose(jaxplain.evaluate.spearman(u, v), stats.spearmanr(u, v).statistic, atol=1e-6)
    np.testing.assert_allclose(jaxplain.evaluate.pearson(u, v), stats.pearsonr(u, v).statistic, atol=1e-6)
    np.testing.assert_allclose(ranks(jnp.asarray(u)), stats.rankdata(u))
    where = rng.random(60) < 0.5
    np.testing.assert_allclose(
        jaxplain.evaluate.spearman(u, v, where=where), stats.spearmanr(u[where], v[where]).statistic, atol=1e-6
    )


def test_correlations_of_constants_extremes_and_not_a_number():
    u = jnp.array([1.0, 2.0, 4.0])
    for similarity in (jaxplain.evaluate.pearson, jaxplain.evaluate.spearman):
        assert np.isnan(similarity(u, jnp.full(3, 0.1)))
        assert np.isnan(similarity(u, jnp.array([0.0, jnp.nan, 1.0])))
        np.testing.assert_allclose(similarity(u, 1e30 * u), 1.0, atol=1e-6)
        np.testing.assert_allclose(similarity(u, -1e-30 * u), -1.0, atol=1e-6)
        with pytest.raises(ValueError, match="shapes"):
            similarity(u, u[:2])
    np.testing.assert_allclose(ranks(jnp.array([0.0, -0.0, 1.0])), [1.5, 1.5, 3.0])


def test_structural_similarity_equals_scikit_image_where_it_is_installed():
    skimage = pytest.importorskip("skimage.metrics")
    u, v = np.random.default_rng(5).normal(size=(2, 16, 14, 3)).astype(np.float32)
    mine = jaxplain.evaluate.structural_similarity(u, v, data_range=3.0)
    theirs = skimage.structural_similarity(u, v, data_range=3.0, channel_axis=-1)
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


def reference_ssim(a, b, extent, side):
    """Equation 13 of Wang et al. 2004, window by window in float64, with sample variances."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = []
    for i in range(a.shape[0] - side + 1):
        for j in range(a.shape[1] - side + 1):
            u, v = (m[i : i + side, j : j + side].ravel() for m in (a, b))
            c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
            covariance = np.cov(u, v)
            top = (2 * u.mean() * v.mean() + c1) * (2 * covariance[0, 1] + c2)
            found.append(top / ((u.mean() ** 2 + v.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)))
    return np.mean(found)


@pytest.mark.slow
def test_structural_similarity_equals_its_definition():
    u, v = np.random.default_rng(6).normal(size=(2, 9, 11)).astype(np.float32)
    u += 100.0
    np.testing.assert_allclose(
        jaxplain.evaluate.structural_similarity(u, u + 0.1 * v, data_range=2.0, window=5),
        reference_ssim(u, u + 0.1 * v, 2.0, 5),
        atol=1e-4,
    )
    assert float(jaxplain.evaluate.structural_similarity(u, u)) == pytest.approx(1.0)
    assert float(jaxplain.evaluate.structural_similarity(jnp.ones((7, 7)), jnp.ones((7, 7)))) == 1.0
    with pytest.raises(ValueError, match="`window` of 7"):
        jaxplain.evaluate.structural_similarity(jnp.ones((6, 6)), jnp.ones((6, 6)))
    with pytest.raises(ValueError, match="odd"):
        jaxplain.evaluate.structural_similarity(u, v, window=4)


def test_consistency_and_sufficiency_by_hand():
    a = jnp.array([[3.0, 0.1], [2.0, 0.5], [-3.0, 0.0], [0.0, 1.0], [4.0, 0.0], [jnp.nan, 0.0]])
    y = jnp.array([0, 1, 0, 1, 0, 0])
    # Labels by the largest value and its sign: 0, 1 and 4 share theirs, 2 and 3 are alone, 5 has none.
    np.testing.assert_allclose(
        jaxplain.evaluate.consistency(features=1)(a, a, y), [0.5, 0.0, np.nan, np.nan, 0.5, np.nan]
    )
    outputs = jax.nn.one_hot(y, 2)
    np.testing.assert_allclose(jaxplain.evaluate.consistency(features=1)(a, a, outputs)[:2], [0.5, 0.0])
    sign = jaxplain.evaluate.consistency(label=lambda row: row[0] > 0)
    np.testing.assert_allclose(sign(a, a, y)[:5], [0.5, 0.0, 0.0, 0.0, 0.5])
    near = jaxplain.evaluate.sufficiency(threshold=1.1)(a, a, y)
    np.testing.assert_allclose(near, [0.5, 0.0, np.nan, np.nan, 1.0, np.nan])
    with pytest.raises(ValueError, match="whole batches"):
        jaxplain.evaluate.consistency(features=1)(a, a, y[:3])
    with pytest.raises(ValueError, match="`features` is 3"):
        jaxplain.evaluate.consistency(features=3)(a, a, y)
    with pytest.raises(ValueError, match="`threshold`"):
        jaxplain.evaluate.sufficiency(threshold=-1.0)
