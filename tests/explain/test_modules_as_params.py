"""A module whose leaves hold code (activations, the truth that switches dropout) is taken as `params`, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

eqx = pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")

WIDTH, CLASSES = 6, 3
X = np.random.default_rng(0).normal(size=(5, 4, WIDTH)).astype(np.float32)
BASELINE = np.full((4, WIDTH), 0.1, np.float32)
Y = np.arange(5) % CLASSES


class Block(eqx.Module):
    """Attention, an activation among the leaves, dropout that is off, a number of Python."""

    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    body: eqx.nn.MLP
    drop: eqx.nn.Dropout
    scale: float
    masked: bool

    def __init__(self, key):
        one, two = jax.random.split(key)
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(2, WIDTH, key=one)
        self.body = eqx.nn.MLP(WIDTH, CLASSES, 8, 1, activation=jax.nn.silu, key=two)
        self.drop = eqx.nn.Dropout(0.5, inference=True)
        self.scale, self.masked = 0.5, True

    def __call__(self, x):
        h = jax.vmap(self.norm)(x)
        mask = np.tril(np.ones((len(x), len(x)), bool)) if self.masked else None
        x = x + self.drop(self.attention(h, h, h, mask=mask)) * self.scale
        return self.body(x.mean(0))


def whole(model, batch):
    return jax.vmap(model)(batch)


def scores(model):
    """The same score of the module as it is, and of its arrays alone."""
    parts, static = eqx.partition(model, eqx.is_array)
    return jaxplain.logit(whole, model), jaxplain.logit(lambda p, x: whole(eqx.combine(p, static), x), parts)


MODEL = Block(jax.random.key(0))
METHODS = {
    "gradient": jaxplain.gradient,
    "deep_lift": lambda f: jaxplain.deep_lift(f, baseline=BASELINE),
    "lrp": lambda f: jaxplain.lrp(f, jaxplain.relevance.epsilon(1e-3)),
    "kernel_shap": lambda f: jaxplain.kernel_shap(f, samples=64),
}


@pytest.mark.parametrize("method", METHODS)
def test_batches_are_explained_as_of_the_arrays_alone(method):
    ours, right = (METHODS[method](f) for f in scores(MODEL))
    key = {"key": jax.random.key(1)} if method == "kernel_shap" else {}
    expected = jaxplain.explain_batch(right, X, Y, **key)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(jaxplain.explain_batch(ours, X, Y, **key), expected, rtol=1e-4, atol=1e-6)


def test_datasets_and_metrics_take_them():
    ours, right = scores(MODEL)
    e = jaxplain.gradient(ours)
    found = jaxplain.explain_dataset(e, (X, Y), out="memory", batch_size=2).explanations["attribution"]
    np.testing.assert_allclose(found, jaxplain.explain_batch(jaxplain.gradient(right), X, Y), atol=1e-6)
    metric = jaxplain.evaluate.completeness(ours, baseline=BASELINE)
    measured = jaxplain.evaluate.evaluate_batch(metric, X, found, Y)
    other = jaxplain.evaluate.evaluate_batch(jaxplain.evaluate.completeness(right, baseline=BASELINE), X, found, Y)
    np.testing.assert_allclose(measured, other, rtol=1e-5)


def test_predictions_losses_and_comparisons_of_models_take_them():
    train, expected = jaxplain.train, whole(MODEL, X)
    np.testing.assert_allclose(train.predict(whole, MODEL, X), expected, atol=1e-6)
    right = -jax.nn.log_softmax(expected)[np.arange(5), Y].mean()
    assert train.assess(whole, MODEL, (X, Y))[0] == pytest.approx(float(right), rel=1e-5)
    models = [(whole, MODEL), (whole, eqx.tree_at(lambda m: m.scale, MODEL, 0.0))]
    found = jaxplain.evaluate.compare_models(jaxplain.gradient, models, (X, Y))
    predicted = [whole(model, X).argmax(-1) for _, model in models]
    np.testing.assert_array_equal(found.predictions, predicted)


def test_other_values_run_the_same_program_and_other_code_does_not():
    runs = []

    def counted(model, batch):
        runs.append(len(runs))
        return whole(model, batch)

    def explained(model):
        before = len(runs)
        values = jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(counted, model)), X, Y)
        right = jaxplain.explain_batch(jaxplain.gradient(scores(model)[1]), X, Y)
        np.testing.assert_allclose(values, right, rtol=1e-4, atol=1e-6)
        return len(runs) > before

    unmasked = eqx.tree_at(lambda m: m.masked, MODEL, False)
    relu = eqx.tree_at(lambda m: m.body.activation, MODEL, jax.nn.relu)
    assert [explained(m) for m in (MODEL, Block(jax.random.key(3)), unmasked, relu)] == [True, False, True, True]


def test_modules_in_lists_and_beside_arrays_are_taken():
    f = jaxplain.logit(
        lambda p, x: whole(p["blocks"][0], x) * p["scale"], {"blocks": [MODEL], "scale": jnp.ones((1, 3))}
    )
    expected = jaxplain.explain_batch(jaxplain.gradient(scores(MODEL)[1]), X, Y)
    np.testing.assert_allclose(jaxplain.explain_batch(jaxplain.gradient(f), X, Y), expected, atol=1e-6)


@pytest.mark.parametrize("call", [
    lambda: jaxplain.influence.gradient_similarity(whole, MODEL, (X, Y), (X, Y)),
    lambda: jaxplain.influence.self_influence(whole, MODEL, (X, Y)),
    lambda: jaxplain.train.fit(whole, MODEL, (X, Y), key=jax.random.key(0), epochs=1),
    lambda: jaxplain.evaluate.parameter_randomization(lambda p: jaxplain.gradient(jaxplain.logit(whole, p)), MODEL),
    lambda: jaxplain.train.weight_spectra(MODEL),
])  # fmt: skip
def test_what_moves_params_says_that_these_hold_code(call):
    with pytest.raises(TypeError, match=r"params.*(array|PjitFunction)"):
        call()


def test_an_nnx_module_is_taken_whole():
    """Its batch statistics, dropout that is off and counts of keys are leaves and settings of the module."""
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.first, self.last = nnx.Linear(WIDTH, 8, rngs=rngs), nnx.Linear(8, CLASSES, rngs=rngs)
            self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
            self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(nnx.silu(self.norm(self.first(x)))))

    model = Network(nnx.Rngs(0))
    graph, state = nnx.split(model)
    ours = jaxplain.gradient(jaxplain.logit(lambda m, x: m(x), model))
    right = jaxplain.gradient(jaxplain.logit(lambda p, x: nnx.merge(graph, p)(x), state))
    rows = X[:, 0]
    expected = jaxplain.explain_batch(right, rows, Y)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(jaxplain.explain_batch(ours, rows, Y), expected, rtol=1e-5, atol=1e-7)
