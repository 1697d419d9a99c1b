"""Rules as pullbacks: values stay, relevance follows the rule, and every gradient around it is right."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.node.rewrite import OwnDerivative, open_score, pull, pull_with_flow

PARAMS = {
    "w": 0.7 * jax.random.normal(jax.random.key(0), (2, 4, 4)),
    "o": jax.random.normal(jax.random.key(1), (4,)),
}
X = jax.random.normal(jax.random.key(2), (4,))
V = jax.random.normal(jax.random.key(3), (4,))


def turn(h, w):
    return h + jax.nn.relu(h @ w)


def unrolled(p, x):
    for w in p["w"]:
        x = turn(x, w)
    return x @ p["o"]


def scanned(p, x):
    return lax.scan(lambda h, w: (turn(h, w), None), x, p["w"])[0] @ p["o"]


def rematerialized(p, x):
    return lax.scan(jax.checkpoint(lambda h, w: (turn(h, w), None)), x, p["w"])[0] @ p["o"]


def branched(p, x):
    return lax.cond(x[0] > 0, lambda x: unrolled(p, x), lambda x: scanned(p, x), x)


def nested(p, x):
    return jax.jit(lambda x: jax.jit(scanned)(p, x))(x)


NETS = {"unrolled": unrolled, "scan": scanned, "remat": rematerialized, "cond": branched, "jit": nested}


def guided_by_hand(p, x):
    hidden = [x]
    for w in p["w"]:
        hidden.append(turn(hidden[-1], w))
    r = p["o"]
    for w, h in zip(p["w"][::-1], hidden[-2::-1], strict=True):
        r = r + w @ jnp.where(h @ w > 0, jnp.maximum(r, 0), 0)
    return r


def lrp_by_hand(p, x):
    """Without biases epsilon-LRP is the input times the gradient."""
    return x * jax.grad(unrolled, argnums=1)(p, x)


METHODS = {
    "guided": (jaxplain.guided_backprop, guided_by_hand),
    "lrp": (lambda f: jaxplain.lrp(f, relevance.epsilon(1e-12)), lrp_by_hand),
}
NESTINGS = {
    "plain": lambda f: lambda p: f(p, X),
    "jit inside": lambda f: lambda p: jax.jit(f)(p, X),
    "vmap": lambda f: lambda p: jax.vmap(lambda x: f(p, x))(jnp.stack([X, -2 * X])).sum(0),
    "scan": lambda f: lambda p: lax.map(lambda x: f(p, x), jnp.stack([X, -2 * X])).sum(0),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "method", "nestings"),
    [
        ("unrolled", "guided", ("plain", "scan")),
        ("unrolled", "lrp", ("vmap", "jit inside")),
        ("scan", "guided", ("vmap", "jit inside")),
        ("scan", "lrp", ("plain", "scan")),
        ("remat", "guided", ("vmap",)),
        ("cond", "lrp", ("vmap",)),
        ("jit", "guided", ("plain",)),
    ],
)
def test_gradients_of_attributions_and_values_with_respect_to_parameters(net, method, nestings):
    """Of the sum of an attribution and the value, inside and outside of jit, vmap and scan."""
    make, by_hand = METHODS[method]

    def energy(explain, value):
        return lambda p, x: explain(p, x) @ V + value(p, x)

    ours = energy(lambda p, x: make(lambda x: NETS[net](p, x))(x), NETS[net])
    right = energy(by_hand, unrolled)

    @jax.jit
    def both(p):
        return {n: (jax.grad(NESTINGS[n](ours))(p), jax.grad(NESTINGS[n](right))(p)) for n in nestings}

    for name, (a, b) in both(PARAMS).items():
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=2e-3, atol=2e-4, err_msg=f"{name} {key}")


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_eager_gradients_and_forward_mode(method):
    make, by_hand = METHODS[method]
    ours = lambda p: make(lambda x: scanned(p, x))(X)  # noqa: E731
    np.testing.assert_allclose(ours(PARAMS), by_hand(PARAMS, X), rtol=1e-4, atol=1e-5)
    step = jax.tree.map(lambda leaf: 0.1 * jnp.ones_like(leaf), PARAMS)
    _, tangent = jax.jvp(jax.jit(ours), (PARAMS,), (step,))
    _, right = jax.jvp(lambda p: by_hand(p, X), (PARAMS,), (step,))
    np.testing.assert_allclose(tangent, right, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_without_rules_it_is_the_gradient():
    def f(x):
        h = jnp.tanh(lax.cumsum(x)) * jnp.sort(x) + lax.top_k(x, 4)[0]
        return (
            jax.nn.logsumexp(h)
            + jnp.where(x > 0, x, 2 * x).max()
            + jnp.concatenate([x, x[::-1]])[jnp.array([1, 7])].sum()
        )

    opened = open_score(f, X, (), "test")
    (gradient,) = pull(opened, {}, 1.0)
    np.testing.assert_allclose(gradient, jax.grad(f)(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(opened.value(), f(X))


def test_the_flow_adds_up_through_loops():
    opened = open_score(lambda x: scanned(PARAMS, x), X, (), "test")
    rules = {node: OwnDerivative() for node in opened.graph.walk() if not node.inner}
    (gradient,), flow = pull_with_flow(opened, rules, 2.0)
    received = sum(sums[0] - sums[1] for sums in flow.values())
    np.testing.assert_allclose(gradient.sum() + received, 2.0, rtol=1e-4)
    np.testing.assert_allclose(gradient, 2 * jax.grad(lambda x: scanned(PARAMS, x))(X), rtol=1e-4)


@pytest.mark.slow
def test_a_custom_derivative_stays_where_no_rule_is_inside():
    @jax.custom_vjp
    def straight_through(x):
        return jnp.cumsum(jnp.round(x))

    straight_through.defvjp(lambda x: (straight_through(x), None), lambda _, g: (g,))
    f = lambda x: (jax.nn.relu(x) * straight_through(x)).sum()  # noqa: E731
    x = jnp.array([0.4, 1.6])
    np.testing.assert_allclose(jaxplain.guided_backprop(f)(x), jax.grad(f)(x))


@pytest.mark.slow
def test_bfloat16_is_explained_in_float32():
    w = jax.random.normal(jax.random.key(5), (8, 8)).astype(jnp.bfloat16)

    def f(x):
        for _ in range(4):
            x = jax.nn.relu(x @ w)
        return x.sum()

    x = jnp.arange(8.0).astype(jnp.bfloat16)
    opened = open_score(f, x, (), "test")
    (r,) = pull(opened, {}, 1.0)
    assert r.dtype == jnp.float32
    wide = jax.grad(_wide)(x.astype(jnp.float32), w.astype(jnp.float32))
    np.testing.assert_allclose(r, wide, rtol=0.02)  # ReLUs round as the model does
    assert jaxplain.lrp(f, relevance.epsilon())(x).dtype == jnp.bfloat16


def _wide(x, w):
    for _ in range(4):
        x = jax.nn.relu(x @ w)
    return x.sum()


@pytest.mark.slow
def test_several_devices_give_the_same():
    count = math.gcd(4, jax.device_count())
    axis = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((count,), ("data",), axis_types=axis, devices=jax.devices()[:count])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    xs = jax.device_put(jnp.stack([X, -X, 2 * X, 3 * X]), sharding)
    e = jaxplain.lrp(lambda x: scanned(PARAMS, x), relevance.epsilon())
    np.testing.assert_allclose(jax.jit(jax.vmap(e))(xs), jax.vmap(e)(xs), rtol=1e-4, atol=1e-5)
