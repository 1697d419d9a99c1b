"""Randomization and invariances: closed forms, the order of layers, variants, bad input."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxplain
from jaxplain.evaluate.randomization.layers import layer_masks
from jaxplain.program.trace.reading import first_reads

KEY = jax.random.key(1)
X = jnp.array([1.0, -2.0, 0.5, 3.0])


def apply(params, x):
    """Reads b, then a, then c: not the order of their names."""
    hidden = jnp.tanh(x @ params["b"]["w"])
    return jnp.tanh(hidden @ params["a"]["w"]) @ params["c"]["w"] + params["c"]["bias"][None]


def parameters():
    rng = np.random.default_rng(0)
    shapes = {"a": (5, 6), "b": (4, 5), "c": (6, 2)}
    params = {n: {"w": jnp.asarray(rng.normal(size=s), jnp.float32)} for n, s in shapes.items()}
    params["c"]["bias"] = jnp.zeros(2)
    return params


def fresh(key):
    leaves, structure = jax.tree.flatten(parameters())
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)])


def make(params):
    return jaxplain.gradient(jaxplain.logit(apply, params))


def masks_of(**settings):
    m = jaxplain.evaluate.parameter_randomization(make, parameters(), **settings)
    found = layer_masks(m, lambda p: make(p)(X, 0))
    return {name: np.asarray(found[name]["w"]).astype(int).tolist() for name in "abc"}


def test_layers_are_in_the_order_in_which_the_model_reads_them():
    assert first_reads(lambda p: apply(p, X[None]), parameters())[:2] == [1, 0]  # b's, then a's
    assert masks_of() == {"c": [1, 1, 1], "a": [0, 1, 1], "b": [0, 0, 1]}
    assert masks_of(start="bottom") == {"b": [1, 1, 1], "a": [0, 1, 1], "c": [0, 0, 1]}
    assert masks_of(independent=True) == {"c": [1, 0, 0], "a": [0, 1, 0], "b": [0, 0, 1]}
    assert masks_of(layers=("b", "c")) == {"c": [1, 1], "b": [0, 1], "a": [0, 0]}


def test_linen_models_are_ordered_by_calls_and_statistics_are_kept():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Dense(3, name="z_first")(x))
            return nn.Dense(2, name="a_last")(nn.relu(x))

    params = jax.tree.map(jnp.asarray, Net().init(jax.random.key(0), X[None]))
    m = jaxplain.evaluate.parameter_randomization(lambda p: jaxplain.gradient(jaxplain.logit(Net().apply, p)), params)
    found = layer_masks(m, lambda p: m.make(p)(X, 0))
    assert found["params"]["a_last"]["kernel"].tolist() == [True, True, True]
    assert found["params"]["z_first"]["kernel"].tolist() == [False, False, True]
    assert not found["batch_stats"]["norm"]["mean"].any()


@pytest.mark.parametrize("similarity", ["spearman", "absolute_spearman", "pearson"])
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.sampled(2)
def test_the_curve_equals_one_model_at_a_time(similarity, batch_size):
    params = parameters()
    m = jaxplain.evaluate.parameter_randomization_curve(
        make, params, initialize=fresh, similarity=similarity, batch_size=batch_size
    )
    curve = m(KEY, X, 1)
    new = fresh(jax.random.fold_in(KEY, 1))
    whole, expected = np.asarray(make(params)(X, 1)), [1.0]
    for count in range(1, 4):
        mixed = {name: (new if name in ("c", "a", "b")[:count] else params)[name] for name in params}
        other = np.asarray(make(mixed)(X, 1))
        if similarity == "pearson":
            expected.append(stats.pearsonr(whole, other).statistic)
        else:
            fold = np.abs if similarity == "absolute_spearman" else np.asarray
            expected.append(stats.spearmanr(fold(whole), fold(other)).statistic)
    np.testing.assert_allclose(curve.score, expected, atol=1e-5)
    np.testing.assert_allclose(curve.fraction, [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    mean = jaxplain.evaluate.parameter_randomization(make, params, initialize=fresh, similarity=similarity)
    np.testing.assert_allclose(mean(KEY, X, 1), np.mean(expected[1:]), atol=1e-5)


@pytest.mark.slow
def test_explanations_that_ignore_the_model_stay_the_same():
    for metric in (
        partial(jaxplain.evaluate.parameter_randomization, similarity="pearson"),
        partial(jaxplain.evaluate.smooth_parameter_randomization, sigma=0.1, samples=2),
    ):
        value = metric(lambda p: lambda x: x, {"w": jnp.ones((3, 2))})(KEY, X)
        np.testing.assert_allclose(value, 1.0, atol=1e-6)
    rise = jaxplain.evaluate.efficient_parameter_randomization(lambda p: lambda x: x, {"w": jnp.ones(3)})
    assert float(rise(KEY, X)) == 0.0


def test_efficient_randomization_is_the_rise_of_the_histograms_entropy():
    def explain(p):
        return lambda x: p["w"] * x

    m = jaxplain.evaluate.efficient_parameter_randomization(
        explain, {"w": jnp.zeros(4)}, initialize=lambda k: {"w": jnp.ones(4)}
    )
    assert np.isnan(m(KEY, X))  # one value everywhere has no entropy to rise from
    start = {"w": jnp.array([1.0, 0.0, 0.0, 0.0])}
    m = jaxplain.evaluate.efficient_parameter_randomization(explain, start, initialize=lambda k: {"w": jnp.ones(4)})
    before = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))  # 1, 0, 0, 0
    np.testing.assert_allclose(m(KEY, X), (np.log(4) - before) / before, rtol=1e-5)  # 1, -2, 1/2, 3


@pytest.mark.slow
def test_shuffling_keeps_the_values_and_one_key_serves_a_batch():
    from jaxplain.evaluate.randomization.layers import randomized

    params = parameters()
    new = randomized(None, KEY, params, "test")
    np.testing.assert_allclose(np.sort(new["a"]["w"], axis=None), np.sort(params["a"]["w"], axis=None))
    assert not np.allclose(new["a"]["w"], params["a"]["w"])
    m = jaxplain.evaluate.parameter_randomization(make, params)
    x = jnp.stack([X, 2 * X])
    together = jaxplain.evaluate.evaluate_batch(m, x, None, jnp.array([0, 1]), key=KEY)
    single = [float(m(KEY, row, k)) for k, row in enumerate(x)]
    np.testing.assert_allclose(together, single, atol=1e-5)


def test_random_logit_compares_with_another_class():
    def explain(x, k):
        return jnp.where(k == 2, x, -x)

    m = jaxplain.evaluate.random_logit(explain, classes=3)
    values = {float(m(jax.random.key(k), X, 0)) for k in range(12)}
    assert values == {1.0, -1.0}  # class 1 is explained alike, class 2 by the opposite
    np.testing.assert_allclose(m(KEY, X, 2), -1.0)


def test_input_invariance_of_methods_on_a_linear_model():
    w = jnp.array([1.0, -1.0, 2.0, 0.5])
    f = lambda x: w @ x  # noqa: E731
    shift = jnp.array([1.0, 0.0, -1.0, 2.0])
    assert float(jaxplain.evaluate.input_invariance(jaxplain.gradient, f, shift=shift)(X)) == 0.0
    times = float(jaxplain.evaluate.input_invariance(jaxplain.input_x_gradient, f, shift=shift)(X))
    np.testing.assert_allclose(times, np.linalg.norm(w * shift) / np.linalg.norm(w * X), rtol=1e-5)
    moved = partial(jaxplain.integrated_gradients, steps=4)
    assert float(jaxplain.evaluate.input_invariance(moved, f, shift=0.0)(X)) == 0.0


def test_implementation_invariance_and_symmetry():
    f, g = (lambda x: jnp.sum(x**2)), (lambda x: x @ x)
    assert float(jaxplain.evaluate.implementation_invariance(jaxplain.gradient, f, g)(X)) < 1e-6
    assert np.isnan(jaxplain.evaluate.implementation_invariance(jaxplain.gradient, f, lambda x: x @ x + 1)(X))

    def first_only(h):
        return lambda x: jnp.zeros(4).at[0].set(h(x))

    swap = lambda x: x[::-1]  # noqa: E731
    assert float(jaxplain.evaluate.symmetry(jaxplain.gradient, f, swap)(X)) < 1e-6
    np.testing.assert_allclose(jaxplain.evaluate.symmetry(first_only, f, swap)(X), np.sqrt(2), rtol=1e-5)
    assert np.isnan(jaxplain.evaluate.symmetry(jaxplain.gradient, lambda x: x[0], swap)(X))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: jaxplain.evaluate.parameter_randomization(make, parameters())(X, 0), TypeError, "needs a key"),
        (lambda: jaxplain.evaluate.parameter_randomization(3, {}), TypeError, "`make`"),
        (
            lambda: jaxplain.evaluate.parameter_randomization(make, parameters(), layers="a"),
            TypeError,
            "sequence of at least one path",
        ),
        (
            lambda: jaxplain.evaluate.parameter_randomization(make, parameters(), layers=("d",))(KEY, X, 0),
            ValueError,
            "b",
        ),
        (lambda: jaxplain.evaluate.parameter_randomization(make, parameters(), start="middle"), ValueError, "'middle'"),
        (
            lambda: jaxplain.evaluate.parameter_randomization(make, parameters(), similarity="cosine"),
            ValueError,
            "'cosine'",
        ),
        (
            lambda: jaxplain.evaluate.parameter_randomization(make, parameters(), initialize=lambda k: {})(KEY, X, 0),
            ValueError,
            "structure",
        ),
        (
            lambda: jaxplain.evaluate.parameter_randomization(lambda p: jnp.sin, {"n": 3})(KEY, X),
            ValueError,
            "floating",
        ),
        (lambda: jaxplain.evaluate.random_logit(jnp.sin, classes=1), ValueError, "`classes`"),
        (lambda: jaxplain.evaluate.random_logit(jnp.sin, classes=3)(KEY, X, 0.5), TypeError, "integer"),
        (lambda: jaxplain.evaluate.input_invariance(3, jnp.sum, shift=1.0), TypeError, "`method`"),
        (lambda: jaxplain.evaluate.symmetry(jaxplain.gradient, jnp.sum, lambda x: x[:2])(X), ValueError, "shape"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
