"""Deletion and insertion: closed forms, a slow reference after the paper, transformations, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.baseline.absent import blur, mean, uniform_noise
from jaxplain.evaluate.faithfulness.deletion import deletion, deletion_curve, insertion, insertion_curve
from shared.tables import halves

CURVES = {False: deletion_curve, True: insertion_curve}
AREAS = {False: deletion, True: insertion}


def reference_curve(f, x, a, baseline, steps, insert, groups=None):
    """Algorithm 1 of Petsiuk et al. 2018, one feature set at a time, in NumPy; default features as documented."""
    if groups is None:
        pixels = x.ndim == 3
        groups = np.arange(np.prod(x.shape[:2] if pixels else x.shape)).reshape(x.shape[:2] if pixels else x.shape)
        groups = np.repeat(groups[..., None], x.shape[-1], -1) if pixels else groups
    n = groups.max() + 1
    relevance = [np.float64(a[groups == g].sum()) for g in range(n)]
    order = sorted(range(n), key=lambda g: (-relevance[g], g))
    current, other = (baseline.copy(), x) if insert else (x.copy(), baseline)
    fraction, score, done = [0.0], [f(current)], 0
    for k in range(1, steps + 1):
        while done < k * n // steps:
            chosen = groups == order[done]
            current[chosen] = other[chosen]
            done += 1
        fraction.append(done / n)
        score.append(f(current))
    return np.array(fraction), np.array(score)


def quadratic(shape, seed=0):
    """A score with interactions, as a NumPy and a JAX function."""
    size = int(np.prod(shape))
    w = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32) / size

    def in_numpy(x):
        flat = x.reshape(-1).astype(np.float64)
        return flat @ w @ flat + flat.sum()

    return in_numpy, lambda x: x.reshape(-1) @ jnp.asarray(w) @ x.reshape(-1) + x.sum()


@pytest.mark.parametrize("insert", [False, True])
@pytest.mark.parametrize("batch_size", halves([4, 1, None, 100]))
@pytest.mark.parametrize(("shape", "steps"), [((7,), None), ((7,), 3), ((3, 4), 5), ((3, 2, 3), None), ((3, 3, 1), 4)])
@pytest.mark.sampled(12)
def test_curve_and_area_equal_the_reference(shape, steps, insert, batch_size):
    rng = np.random.default_rng(1)
    x, a, baseline = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    slow, f = quadratic(shape)
    total = shape[0] * shape[1] if len(shape) == 3 else x.size
    fraction, score = reference_curve(slow, x, a, baseline, steps or total, insert)
    settings = {"baseline": baseline, "steps": steps, "batch_size": batch_size}
    curve = CURVES[insert](f, **settings)(jnp.asarray(x), jnp.asarray(a))
    np.testing.assert_allclose(curve.fraction, fraction, atol=1e-6)
    np.testing.assert_allclose(curve.score, score, atol=1e-5)
    area = np.sum((score[1:] + score[:-1]) / 2 * np.diff(fraction))
    np.testing.assert_allclose(AREAS[insert](f, **settings)(jnp.asarray(x), jnp.asarray(a)), area, atol=1e-5)


def test_linear_model_gives_sorted_cumulative_sums():
    w, x, b = jnp.array([2.0, -1.0, 0.5, 3.0]), jnp.array([1.0, 2.0, -4.0, 1.0]), jnp.array([0.5, 0.0, 0.0, -1.0])
    share = np.asarray(w * (x - b))
    curve = deletion_curve(lambda x: w @ x, baseline=b)(x, jnp.asarray(share))
    removed = np.concatenate([[0], np.cumsum(np.sort(share)[::-1])])
    np.testing.assert_allclose(curve.score, float(w @ x) - removed, atol=1e-5)
    put = insertion_curve(lambda x: w @ x, baseline=b)(x, jnp.asarray(share))
    np.testing.assert_allclose(put.score, float(w @ b) + removed, atol=1e-5)


def test_the_true_attribution_is_best_and_its_opposite_worst():
    w = jax.random.normal(jax.random.key(0), (6,))
    x = jax.random.normal(jax.random.key(1), (6,))
    m = deletion(lambda x: w @ x)
    order = [float(m(x, jax.random.normal(jax.random.key(k), (6,)))) for k in range(2, 12)]
    assert float(m(x, w * x)) <= min(order)
    assert float(m(x, -w * x)) >= max(order)


def test_ties_go_to_the_first_feature_and_zeros_have_no_sign():
    x = jnp.array([1.0, 2.0, 4.0, 8.0])
    curve = deletion_curve(lambda x: x.sum())
    np.testing.assert_array_equal(curve(x, jnp.zeros(4)).score, [15, 14, 12, 8, 0])
    np.testing.assert_array_equal(curve(x, jnp.array([-0.0, 0.0, -0.0, 0.0])).score, [15, 14, 12, 8, 0])


def test_pixels_are_ranked_by_the_signed_channel_sum_and_maps_are_accepted():
    a = jnp.zeros((1, 3, 3)).at[0, 0].set(jnp.array([5.0, -5.0, 0.5])).at[0, 1].set(1.0).at[0, 2, 0].set(2.0)
    x = jnp.ones((1, 3, 3)) * jnp.array([1.0, 10.0, 100.0])[None, :, None]
    expected = [333, 303, 3, 0]  # sums 0.5, 3, 2: the second pixel goes first, then the third
    np.testing.assert_allclose(deletion_curve(lambda x: x.sum())(x, a).score, expected)
    np.testing.assert_allclose(deletion_curve(lambda x: x.sum())(x, a.sum(-1)).score, expected)


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3)])
def test_groups_go_together(shape):
    rng = np.random.default_rng(3)
    x, a = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    groups = np.array([[0, 2, 2], [1, 0, 1]])
    full = np.broadcast_to(groups.reshape(2, 3, *(1,) * (len(shape) - 2)), shape)
    slow, f = quadratic(shape)
    _, score = reference_curve(slow, x, a, np.zeros_like(x), 3, False, full)
    for given in (groups, full):
        np.testing.assert_allclose(
            deletion_curve(f, groups=given)(jnp.asarray(x), jnp.asarray(a)).score, score, atol=1e-5
        )
    ungrouped = np.arange(x.size).reshape(shape)
    _, score = reference_curve(slow, x, a, np.zeros_like(x), x.size, False, ungrouped)
    got = deletion_curve(f, groups=ungrouped)(jnp.asarray(x), jnp.asarray(a)).score
    np.testing.assert_allclose(got, score, atol=1e-5)


@pytest.mark.slow
def test_groups_may_be_traced_with_steps():
    x = jax.random.normal(jax.random.key(0), (2, 6))
    a = jax.random.normal(jax.random.key(1), (2, 6))
    groups = jnp.array([[0, 0, 1, 1, 2, 2], [3, 1, 2, 0, 4, 4]])

    def f(x):
        return jnp.tanh(x).sum() * x[0]

    together = jax.vmap(lambda x, a, g: deletion(f, groups=g, steps=3)(x, a))(x, a, groups)
    single = [float(deletion(f, groups=g, steps=3)(*pair)) for *pair, g in zip(x, a, groups, strict=True)]
    np.testing.assert_allclose(together, single, atol=1e-6)
    with pytest.raises(ValueError, match="pass `steps`"):
        jax.jit(lambda g: deletion(f, groups=g)(x[0], a[0]))(groups[0])


def network(x, k):
    w = jnp.sin(jnp.arange(36.0)).reshape(12, 3)
    return jax.nn.softmax(jnp.tanh(x.reshape(1, -1) @ w.astype(x.dtype)))[0, k]


@pytest.mark.slow
@pytest.mark.parametrize("make", [deletion, insertion])
def test_vmap_equals_a_loop_and_jit_equals_eager(make):
    x = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    a = jax.random.normal(jax.random.key(1), (4, 2, 2, 3))
    labels = jnp.array([0, 1, 2, 1])
    m = make(network, steps=3, batch_size=2, baseline=blur(1.0))
    loop = [float(m(*row)) for row in zip(x, a, labels, strict=True)]
    np.testing.assert_allclose(jax.vmap(m)(x, a, labels), loop, atol=1e-6)
    np.testing.assert_allclose(jax.jit(m)(x[0], a[0], labels[0]), loop[0], atol=1e-6)
    other = jax.vmap(m)(x.at[1:].multiply(100.0), a.at[1:].set(0.0), labels)
    assert float(other[0]) == float(jax.vmap(m)(x, a, labels)[0])


def test_new_arrays_in_the_metric_do_not_retrace():
    traces = []

    def f(x):
        traces.append(1)
        return x.sum()

    run = jax.jit(lambda m, x, a: m(x, a))
    x = jnp.ones(4)
    values = [run(deletion(f, baseline=jnp.full(4, b), groups=jnp.array([0, 0, 1, 2])), x, x) for b in (0.0, 1.0)]
    first = len(traces)
    run(deletion(f, baseline=jnp.full(4, 2.0), groups=jnp.array([0, 1, 1, 2])), x, x)
    assert len(traces) == first
    assert float(values[1]) == 4.0


def test_memory_does_not_grow_with_steps():
    def largest(steps):
        m = deletion(lambda x: jnp.tanh(x).sum(), steps=steps)
        shapes = jax.make_jaxpr(m)(jnp.ones(512), jnp.ones(512)).jaxpr
        return max(var.aval.size for eqn in shapes.eqns for var in eqn.outvars)

    assert largest(256) == largest(16)


def test_pytrees_hold_integer_and_boolean_leaves_fixed():
    x = {"ids": jnp.array([3, 4]), "mask": jnp.array([True, False]), "values": jnp.array([1.0, 2.0])}
    a = {"ids": jnp.zeros(2), "mask": jnp.full(2, jnp.nan), "values": jnp.array([0.0, 1.0])}

    def f(x):
        return x["ids"].sum() * 100.0 + jnp.where(x["mask"], 10.0, 0.0).sum() + x["values"].sum()

    np.testing.assert_allclose(deletion_curve(f)(x, a).score, [713, 711, 710])
    groups = {"ids": 0, "mask": 0, "values": jnp.array([0, 0])}
    np.testing.assert_allclose(deletion_curve(f, groups=groups)(x, a).score, [713, 710])
    two = {"a": jnp.array([1.0, 2.0]), "b": jnp.ones((1, 1, 3))}
    curve = deletion_curve(lambda x: x["a"].sum() + 100 * x["b"].sum())(two, two)
    np.testing.assert_allclose(curve.score, [303, 3, 1, 0])


@pytest.mark.parametrize("make", [deletion, insertion])
def test_bfloat16_is_finite_and_summed_in_float32(make):
    x = jax.random.normal(jax.random.key(0), (4, 3)).astype(jnp.bfloat16)
    m = make(lambda x: jnp.tanh(x).sum(), batch_size=5)
    value = m(x, x)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, m(x.astype(jnp.float32), x.astype(jnp.float32)), rtol=0.02, atol=0.02)


def test_baselines_that_are_functions():
    x, a = jnp.array([1.0, 3.0]), jnp.array([0.0, 1.0])
    m = deletion(lambda x: x.sum(), baseline=uniform_noise(-1.0, 1.0))
    assert m.needs_key
    assert float(m(jax.random.key(0), x, a)) == float(m(jax.random.key(0), x, a))
    assert float(m(jax.random.key(0), x, a)) != float(m(jax.random.key(1), x, a))
    curve = deletion_curve(lambda x: x.sum(), baseline=mean(jnp.array([[1.0, 1.0], [3.0, 1.0]])))(x, a)
    np.testing.assert_allclose(curve.score, [4, 2, 3])


def test_not_a_number_gives_not_a_number_and_constants_are_fine():
    m = deletion(lambda x: x.sum())
    x = jnp.array([1.0, 2.0, 3.0])
    assert np.isnan(m(x, jnp.array([1.0, jnp.nan, 0.0])))
    assert np.isnan(jax.jit(m)(x, jnp.array([1.0, jnp.nan, 0.0])))
    both = jax.vmap(m)(jnp.stack([x, x]), jnp.stack([x, x * jnp.nan]))
    assert np.isfinite(both[0])
    assert np.isnan(both[1])
    assert float(m(jnp.zeros(3), jnp.ones(3))) == 0.0
    assert np.isfinite(m(x, jnp.array([jnp.inf, -jnp.inf, 0.0])))
    assert np.isnan(deletion(lambda x: jnp.log(x).sum() * 0)(x, x))


def test_which_is_better_is_declared():
    assert deletion(jnp.sum).better == "lower"
    assert insertion(jnp.sum).better == "higher"
    assert deletion_curve(jnp.sum).better is None


IMAGE = jnp.ones((4, 4, 3))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: deletion(jnp.sum)(IMAGE, jnp.ones(3)), ValueError, r"shape \(3,\), but `x` has shape \(4, 4, 3\)"),
        (lambda: deletion(jnp.sum)(jnp.ones((2, 3)), jnp.ones(2)), ValueError, "attribution"),
        (lambda: deletion(jnp.sum)({"a": IMAGE}, IMAGE), ValueError, "structure"),
        (lambda: deletion(jnp.sum, steps=0), ValueError, "`steps` has to be at least 1, not 0"),
        (lambda: deletion(jnp.sum, steps=2.0), TypeError, "whole number"),
        (lambda: deletion(jnp.sum, batch_size=0), ValueError, "`batch_size`"),
        (lambda: deletion(jnp.sum, steps=17)(IMAGE, IMAGE), ValueError, "17, but there are 16 features"),
        (lambda: deletion(jnp.sum, groups=jnp.array([0, 2])), ValueError, "no value is in group 1"),
        (lambda: deletion(jnp.sum, groups=jnp.array([-1, 0])), ValueError, "none below 0"),
        (lambda: deletion(jnp.sum, groups=jnp.zeros((0,), int)), ValueError, "`groups` is empty"),
        (lambda: deletion(jnp.sum, groups=jnp.array([0.0, 1.0])), TypeError, "integers"),
        (lambda: deletion(jnp.sum, groups=jnp.array([0, 1]))(IMAGE, IMAGE), ValueError, "`groups` has shape"),
        (lambda: deletion(jnp.sum, baseline=jnp.ones(5))(IMAGE, IMAGE), ValueError, "does not broadcast to `x`"),
        (lambda: insertion(jnp.sum)(IMAGE * jnp.nan, IMAGE), ValueError, "insertion: `x` has 48 NaN"),
        (lambda: deletion(jnp.sum)(jnp.arange(3), jnp.ones(3)), TypeError, "int32.*split"),
        (lambda: deletion(lambda x: x)(jnp.ones(3), jnp.ones(3)), ValueError, "one number"),
        (lambda: deletion("logit"), TypeError, "f has to be|`f` has to be a function"),
        (lambda: insertion(jnp.sum, baseline="blur"), TypeError, "str"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
