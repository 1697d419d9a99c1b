"""Metrics of faithfulness on linear and additive scores, whose value is known: tables, text, images, pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

KEY = jax.random.key(11)
SHAPES = {"table": (7,), "text": (4, 3), "grey": (3, 4, 1), "colour": (3, 2, 3)}
shaped = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def case(shape):
    """Weights, an input, a baseline and the attribution of f(x) = w . x."""
    w, x, b = (np.asarray(jax.random.normal(jax.random.key(k), shape)) for k in range(3))
    return w, x, b, w * (x - b)


def per_feature(a):
    return a.sum(-1).reshape(-1) if a.ndim == 3 else a.reshape(-1)


def linear(w):
    return lambda x: jnp.sum(jnp.asarray(w) * x)


@pytest.mark.slow
@shaped
def test_correlations_of_the_truth_are_one_and_of_its_opposite_minus_one(shape):
    w, x, b, a = case(shape)
    f = linear(w)
    for m in (
        jaxplain.evaluate.faithfulness_correlation(f, baseline=b, samples=20),
        jaxplain.evaluate.sensitivity_n(f, baseline=b, samples=20),
        jaxplain.evaluate.mu_fidelity(f, baseline=b, samples=20, fraction=0.4),
    ):
        np.testing.assert_allclose(m(KEY, x, a), 1.0, atol=1e-5)
        np.testing.assert_allclose(m(KEY, x, -3.0 * a), -1.0, atol=1e-5)
    estimate = jaxplain.evaluate.faithfulness_estimate(f, baseline=b)
    np.testing.assert_allclose(estimate(x, a), 1.0, atol=1e-5)
    other = np.asarray(jax.random.normal(jax.random.key(5), shape))
    expected = np.corrcoef(per_feature(other), per_feature(a))[0, 1]
    np.testing.assert_allclose(estimate(x, other), expected, atol=1e-5)
    if len(shape) == 3:
        np.testing.assert_allclose(estimate(x, a.sum(-1)), 1.0, atol=1e-5)
        np.testing.assert_allclose(jaxplain.evaluate.sensitivity_n(f, baseline=b)(KEY, x, a.sum(-1)), 1.0, atol=1e-5)


@shaped
@pytest.mark.sampled(2)
def test_region_metrics_are_sums_of_the_sorted_contributions(shape):
    w, x, b, a = case(shape)
    drops = np.cumsum(np.concatenate([[0.0], np.sort(per_feature(a))[::-1]]))
    rises = np.cumsum(np.concatenate([[0.0], np.sort(per_feature(a))]))
    f, whole = linear(w), float(np.sum(w * x))
    for order, expected in (("morf", drops), ("lerf", rises)):
        m = jaxplain.evaluate.region_perturbation(f, baseline=b, order=order)
        np.testing.assert_allclose(m(x, a), expected.mean(), rtol=1e-4, atol=1e-5)
        curve = jaxplain.evaluate.pixel_flipping(f, baseline=b, order=order)(x, a)
        np.testing.assert_allclose(curve.score, whole - expected, atol=1e-4)
    area = np.sum((2 * whole - drops[1:] - drops[:-1]) / 2) / (drops.size - 1)
    np.testing.assert_allclose(jaxplain.evaluate.selectivity(f, baseline=b)(x, a), area, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_windows_are_a_grid_with_smaller_regions_at_the_border():
    x = jnp.arange(1.0, 16.0).reshape(3, 5)
    # Regions of 2x2: [1 2 6 7], [3 4 8 9], [5 10], [11 12], [13 14], [15].
    sums = np.array([16.0, 24.0, 15.0, 23.0, 27.0, 15.0])
    removed = np.cumsum(np.concatenate([[0.0], np.sort(sums)[::-1]]))
    got = jaxplain.evaluate.region_perturbation(jnp.sum, window=2)(x, x)
    np.testing.assert_allclose(got, removed.mean(), rtol=1e-6)
    colour = jnp.broadcast_to(x[..., None], (3, 5, 3)) / 3
    np.testing.assert_allclose(
        jaxplain.evaluate.region_perturbation(jnp.sum, window=(2, 2))(colour, colour), got, rtol=1e-6
    )
    words = jnp.arange(6.0).reshape(6, 1)
    m = jaxplain.evaluate.selectivity(jnp.sum, window=(3,))
    np.testing.assert_allclose(m(words, words), ((15 + 3) / 2 + (3 + 0) / 2) / 2)


def test_a_random_order_is_drawn_from_the_key_and_lies_between():
    w, x, b, a = case((7,))
    m = jaxplain.evaluate.region_perturbation(linear(w), baseline=b, order="random")
    values = [float(m(jax.random.key(k), x, a)) for k in range(6)]
    assert len(set(values)) > 1
    low, high = (
        float(jaxplain.evaluate.region_perturbation(linear(w), baseline=b, order=order)(x, a))
        for order in ("lerf", "morf")
    )
    assert all(low - 1e-5 <= value <= high + 1e-5 for value in values)


def test_irof_ranks_segments_by_their_mean_and_divides_by_the_score():
    groups = jnp.array([0, 0, 0, 1, 2])
    x = jnp.array([1.0, 1.0, 1.0, 2.0, 5.0])
    # Means 1, 2, 5: segment 2 goes first (10 -> 5), then 1 (-> 3), then 0 (-> 0).
    area = ((1.0 + 0.5) / 2 + (0.5 + 0.3) / 2 + (0.3 + 0.0) / 2) / 3
    np.testing.assert_allclose(jaxplain.evaluate.irof(jnp.sum, groups)(x, x), 1 - area, rtol=1e-6)
    assert np.isnan(jaxplain.evaluate.irof(lambda x: 0.0 * x.sum(), groups)(x, x))


@pytest.mark.slow
@shaped
def test_infidelity_of_the_gradient_is_zero_and_of_a_multiple_known(shape):
    w, x, b, a = case(shape)
    f = linear(w)
    kinds = ["noise", "removal"] + (["square"] if len(shape) > 1 else [])
    for kind in kinds:
        m = jaxplain.evaluate.infidelity(f, perturbation=kind, baseline=b, samples=30, side=2)
        scaled = jaxplain.evaluate.infidelity(f, perturbation=kind, baseline=b, samples=30, side=2, scaled=True)
        assert float(m(KEY, x, w)) < 1e-9
        assert float(scaled(KEY, x, -5.0 * w)) < 1e-9
        # (I . 2w - I . w)^2 = (I . w)^2, which is what no attribution at all gets.
        np.testing.assert_allclose(m(KEY, x, 2 * w), m(KEY, x, 0 * w), rtol=1e-3)
        assert float(m(KEY, x, 2 * w)) > 1e-3
        if kind != "noise":
            shares = jaxplain.evaluate.infidelity(f, perturbation=kind, baseline=b, samples=30, side=2, shares=True)
            assert float(shares(KEY, x, a)) < 1e-9
    noise = jaxplain.evaluate.infidelity(f, sigma=0.5, samples=4000, batch_size=500)
    np.testing.assert_allclose(noise(KEY, x, 0 * w), 0.25 * np.sum(w**2), rtol=0.1)  # E[(I . w)^2] = sigma^2 |w|^2


def test_monotonicity_is_right_where_a_library_is_always_one():
    f = lambda x: jax.nn.relu(x.sum())  # noqa: E731
    x = jnp.array([3.0, -1.0, -4.0, 5.0])
    # Ascending: -4, -5, -2, 3 through the rectifier: 0 0 0 0 3. Descending: 5, 8, 7, 3.
    assert float(jaxplain.evaluate.monotonicity(f)(x, x)) == 1.0
    assert float(jaxplain.evaluate.monotonicity(f)(x, -x)) == 0.0
    assert float(jaxplain.evaluate.monotonicity(f, tolerance=4.0)(x, -x)) == 1.0
    assert float(jaxplain.evaluate.monotonicity(jnp.sum)(jnp.abs(x), x)) == 1.0
    assert float(jaxplain.evaluate.monotonicity(jnp.sum)(x, x)) == 0.0


@shaped
@pytest.mark.sampled(2)
def test_monotonicity_correlation_and_effects(shape):
    w, x, b, a = case(shape)
    m = jaxplain.evaluate.monotonicity_correlation(linear(w), baseline=b)
    np.testing.assert_allclose(m(x, a), 1.0, atol=1e-5)
    np.testing.assert_allclose(m(x, -a), 1.0, atol=1e-5)  # importance is the absolute value
    n = per_feature(a).size
    axiom = jaxplain.evaluate.non_sensitivity(linear(w), baseline=b)
    assert float(axiom(x, a)) == 0.0
    assert float(axiom(x, 0 * a)) == n


@pytest.mark.slow
def test_random_baselines_of_single_features_are_drawn_samples_times():
    # Feature i from N(x_i, sigma): E[(f(x) - f(x'))^2] = sigma^2 w_i^2, so the ranks are those of |w|.
    w = jnp.array([0.1, -4.0, 1.0, 10.0])
    m = jaxplain.evaluate.monotonicity_correlation(
        lambda x: w @ x, baseline=jaxplain.baseline.gaussian_noise(0.3), samples=200, batch_size=50
    )
    np.testing.assert_allclose(m(KEY, jnp.zeros(4), w), 1.0, atol=1e-5)


def test_masking_by_hand():
    f = lambda x: x.sum() / 10  # noqa: E731
    x = jnp.array([1.0, 2.0, 5.0])
    a = jnp.array([-1.0, 0.0, 1.0])  # the mask is 0, 1/2, 1: f becomes 0.6 of 0.8
    np.testing.assert_allclose(jaxplain.evaluate.average_drop(f)(x, a), 0.25, rtol=1e-5)
    assert float(jaxplain.evaluate.average_increase(f)(x, a)) == 0.0
    assert float(jaxplain.evaluate.average_gain(f)(x, a)) == 0.0
    np.testing.assert_allclose(jaxplain.evaluate.average_gain(f)(x, a[::-1] + 0.0), 0.0)
    y = jnp.array([-4.0, 2.0, 5.0])  # f = 0.3 becomes 0.6
    np.testing.assert_allclose(jaxplain.evaluate.average_gain(f)(y, a), 0.3 / 0.7, rtol=1e-5)
    assert float(jaxplain.evaluate.average_increase(f)(y, a)) == 1.0
    assert float(jaxplain.evaluate.average_drop(f)(y, a)) == 0.0
    np.testing.assert_allclose(
        jaxplain.evaluate.average_drop(f, scale=False)(x, jnp.array([1.0, 0.0, 1.0])), 0.25, rtol=1e-5
    )
    assert np.isnan(jaxplain.evaluate.average_drop(f)(-x, a))
    assert np.isnan(jaxplain.evaluate.average_drop(f)(x, jnp.ones(3)))
    assert np.isnan(jaxplain.evaluate.average_gain(lambda x: x.sum())(x, a))
    image = jnp.ones((2, 2, 3))
    half = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(jaxplain.evaluate.average_drop(jnp.sum)(image, half), 0.5, rtol=1e-6)


def test_effective_complexity_with_a_score():
    w = jnp.array([3.0, 0.0, 1.0, 0.0])
    m = jaxplain.evaluate.effective_complexity(lambda x: w @ x, tolerance=1e-4)
    assert float(m(jnp.ones(4), w)) == 2.0
    assert float(m(jnp.ones(4), jnp.array([0.0, 5.0, 1.0, 4.0]))) == 4.0  # the one that matters comes last
    coarse = jaxplain.evaluate.effective_complexity(lambda x: w @ x, tolerance=1.5)
    assert float(coarse(jnp.ones(4), w)) == 1.0


@shaped
def test_completeness_to_a_millionth(shape):
    w, x, b, a = case(shape)
    m = jaxplain.evaluate.completeness(linear(w), baseline=b, relative=True, floor=0.0)
    assert float(m(x, a)) < 2e-6
    np.testing.assert_allclose(m(x, 2 * a), 1.0, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e30, -3.7])
def test_a_constant_attribution_has_no_correlation(constant):
    x = jnp.linspace(0.1, 2.0, 49)
    a = jnp.full(49, constant)
    f = lambda x: jnp.sum(x**2)  # noqa: E731
    for m in (
        jaxplain.evaluate.faithfulness_correlation(f, samples=10),
        jaxplain.evaluate.sensitivity_n(f, sizes=20, samples=10),
        jaxplain.evaluate.mu_fidelity(f, samples=10),
    ):
        assert np.isnan(m(KEY, x, a))
    assert np.isnan(jaxplain.evaluate.faithfulness_estimate(f)(x, a))
    assert np.isnan(jaxplain.evaluate.monotonicity_correlation(f)(x, a))


def test_a_score_that_does_not_change_has_no_correlation():
    x = jnp.linspace(0.1, 2.0, 9)
    assert np.isnan(jaxplain.evaluate.faithfulness_correlation(lambda x: 0 * x.sum())(KEY, x, x))
    assert np.isnan(jaxplain.evaluate.faithfulness_correlation(jnp.sum, size=9)(KEY, x, x))  # all subsets are the same


@pytest.mark.slow
def test_groups_and_pytrees_keep_the_closed_forms():
    x = {"a": jnp.array([1.0, 2.0, -1.0]), "b": jnp.array([[2.0, 0.5]]), "ids": jnp.array([1])}
    f = lambda x: x["a"].sum() + 2 * x["b"].sum() + x["ids"].sum()  # noqa: E731
    a = {"a": x["a"], "b": 2 * x["b"], "ids": jnp.zeros(1)}
    groups = {"a": jnp.array([0, 0, 1]), "b": jnp.array([[1, 2]]), "ids": jnp.array([0])}
    for g in (None, groups):
        m = jaxplain.evaluate.faithfulness_correlation(f, size=2, samples=20, groups=g)
        np.testing.assert_allclose(m(KEY, x, a), 1.0, atol=1e-5)
        np.testing.assert_allclose(jaxplain.evaluate.faithfulness_estimate(f, groups=g)(x, a), 1.0, atol=1e-5)
    w = {"a": jnp.ones(3), "b": 2 * jnp.ones((1, 2)), "ids": jnp.zeros(1)}
    assert float(jaxplain.evaluate.infidelity(f, samples=10)(KEY, x, w)) < 1e-9


@pytest.mark.slow
def test_traced_groups_have_the_same_values():
    x = jnp.array([1.0, 2.0, -1.0, 4.0])
    f = lambda x: jnp.sum(x**2) + x[0] * x[1]  # noqa: E731
    groups = jnp.array([0, 1, 1, 2])
    for make in (
        lambda g: jaxplain.evaluate.faithfulness_estimate(f, groups=g)(x, x),
        lambda g: jaxplain.evaluate.monotonicity_correlation(f, groups=g)(x, x),
        lambda g: jaxplain.evaluate.non_sensitivity(f, groups=g)(x, x),
        lambda g: jaxplain.evaluate.pixel_flipping(f, groups=g, steps=2)(x, x).score,
    ):
        np.testing.assert_allclose(jax.jit(make)(groups), make(groups), rtol=1e-5)


def reference_correlation(f, x, a, subsets):
    """Definition 3 of Bhatt et al. 2020, one subset at a time in float64."""
    sums, drops = [], []
    for subset in subsets:
        removed = x.astype(np.float64).copy()
        removed[subset] = 0.0
        sums.append(a[subset].astype(np.float64).sum())
        drops.append(f(x.astype(np.float64)) - f(removed))
    return np.corrcoef(sums, drops)[0, 1]


@pytest.mark.slow
def test_subset_correlation_equals_the_definition_over_the_same_subsets():
    from jaxplain.evaluate.removal import Task, random_subset

    x, a = (np.asarray(jax.random.normal(jax.random.key(k), (9,))) for k in range(2))
    f = lambda x: jnp.tanh(x).sum() * (1 + x[0])  # noqa: E731
    slow = lambda x: np.tanh(x).sum() * (1 + x[0])  # noqa: E731
    m = jaxplain.evaluate.faithfulness_correlation(f, size=4, samples=15, batch_size=4)
    task = Task(m, (KEY, jnp.asarray(x), jnp.asarray(a)))
    row = jax.random.fold_in(task.key, 0)
    subsets = [np.flatnonzero(random_subset(jax.random.fold_in(row, s), task, 4)) for s in range(15)]
    assert all(subset.size == 4 for subset in subsets)
    assert len({tuple(subset) for subset in subsets}) > 10
    np.testing.assert_allclose(m(KEY, x, a), reference_correlation(slow, x, a, subsets), atol=1e-5)


BAD = jnp.ones((4, 4, 3))


def test_the_largest_of_numbers_are_those_of_a_sorted_list():
    from jaxplain.evaluate.removal import of_largest

    rng = np.random.default_rng(0)
    for top in (3, 2**31):  # many ties, and none
        draws = rng.integers(0, top, (20, 50)).astype(np.int32)
        draws[:, 45:] = -1  # not there
        for row, count in zip(draws, rng.integers(0, 46, 20), strict=True):
            expected = np.zeros(50, bool)
            expected[np.argsort(-row.astype(np.int64), kind="stable")[:count]] = True
            np.testing.assert_array_equal(jax.jit(of_largest)(row, count), expected)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: jaxplain.evaluate.faithfulness_correlation(jnp.sum, size=17)(KEY, BAD, BAD),
            ValueError,
            "17 features are",
        ),
        (lambda: jaxplain.evaluate.faithfulness_correlation(jnp.sum)(BAD, BAD), TypeError, "needs a key first"),
        (
            lambda: jaxplain.evaluate.faithfulness_correlation(jnp.sum, samples=1),
            ValueError,
            "`samples` has to be at least 2",
        ),
        (lambda: jaxplain.evaluate.sensitivity_n(jnp.sum, sizes=()), ValueError, "empty"),
        (lambda: jaxplain.evaluate.sensitivity_n(jnp.sum, sizes=(0,)), ValueError, "`sizes` has to be at least 1"),
        (lambda: jaxplain.evaluate.mu_fidelity(jnp.sum, fraction=0), ValueError, "`fraction`"),
        (lambda: jaxplain.evaluate.region_perturbation(jnp.sum, order="first"), ValueError, "'first'"),
        (lambda: jaxplain.evaluate.region_perturbation(jnp.sum, window=0), ValueError, "`window`"),
        (
            lambda: jaxplain.evaluate.region_perturbation(jnp.sum, window=5)(jnp.ones((4, 6)), jnp.ones((4, 6))),
            ValueError,
            r"`window` is 5, which is larger than `x` of shape \(4, 6\)",
        ),
        (
            lambda: jaxplain.evaluate.region_perturbation(jnp.sum, window=2, groups=jnp.zeros(3, int)),
            ValueError,
            "not both",
        ),
        (lambda: jaxplain.evaluate.region_perturbation(jnp.sum, order="random")(BAD, BAD), TypeError, "key"),
        (lambda: jaxplain.evaluate.irof(jnp.sum, None), ValueError, "segments"),
        (lambda: jaxplain.evaluate.infidelity(jnp.sum, shares=True), ValueError, "slopes"),
        (lambda: jaxplain.evaluate.infidelity(jnp.sum, sigma=-1.0), ValueError, "`sigma`"),
        (
            lambda: jaxplain.evaluate.infidelity(jnp.sum, perturbation="square")(KEY, jnp.ones(3), jnp.ones(3)),
            ValueError,
            "image",
        ),
        (
            lambda: jaxplain.evaluate.infidelity(jnp.sum)(BAD, BAD),
            TypeError,
            "infidelity: it is random and needs a key",
        ),
        (lambda: jaxplain.evaluate.monotonicity(jnp.sum, tolerance=-1.0), ValueError, "`tolerance`"),
        (lambda: jaxplain.evaluate.monotonicity("logit"), TypeError, "`f` has to be a function"),
        (
            lambda: jaxplain.evaluate.average_drop(jnp.sum)(BAD, jnp.ones(4)),
            ValueError,
            r"shape \(4,\), but `x` has shape",
        ),
        (lambda: jaxplain.evaluate.average_drop(jnp.sum)(BAD), TypeError, "it is called m"),
        (lambda: jaxplain.evaluate.faithfulness_estimate(jnp.sum)(BAD, jnp.ones((4, 3))), ValueError, "attribution"),
        (lambda: jaxplain.evaluate.effective_complexity(tolerance=-1.0), ValueError, "`tolerance`"),
        (lambda: jaxplain.evaluate.non_sensitivity(jnp.sum, threshold=-1.0), ValueError, "`threshold`"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
