"""Functions of Python as scores: equal to the same function in JAX, in few calls, refused where a derivative is due."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program.opaque import FORWARD
from shared.bad_calls import publics

KEY = jax.random.key(0)
X = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
ROWS = np.stack([X, X[::-1], 0.5 * X]).astype(np.float32)
BACKGROUND = np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, -1.0, 2.0]], np.float32)


class Counted:
    """A model of NumPy, and how often and with how many rows it was called."""

    def __init__(self):
        self.sizes = []

    def __call__(self, rows):
        assert type(rows) is np.ndarray
        self.sizes.append(len(rows))
        return np.stack([rows[:, 0] * rows[:, 1] + rows[:, 2], np.maximum(rows[:, 3], rows[:, 0])], axis=1)


def in_jax(x, target):
    return jnp.stack([x[0] * x[1] + x[2], jnp.maximum(x[3], x[0])])[target]


def exact(f, x, rows):
    """Shapley values by their definition."""
    n = len(x)

    def value(kept):
        mixed = np.array(rows, np.float64)
        mixed[:, list(kept)] = np.asarray(x)[list(kept)]
        return f(mixed).mean(axis=0)

    found = []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        total = 0.0
        for size in range(n):
            for kept in itertools.combinations(others, size):
                weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                total = total + weight * (value((*kept, i)) - value(kept))
        found.append(total)
    return np.stack(found)


def test_it_scores_as_the_function_does_inside_and_outside_of_transformations():
    f = jaxplain.black_box(Counted())
    wanted = [float(in_jax(x, 1)) for x in ROWS]
    assert [float(f(x, 1)) for x in ROWS] == wanted
    assert f(X, 0).dtype == jnp.float32
    np.testing.assert_array_equal(jax.vmap(f, (0, None))(ROWS, 1), wanted)
    np.testing.assert_array_equal(jax.jit(jax.vmap(f, (0, None)))(ROWS, 1), wanted)
    nested = jax.vmap(jax.vmap(f, (0, None)), (0, None))(np.stack([ROWS, ROWS]), 1)
    np.testing.assert_array_equal(nested, [wanted, wanted])
    one = jaxplain.black_box(lambda rows: rows[:, 0])
    assert float(one(X)) == 1.0  # no target where there is one output
    tree = jaxplain.black_box(lambda rows: rows["a"][:, 0] + rows["n"])
    assert float(tree({"a": X, "n": np.int32(2)})) == 3.0
    assert jax.jit(tree)({"a": X, "n": np.int32(2)}) == 3.0


def test_calls_are_few_and_large():
    model = Counted()
    f = jaxplain.black_box(model, outputs=2)
    e = jaxplain.shapley_values(f, baseline=BACKGROUND)
    jax.block_until_ready(e(X, 0))
    assert sum(model.sizes) <= 2 * 2**4 + 4
    assert len(model.sizes) <= 4
    model.sizes.clear()
    jax.block_until_ready(jaxplain.explain_batch(e, ROWS, 0))
    assert len(model.sizes) <= 4
    assert max(model.sizes) >= 3 * 2 * 2**4 / 2
    model.sizes.clear()
    small = jaxplain.black_box(model, outputs=2, batch_size=5)
    jax.block_until_ready(jaxplain.feature_ablation(small)(X, 0))
    assert max(model.sizes) <= 5
    model.sizes.clear()
    jax.block_until_ready(jaxplain.feature_ablation(jaxplain.black_box(model))(X, 0))
    assert model.sizes[0] == 1  # what it returns was asked first


def test_values_are_shapley_values_by_definition():
    model = Counted()
    wanted = exact(model, X, BACKGROUND)
    f = jaxplain.black_box(model)
    for target in (0, 1):
        found = jaxplain.kernel_shap(f, baseline=BACKGROUND)(KEY, X, target)
        np.testing.assert_allclose(found, wanted[:, target], atol=1e-5)
    batch = jaxplain.explain_batch(jaxplain.shapley_values(f, baseline=BACKGROUND), ROWS, np.array([0, 1, 0]))
    np.testing.assert_allclose(batch[0], wanted[:, 0], atol=1e-5)


# With the same function in JAX; a name of `jaxplain` that is not here has to refuse.
WORKING = {
    "feature_ablation": lambda f: jaxplain.feature_ablation(f),
    "feature_permutation": lambda f: jaxplain.feature_permutation(f, BACKGROUND),
    "kernel_shap": lambda f: jaxplain.kernel_shap(f, samples=8),
    "lime": lambda f: jaxplain.lime(f, samples=32),
    "occlusion": lambda f: jaxplain.occlusion(f, window=1),
    "owen_values": lambda f: jaxplain.owen_values(f, np.array([0, 0, 1, 1])),
    "rise": lambda f: jaxplain.rise(f, samples=16, cells=2),
    "shapley_interactions": lambda f: jaxplain.shapley_interactions(f),
    "shapley_sampling": lambda f: jaxplain.shapley_sampling(f, samples=4),
    "shapley_sampling_with_error": lambda f: jaxplain.shapley_sampling_with_error(f, samples=4),
    "shapley_values": lambda f: jaxplain.shapley_values(f),
}


def call(e, *inputs):
    return e(KEY, *inputs) if getattr(e, "needs_key", False) else e(*inputs)


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.sampled(11)
def test_a_method_that_compares_scores_gives_what_it_gives_of_jax(name):
    found = call(WORKING[name](jaxplain.black_box(Counted())), X, 0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, call(WORKING[name](in_jax), X, 0))


def test_every_other_method_refuses_by_name():
    f, refused = jaxplain.black_box(Counted(), outputs=2), 0
    for public in publics():
        if "f" not in public.parameters or public.name in FORWARD:
            continue
        with pytest.raises(ValueError, match=f"^{public.name}: it needs a derivative .* kernel_shap, lime, occlusion"):
            public.function(**{parameter: f if parameter == "f" else None for parameter in public.parameters})
        refused += 1
    assert refused >= 60
    missing = [
        p.name for p in publics() if p.space == "" and "f" in p.parameters and p.name in set(FORWARD) - set(WORKING)
    ]
    assert missing == []
    for made in (
        lambda: jaxplain.train.fit(f, {}, (ROWS, np.zeros(3, np.int32)), key=KEY),
        lambda: jaxplain.logit(f, {}),
        lambda: jaxplain.influence.influence_function(
            f, {}, (ROWS, np.zeros(3, np.int32)), (ROWS, np.zeros(3, np.int32))
        ),
    ):
        with pytest.raises(ValueError, match="it needs a derivative of the score"):
            made()


HIDDEN = {
    "gradient": lambda f: jaxplain.gradient(f),
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=2),
    "integrated_gradients": lambda f: jaxplain.integrated_gradients(f, steps=2),
    "expected_gradients": lambda f: jaxplain.expected_gradients(f, BACKGROUND, samples=2),
    "lrp": lambda f: jaxplain.lrp(f, jaxplain.relevance.epsilon()),
    "deep_lift": lambda f: jaxplain.deep_lift(f),
    "deep_shap": lambda f: jaxplain.deep_shap(f, BACKGROUND),
    "guided_backprop": lambda f: jaxplain.guided_backprop(f),
    "excitation_backprop": lambda f: jaxplain.excitation_backprop(f),
    "full_grad": lambda f: jaxplain.full_grad(f),
    "fgsm": lambda f: jaxplain.fgsm(f, epsilon=0.1),
    "pgd": lambda f: jaxplain.pgd(f, epsilon=0.1, step_size=0.1, steps=2),
    "counterfactual": lambda f: jaxplain.counterfactual(f, steps=2),
    "integrated_hessians": lambda f: jaxplain.integrated_hessians(f, steps=2),
}


@pytest.mark.parametrize("name", HIDDEN)
@pytest.mark.sampled(9)
def test_a_black_box_inside_of_a_function_refuses_when_a_derivative_is_taken(name):
    f = jaxplain.black_box(Counted(), outputs=2)
    with pytest.raises(ValueError, match=r"needs a derivative .* kernel_shap, lime, occlusion"):
        call(HIDDEN[name](lambda x, k: 2 * f(x, k)), X, 0)


def of_any_shape(rows):
    """Three outputs of inputs of any shape, in NumPy."""
    flat = rows.reshape(len(rows), -1)
    first = flat @ np.cos(np.arange(flat.shape[1], dtype=np.float32))
    return np.stack([first, np.maximum(first, 0.1) ** 2, first + flat[:, 0] * flat[:, -1]], axis=1)


def of_any_shape_in_jax(x, target):
    flat = jnp.asarray(x).reshape(-1)
    first = flat @ jnp.cos(jnp.arange(flat.size, dtype=jnp.float32))
    return jnp.stack([first, jnp.maximum(first, 0.1) ** 2, first + flat[0] * flat[-1]])[target]


OF_METHODS = ("compare", "implementation_invariance", "input_invariance", "symmetry")
"""They make explanations by methods that are given, and those may need a derivative."""
SWEPT = [
    p
    for p in publics()
    if p.space in ("evaluate", "aggregate") and p.name in {*FORWARD} - {*OF_METHODS} and "f" in p.parameters
]


@pytest.mark.slow
def test_metrics_and_effects_give_what_they_give_of_jax():
    assert len(SWEPT) >= 30
    for public in SWEPT[::2]:
        one, other = (public.call("f", f) for f in (jaxplain.black_box(of_any_shape), of_any_shape_in_jax))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            if not isinstance(a, str):
                np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=public.name)


@pytest.mark.slow
def test_a_dataset_is_explained():
    f = jaxplain.black_box(Counted())
    e = jaxplain.shapley_values(f, baseline=BACKGROUND)
    found = jaxplain.explain_dataset(e, (ROWS, np.array([0, 1, 0])), out="memory", batch_size=2, progress=False)
    np.testing.assert_allclose(
        found.explanations["attribution"][:], jaxplain.explain_batch(e, ROWS, np.array([0, 1, 0])), atol=1e-6
    )


def test_what_a_function_may_not_return_is_said():
    for predict, words in {
        lambda rows: rows[:, 0] * np.nan: "`predict` returned NaN for 1 of 1 rows, the first is row 0",
        lambda rows: np.array(
            ["cat"] * len(rows)
        ): "returned an array of shape .* and dtype <U3. It has to return numbers",
        lambda rows: None: "It has to return numbers",
        lambda rows: 1.0: r"returned shape \(\) for 1 rows; the first axis has to be the batch",
        lambda rows: np.zeros(2): r"returned shape \(2,\) for 1 rows",
        lambda rows: jnp.zeros(1): "`predict` returned a JAX array",
    }.items():
        with pytest.raises((TypeError, ValueError), match=words):
            jaxplain.black_box(predict)(X)
    with pytest.raises(ValueError, match=r"target 2 is outside the model's 2 outputs"):
        jaxplain.explain_batch(jaxplain.feature_ablation(jaxplain.black_box(Counted())), ROWS, np.array([0, 1, 2]))


class Fails(Exception):
    """An error of the function's own."""


def test_errors_of_the_function_come_out_with_their_own_message():
    def predict(rows):
        if (rows == 0).all(axis=1).any() and len(rows) > 1:
            raise Fails("no row may be all zeros")
        return rows[:, 0]

    for explain in (
        lambda e: e(X),
        lambda e: jaxplain.explain_batch(e, ROWS),
        lambda e: jax.jit(e)(X),
    ):
        with pytest.raises(Exception, match="no row may be all zeros"):
            jax.block_until_ready(explain(jaxplain.shapley_values(jaxplain.black_box(predict, outputs=()))))
    with pytest.raises(Fails, match="not now") as caught:
        jaxplain.black_box(_fails)(X)
    assert "called with one row to find out what it returns" in caught.value.__notes__[0]


def _fails(rows):
    raise Fails("not now")


def test_a_wrong_call_is_told():
    class Model:
        def predict(self, rows):
            return rows[:, 0]

    with pytest.raises(TypeError, match=r"`predict` has to be a function, not Model.*black_box\(model.predict_proba\)"):
        jaxplain.black_box(Model())
    with pytest.raises(TypeError, match=r"`table` has to be a jaxplain\.data\.Table"):
        jaxplain.black_box(Model().predict, table=3)
    model = Model()
    assert jax.tree.structure(jaxplain.black_box(model.predict)) == jax.tree.structure(
        jaxplain.black_box(model.predict)
    )


def test_without_a_cpu_the_remedy_is_named(monkeypatch):
    def none(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", none)
    with pytest.raises(ValueError, match="JAX_PLATFORMS=cuda,cpu"):
        jaxplain.black_box(Counted())(X)


def test_a_model_of_data_frames():
    pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
    df = pd.DataFrame(
        {"area": [1.0, 2.0, 3.0, 4.0], "city": ["Ulm", "Bonn", "Ulm", "Kiel"], "new": [True, False, True, True]}
    )
    worth = {"Ulm": 1.0, "Bonn": 2.0, "Kiel": 5.0}

    def predict(given):
        assert list(given.columns) == list(df.columns)
        assert given.dtypes.equals(df.dtypes)
        return (given["area"] * (1 + given["new"]) + given["city"].map(worth)).to_numpy()

    for one_hot in (True, False):
        table = jaxplain.data.table(df, one_hot=one_hot)
        x = table.encode(df)
        f = jaxplain.black_box(predict, table=table)
        np.testing.assert_allclose(jax.vmap(f)(x), predict(df))
        e = jaxplain.kernel_shap(f, baseline=x, groups=table.groups)
        a = jaxplain.data.by_variable(e(KEY, x[0]), table, like=df[:1])

        def by_rows(numbers, df=df):
            """Predictions of rows of which each column comes from the row of that number."""
            mixed = {name: df[name].to_numpy()[numbers[:, k].astype(int)] for k, name in enumerate(df)}
            return predict(pd.DataFrame(mixed).astype(df.dtypes))

        wanted = exact(by_rows, np.zeros(3), np.arange(4)[:, None] * np.ones(3))
        np.testing.assert_allclose(a.to_numpy()[0], wanted, atol=1e-5)
        with pytest.raises(
            ValueError, match="Replace whole variables by those" if one_hot else "Replace it by values of"
        ):
            jaxplain.shapley_values(f, groups=table.groups, baseline=0.5)(x[0])
        one = jaxplain.feature_ablation(f, groups=table.groups, baseline=x[1])(x[0])  # which takes one row
        np.testing.assert_allclose(one[0], predict(df[:1])[0] - by_rows(np.array([[1, 0, 0]]))[0], atol=1e-6)
