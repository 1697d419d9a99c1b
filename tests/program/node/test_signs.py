"""Values that are never negative: found where they are, not claimed where they are not; half of the products saved."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward import choice, relevance
from jaxplain.program.node.rewrite import open_score
from jaxplain.program.node.signs import never_negative
from jaxplain.program.trace.compat import subprograms

X = jnp.array([0.5, -1.0, 2.0])
SIGNED = {
    "gamma": relevance.gamma(0.25),
    "alpha2-beta1": relevance.alpha_beta(2, 1),
    "z_plus": relevance.z_plus(),
    "epsilon-plus": relevance.epsilon_plus(),
}

KNOWN = {
    "relu": jax.nn.relu,
    "larger maximum": lambda x: jnp.maximum(x, 0.1),
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "exp": jnp.exp,
    "square": jnp.square,
    "softmax": jax.nn.softmax,
    "relu and a shift up": lambda x: jax.nn.relu(x) + 0.5,
    "scaled up": lambda x: 2 * jax.nn.relu(x),
    "mean": lambda x: jax.nn.relu(x).mean(keepdims=True),
    "largest": lambda x: jax.nn.relu(x).max(keepdims=True),
    "sum of two": lambda x: jax.nn.relu(x) + jax.nn.sigmoid(x),
    "joined": lambda x: jnp.concatenate([jax.nn.relu(x), jnp.exp(x)]),
    "padded": lambda x: jnp.pad(jax.nn.relu(x), 1),
    "indexed": lambda x: jax.nn.relu(x)[jnp.array([2, 0])],
    "sliced where asked": lambda x: lax.dynamic_slice(jax.nn.relu(x), (jnp.argmax(jnp.arange(3)),), (2,)),
    "sorted": lambda x: jnp.sort(jax.nn.relu(x)),
    "cumulated": lambda x: jnp.cumsum(jax.nn.relu(x)),
    "reshaped": lambda x: jax.nn.relu(x)[None].T.reshape(-1),
}

UNKNOWN = {
    "itself": lambda x: x,
    "gelu": jax.nn.gelu,
    "tanh": jnp.tanh,
    "leaky": jax.nn.leaky_relu,
    "maximum below zero": lambda x: jnp.maximum(x, -0.1),
    "minimum": lambda x: jnp.minimum(x, 0.1),
    "a shift down": lambda x: jax.nn.relu(x) - 0.5,
    "a shift by what was given": lambda x: jax.nn.relu(x) + jnp.array([1.0, -1.0, 0.0]),
    "turned": lambda x: -jax.nn.relu(x),
    "scaled by what was given": lambda x: jax.nn.relu(x) * jnp.array([1.0, -1.0, 1.0]),
    "divided by less than zero": lambda x: jax.nn.relu(x) / -2,
    "a difference": lambda x: jax.nn.relu(x) - jax.nn.sigmoid(x),
    "sum with the input": lambda x: jax.nn.relu(x) + x,
    "joined with the input": lambda x: jnp.concatenate([jax.nn.relu(x), x]),
    "padded below zero": lambda x: jnp.pad(jax.nn.relu(x), 1, constant_values=-1.0),
    "chosen against less": lambda x: jnp.where(jnp.array([True, False, True]), jax.nn.relu(x), -1.0),
    "clipped": lambda x: jnp.clip(x, -1, 1),
}


def knows(f, x=X):
    """Whether the layer behind `f` has an input that is known to be zero or more."""
    weight = jnp.ones(f(x).shape)
    graph = open_score(lambda x: f(x) @ weight, x, (), "test").graph
    (layer,) = [node for node in graph.walk() if node.name == "dense"][-1:]
    return layer.active[0] in never_negative(graph)


@pytest.mark.parametrize("name", list(KNOWN))
def test_what_cannot_be_negative_is_known(name):
    assert knows(KNOWN[name])


@pytest.mark.parametrize("name", list(UNKNOWN))
@pytest.mark.sampled(2)
def test_nothing_is_claimed_of_what_can_be_negative(name):
    assert not knows(UNKNOWN[name])


def test_a_loop_is_looked_into_with_a_carry_of_either_sign():
    w = jnp.eye(3)

    def f(x, first):
        def turn(h, _):
            return (jax.nn.relu(h @ w) if first else jax.nn.relu(h)) @ w, None

        return lax.scan(turn, x, length=2)[0].sum()

    def known(first):
        graph = open_score(functools.partial(f, first=first), X, (), "test").graph
        found = never_negative(graph)
        return [node.active[0] in found for node in graph.walk() if node.name == "dense"]

    assert known(first=True) == [False, True]
    assert known(first=False) == [True]


class Net(nn.Module):
    """Behind the first convolution, every layer sees what is not negative."""

    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.BatchNorm(True)(nn.Conv(4, (3, 3))(x))), (3, 3), (2, 2), "SAME")
        x = nn.relu(x + nn.Conv(4, (3, 3))(x))
        return nn.Dense(3)(nn.avg_pool(x, (2, 2)).reshape(x.shape[0], -1))


IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))
VARIABLES = jax.jit(Net().init)(jax.random.key(2), IMAGES)
LABELS = jnp.arange(3)


def explained(rule):
    e = jaxplain.lrp(jaxplain.logit(Net().apply, VARIABLES), rule)
    return jax.jit(jax.vmap(lambda x, label: e(x, label)))(IMAGES, LABELS)  # a function of its own is traced again


@pytest.mark.parametrize("name", list(SIGNED))
@pytest.mark.sampled(2)
def test_relevance_is_that_of_the_rule_for_either_sign(name, monkeypatch):
    quick = explained(SIGNED[name])
    monkeypatch.setattr(choice, "never_negative", lambda graph: frozenset())
    np.testing.assert_allclose(quick, explained(SIGNED[name]), rtol=1e-4, atol=1e-6)


def convolutions(program):
    inner = [p for equation in program.eqns for p in subprograms(equation)]
    own = sum(equation.primitive.name == "conv_general_dilated" for equation in program.eqns)
    return own + sum(convolutions(p.jaxpr) for p in inner)


@pytest.mark.parametrize(("name", "saved"), [("gamma", 4), ("alpha2-beta1", 4), ("z_plus", 2)])
def test_the_layer_behind_a_relu_takes_half_of_the_products(name, saved, monkeypatch):
    e = jaxplain.lrp(jaxplain.logit(Net().apply, VARIABLES), SIGNED[name])
    count = lambda: convolutions(jax.make_jaxpr(lambda x: e(x, 1))(IMAGES[0]).jaxpr)  # noqa: E731
    quick = count()
    monkeypatch.setattr(choice, "never_negative", lambda graph: frozenset())
    assert count() - quick == saved  # a pass forward and one back for each sum of products, of one layer


def test_the_rule_is_listed_as_before():
    rows = jaxplain.audit(jaxplain.lrp(jaxplain.logit(Net().apply, VARIABLES), relevance.z_plus()))(IMAGES[0], 1)
    assert [row.rule for row in rows if row.operation == "convolution"] == ["z_plus", "z_plus"]


@pytest.mark.parametrize("rule", ["gamma", "alpha_beta"])
def test_what_a_look_up_gives_outside_counts_with_its_sign(rule):
    weights = jnp.array([[1.0, -1.0], [-1.0, 2.0], [1.0, 1.0], [2.0, -1.0]])
    x, places = jnp.array([1.0, 2.0, 0.5, 0.3]), jnp.array([0, 1, 2, 7])
    made = {"gamma": jaxplain.relevance.gamma(0.5), "alpha_beta": jaxplain.relevance.alpha_beta(2.0, 1.0)}[rule]

    def filled(x):
        return (jnp.take(jax.nn.relu(x), places, mode="fill", fill_value=-1.0) @ weights)[0]

    def joined(x):
        return (jnp.concatenate([jax.nn.relu(x[:3]), jnp.array([-1.0])]) @ weights)[0]

    a = jaxplain.lrp(filled, made)(x)
    np.testing.assert_allclose(a, jaxplain.lrp(joined, made)(x), rtol=1e-5)
    if rule == "alpha_beta":  # over the contributions 1, -2, 1/2 and -2 of a score of -5/2
        np.testing.assert_allclose(a, [-10 / 3, 5 / 4, -5 / 3, 0], rtol=1e-5)
