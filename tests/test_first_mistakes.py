"""What a newcomer writes first and gets wrong, and what the error has to say: a model in the place of a score, a batch
for an example, no key, probabilities made probabilities of, a model left in training mode.
"""

import functools
import inspect

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import train
from jaxplain.program import Function, needs_key
from shared.methods import METHODS

KEY = jax.random.key(0)
X = np.asarray(jax.random.normal(KEY, (6, 5)))
LABELS = np.array([0, 1, 2, 0, 1, 2])
WEIGHTS = np.asarray(jax.random.normal(jax.random.key(1), (5, 3)))


class Dense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="out")(nn.relu(nn.Dense(8, name="hidden")(x)))


class Normalised(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))


NET, NORMALISED = Dense(), Normalised()
PARAMS = NET.init(KEY, X)
VARIABLES = NORMALISED.init(KEY, X)
F = jaxplain.logit(NET.apply, PARAMS)
BODY, HEAD = jaxplain.split(F, "hidden")
NOISY = jaxplain.smoothgrad(jaxplain.gradient(F), sigma=0.1)


def noisy_pair():
    """Haiku's pair of functions has an `apply` too."""
    import haiku as hk

    return hk.transform(lambda x: x)


def changed(params, x):
    return NORMALISED.apply(params, x, mutable=["batch_stats"])


MISTAKES = {
    "a module as a score": (lambda: jaxplain.integrated_gradients(NET), "`f` is the Flax module Dense, .*logit"),
    "its apply as a score": (lambda: jaxplain.gradient(NET.apply), "`f` is `apply` of the Flax module Dense"),
    "its apply as a score of cells": (lambda: jaxplain.occlusion(NET.apply, window=1), "`f` is `apply` of the Flax"),
    "a partial of its apply": (
        lambda: jaxplain.gradient(functools.partial(NET.apply, mutable=False)),
        "`apply` of the Fl",
    ),
    "a Haiku pair as a score": (lambda: jaxplain.gradient(noisy_pair()), r"not Transformed. Make one: f = jaxplain"),
    "a module as apply": (lambda: jaxplain.logit(NET, PARAMS), "the Flax module Dense; .*logit.model.apply"),
    "a score in a wrapper": (lambda: jaxplain.smoothgrad(F, sigma=0.1)(KEY, X[0], 0), "one number .* as a score does"),
    "no key": (lambda: NOISY(X[0], 0), r"smoothgrad: .* needs a key first.* not an array of shape \(5,\)"),
    "a number as a key": (lambda: NOISY(0, X[0]), "smoothgrad: it is random and needs a key first.* not 0"),
    "no key for samples": (lambda: jaxplain.expected_gradients(F, X)(X[0], 0), "expected_gradients: it is random"),
    "a number as the key of training": (lambda: train.fit(NET.apply, PARAMS, (X, LABELS), key=0), "`key` has to be a"),
    "a number as the key of an image": (
        lambda: jaxplain.activation_maximization(F, image=jaxplain.image.pixels((5,)))(3),
        "activation_maximization: it is random and needs a key first",
    ),
    "a batch and a label": (lambda: F(X, 0), "of one example, without the batch axis"),
    "a batch and labels": (lambda: F(X, LABELS), "of one example: a batch goes through"),
    "labels as a list": (lambda: jaxplain.explain_batch(jaxplain.gradient(F), X, LABELS.tolist()), "a list by jnp"),
    "a head without the input": (lambda: HEAD(BODY(X[0]), 0), "head.h, x"),
    "no target": (lambda: HEAD(BODY(X[0]), X[0]), "head.h, x, target"),
    "training mode": (lambda: jaxplain.logit(NORMALISED.apply, VARIABLES)(X[0], 0), "evaluation mode.*train=False"),
    "training mode and what it returns": (lambda: jaxplain.logit(changed, VARIABLES)(X[0], 0), "new `batch_stats`"),
    "training mode, selected": (lambda: jaxplain.logit(changed, VARIABLES, select=0)(X[0], 0), "evaluation mode"),
    "a baseline for each example": (
        lambda: jaxplain.explain_batch(jaxplain.integrated_gradients(F, baseline=0 * X), X, LABELS),
        "One baseline for each example goes along",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_error_says_what_to_do(name):
    call, words = MISTAKES[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call()


def test_one_baseline_for_each_example_goes_along_with_it():
    def explain(x, b, label):
        return jaxplain.integrated_gradients(F, baseline=b, steps=8)(x, label)

    found = jaxplain.explain_batch(explain, X, 0.5 * X, LABELS)
    for i in range(len(X)):
        one = jaxplain.integrated_gradients(F, baseline=0.5 * X[i], steps=8)(X[i], LABELS[i])
        np.testing.assert_allclose(found[i], one, rtol=1e-5, atol=1e-6)


def test_whatever_is_random_looks_for_its_key_before_anything_else():
    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    own = [cls for cls in below(Function) if cls.__module__.startswith("jaxplain.") and "__call__" in vars(cls)]
    keyed = [cls for cls in own if [*inspect.signature(cls.__call__).parameters][1:2] == ["key"]]
    assert len(keyed) > 10
    assert [cls for cls in keyed if not hasattr(cls.__call__, "__wrapped__")] == []
    drawn = [row.name for row in METHODS if needs_key(row.build(F))]
    assert len(drawn) > 5
    for row in METHODS:
        e = row.build(F)
        for given in ((X[0], 0), (0, X[0]), ()) if needs_key(e) else ():
            with pytest.raises(TypeError, match="it is random and needs a key first"):
                e(*given)


def twice(z):
    return jnp.exp(z) / jnp.exp(z).sum(-1, keepdims=True)


def shifted(z):
    e = jnp.exp(z - z.max(-1, keepdims=True))
    return e / jnp.sum(e, axis=-1, keepdims=True)


ENDS = {
    "softmax": jax.nn.softmax,
    "compiled": jax.jit(jax.nn.softmax),
    "half": lambda z: jax.nn.softmax(z.astype(jnp.bfloat16)).astype(jnp.float32),
    "by hand": shifted,
    "by hand, two exponentials": twice,
    "of a log-softmax": lambda z: jnp.exp(jax.nn.log_softmax(z)),
    "row by row": lambda z: jax.vmap(jax.nn.softmax)(z),
    "sigmoid": jax.nn.sigmoid,
    "sigmoid by hand": lambda z: 1 / (1 + jnp.exp(-z)),
    "an ensemble's mean": lambda z: jax.nn.softmax(jnp.stack([z, -z, z**2])).mean(0),
    "a mean of members": lambda z: jnp.stack([jax.nn.softmax(z), jax.nn.softmax(-z)]).mean(0),
    "a weighted mean": lambda z: sum([0.25 * jax.nn.softmax(z), jax.nn.softmax(-z) * 0.75]),
    "a mean of sigmoids": lambda z: (jax.nn.sigmoid(z) + jax.nn.sigmoid(2 * z)) / 2,
}
TAKEN = {"logits": lambda z: z, "log-softmax": jax.nn.log_softmax, "times two": lambda z: 2 * jax.nn.softmax(z)}
TAKEN["a sum"] = lambda z: jax.nn.softmax(z) + jax.nn.softmax(-z)
TAKEN["beside logits"] = lambda z: (jax.nn.softmax(z) + z) / 2
TAKEN["a difference"] = lambda z: 2 * jax.nn.softmax(z) + -1 * jax.nn.softmax(-z)
TAKEN["of two exponents"] = lambda z: jnp.exp(z) / jnp.exp(0.5 * z).sum(-1, keepdims=True)  # like a softmax, and none


def model(end):
    return lambda params, x: end(x @ params)


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_are_not_made_probabilities_of_again(name):
    apply = model(ENDS[name])
    for make in (jaxplain.probability, jaxplain.log_probability, jaxplain.loss):
        for call in (lambda f: f(X[0], 1), lambda f: jaxplain.explain_batch(jaxplain.gradient(f), X, LABELS)):
            with pytest.raises(ValueError, match=f"{make.__name__}: the model's outputs are probabilities already"):
                call(make(apply, WEIGHTS))
    for make in (jaxplain.logit, jaxplain.output):
        np.testing.assert_allclose(make(apply, WEIGHTS)(X[0], 1), apply(WEIGHTS, X[:1])[0, 1], rtol=1e-2)


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_no_probability_is_scored(name):
    apply = model(TAKEN[name])
    wanted = jax.nn.softmax(apply(WEIGHTS, X[:1])[0])[1]
    np.testing.assert_allclose(jaxplain.probability(apply, WEIGHTS)(X[0], 1), wanted, rtol=1e-5)
    np.testing.assert_allclose(jaxplain.loss(apply, WEIGHTS)(X[0], 1), -np.log(wanted), rtol=1e-5)


def test_a_head_of_one_sigmoid_has_no_margin_and_a_part_of_an_output_is_read_alone():
    single = model(lambda z: jax.nn.sigmoid(z[:, :1]))
    for make in (jaxplain.margin, jaxplain.probability):
        with pytest.raises(ValueError, match="it ends in a sigmoid"):
            make(single, WEIGHTS)(X[0], 1)
    both = model(lambda z: {"logits": z, "probabilities": jax.nn.softmax(z)})
    kept = jaxplain.probability(both, WEIGHTS, select="logits")(X[0], 1)
    np.testing.assert_allclose(kept, jax.nn.softmax(X[0] @ WEIGHTS)[1], rtol=1e-5)
    with pytest.raises(ValueError, match="it ends in a softmax"):
        jaxplain.probability(both, WEIGHTS, select="probabilities")(X[0], 1)
    linear = eqx.nn.Linear(5, 3, key=KEY)
    with pytest.raises(ValueError, match="it ends in a softmax"):
        jaxplain.probability(lambda m, x: jax.vmap(lambda row: jax.nn.softmax(m(row)))(x), linear)(X[0], 0)


def test_a_model_in_evaluation_mode_is_scored():
    f = jaxplain.logit(lambda params, x: NORMALISED.apply(params, x, train=False), VARIABLES)
    np.testing.assert_allclose(f(X[0], 1), NORMALISED.apply(VARIABLES, X[:1], train=False)[0, 1], rtol=1e-5)


def test_training_on_probabilities_of_probabilities_is_warned_of():
    data = (X, LABELS)
    for name, word in (("softmax", "softmax"), ("by hand", "softmax"), ("sigmoid", "sigmoid")):
        with pytest.warns(UserWarning, match=f"fit: the model ends in a {word}, but cross_entropy takes logits"):
            train.fit(model(ENDS[name]), WEIGHTS, data, key=KEY, epochs=1, batch_size=3)
    train.fit(model(TAKEN["logits"]), WEIGHTS, data, key=KEY, epochs=1, batch_size=3)  # warnings are errors here
    squared = {"loss": train.squared_error, "key": KEY, "epochs": 1, "batch_size": 3}
    train.fit(model(ENDS["softmax"]), WEIGHTS, (X, np.eye(3, dtype=np.float32)[LABELS]), **squared)


def test_activations_among_the_params_are_no_arrays():
    network = eqx.nn.MLP(5, 3, 4, 1, key=KEY)  # its activation is a leaf

    def apply(m, x):
        return jax.vmap(m)(x)

    wanted = jax.nn.softmax(network(X[0]))[1]
    np.testing.assert_allclose(jaxplain.probability(apply, network)(X[0], 1), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="it ends in a softmax"):
        jaxplain.probability(lambda m, x: jax.nn.softmax(jax.vmap(m)(x)), network)(X[0], 1)


def test_looking_at_the_last_operation_keeps_nothing_of_a_trace():
    def inside(scale):
        f = jaxplain.probability(lambda params, x: x @ params * scale, WEIGHTS)
        return f(jnp.asarray(X[0]), 1) + jaxplain.gradient(f)(jnp.asarray(X[0]), 1).sum()

    with jax.checking_leaks():
        found = jax.jit(inside)(2.0)
    assert np.isfinite(found)


def test_statistics_that_came_back_unchanged_are_of_evaluation_mode():
    def evaluated(params, x):
        return NORMALISED.apply(params, x, train=False, mutable=["batch_stats"])

    f = jaxplain.logit(evaluated, VARIABLES, select=0)
    wanted = NORMALISED.apply(VARIABLES, X[:1], train=False)[0, 1]
    np.testing.assert_allclose([f(X[0], 1), jax.jit(f)(X[0], 1)], wanted, rtol=1e-5)


def test_an_error_of_the_model_stays_its_own_where_the_input_is_no_label():
    def broken(x, label):
        h = jnp.tanh(x["a"])
        raise KeyError("of the model itself") if x["a"].shape == (2,) else AssertionError(h)

    _, head = jaxplain.split(broken, "tanh")
    with pytest.raises(KeyError, match="of the model itself"):
        head(jnp.ones(2), {"a": jnp.ones(2)}, 1)


def test_a_partial_of_a_modules_apply_is_a_model():
    f = jaxplain.logit(functools.partial(NORMALISED.apply, train=False), VARIABLES)
    np.testing.assert_allclose(f(X[0], 1), NORMALISED.apply(VARIABLES, X[:1], train=False)[0, 1], rtol=1e-5)
