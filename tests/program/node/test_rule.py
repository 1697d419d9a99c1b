"""Rules of equal nodes are traced once, and nodes that differ in anything keep their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program.node import OwnDerivative, rewrite
from jaxplain.program.node.nodes import Node
from jaxplain.program.node.rewrite import open_score
from jaxplain.program.node.rule import likeness

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (3, 8))
START = jax.random.normal(jax.random.key(2), (8,))  # where it is constant, normalisations enlarge what is rounded
WEIGHTS = jax.random.normal(jax.random.key(1), (4, 8, 8)) / 3


def normalized(x, epsilon=1e-5, axis=-1):
    centred = x - x.mean(axis, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis, keepdims=True) + epsilon)


def blocks(weights, x, epsilons=(1e-5,) * 4, slopes=(1.0,) * 4, axes=(-1,) * 4):
    for w, epsilon, slope, axis in zip(weights, epsilons, slopes, axes, strict=True):
        x = x + jnp.tanh(slope * normalized(x, epsilon, axis) @ w)
    return x.sum()


def methods(f):
    return (
        jaxplain.deep_lift(f, baseline=START),
        jaxplain.deep_lift(f, rule="reveal_cancel"),
        jaxplain.lrp(f, jaxplain.relevance.epsilon(1e-3)),
        jaxplain.lrp(f, jaxplain.relevance.z_plus()),
    )


class Score(jaxplain.program.Function):
    """A score with arrays as leaves."""

    weights: jax.Array
    epsilons: tuple = jaxplain.program.setting(default=(1e-5,) * 4)
    slopes: tuple = jaxplain.program.setting(default=(1.0,) * 4)
    axes: tuple = jaxplain.program.setting(default=(-1,) * 4)

    def __call__(self, x):
        return blocks(self.weights, x, self.epsilons, self.slopes, self.axes)


def apart(monkeypatch):
    monkeypatch.setattr(rewrite, "once", lambda graph, rules: rules)


CASES = {
    "equal": {},
    "another epsilon": {"epsilons": (1e-5, 0.5, 1e-5, 2.0)},
    "another factor": {"slopes": (1.0, 3.0, 1.0, 0.25)},
    "another axis": {"axes": (-1, -2, -1, -2)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.sampled(4)
def test_results_are_those_of_every_rule_traced_by_itself(monkeypatch, case):
    x = jax.random.normal(KEY, (2, 8, 8))
    f = Score(WEIGHTS, **CASES[case])
    found = [jaxplain.explain_batch(e, x) for e in methods(f)]
    eager = [e(x[0]) for e in methods(f)[:1]]
    jax.clear_caches()
    with monkeypatch.context() as patch:
        apart(patch)
        expected = [jax.jit(lambda e, x: jax.vmap(e)(x))(e, x) for e in methods(f)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(eager[0], expected[0][0], rtol=2e-5, atol=2e-6)


TRACED = []


class Counted(OwnDerivative):
    """A rule that notes its calls."""

    def __call__(self, node, calls, relevance):
        TRACED.append(node)
        return super().__call__(node, calls, relevance)


def test_a_rule_is_traced_once_for_equal_nodes():
    TRACED.clear()
    e = jaxplain.deep_lift(Score(WEIGHTS), rules={"tanh": Counted()})
    jaxplain.explain_batch(e, X[None])
    assert len(TRACED) == 1
    TRACED.clear()
    e = jaxplain.deep_lift(Score(WEIGHTS, slopes=(1.0, 2.0, 1.0, 1.0)), rules={"tanh": Counted()})
    jaxplain.explain_batch(e, X[None])
    assert 1 <= len(TRACED) <= 2


def test_rules_with_numbers_of_their_own_share_what_is_traced(monkeypatch):
    rules = {f"block_{i}": jaxplain.relevance.epsilon(10.0**-i) for i in range(3)}
    rules["block_3"] = jaxplain.relevance.z_plus()

    def f(x):
        for i in range(4):
            with jax.named_scope(f"block_{i}"):
                x = jnp.tanh(x @ WEIGHTS[i])
        return x.sum()

    found = jaxplain.explain_batch(jaxplain.lrp(f, rules), X[None])
    jax.clear_caches()
    with monkeypatch.context() as patch:
        apart(patch)
        expected = jax.jit(lambda x: jaxplain.lrp(f, rules)(x))(X)
    np.testing.assert_allclose(found[0], expected, rtol=2e-5, atol=2e-6)
    one = jaxplain.lrp(f, jaxplain.relevance.epsilon(1.0))(X)
    assert np.abs(found[0] - one).max() > 1e-3


@pytest.mark.slow
def test_parameters_have_the_same_gradient(monkeypatch):
    def total(weights):
        return (jaxplain.deep_lift(Score(weights), baseline=START)(X) ** 2).sum()

    found = jax.jit(jax.grad(total))(WEIGHTS)
    jax.clear_caches()
    with monkeypatch.context() as patch:
        apart(patch)
        expected = jax.jit(jax.grad(total))(WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def test_constants_that_differ_stay_apart():
    masks = [np.arange(8) % 2 == 0, np.arange(8) % 3 == 0]

    def f(x):
        for mask in masks:
            x = jnp.maximum(jnp.where(mask, x, -1.0), 0.3 * x)
        return x.sum()

    x = jnp.linspace(-2, 2, 8)
    for e in (jaxplain.deep_lift(f), jaxplain.lrp(f, jaxplain.relevance.epsilon(1e-6))):
        np.testing.assert_allclose(jaxplain.explain_batch(e, x[None])[0], e(x), atol=1e-6)
    total = jaxplain.explain_batch(jaxplain.deep_lift(f), x[None])[0].sum()
    np.testing.assert_allclose(total, f(x) - f(jnp.zeros(8)), atol=1e-5)


def nodes(f, x=X, kind="activation") -> list[Node]:
    return [node for node in open_score(f, x, (), "name").graph.walk() if node.kind == kind]


@pytest.mark.parametrize(
    ("f", "equal"),
    [
        (lambda x: jnp.tanh(jnp.tanh(x) @ WEIGHTS[0]).sum(), True),
        (lambda x: jax.nn.gelu(jax.nn.gelu(x) @ WEIGHTS[0]).sum(), True),
        (lambda x: jnp.tanh(jnp.tanh(x)[:2]).sum(), False),  # another shape
        (lambda x: ((x**4 @ WEIGHTS[0]) ** 3).sum(), False),  # another exponent
    ],
)
def test_what_is_alike(f, equal):
    found = [likeness(node) for node in nodes(f)]
    assert len(found) >= 2
    assert None not in found
    assert (len(set(found)) == 1) is equal
