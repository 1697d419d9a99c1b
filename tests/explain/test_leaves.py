"""Integer and boolean leaves: what replaces values whole moves them where the caller says to what, the rest refuses."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

KEY = jax.random.key(3)
TABLE = jnp.array([0.0, 10.0, 20.0, 50.0])
X = {"cat": jnp.array(2), "num": jnp.array([1.0, 2.0])}
B = {"cat": jnp.array(0), "num": jnp.zeros(2)}


def score(x):
    return 2 * x["num"].sum() + TABLE[x["cat"].astype(jnp.int32)]


def groups():
    return {"cat": jnp.array(0), "num": jnp.array([1, 2])}


FORWARD = {
    "shapley_values": lambda f, b: jaxplain.shapley_values(f, baseline=b),
    "kernel_shap": lambda f, b: jaxplain.kernel_shap(f, baseline=b, samples=6),
    "shapley_sampling": lambda f, b: jaxplain.shapley_sampling(f, baseline=b, samples=4),
    "owen_values": lambda f, b: jaxplain.owen_values(f, groups(), baseline=b),
    "owen_sampled": lambda f, b: jaxplain.owen_values(f, groups(), baseline=b, samples=4),
    "lime": lambda f, b: jaxplain.lime(f, baseline=b, samples=64),
    "feature_ablation": lambda f, b: jaxplain.feature_ablation(f, baseline=b),
    "occlusion": lambda f, b: jaxplain.occlusion(f, baseline=b, window=1),
}


def explained(e, x, *args):
    return e(KEY, x, *args) if e.needs_key else e(x, *args)


def test_the_category_of_the_snippet():
    a = jaxplain.shapley_values(score, baseline=B)(X)
    assert float(a["cat"]) == 20
    np.testing.assert_allclose(a["num"], [2, 4], rtol=1e-6)
    dropped = {"cat": jnp.zeros(()), "num": a["num"]}
    assert float(jaxplain.evaluate.completeness(score, baseline=B)(X, dropped)) == 20
    assert float(jaxplain.evaluate.completeness(score, baseline=B)(X, a)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", FORWARD)
def test_leaves_of_every_dtype_move_where_a_baseline_is_given_and_are_held_elsewhere(name):
    """An additive score has the same answer in every method: the difference of each term."""
    every = name in ("feature_ablation", "shapley_values")  # the others move leaves by the same code
    for dtype in (jnp.int32, jnp.int8, jnp.uint8, jnp.bool_) if every else (jnp.bool_,):
        x = {"cat": jnp.asarray(1 if dtype == jnp.bool_ else 3, dtype), "num": X["num"]}
        full = float(TABLE[x["cat"].astype(jnp.int32)])
        zero = {"cat": jnp.zeros((), dtype), "num": jnp.zeros(2)}
        given = {
            "arrays": zero,
            "function": lambda x, zero=zero: zero,
            "drawn": lambda key, x, zero=zero: zero,
            "numbers": {"cat": 0, "num": 0.0},
        }
        if name not in ("feature_ablation", "occlusion"):
            given["rows"] = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), zero)
        for kind, b in given.items() if every else [list(given.items())[-1]]:
            a = explained(FORWARD[name](score, b), x)
            np.testing.assert_allclose(a["cat"], full, rtol=1e-4, err_msg=f"{name} {kind} {dtype}")
            np.testing.assert_allclose(a["num"], [2, 4], rtol=1e-4, err_msg=f"{name} {kind} {dtype}")
        held = (0.0, 0, jaxplain.baseline.zeros(), lambda x: {**x, "num": jnp.zeros(2)})
        for b in held if every and dtype == jnp.int32 else held[-1:]:
            a = explained(FORWARD[name](score, b), x)
            assert float(a["cat"]) == 0, (name, dtype)
            np.testing.assert_allclose(a["num"], [2, 4], rtol=1e-4)


@pytest.mark.parametrize("name", [*FORWARD, "rise"])
@pytest.mark.sampled(4)
def test_token_ids_alone_become_an_id_and_are_refused_where_the_baseline_holds_them(name):
    table = jnp.array([0.0, 1.0, 3.0, -5.0])
    x = jnp.array([3, 1, 2])
    make = {
        **FORWARD,
        "owen_values": lambda f, b: jaxplain.owen_values(f, jnp.array([0, 1, 1]), baseline=b),
        "owen_sampled": lambda f, b: jaxplain.owen_values(f, jnp.array([0, 1, 1]), baseline=b, samples=4),
        "rise": lambda f, b: jaxplain.rise(f, baseline=b, samples=4096, batch_size=512),
    }[name]
    f = lambda x: table[x].sum()  # noqa: E731
    for b in (0, jnp.zeros(3, jnp.int32), lambda x: 0 * x) if name == "feature_ablation" else (0,):
        a = explained(make(f, b), x)
        wanted = np.array([-5.0, 1.0, 3.0])
        if name == "rise":  # differences, by half of each term
            np.testing.assert_allclose(a - a.mean(), (wanted - wanted.mean()) / 2, atol=0.2)
        else:
            np.testing.assert_allclose(a, wanted, rtol=1e-4)
    for b in (0.0, jaxplain.baseline.zeros()):
        with pytest.raises(TypeError, match="Pass `baseline=` an integer for token ids"):
            explained(make(f, b), x)


@pytest.mark.slow
def test_batches_give_what_single_examples_do():
    rows = {"cat": jnp.array([2, 1, 3]), "num": jnp.arange(6.0).reshape(3, 2) + 1}
    e = jaxplain.feature_ablation(score, baseline=B)
    batch = jaxplain.explain_batch(e, rows)
    np.testing.assert_allclose(batch["cat"], [20, 10, 50])
    single = jax.tree.map(lambda leaf: leaf[1], rows)
    np.testing.assert_array_equal(e(single)["num"], batch["num"][1])
    tokens = jnp.array([[1, 2], [3, 0]])
    a = jaxplain.explain_batch(jaxplain.shapley_values(lambda x: TABLE[x].sum(), baseline=0), tokens)
    np.testing.assert_allclose(a, [[10, 20], [50, 0]])


@pytest.mark.slow
def test_interactions_and_permutation_count_the_category():
    e = jaxplain.shapley_interactions(lambda x: x["num"][0] * TABLE[x["cat"]], baseline=B)
    np.testing.assert_allclose(e(X), [[0, 10, 0], [10, 0, 0], [0, 0, 0]])  # features: cat, then num
    rows = {"cat": jnp.array([0, 1]), "num": jnp.zeros((2, 2))}
    a = jaxplain.feature_permutation(score, rows)(X)
    assert float(a["cat"]) == 15
    assert a["num"].tolist() == [2, 4]
    a = jaxplain.feature_permutation(lambda x: TABLE[x].sum(), jnp.array([[0, 0], [1, 0]]))(jnp.array([2, 3]))
    assert a.tolist() == [15, 50]


@pytest.mark.slow
def test_whole_data_methods_see_integer_columns():
    data = {"cat": jnp.array([0, 1, 2, 3] * 4), "num": jnp.linspace(0, 1, 16)[:, None]}
    f = lambda x: TABLE[x["cat"]] + x["num"][0]  # noqa: E731
    found = jaxplain.aggregate.permutation_importance(lambda x: -(f(x) ** 2) / 100, samples=2)(KEY, data)
    assert found.mean.shape == (2,)
    assert abs(found.mean[1]) < 1
    loss = lambda x, y: (f(x) - y) ** 2  # noqa: E731
    found = jaxplain.aggregate.permutation_importance(loss, samples=2)(KEY, data, jax.vmap(f)(data))
    assert found.mean[0] > 100 > found.mean[1] > 0
    curve = jaxplain.aggregate.partial_dependence(f, 0)(data)
    assert curve.grid.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(curve.score, TABLE + 0.5, rtol=1e-6)
    each = jaxplain.aggregate.individual_conditional_expectation(f, 0, grid=[3, 0])(data)
    np.testing.assert_allclose(each.score[:, 0] - each.score[:, 1], jnp.full(16, 50.0), rtol=1e-6)
    local = jaxplain.aggregate.accumulated_local_effects(f, 0)(data)
    np.testing.assert_allclose(local.score - local.score[0], TABLE, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`grid` has .* and values that `feature 0` of dtype int32 cannot"):
        jaxplain.aggregate.partial_dependence(f, 0, grid=[0.5])(data)
    many = jnp.arange(100)[:, None] * 7
    quantiles = jaxplain.aggregate.partial_dependence(lambda x: jnp.sum(x % 7) + 0.0, 0, points=5)(many)
    assert (quantiles.score == 0).all()  # values between those of the data would not be multiples of 7


@pytest.mark.slow
def test_large_ids_are_selected_and_not_computed_with():
    big = 2**24 + 1  # no float32 holds it
    f = lambda x: jnp.where(x[0] == big, 1.0, 0.0)  # noqa: E731
    assert float(jaxplain.shapley_values(f, baseline=0)(jnp.array([big]))[0]) == 1
    assert float(jaxplain.feature_ablation(f, baseline=jnp.array([big]))(jnp.array([3]))[0]) == -1
    curve = jaxplain.aggregate.partial_dependence(f, 0)(jnp.array([[big], [big - 1]]))
    assert curve.score.tolist() == [0, 1]


def test_complex_leaves_move_by_selection_too():
    x = {"n": jnp.array(1.0), "z": jnp.array(2.0 + 1.0j)}
    f = lambda x: x["n"] + jnp.abs(x["z"]) ** 2  # noqa: E731
    a = jaxplain.shapley_values(f, baseline={"n": 0.0, "z": jnp.array(0.0 + 1.0j)})(x)
    np.testing.assert_allclose([a["n"], a["z"]], [1, 4], rtol=1e-6)


def test_values_that_a_leaf_cannot_hold_are_refused():
    cases = [
        (X, {"cat": jnp.array(0.5), "num": 0.0}),
        ({**X, "cat": jnp.array(2, jnp.uint8)}, {"cat": -1, "num": 0.0}),
        ({**X, "cat": jnp.array(True)}, {"cat": 2, "num": 0.0}),
        (X, {"cat": jnp.array([0.5, 1.0]), "num": jnp.zeros((2, 2))}),
    ]
    for (x, b), make in itertools.product(cases, (FORWARD["shapley_values"], FORWARD["lime"])):
        with pytest.raises(ValueError, match=r"`baseline\['cat'\]` has dtype .* cannot hold"):
            explained(make(score, b), x)
    with pytest.raises(ValueError, match=r"`baseline\['cat'\]` has dtype float32 .* cannot hold"):
        jax.jit(lambda c: jaxplain.feature_ablation(score, baseline={"cat": c, "num": 0.0})(X))(0.0)


DERIVATIVE = {
    "integrated_gradients": lambda b: jaxplain.integrated_gradients(score, baseline=b, steps=2),
    "integrated_gradients_with_gap": lambda b: jaxplain.integrated_gradients_with_gap(score, baseline=b, steps=2),
    "expected_gradients": lambda b: jaxplain.expected_gradients(score, b, samples=2),
    "guided_integrated_gradients": lambda b: jaxplain.guided_integrated_gradients(score, baseline=b, steps=2),
    "integrated_hessians": lambda b: jaxplain.integrated_hessians(lambda x: score(x) ** 2, baseline=b, steps=2),
    "deep_lift": lambda b: jaxplain.deep_lift(score, baseline=b),
    "conductance": lambda b: jaxplain.conductance(named, "sum", baseline=b, steps=2),
    "internal_influence": lambda b: jaxplain.internal_influence(named, "sum", baseline=b, steps=2),
    "extremal_perturbation": lambda b: jaxplain.extremal_perturbation(score, baseline=b, spacing=(1,), steps=2),
}


def named(x):
    with jax.named_scope("sum"):
        h = 2 * x["num"]
    return h.sum() + TABLE[x["cat"]]


@pytest.mark.parametrize("name", DERIVATIVE)
@pytest.mark.sampled(4)
def test_what_cannot_move_a_leaf_refuses_its_baseline_by_name(name):
    soft = name == "extremal_perturbation"
    words = "a soft mask mixes" if soft else "only floating-point values have a derivative.*jaxplain.split"
    match = rf"{name.removesuffix('_with_gap')}.*: `baselines?\['cat'\]` differs from `x\['cat'\]`.*{words}"
    e = DERIVATIVE[name](B)
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), X)
    with pytest.raises(ValueError, match=match):
        explained(e, X)
    with pytest.raises(ValueError, match=match):
        jaxplain.explain_batch(e, rows, key=KEY)
    same = DERIVATIVE[name]({"cat": X["cat"], "num": jnp.zeros(2)})
    held = DERIVATIVE[name](0.0)
    for a, b in (
        (explained(same, X), explained(held, X)),
        (jaxplain.explain_batch(same, rows, key=KEY), jaxplain.explain_batch(held, rows, key=KEY)),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), a, b)
    traced = jax.jit(lambda e, x: explained(e, x))(e, X)  # no value can be read there: NaN, never a wrong number
    assert any(bool(jnp.isnan(leaf).any()) for leaf in jax.tree.leaves(traced))


def test_rows_of_data_that_differ_are_refused_where_a_derivative_is_taken():
    rows = {"cat": jnp.array([2, 1]), "num": jnp.zeros((2, 2))}
    batch = jax.tree.map(lambda leaf: leaf[None], X)
    for e in (
        jaxplain.expected_gradients(score, rows, samples=2),
        jaxplain.deep_shap(score, rows),
        jaxplain.integrated_gradients(score, baseline=jaxplain.baseline.sample({**rows, "cat": jnp.array([0, 1])})),
    ):
        with pytest.raises(ValueError, match=r"\['cat'\]` differs from `x\['cat'\]`"):
            explained(e, X)
        with pytest.raises(ValueError, match=r"\['cat'\]` differs from `x\['cat'\]`"):
            jaxplain.explain_batch(e, batch, key=KEY)
    mean = jaxplain.integrated_gradients(score, baseline=jaxplain.baseline.mean(rows))
    np.testing.assert_allclose(mean(X)["num"], [2, 4], rtol=1e-6)  # a mean of categories means nothing: held


def test_metrics_remove_what_the_baseline_gives_and_fade_nothing_that_is_whole():
    a = jaxplain.shapley_values(score, baseline=B)(X)
    deletion = jaxplain.evaluate.deletion(score, baseline=B)
    # scores after removing cat, num[1], num[0]: 26, 6, 2, 0 at thirds: (13 + 6 + 2 + 0) / 3
    np.testing.assert_allclose(deletion(X, a), 7, rtol=1e-6)
    with pytest.raises(ValueError, match=r"average_drop: `baseline\['cat'\]` differs .* soft mask"):
        jaxplain.evaluate.average_drop(score, baseline=B)(X, a)
    with pytest.raises(ValueError, match=r"infidelity: `baseline\['cat'\]` differs .* slope"):
        jaxplain.evaluate.infidelity(score, baseline=B, perturbation="removal")(KEY, X, a)
    shares = jaxplain.evaluate.infidelity(score, baseline=B, perturbation="removal", shares=True, samples=8)
    assert float(shares(KEY, X, a)) < 1e-6
    assert float(jaxplain.evaluate.completeness(lambda x: TABLE[x].sum(), baseline=0)(jnp.array([2]), TABLE[2:3])) == 0
    with pytest.raises(TypeError, match="completeness: `x` has dtype int32"):
        jaxplain.evaluate.completeness(lambda x: TABLE[x].sum())(jnp.array([2]), TABLE[2:3])


@pytest.mark.slow
def test_a_baseline_that_moves_only_the_category_is_no_zero_explanation(recwarn):
    b = {**X, "cat": jnp.array(0)}
    assert float(jaxplain.feature_ablation(score, baseline=b)(X)["cat"]) == 20
    assert float(jaxplain.shapley_values(score, baseline=b)(X)["cat"]) == 20
    jaxplain.explain_batch(jaxplain.shapley_values(score, baseline=b), jax.tree.map(lambda leaf: leaf[None], X))
    assert not recwarn.list


def test_a_traced_group_below_zero_is_nan_and_no_other_groups_value():
    f = lambda x: jnp.tanh(x @ jnp.array([1.0, -2.0, 3.0])) + x[0] ** 2  # noqa: E731
    x, groups = jnp.array([1.0, 2.0, -1.0]), jnp.array([0, -1, 2])
    for method in (jaxplain.feature_ablation, jaxplain.shapley_values):
        a = jax.jit(lambda g, method=method: method(f, groups=g, max_groups=3)(x))(groups)
        assert jnp.isnan(a[1])
        with pytest.raises(ValueError, match="none below 0"):
            method(f, groups=groups)
