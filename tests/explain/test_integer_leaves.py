"""Integers and truths of every dtype are perturbed as the same values in floating point are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.readout import squared_error

KEY = jax.random.key(7)
VALUES = np.array([3, 1, 0, 2])
OTHERS = np.array([[1, 0, 2, 2], [0, 1, 1, 3]])
FAR = {"int8": 100, "uint8": 200, "int16": 30000, "uint16": 60000, "int32": 2**30, "uint32": 2**31}
"""Values near the end of a dtype, of which a difference does not fit into it."""


def numbers(x):
    """A score of numbers, with an interaction."""
    a, b, c, d = (jnp.asarray(v).astype(jnp.float32) for v in leaves(x))
    return a * b - 2 * c + jnp.maximum(d, a)


TABLE = jnp.array([0.5, -1.0, 4.0, 2.0])


def codes(x):
    """A score of categories by their codes, whose values mean nothing as numbers."""
    a, b, c, d = (TABLE[jnp.asarray(v).astype(jnp.int32)] for v in leaves(x))
    return a * b + c - d


def leaves(x):
    return [*x["n"], *x["v"]] if isinstance(x, dict) else list(x)


def tree(values, dtype):
    """Two leaves of which one is of integers."""
    return {"n": np.asarray(values)[..., :2].astype(dtype), "v": np.asarray(values)[..., 2:].astype(np.float32)}


def alone(values, dtype):
    return np.asarray(values).astype(dtype)


GROUPS = {alone: np.array([0, 1, 1, 2]), tree: {"n": np.array([0, 1]), "v": np.array([1, 2])}}
METHODS = {
    "feature_ablation": lambda f, b, g: jaxplain.feature_ablation(f, baseline=b[0]),
    "feature_ablation of groups": lambda f, b, g: jaxplain.feature_ablation(f, baseline=b[0], groups=g),
    "feature_permutation": lambda f, b, g: jaxplain.feature_permutation(f, b[1]),
    "kernel_shap": lambda f, b, g: jaxplain.kernel_shap(f, baseline=b[1]),
    "lime": lambda f, b, g: jaxplain.lime(f, baseline=b[0], samples=16),
    "occlusion": lambda f, b, g: jaxplain.occlusion(f, baseline=b[0], window=2, stride=1),
    "owen_values": lambda f, b, g: jaxplain.owen_values(f, g, baseline=b[1]),
    "rise": lambda f, b, g: jaxplain.rise(f, baseline=b[0], groups=g, samples=8),
    "shapley_sampling": lambda f, b, g: jaxplain.shapley_sampling(f, baseline=b[0], samples=4),
    "shapley_values": lambda f, b, g: jaxplain.shapley_values(f, baseline=b[1]),
    "shapley_interactions": lambda f, b, g: jaxplain.shapley_interactions(f, baseline=b[0]),
}


def explained(name, f, make, dtype, values=VALUES, others=OTHERS):
    x, rows = make(values, dtype), make(others, dtype)
    e = METHODS[name](f, (jax.tree.map(lambda leaf: leaf[0], rows), rows), GROUPS[make])
    found = e(KEY, x) if e.needs_key else e(x)
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), x)
    if make is tree and dtype == "int8" and not e.needs_key:
        many = jaxplain.explain_batch(e, batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], atol=1e-5), found, many)
    return jax.tree.leaves(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_integers_are_perturbed_as_floats_are(name):
    for make in (alone, tree):
        for f in (numbers, codes):
            if (make, f) in ((alone, codes), (tree, numbers)):  # the same code with other numbers
                continue
            for dtype in ("int8", "uint8", "int32", "bool") if make is alone else ("int8", "bool"):
                values, others = (VALUES % 2, OTHERS % 2) if dtype == "bool" else (VALUES, OTHERS)
                wanted = explained(name, f, make, "float32", values, others)
                found = explained(name, f, make, dtype, values, others)
                for a, b in zip(found, wanted, strict=True):
                    assert a.dtype == jnp.float32
                    np.testing.assert_allclose(a, b, atol=1e-4, err_msg=f"{f.__name__} {make.__name__} {dtype}")


@pytest.mark.slow
def test_values_at_the_end_of_a_dtype_do_not_wrap():
    for dtype, far in FAR.items():
        x, other = np.array([far, 1], dtype), np.array([0, 0], dtype)
        f = lambda x: x[0].astype(jnp.float32) + 2 * x[1].astype(jnp.float32)  # noqa: E731
        found = jaxplain.shapley_values(f, baseline=other)(x)
        np.testing.assert_allclose(found, [far, 2], atol=1e-6 * far, err_msg=dtype)
        signed = jaxplain.feature_ablation(f, baseline=x)(other)
        np.testing.assert_allclose(signed, [-far, -2], atol=1e-6 * far, err_msg=dtype)


def test_whole_numbers_that_do_not_fit_are_refused():
    """JAX makes another number of them without a word: one feature's drop became another's."""
    f = lambda x: x.astype(jnp.float32).sum()  # noqa: E731
    for dtype, value in (("int64", 2**40), ("uint64", 2**63), ("int64", -(2**33))):
        x, near = np.array([value, 3], dtype), np.array([5, 3], dtype)
        calls = {
            "`x`": (
                lambda x=x: jaxplain.feature_ablation(f)(x),
                lambda x=x: jaxplain.shapley_values(f)(x),
                lambda x=x: jaxplain.explain_batch(jaxplain.rise(f, baseline=0), x[None], key=KEY),
            ),
            "`baseline`": (lambda x=x, near=near: jaxplain.shapley_values(f, baseline=x[None])(near),),
            "`data`": (
                lambda x=x: jaxplain.aggregate.partial_dependence(f, 0)(x[None]),
                lambda x=x, near=near: jaxplain.feature_permutation(f, x[None])(near),
            ),
        }
        for argument, made in calls.items():
            for call in made:
                with pytest.raises(ValueError, match=rf"{argument} holds {value}, which does not fit into the 32 bits"):
                    call()
    assert jaxplain.feature_ablation(f)(np.array([2**31 - 1, 0])).tolist() == [2**31, 0]


def test_whole_numbers_that_do_not_fit_are_refused_wherever_they_are_passed():
    x, ids, far = np.ones((3, 2), np.float32), np.array([[2**32], [1], [2]]), np.array([2**32, 1, 2])

    def f(x, number):
        return (x * jnp.arange(2.0)).sum() * number

    def of_ids(x):
        return x.astype(jnp.float32).sum()

    e, m, memory = jaxplain.gradient(f), jaxplain.evaluate.deletion(f), {"out": "memory", "progress": False}
    for call in (
        lambda: jaxplain.explain_batch(e, x, far),
        lambda: jaxplain.explain_batch(e, x, far[0]),
        lambda: e(x[0], far[0]),
        lambda: m(x[0], x[0], far[0]),
        lambda: jaxplain.evaluate.evaluate_batch(m, x, x, far),
        lambda: jaxplain.explain_dataset(e, (x, far), **memory),
        lambda: jaxplain.explain_dataset(jaxplain.feature_ablation(of_ids, baseline=0), ids, **memory),
        lambda: jaxplain.logit(lambda _, x: x.astype(jnp.float32), {})(ids[0], 0),
        lambda: jaxplain.black_box(lambda rows: rows.sum(axis=1))(ids[0]),
        lambda: jaxplain.loss(lambda _, x: x, {})(x[0], far[0]),
        lambda: jaxplain.loss(lambda _, x: x[:, :1], {}, squared_error)(x[0], far[0]),
    ):
        with pytest.raises(ValueError, match="holds 4294967296, which does not fit into the 32 bits"):
            call()


def test_numbers_that_are_infinite_where_jax_computes_are_refused():
    x, e = np.array([1e300, 1.0]), jaxplain.gradient(lambda x: x.sum())
    for call in (lambda: e(x), lambda: jaxplain.explain_batch(e, x[None])):
        with pytest.raises(ValueError, match=r"has 1 NaN or infinite values .* in float32"):
            call()


@pytest.mark.slow
def test_whole_data_methods_see_every_dtype():
    rows = np.concatenate([OTHERS, VALUES[None], VALUES[None, ::-1]])
    for dtype in ("int8", "uint8", "bool"):
        values = rows % 2 if dtype == "bool" else rows
        for make in (jaxplain.aggregate.partial_dependence, jaxplain.aggregate.accumulated_local_effects):
            one, other = (make(numbers, 1)(values.astype(kind)) for kind in (dtype, "float32"))
            np.testing.assert_allclose(one.score, other.score, atol=1e-5, err_msg=dtype)
            np.testing.assert_allclose(one.grid, other.grid)
        one, other = (
            jaxplain.aggregate.permutation_importance(numbers, samples=2)(KEY, values.astype(kind))
            for kind in (dtype, "float32")
        )
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-5, err_msg=dtype)


METRICS = (
    "deletion",
    "insertion",
    "faithfulness_correlation",
    "sensitivity_n",
    "monotonicity_correlation",
    "completeness",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_metrics_remove_integers_as_floats(name):
    settings = {"sizes": (1, 2)} if name == "sensitivity_n" else {}
    for make in (alone, tree):
        for dtype in ("uint8",):
            values = []
            for kind in (dtype, "float32"):
                x, b = make(VALUES, kind), make(OTHERS[0], kind)
                m = getattr(jaxplain.evaluate, name)(numbers, baseline=b, **settings)
                a = jax.tree.map(lambda leaf: leaf.astype(np.float32) + 0.5, make(VALUES, "float32"))
                values.append(m(KEY, x, a) if m.needs_key else m(x, a))
            np.testing.assert_allclose(values[0], values[1], atol=1e-5, err_msg=f"{make.__name__} {dtype}")
