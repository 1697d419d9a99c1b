"""The test of concepts: what it says where the answer is known, its level on random concepts, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxplain.concept import concept_vectors, layer_consistency, tcav, tcav_t_test
from jaxplain.concept.vector.published import student

KEY = jax.random.key(0)
SIZE = 8
WEIGHTS = [jax.random.normal(jax.random.key(n), (SIZE, 12)) for n in (1, 2)]
OUT = jax.random.normal(jax.random.key(3), (12, 3))


def network(h, label):
    return (jnp.sin(h @ WEIGHTS[0]) * jnp.tanh(h @ WEIGHTS[1])) @ OUT[:, label]


def rows(count=300, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)).astype(np.float32)


def random_labels(count, number, each, seed):
    """Concepts that are none: examples with and without them drawn from the same rows."""
    rng, labels = np.random.default_rng(seed), np.zeros((number, count), int)
    for row in labels:
        order = rng.permutation(count)
        row[order[:each]], row[order[each : 2 * each]] = 1, -1
    return labels


def test_the_logit_of_a_linear_head_has_score_one_or_zero():
    found = concept_vectors(rows(), random_labels(300, 6, 20, 1))
    weights = np.random.default_rng(2).normal(size=(SIZE, 2)).astype(np.float32)
    for label in (0, 1):
        result = tcav(lambda h, k: (h @ weights)[k] + 3.0, found, rows(10, 3), label, samples=0)
        along = found.vectors @ weights[:, label]
        np.testing.assert_array_equal(result.scores, np.asarray(along > 0, float))
        np.testing.assert_allclose(result.means, along, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.sensitivities, np.tile(along, (10, 1)), rtol=1e-4, atol=1e-6)
        assert np.isnan(result.p).all()


def test_intervals_are_of_the_mean_and_wilsons():
    found = concept_vectors(rows(), random_labels(300, 2, 20, 4))
    mean = tcav(network, found, rows(40, 5), 1, samples=0)
    s = mean.sensitivities
    half = stats.norm.ppf(0.975) * s.std(0, ddof=1) / 40**0.5
    np.testing.assert_allclose([mean.low, mean.high], [s.mean(0) - half, s.mean(0) + half], rtol=1e-5)
    score = tcav(network, found, rows(40, 5), 1, samples=0, statistic="score", confidence=0.9)
    for index in range(2):
        right = stats.binomtest(int((s[:, index] > 0).sum()), 40).proportion_ci(0.9, "wilson")
        np.testing.assert_allclose([score.low[index], score.high[index]], right, rtol=1e-6)


@pytest.mark.slow
def test_random_concepts_are_rejected_no_more_often_than_the_level_says():
    """500 of them, on a network that is not linear: p is uniform on 1 / 2000, ..., 1."""
    count, samples = 500, 1999
    found = concept_vectors(rows(), random_labels(300, count, 15, 6), fraction=0.0)
    settings = {"key": KEY, "pool": np.ones(300, bool), "threshold": 1.0, "batch_size": 512}
    with pytest.warns(UserWarning, match="none can be significant"):
        result = tcav(network, found, rows(30, 7), 2, samples=samples, **settings)
    grid = np.arange(1, samples + 2) / (samples + 1)
    assert np.isin(np.round(result.p * (samples + 1)), np.arange(1, samples + 2)).all()
    # the largest distance to the steps of the discrete uniform; its p is at least that of the continuous one
    empirical = np.searchsorted(np.sort(result.p), grid, side="right") / count
    distance = np.abs(empirical - grid).max()
    uniform = stats.kstwo.sf(distance, count)
    rate = (result.p <= 0.05).mean()
    few = concept_vectors(rows(), found.concepts[:40], fraction=0.0)
    with pytest.warns(UserWarning, match="rejects random concepts far more"):
        published = tcav_t_test(network, few, rows(30, 7), 2, key=KEY, samples=20, pool=np.ones(300, bool))
    print(f"rejected at .05: {rate:.3f} by ranks, {(published.p <= 0.05).mean():.3f} by the published t-test")
    assert uniform > 0.01, (distance, uniform)
    assert rate <= 0.08
    assert (published.p <= 0.05).mean() > 0.3
    assert (result.corrected == np.minimum(result.p * count, 1)).all()


def test_ties_are_broken_at_random():
    """The score of a linear head is 0 or 1 for every concept: each p is as likely as another all the same."""
    found = concept_vectors(rows(), random_labels(300, 60, 10, 8), fraction=0.0)
    settings = {"pool": np.ones(300, bool), "threshold": 1.0, "samples": 1999}
    result = tcav(lambda h: h[0], found, rows(4, 9), key=KEY, statistic="score", **settings)
    assert stats.kstest(result.p, "uniform").pvalue > 0.01
    assert len(set(result.p)) > 50


def planted(size=SIZE, count=400, seed=10):
    """Rows of which the first 40 bear a mark along a direction that the score of class 1 reads."""
    values = rows(count, seed, size)
    values[:40, :2] += 4.0
    return values, np.arange(count) < 40


def reads_mark(h):
    return jnp.tanh(h[0] + h[1] - 1.0) + 0.3 * jnp.sin(h[2] * h[3])


def test_a_planted_concept_is_found_and_a_random_one_is_not():
    values, mark = planted()
    labels = {"mark": np.where(mark, 1, 0), "nothing": np.zeros(400, int)}
    labels["mark"][40:80] = -1
    labels["nothing"][100:140], labels["nothing"][150:190] = 1, -1
    for how in ("ridge", "mean"):
        found = concept_vectors(values, labels, how=how)
        result = tcav(reads_mark, found, rows(50, 11), key=KEY)
        assert result.samples == 999
        assert result.corrected[0] < 0.01, how
        assert result.corrected[1] > 0.05, how
        assert result.means[0] > result.random_high[0]
        assert result.random_low[1] < result.means[1] < result.random_high[1]
        assert found.accuracy[0] > 0.9
    again = tcav(reads_mark, found, rows(50, 11), key=KEY, batch_size=37)
    np.testing.assert_allclose(again.p, result.p)
    np.testing.assert_allclose(again.means, result.means, rtol=1e-5)
    assert (tcav(reads_mark, found, rows(50, 11), key=jax.random.key(1)).p != result.p).any()
    assert "  mark: score" in repr(result)
    assert [row["concept"] for row in result.rows()] == ["mark", "nothing"]


@pytest.mark.slow
def test_concepts_of_other_sizes_have_random_ones_of_their_own():
    values, _ = planted()
    labels = np.zeros((2, 400), int)
    labels[0, 50:90], labels[0, 100:140] = 1, -1
    labels[1, 50:54], labels[1, 100:104] = 1, -1
    both = concept_vectors(values, labels, how="mean")
    result = tcav(reads_mark, both, rows(20, 12), key=KEY, samples=500, pool=np.ones(400, bool))
    alone = tcav(
        reads_mark, concept_vectors(values, labels[1], how="mean"), rows(20, 12), key=KEY, samples=500,
        pool=np.ones(400, bool),
    )  # fmt: skip
    np.testing.assert_allclose(
        [result.random_low[1], result.random_high[1]], [alone.random_low[0], alone.random_high[0]], rtol=1e-5
    )
    assert abs(result.p[1] - alone.p[0]) < 0.01


def test_students_test_is_scipys():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 9)), rng.normal(size=(4, 9)) + 0.5
    t, p = student(first, second)
    right = stats.ttest_ind(first, second, axis=1)
    np.testing.assert_allclose(t, right.statistic, rtol=1e-6)
    np.testing.assert_allclose(p, right.pvalue, rtol=1e-4)
    t, p = student(np.ones((2, 5)), np.array([[1.0] * 5, [0.0] * 5]))
    assert t.tolist() == [0, np.inf]
    assert p.tolist() == [1, 0]


def test_layers_agree_or_do_not():
    values, _ = planted()
    found = concept_vectors(values, random_labels(400, 2, 20, 13))
    one = tcav(reads_mark, found, rows(20, 14), samples=0)
    turned = tcav(lambda h: -reads_mark(h), found, rows(20, 14), samples=0)
    same = layer_consistency({"a": one, "b": one, "c": turned})
    np.testing.assert_allclose(same.same_sign[:, 0], [[1, 1, 0]] * 2)
    np.testing.assert_allclose(same.correlation[:, 0], [[1, 1, -1]] * 2, rtol=1e-6)
    assert not same.agree.any()
    assert layer_consistency({"a": one, "b": one}).agree.all()
    assert "Consistency over a, b, c" in repr(same)


FOUND = concept_vectors(*planted(), how="mean")
ASKED = rows(6, 15)
REFUSED = {
    "no key": (lambda: tcav(reads_mark, FOUND, ASKED), "which needs a key: `key=jax.random.key"),
    "an array": (lambda: tcav(reads_mark, FOUND.vectors, ASKED, key=KEY), "`samples=0` for no test"),
    "few random": (
        lambda: tcav(reads_mark, FOUND, ASKED, key=KEY),
        "360 random examples to draw concepts from, but the largest concept was fitted on 400",
    ),
    "pool": (
        lambda: tcav(reads_mark, FOUND, ASKED, key=KEY, pool=np.ones(3, bool)),
        r"`pool` has dtype bool and shape",
    ),
    "layer": (lambda: tcav(jnp.sum, FOUND, ASKED[:, :4], samples=0), r"the vectors have the shape \(8,\)"),
    "statistic": (lambda: tcav(reads_mark, FOUND, ASKED, statistic="median"), "`statistic` is 'median'"),
    "head": (lambda: tcav(None, FOUND, ASKED, samples=0), "`head` has to be a function"),
    "NaN": (lambda: tcav(reads_mark, FOUND, ASKED * np.nan, samples=0), "`activations` has 48 NaN"),
    "gradient": (
        lambda: tcav(lambda h: jnp.sqrt(jnp.sum(h**2)), FOUND, ASKED * [[0], [1], [1], [1], [1], [1]], samples=0),
        r"the gradient of `head` is NaN or infinite at 1 of 6 activations \(the first is number 0\)",
    ),
    "confidence": (lambda: tcav(reads_mark, FOUND, ASKED, samples=0, confidence=1.0), "`confidence` has to lie"),
    "one layer": (lambda: layer_consistency({"a": 1}), "`results` holds 1 layers"),
    "no results": (lambda: layer_consistency({"a": 1, "b": 2}), r"`results\['a'\]` is 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tested_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
