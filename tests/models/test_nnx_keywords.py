"""Keywords of an NNX model's call go through `from_nnx`: by themselves, in a partial, in scores and in `fit`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxplain
from jaxplain.models.nnx import from_nnx

TOKENS = jnp.array([[0.5, -1.0, 2.0, 0.25], [1.0, 1.0, -3.0, 0.0]])


class Decoder(nnx.Module):
    """The keywords that published NNX models need, each changing the result."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x, scale=None, *, rngs, cache, segment_ids=None):
        assert rngs is None
        x = x if scale is None else x * scale[:, None]
        x = x if cache is None else x + cache["shift"][None]
        x = x if segment_ids is None else x * (segment_ids == 1)
        return self.linear(x)


@functools.cache
def decoder():
    model = Decoder(nnx.Rngs(0))
    apply, params = from_nnx(model)
    return model, apply, params


def test_keywords_reach_the_model():
    model, apply, params = decoder()
    segments, cache = jnp.array([[1, 1, 2, 1]]), {"shift": jnp.ones(4)}
    for keywords in ({"cache": None}, {"cache": cache}, {"cache": cache, "segment_ids": segments}):
        expected = model(TOKENS, rngs=None, **keywords)
        np.testing.assert_array_equal(apply(params, TOKENS, rngs=None, **keywords), expected)
        np.testing.assert_array_equal(
            functools.partial(apply, rngs=None, **keywords)(params, TOKENS, train=False), expected
        )
    outputs, state = apply(params, TOKENS, train=True, rngs=None, cache=None)
    np.testing.assert_array_equal(outputs, model(TOKENS, rngs=None, cache=None))
    assert jax.tree.structure(state) == jax.tree.structure(params)
    with pytest.raises(TypeError, match="cache"):
        apply(params, TOKENS, rngs=None)


def test_partial_is_a_model_for_scores_under_jit():
    model, apply, params = decoder()
    segments = jnp.array([[1, 2, 1, 1]])
    f = jaxplain.logit(functools.partial(apply, rngs=None, cache=None, segment_ids=segments), params)
    kernel = model.linear.kernel.get_value()
    expected = jnp.where(segments[0] == 1, kernel[:, 2], 0.0)  # the gradient of a linear model
    np.testing.assert_allclose(jax.jit(jaxplain.gradient(f))(TOKENS[0], 2), expected, rtol=1e-6)
    rows = jaxplain.explain_batch(jaxplain.gradient(f), TOKENS, jnp.array([2, 2]))
    np.testing.assert_allclose(rows, jnp.stack([expected, expected]), rtol=1e-6)
    np.testing.assert_array_equal(jaxplain.capture(f, "linear")(TOKENS[0], 2)[1]["linear"].shape, (3,))
    # An array that is an input of each example goes by a function with its name.
    g = jaxplain.logit(lambda p, x, ids: apply(p, x, rngs=None, cache=None, segment_ids=ids), params)
    np.testing.assert_allclose(jax.jit(jaxplain.gradient(g))(TOKENS[0], 2, segments[0]), expected, rtol=1e-6)
    np.testing.assert_allclose(jaxplain.lrp(f, jaxplain.relevance.epsilon())(TOKENS[0], 2).shape, (4,))


def test_partials_with_equal_keywords_compile_once():
    _, apply, params = decoder()
    traced = []

    @jax.jit
    def run(f, x):
        traced.append(None)
        return f(x, 1)

    for scale in (1.0, 2.0):
        weights = jax.tree.map(lambda p, s=scale: p * s, params)
        run(jaxplain.logit(functools.partial(apply, rngs=None, cache=None), weights), TOKENS[0])
    assert len(traced) == 1
    assert apply == from_nnx(Decoder(nnx.Rngs(1)))[0]


class Moded(nnx.Module):
    """A model whose call takes its mode by the name that `apply` has for it too."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x, train=True):
        return self.linear(x) + (100.0 if train else 0.0)


def test_a_call_that_takes_train_is_told():
    model = Moded(nnx.Rngs(0))
    apply, params = from_nnx(model)
    np.testing.assert_array_equal(apply(params, TOKENS), model.linear(TOKENS))
    np.testing.assert_array_equal(apply(params, TOKENS, train=True)[0], model.linear(TOKENS) + 100.0)


class Counting(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)

    def __call__(self, x, *, rngs, gain=1.0):
        assert rngs is None
        return gain * self.norm(self.linear(x))


@pytest.mark.parametrize("fixed", [{}, {"train": False}])
def test_fit_trains_a_partial_as_the_model_it_is(fixed):
    """Batch statistics change: a partial of an NNX apply is no plain function."""
    apply, params = from_nnx(Counting(nnx.Rngs(0)))
    partial = functools.partial(apply, rngs=None, gain=jnp.asarray(2.0), **fixed)
    x, labels = jnp.tile(TOKENS, (4, 1)) + 1.0, jnp.tile(jnp.array([0, 2]), 4)
    trained = jaxplain.train.fit(
        partial, params, (x, labels), optimizer=optax.sgd(0.0), epochs=1, batch_size=8, key=jax.random.key(0)
    ).params
    model = Counting(nnx.Rngs(0))
    mean = np.asarray(model.linear(x)).mean(0)
    np.testing.assert_allclose(trained["norm"]["mean"].get_value(), 0.5 * mean, rtol=1e-5)
