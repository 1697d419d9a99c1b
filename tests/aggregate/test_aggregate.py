"""Aggregation: equal to NumPy on the whole dataset, merging in any grouping, exact over many examples."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.aggregate import aggregate_batches, combine, moments, top_k


def dataset(size=40, classes=4, shape=(2, 3)):
    """Attributions with a large mean and one class (the last) without examples."""
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(size, *shape)) + 100 * rng.normal(size=shape)).astype(np.float32)
    return a, rng.integers(0, classes - 1, size).astype(np.int32)


def reference(a, label, classes):
    """Per-class statistics in double precision."""
    a = a.astype(np.float64)
    nothing = np.full(a.shape[1:], np.nan)
    rows = [a[label == k] for k in range(classes)]
    return [
        np.stack([f(r) if len(r) else nothing for r in rows])
        for f in (lambda r: r.mean(0), lambda r: np.abs(r).mean(0), lambda r: r.var(0))
    ]


def run(aggregator, a, label, size, **more):
    state = aggregator.init(jnp.asarray(a[0]))
    for start in range(0, len(a), size):
        rows = slice(start, start + size)
        state = aggregator.update(state, a[rows], label=label[rows], **{k: v[rows] for k, v in more.items()})
    return state


@pytest.mark.parametrize("size", [1, 7, 40])
def test_statistics_per_class_equal_numpy_whatever_the_batches(size):
    a, label = dataset()
    aggregator = moments(classes=4)
    result = aggregator.compute(run(aggregator, a, label, size))
    mean, absolute, variance = reference(a, label, 4)
    np.testing.assert_array_equal(result.examples, np.bincount(label, minlength=4))
    np.testing.assert_allclose(result.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(result.mean_absolute, absolute, rtol=1e-6)
    np.testing.assert_allclose(result.variance, variance, rtol=1e-4)
    assert np.isnan(result.mean[3]).all()
    assert result.outside == 0


def test_without_classes_everything_is_one_group():
    a, _ = dataset()
    result = aggregate_batches(moments(), [{"attribution": a[:25]}, {"attribution": a[25:]}])
    assert result.examples == 40
    np.testing.assert_allclose(result.mean, a.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.variance, a.astype(np.float64).var(0), rtol=1e-4)


def test_masked_rows_are_ignored_whatever_they_hold():
    a, label = dataset()
    padded = np.concatenate([a[:5], np.full((3, 2, 3), np.nan, np.float32)])
    labels, mask = np.concatenate([label[:5], [0, 99, -1]]), np.arange(8) < 5
    aggregator = moments(classes=4)
    empty = aggregator.init(a[0])
    result = aggregator.compute(aggregator.update(empty, padded, label=labels, mask=mask))
    plain = aggregator.compute(aggregator.update(empty, a[:5], label=label[:5]))
    chex.assert_trees_all_close(result, plain, rtol=1e-6)
    assert result.outside == 0


def test_labels_outside_the_classes_are_counted_and_touch_nothing():
    a, label = dataset()
    aggregator = moments(classes=4)
    wrong = label.copy()
    wrong[[0, 1]] = [7, -1]
    result = aggregator.compute(run(aggregator, a, wrong, 10))
    assert result.outside == 2
    chex.assert_trees_all_close(
        result._replace(outside=0),
        aggregator.compute(run(aggregator, a[2:], label[2:], 10))._replace(outside=0),
        rtol=1e-4,
    )


def test_not_a_number_stays_in_its_own_class_and_feature():
    a, label = dataset()
    a[3, 0, 0] = np.nan
    result = moments(classes=4).compute(run(moments(classes=4), a, label, 8))
    bad = np.zeros((4, 2, 3), bool)
    bad[label[3], 0, 0] = bad[3] = True
    for part in (result.mean, result.mean_absolute, result.variance):
        np.testing.assert_array_equal(np.isnan(part), bad)


@pytest.mark.slow
def test_merge_is_associative_commutative_and_has_an_identity():
    a, label = dataset(60)
    index, score = np.arange(60, dtype=np.int32), np.round(a[:, 0, 0]).astype(np.float32)
    aggregator = combine(statistics=moments(classes=4), best=top_k(5))
    parts = [
        run(aggregator, a[rows], label[rows], 20, index=index[rows], score=score[rows])
        for rows in (slice(0, 11), slice(11, 50), slice(50, 60))
    ]
    empty = aggregator.init(a[0])
    whole = aggregator.compute(run(aggregator, a, label, 60, index=index, score=score))
    for one, two, three in itertools.permutations(parts):
        left = aggregator.merge(aggregator.merge(one, two), three)
        right = aggregator.merge(one, aggregator.merge(two, aggregator.merge(empty, three)))
        for state in (left, right):
            result = aggregator.compute(state)
            chex.assert_trees_all_close(result["statistics"], whole["statistics"], rtol=2e-5)
            chex.assert_trees_all_close(result["statistics"].mean, whole["statistics"].mean, rtol=2e-7)
            chex.assert_trees_all_equal(result["best"], whole["best"])


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_hundred_thousand_examples_stay_exact(size):
    rng = np.random.default_rng(1)
    a = np.stack([np.full(100_000, 0.1), rng.exponential(1.0, 100_000), 1e4 + rng.normal(size=100_000)], 1)
    a = a.astype(np.float32).reshape(-1, size, 3)
    aggregator = moments()

    @jax.jit
    def scan(aggregator, a):
        state = aggregator.init(a[0, 0])
        return jax.lax.scan(lambda s, batch: (aggregator.update(s, batch), None), state, a)[0]

    result = aggregator.compute(scan(aggregator, a))
    exact = a.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(result.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.mean_absolute, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(result.variance[1:], exact.var(0)[1:], rtol=1e-3)
    assert result.variance[0] < 1e-14


def test_pytrees_and_bfloat16_are_summed_in_float32():
    a = {"image": jnp.full((1000, 2), 0.1, jnp.bfloat16), "ids": jnp.zeros((1000, 3))}
    batches = ({"attribution": {name: v[s : s + 100] for name, v in a.items()}} for s in range(0, 1000, 100))
    result = aggregate_batches(moments(), batches)
    assert result.mean["image"].dtype == jnp.float32
    np.testing.assert_allclose(result.mean["image"], float(jnp.bfloat16(0.1)), rtol=1e-6)
    assert not result.mean["ids"].any()


def test_update_compiles_once_and_equals_eager():
    a, label = dataset()
    aggregator, traces = combine(m=moments(classes=4), best=top_k(3)), []

    @jax.jit
    def step(aggregator, state, a, label, score, index):
        traces.append(1)
        return aggregator.update(state, a, label=label, score=score, index=index)

    eager = jitted = aggregator.init(a[0])
    for start in range(0, 40, 10):
        rows = slice(start, start + 10)
        score, index = a[rows, 1, 1], np.arange(start, start + 10)
        jitted = step(aggregator, jitted, a[rows], label[rows], score, index)
        eager = aggregator.update(eager, a[rows], label=label[rows], score=score, index=index)
    assert len(traces) == 1
    chex.assert_trees_all_close(aggregator.compute(jitted), aggregator.compute(eager), rtol=1e-5)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("size", [1, 4, 20])
def test_ranking_equals_a_sort_with_ties_to_the_smaller_index(largest, size):
    rng = np.random.default_rng(2)
    score = rng.integers(0, 6, 20).astype(np.float32)
    index = rng.permutation(100)[:20]
    order = np.lexsort((index, -score if largest else score))[:7]
    aggregator = top_k(7, largest=largest)
    batches = [
        {"attribution": np.zeros((size, 1)), "score": score[s : s + size], "index": index[s : s + size]}
        for s in range(0, 20, size)
    ]
    result = aggregate_batches(aggregator, batches)
    np.testing.assert_array_equal(result.indices, index[order])
    np.testing.assert_array_equal(result.scores, score[order])


def test_ranking_leaves_out_masked_and_undefined_scores():
    aggregator = top_k(4)
    score = jnp.array([1.0, jnp.nan, 5.0, -jnp.inf, jnp.nan])
    mask = jnp.array([True, True, False, True, False])
    result = aggregator.compute(aggregator.update(aggregator.init(), score=score, index=jnp.arange(5), mask=mask))
    np.testing.assert_array_equal(result.indices, [0, 3, -1, -1])
    np.testing.assert_array_equal(result.scores, [1.0, -np.inf, np.nan, np.nan])
    assert result.undefined == 1


A = jnp.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: moments(classes=0), ValueError, "`classes` has to be at least 1"),
        (lambda: top_k(0), ValueError, "`k`"),
        (lambda: moments(2).update(moments(2).init(A[0]), A), ValueError, "needs `label`"),
        (
            lambda: moments(2).update(moments(2).init(A[0]), A, label=jnp.ones(3, int)),
            ValueError,
            r"`label` has shape \(3,\)",
        ),
        (lambda: moments(2).update(moments(2).init(A[0]), A, label=jnp.ones(4)), ValueError, "float32"),
        (lambda: moments().update(moments().init(A[0]), A, mask=jnp.ones(3, bool)), ValueError, "`mask`"),
        (lambda: moments().update(moments().init(A[0]), A, mask=jnp.ones(4)), ValueError, "`mask`"),
        (lambda: moments().update(moments().init(A[0]), A[:, :2]), ValueError, "given to `init`"),
        (lambda: moments().update(moments().init(A[0]), A[:0]), ValueError, "empty"),
        (lambda: top_k().update(top_k().init(), score=jnp.ones(3)), ValueError, "`index`"),
        (lambda: combine(), ValueError, "at least one"),
        (lambda: combine(a=3), TypeError, "'a' is int"),
        (lambda: aggregate_batches(moments(), []), ValueError, "no batches"),
        (lambda: aggregate_batches(moments(), [{"label": A}]), ValueError, "'attribution'"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
