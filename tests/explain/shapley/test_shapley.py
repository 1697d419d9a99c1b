"""Shapley values: closed forms, brute force from the definition, laws, peers' numbers, honest errors, bad input."""

from __future__ import annotations

import functools
import itertools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from shared.coalitions import brute, by_coalitions, game, owen
from shared.methods import network as parameters
from shared.methods import rectified, smooth
from shared.peer_network import BACKGROUND, BASELINE, FIRST, GROUPS, SECOND, X

KEY = jax.random.key(0)


def f(x):
    return jnp.tanh(x @ FIRST) @ SECOND


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 6])
def test_exact_equals_all_orders(n):
    first = jax.random.normal(jax.random.key(n), (n, 6))
    x, b = jax.random.normal(jax.random.key(1), (n,)), jnp.full((n,), 0.3)

    def score(x):
        return jnp.tanh(x @ first).sum() + jnp.prod(x)

    values, _ = game(x, b, n, score)
    phi = brute(values, n)
    np.testing.assert_allclose(by_coalitions(values, n), phi, atol=1e-10)
    exact = jaxplain.shapley_values(score, baseline=b, batch_size=7)(x)
    np.testing.assert_allclose(exact, phi, atol=2e-6)
    np.testing.assert_allclose(exact.sum(), values[-1] - values[0], atol=2e-6)
    np.testing.assert_allclose(jaxplain.kernel_shap(score, baseline=b)(KEY, x), phi, atol=2e-6)
    np.testing.assert_allclose(jaxplain.owen_values(score, jnp.arange(n), baseline=b)(x), phi, atol=2e-6)
    if n < 3:  # every pair of an order and its reverse is all orders
        np.testing.assert_allclose(jaxplain.shapley_sampling(score, baseline=b, samples=1)(KEY, x), phi, atol=2e-6)
    pairs = jaxplain.shapley_interactions(score, baseline=b)(x)
    np.testing.assert_allclose(pairs.sum(axis=1), phi, atol=5e-6)


@pytest.mark.slow
def test_ten_features():
    score = jaxplain.logit(smooth, parameters(features=10))
    x, b = jax.random.normal(KEY, (10,)), jnp.full((10,), 0.1)
    values, _ = game(x, b, 10, lambda x: score(x, 1))
    phi = by_coalitions(values, 10)
    exact = compiled(jaxplain.shapley_values(score, baseline=b, batch_size=64), x, 1)
    np.testing.assert_allclose(exact, phi, atol=5e-6)
    np.testing.assert_allclose(exact.sum(), values[-1] - values[0], atol=5e-6)
    for samples in (101, 1000):  # size 1 enumerated, or sizes 1 to 4
        estimate = compiled(jaxplain.kernel_shap(score, baseline=b, samples=samples, batch_size=32), x, 1)
        np.testing.assert_allclose(estimate.sum(), values[-1] - values[0], atol=5e-6)
        assert np.abs(estimate - phi).max() < {101: 0.3, 1000: 0.06}[samples] * np.abs(phi).max()
    all_of_them = compiled(jaxplain.kernel_shap(score, baseline=b, samples=1022, batch_size=64), x, 1)
    np.testing.assert_allclose(all_of_them, exact, atol=1e-6)
    sampled = compiled(jaxplain.shapley_sampling(score, baseline=b, samples=3, batch_size=5), x, 1)
    np.testing.assert_allclose(sampled.sum(), values[-1] - values[0], atol=5e-6)


@pytest.mark.slow
def test_regression_equals_numpy_on_the_same_coalitions():
    from jaxplain.explain.shapley.kernel import design

    n, samples = 9, 120
    score = jaxplain.logit(smooth, parameters(features=n))
    x = jax.random.normal(KEY, (n,))
    plan = design(jax.random.fold_in(KEY, 0), n, n, samples, jnp.float32)
    masks, weights = (np.asarray(part) for part in jax.vmap(plan.pair)(jnp.arange(samples // 2)))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    sizes, counts = np.unique(masks.sum(axis=1), return_counts=True)
    assert sizes.tolist() == [1, 2, 3, 4]
    assert counts[0] == 9
    assert len(np.unique(masks[:9], axis=0)) == 9
    both = np.concatenate([masks, ~masks]).astype(np.float64)
    v = np.asarray(jax.vmap(lambda m: score(jnp.where(m == 1, x, 0.0), 1))(both), np.float64)
    none, change = float(score(jnp.zeros(n), 1)), float(score(x, 1) - score(jnp.zeros(n), 1))
    w = np.concatenate([weights, weights])
    # Lagrange's equations of the weighted least squares under the constraint.
    system = np.block([[2 * both.T @ (w[:, None] * both), np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])
    right = np.append(2 * both.T @ (w * (v - none)), change)
    expected = np.linalg.solve(system, right)[:n]
    np.testing.assert_allclose(jaxplain.kernel_shap(score, samples=samples)(KEY, x, 1), expected, atol=2e-5)


@pytest.mark.slow
def test_enumerated_sizes_hold_every_coalition_once():
    from jaxplain.explain.shapley.kernel import design

    plan = design(KEY, 8, 8, 240, jnp.float32)
    masks, _ = jax.vmap(plan.pair)(jnp.arange(120))
    starts = np.asarray(plan.starts)
    assert starts.tolist() == [0, 8, 36, 92]
    for size, (begin, end) in enumerate(itertools.pairwise(starts), start=1):
        listed = np.asarray(masks[begin:end])
        assert (listed.sum(axis=1) == size).all()
        assert len(np.unique(listed, axis=0)) == math.comb(8, size)
    assert (np.asarray(masks[92:]).sum(axis=1) == 4).all()


LINEAR = jnp.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
POINT = jnp.array([0.3, 1.0, -2.0, 0.7, 5.0, -1.0])
METHODS = {
    "exact": lambda f, **s: jaxplain.shapley_values(f, **s),
    "sampling": lambda f, **s: jaxplain.shapley_sampling(f, samples=4, **s),
    "kernel": lambda f, **s: jaxplain.kernel_shap(f, samples=20, **s),
    "owen": lambda f, **s: jaxplain.owen_values(f, jnp.array([0, 1, 0, 2, 1, 1]), **s),
    "owen sampled": lambda f, **s: jaxplain.owen_values(f, jnp.array([0, 1, 0, 2, 1, 1]), samples=2, **s),
}


def call(e, x, *args):
    return e(KEY, x, *args) if e.needs_key else e(x, *args)


def compiled(e, x, *args):
    """As `call`, as one program: operation by operation, hundreds would be compiled."""
    return jax.jit(functools.partial(call, e))(x, *args)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("baseline", [0.5, jnp.arange(18.0).reshape(3, 6) / 7], ids=["number", "set"])
def test_linear_and_additive_closed_forms(name, baseline):
    start = jnp.broadcast_to(jnp.asarray(baseline), (6,)) if jnp.ndim(baseline) < 2 else baseline
    e = METHODS[name](lambda x: LINEAR @ x + 2.0, baseline=baseline)
    mean = start if start.ndim == 1 else start.mean(axis=0)
    np.testing.assert_allclose(compiled(e, POINT), LINEAR * (POINT - mean), atol=1e-5)
    additive = METHODS[name](lambda x: (jnp.sin(x) * LINEAR).sum(), baseline=baseline)
    absent = (jnp.sin(start) * LINEAR) if start.ndim == 1 else (jnp.sin(start) * LINEAR[None]).mean(axis=0)
    np.testing.assert_allclose(compiled(additive, POINT), jnp.sin(POINT) * LINEAR - absent, atol=1e-5)


@pytest.mark.slow
def test_owen_equals_all_orders_that_keep_unions_together():
    values, _ = game(jnp.asarray(X), jnp.asarray(BASELINE), 5, f)
    expected = owen(values, GROUPS.tolist())
    e = jaxplain.owen_values(f, GROUPS, baseline=jnp.asarray(BASELINE), batch_size=3)
    np.testing.assert_allclose(e(jnp.asarray(X)), expected, atol=2e-6)
    grouped = jaxplain.shapley_values(f, groups=GROUPS, baseline=jnp.asarray(BASELINE))(jnp.asarray(X))
    sums = [np.bincount(GROUPS, np.asarray(a)) for a in (expected, grouped)]
    np.testing.assert_allclose(sums[0], sums[1], atol=2e-6)
    many = jaxplain.owen_values(f, GROUPS, baseline=jnp.asarray(BASELINE), samples=2000, batch_size=64)
    np.testing.assert_allclose(many(KEY, jnp.asarray(X)), expected, atol=0.05)


@pytest.mark.slow
def test_owen_takes_pixels_or_values_and_skips_integers():
    image, weights = jnp.ones((2, 2, 3)), jnp.arange(12.0).reshape(2, 2, 3)
    pixels = jaxplain.owen_values(lambda x: (weights * x).sum(), jnp.array([[0, 0], [1, 1]]))(image)
    np.testing.assert_allclose(pixels.sum(-1), weights.sum(-1), rtol=1e-6)
    tree = {"a": jnp.array([1.0, 2.0]), "id": jnp.array([3, 4])}
    groups = {"a": jnp.array([1, 0]), "id": jnp.array([2, 2])}
    a = jaxplain.owen_values(lambda x: x["a"].prod() * x["id"].sum(), groups)(tree)
    assert a["a"].tolist() == [7.0, 7.0]
    assert a["id"].tolist() == [0.0, 0.0]


@pytest.mark.slow
def test_interactions_recover_planted_pairs():
    weights = jnp.zeros((6, 6)).at[0, 3].set(2.0).at[1, 4].set(-1.5)
    e = jaxplain.shapley_interactions(lambda x: x @ weights @ x + LINEAR @ x)
    pairs = e(POINT)
    planted = weights * POINT[:, None] * POINT[None, :]
    np.testing.assert_allclose(pairs, (planted + planted.T) / 2 + jnp.diag(LINEAR * POINT), atol=2e-5)
    values, _ = game(jnp.asarray(X), jnp.asarray(BASELINE), 5, f)
    pairs = jaxplain.shapley_interactions(f, baseline=jnp.asarray(BASELINE))(jnp.asarray(X))
    for i, j in itertools.combinations(range(5), 2):
        index = 0.0
        for number in range(32):
            if not number & (1 << i | 1 << j):
                size = number.bit_count()
                weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                one, two = 1 << i, 1 << j
                index += weight * (
                    values[number | one | two] - values[number | one] - values[number | two] + values[number]
                )
        np.testing.assert_allclose(pairs[i, j], index / 2, atol=5e-6)
    np.testing.assert_allclose(pairs, pairs.T, atol=1e-6)


# captum 0.9.0 and shap 0.51.0, by tests/peers/shapley.py
CAPTUM = [0.7600905895233154, -1.6928153038024902, 2.161048412322998, -0.032254379242658615, 0.2986190617084503]
CAPTUM_GROUPS = [2.787587881088257, -1.2661861181259155, 2.787587881088257, -0.02671337127685547, -1.2661861181259155]
CAPTUM_ACROSS = [1.256277322769165, 0.29449498653411865, 0.29449498653411865, -0.05608409643173218, 1.256277322769165]
SHAP = [0.7465497693821583, -1.113571807186287, 1.7057849269836958, -0.00376036149426702, 0.09719100305224411]
SHAP_PAIRS = [
    [0.6018420934400447, -0.16183967969669913, 0.1329444755463411, 0.06441790488382243, 0.10918497520864984],
    [-0.16183967969669913, -1.789777830689689, 0.7514228414092904, 0.06415089879245642, 0.022471962998354203],
    [0.1329444755463411, 0.7514228414092904, 0.9920661094550095, -0.17116972387953017, 0.0005212244525845816],
    [0.06441790488382243, 0.06415089879245642, -0.17116972387953017, -0.011750926503930836, 0.050591485212915135],
    [0.10918497520864984, 0.022471962998354203, 0.0005212244525845816, 0.050591485212915135, -0.08557864482025945],
]


@pytest.mark.slow
def test_captum_and_shap():
    x, b = jnp.asarray(X), jnp.asarray(BASELINE)
    np.testing.assert_allclose(jaxplain.shapley_values(f, baseline=b)(x), CAPTUM, atol=2e-6)
    sizes = np.bincount(GROUPS)[GROUPS]  # captum repeats a group's value, here it is divided
    np.testing.assert_allclose(
        jaxplain.shapley_values(f, baseline=b, groups=GROUPS)(x) * sizes, CAPTUM_GROUPS, atol=2e-6
    )
    two = (x[:2], x[2:])
    across = jaxplain.shapley_values(
        lambda parts: f(jnp.concatenate(parts)),
        baseline=(b[:2], b[2:]),
        groups=(jnp.array([0, 1]), jnp.array([1, 2, 0])),
    )(two)
    np.testing.assert_allclose(jnp.concatenate(across) * jnp.array([2.0, 2, 2, 1, 2]), CAPTUM_ACROSS, atol=2e-6)
    np.testing.assert_allclose(jaxplain.shapley_values(f, baseline=BACKGROUND)(x), SHAP, atol=2e-6)
    np.testing.assert_allclose(jaxplain.kernel_shap(f, baseline=BACKGROUND, batch_size=7)(KEY, x), SHAP, atol=2e-6)
    taylor = jaxplain.shapley_interactions(f, index="taylor", baseline=BACKGROUND)(x)
    np.testing.assert_allclose(taylor, SHAP_PAIRS, atol=2e-6)


@pytest.mark.optimized
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sampling", "kernel", "lime"])
def test_memory_does_not_grow_with_samples(name):
    make = {"sampling": jaxplain.shapley_sampling, "kernel": jaxplain.kernel_shap, "lime": jaxplain.lime}[name]
    score, x = jaxplain.logit(rectified, parameters(features=36)), jnp.ones((2, 6, 6, 1))
    used = []
    for samples in (1000, 10_000):
        run = jax.jit(lambda e, k, x: jax.vmap(e, (0, 0, None))(k, x, 1))
        compiled = run.lower(make(score, samples=samples), jax.random.split(KEY, 2), x).compile()
        memory = compiled.memory_analysis()
        used.append(memory.temp_size_in_bytes + memory.output_size_in_bytes)
    assert used[1] <= 1.1 * used[0], used


@pytest.mark.slow
def test_whole_pixels_groups_across_leaves_and_background_of_trees():
    image = jax.random.normal(KEY, (3, 2, 3))
    weights = jax.random.normal(jax.random.key(1), (3, 2, 3))

    def score(x):
        return jnp.tanh((weights * x).sum(axis=-1)).prod() + (x * weights).sum()

    a = jaxplain.shapley_values(score)(image)
    np.testing.assert_allclose(a[..., 0], a[..., 2], rtol=1e-6)  # a pixel's value is divided over its channels
    np.testing.assert_allclose(a.sum(), score(image) - score(0 * image), atol=1e-5)
    tree = {"image": image, "ids": jnp.array([1, 2]), "more": jnp.array([1.0, -1.0])}
    groups = {"image": jnp.array([[0, 0], [1, 1], [2, 2]]), "ids": jnp.array([0, 0]), "more": jnp.array([2, 3])}
    background = jax.tree.map(lambda leaf: jnp.stack([0 * leaf, leaf // 2]), tree)

    def other(x):
        return score(x["image"]) * (1 + x["more"].sum()) + x["ids"].sum()

    e = jaxplain.shapley_values(other, baseline=background, groups=groups, batch_size=3)
    a = e(tree)
    rows = [
        jaxplain.shapley_values(other, baseline=jax.tree.map(lambda b, r=r: b[r], background), groups=groups)(tree)
        for r in (0, 1)
    ]
    np.testing.assert_allclose(a["image"], (rows[0]["image"] + rows[1]["image"]) / 2, atol=1e-5)
    np.testing.assert_allclose(a["more"], (rows[0]["more"] + rows[1]["more"]) / 2, atol=1e-5)
    np.testing.assert_allclose(a["image"][2, 0, 0], a["more"][0], rtol=1e-6)  # one group in two leaves
    np.testing.assert_allclose(a["ids"], a["image"][0, 0, 0], rtol=1e-6)  # ids move with the rows and their group


@pytest.mark.slow
def test_groups_may_differ_by_example():
    score, x = jaxplain.logit(smooth, parameters(features=6)), POINT
    groups = jnp.array([[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]])
    for make in (
        lambda g, m: jaxplain.shapley_values(score, groups=g, max_groups=m),
        lambda g, m: jaxplain.kernel_shap(score, groups=g, max_groups=m, samples=2**4),
    ):
        mapped = jax.jit(jax.vmap(lambda g, make=make: call(make(g, 4), x, 1)))(groups)
        for row, g in zip(mapped, groups, strict=True):
            np.testing.assert_allclose(row, compiled(make(g, None), x, 1), atol=1e-6)
        fewer = jax.jit(jax.vmap(lambda g, make=make: call(make(g, 2), x, 1)))(groups)
        assert bool(jnp.isnan(fewer[0]).all())
    total = score(x, 1) - score(0 * x, 1)
    fit = lambda g: jaxplain.kernel_shap(score, groups=g, max_groups=5, samples=12)(KEY, x, 1)  # noqa: E731
    walk = lambda g: jaxplain.shapley_sampling(score, groups=g, max_groups=5, samples=6)(KEY, x, 1)  # noqa: E731
    sampled, walked = jax.jit(jax.vmap(fit))(groups), jax.jit(jax.vmap(walk))(groups)
    np.testing.assert_allclose(sampled.sum(axis=1), jnp.stack([total, total]), atol=1e-5)
    np.testing.assert_allclose(walked.sum(axis=1), jnp.stack([total, total]), atol=1e-5)
    np.testing.assert_allclose(walked[1], compiled(jaxplain.shapley_values(score, groups=groups[1]), x, 1), atol=1e-5)


def test_random_baselines_take_one_draw():
    baseline = jaxplain.baseline.uniform_noise(-1.0, 1.0)
    e = jaxplain.shapley_values(lambda x: x.sum(), baseline=baseline)
    a = e(KEY, POINT)
    assert e.needs_key
    np.testing.assert_array_equal(a, e(KEY, POINT))
    assert (np.abs(POINT - a) <= 1).all()
    assert np.ptp(np.asarray(POINT - a)) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "kernel"])
def test_baseline_equal_to_the_input_warns_once(name):
    x = jnp.stack([POINT, 2 * POINT])
    for baseline in (POINT, jnp.stack([POINT, POINT]), lambda x: x)[: 3 if name == "exact" else 1]:
        e = METHODS[name](lambda x: x.sum(), baseline=baseline)
        with pytest.warns(UserWarning, match="zero by construction") as caught:
            assert not call(e, POINT).any()
        assert len(caught) == 1
        with pytest.warns(UserWarning, match="zero by construction") as caught:
            jaxplain.explain_batch(e, x, key=KEY)
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(METHODS[name](lambda x: x.sum(), baseline=POINT.at[0].set(9.0)), POINT)


def test_bad_input():
    def score(x):
        return x.sum()

    image = jnp.ones((4, 4, 1))
    with pytest.raises(ValueError, match=r"`groups` has shape \(3,\).*\(4, 4, 1\)"):
        jaxplain.shapley_values(score, groups=jnp.array([0, 1, 2]))(image)
    with pytest.raises(ValueError, match="no value is in group 1"):
        jaxplain.kernel_shap(score, groups=jnp.array([0, 2]))
    with pytest.raises(ValueError, match="16 features need at least 32"):
        jaxplain.kernel_shap(score, samples=20)(KEY, image)
    with pytest.raises(ValueError, match="two pairs"):
        jaxplain.shapley_sampling_with_error(score, samples=2)
    with pytest.raises(ValueError, match="49 features have"):
        jaxplain.shapley_values(score)(jnp.ones((7, 7, 1)))
    with pytest.raises(ValueError, match=r"`samples`|enumerated"):
        jaxplain.owen_values(score, jnp.arange(49).reshape(7, 7) // 2)(jnp.ones((7, 7, 1)))
    for method in (METHODS["exact"], METHODS["kernel"]):
        e = method(lambda x: jnp.log(x).sum(), baseline=0.0)
        with pytest.raises(ValueError, match="score `f` is NaN or infinite"):
            call(e, jnp.ones(6))
        with pytest.raises(ValueError, match="NaN"):
            call(method(score), POINT.at[1].set(jnp.nan))
    with pytest.raises(ValueError, match="max_groups"):
        jax.vmap(lambda g: jaxplain.shapley_values(score, groups=g)(POINT))(jnp.zeros((2, 6), jnp.int32))
    with pytest.raises(ValueError, match="traced"):
        jax.vmap(lambda g: jaxplain.owen_values(score, g)(POINT))(jnp.zeros((2, 6), jnp.int32))
    with pytest.raises(ValueError, match="does not broadcast"):
        jaxplain.shapley_sampling(score, baseline=jnp.ones(3))(KEY, image)
    with pytest.raises(TypeError, match="has to be a function"):
        jaxplain.shapley_values(3)
    with pytest.raises(TypeError, match="split"):
        jaxplain.shapley_values(score, baseline=0.0)(jnp.arange(3))
