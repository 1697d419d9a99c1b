"""Networks in bfloat16 and float16: every backward method explains them as the same network in float32."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import relevance
from shared.tables import halves

LOW = (jnp.bfloat16, jnp.float16)
PARAMS = {
    name: jax.random.normal(jax.random.key(number), shape) / shape[0] ** 0.5
    for number, (name, shape) in enumerate({"a": (6, 6), "b": (6, 6), "c": (6, 6), "d": (6, 3)}.items())
}
SCALE = jnp.arange(1.0, 7) / 4


def wide(x):
    return x.astype(jnp.float32)


def excited(p, x):
    """Squeeze and excite behind a swish, whose mean is taken in float32."""
    h = jax.nn.swish(jax.nn.relu(x @ p["a"]) @ p["b"])
    gate = jax.nn.sigmoid(h.mean(0, dtype=jnp.float32).astype(h.dtype) @ p["c"])
    return (h * gate[None]).mean(0) @ p["d"]


def two_widths(activation):
    def apply(p, x):
        h = activation(jax.nn.relu(x @ p["a"]) @ p["b"])
        return (wide(h).sum(0) + h.sum(0)) @ p["d"]

    return apply


def normalised(p, x):
    h = wide(jax.nn.relu(x @ p["a"]))
    h = h - h.mean(-1, keepdims=True)
    h = h * jax.lax.rsqrt(jnp.square(h).mean(-1, keepdims=True) + 1)
    h = h.astype(x.dtype) * SCALE.astype(x.dtype)[None]
    return jax.nn.gelu(h @ p["b"]).mean(0) @ p["d"]


def attending(p, x):
    x = jax.nn.relu(x)
    q, k, v = x @ p["a"], x @ p["b"], x @ p["c"]
    weights = jax.nn.softmax(wide(q @ k.T), axis=-1).astype(x.dtype)
    return (weights @ v + x).mean(0) @ p["d"]


def recurrent(p, x):
    def turn(h, row):
        z = jnp.tanh(row @ p["a"] + h @ p["b"])
        return jax.nn.relu(wide(z) + wide(h)).astype(h.dtype), z

    h, rows = jax.lax.scan(turn, jnp.zeros_like(x[0]), x)
    return (h + rows.sum(0)) @ p["d"]


def residual(p, x):
    h = jax.nn.mish(x @ p["a"])
    return (jax.nn.relu(h @ p["b"]) + h + x / (1 + jnp.abs(wide(x)).sum()).astype(x.dtype)).max(0) @ p["d"]


NETWORKS = {
    "excited": excited,
    "normalised": normalised,
    "attending": attending,
    "recurrent": recurrent,
    "residual": residual,
    **{a.__name__: two_widths(a) for a in (jax.nn.swish, jax.nn.gelu, jax.nn.elu, jax.nn.mish, jax.nn.hard_swish)},
    "tanh gelu": two_widths(lambda x: 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.044715 * x**3)))),
}
METHODS = {
    "lrp": lambda f: jaxplain.lrp(f, relevance.epsilon()),
    "deep_lift": jaxplain.deep_lift,
    "reveal_cancel": lambda f: jaxplain.deep_lift(f, rule="reveal_cancel"),
    "guided": jaxplain.guided_backprop,
    "deconvolution": jaxplain.deconvnet,
}


def cast(p, dtype):
    return jax.tree.map(lambda w: w.astype(dtype), p)


def outside(apply, dtype):
    """The caller's parameters and input are narrow."""
    p = cast(PARAMS, dtype)
    return lambda x: apply(p, x)[0]


def inside(apply, dtype):
    """The model casts, and gives float32 back."""
    return lambda x: wide(apply(cast(PARAMS, dtype), x.astype(dtype))[0])


X = jax.random.normal(jax.random.key(9), (4, 6))


@pytest.mark.parametrize("name", halves(list(NETWORKS)))
@pytest.mark.sampled(4)
def test_every_method_traces(name):
    for dtype in LOW:
        for f, x in ((outside(NETWORKS[name], dtype), X.astype(dtype)), (inside(NETWORKS[name], dtype), X)):
            for method, make in METHODS.items():
                found = jax.eval_shape(make(f), x)
                assert (found.shape, found.dtype) == (x.shape, x.dtype), (method, dtype)


def assert_equals_float32(name, method, dtype, place):
    x = X.astype(dtype) if place is outside else X
    found = jax.jit(METHODS[method](place(NETWORKS[name], dtype)))(x)
    p = cast(cast(PARAMS, dtype), jnp.float32)
    right = jax.jit(METHODS[method](lambda x: NETWORKS[name](p, x)[0]))(wide(X.astype(dtype)))
    # Values are rounded inside the model; the seed of LRP is the narrow network's value.
    scale = float(jnp.abs(right).max())
    atol = 0.05 if method == "reveal_cancel" else 0.03  # parts that end beside a kink take its other side by rounding
    np.testing.assert_allclose(wide(found), right, atol=atol * scale, err_msg=f"{name} {method} {dtype} {place}")


@pytest.mark.parametrize("method", ["lrp", "deep_lift"])
def test_a_network_equals_itself_in_float32(method):
    assert_equals_float32("excited", method, jnp.bfloat16, outside)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_all_networks_equal_themselves_in_float32(name):
    for method in METHODS:
        for dtype in LOW:
            for place in (outside, inside):
                assert_equals_float32(name, method, dtype, place)


@pytest.mark.slow
def test_two_readers_of_different_width_by_hand():
    def f(x):
        h = jax.nn.swish(x)
        return h.astype(jnp.float32).sum() + h.sum()

    x = jnp.array([1.0, -3.0, 2.0, 4.0], jnp.bfloat16)
    right = 2 * jax.nn.swish(wide(x))
    for method in (jaxplain.lrp(f, relevance.epsilon()), jaxplain.deep_lift(f)):
        np.testing.assert_allclose(wide(method(x)), right, rtol=1e-2)
    guided = jaxplain.guided_backprop(lambda x: f(jax.nn.relu(x)))(x)
    np.testing.assert_allclose(wide(guided), jax.grad(lambda x: right_sum(jax.nn.relu(x)))(wide(x)), rtol=1e-2)


def right_sum(x):
    return 2 * jax.nn.swish(x).sum()


SHARED = {
    "mish": (lambda x: jnp.tanh(jax.nn.softplus(x)), lambda x, t: x * t),
    "gelu": (lambda x: jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)), lambda x, t: 0.5 * x * (1 + t)),
    "hard swish": (lambda x: jnp.clip(x + 3, 0, 6) / 6, lambda x, t: x * t),
    "a mask": (lambda x: (jnp.abs(x) > 1.5).astype(float), lambda x, t: x * t),
}


@pytest.mark.parametrize("name", ["mish", "gelu", "hard swish"])
def test_a_part_of_an_activation_may_be_read_by_itself(name):
    # Both are functions of x alone: relevance passes on, as through each by itself.
    inner, outer = SHARED[name]
    f = lambda x: (lambda t: (outer(x, t) + 3 * t).sum())(inner(x))  # noqa: E731
    x = jnp.array([1.0, -2.0, 2.0, 0.5])
    right = outer(x, inner(x)) + 3 * inner(x)
    np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon())(x), right, rtol=1e-5)
    at_zero = outer(0 * x, inner(0 * x)) + 3 * inner(0 * x)
    np.testing.assert_allclose(jaxplain.deep_lift(f)(x), right - at_zero, rtol=1e-4)


def test_a_mask_inside_a_function_may_be_read_by_itself():
    inner, outer = SHARED["a mask"]
    f = lambda x: outer(x, inner(x)).sum() + (inner(x) * jnp.arange(4.0) @ x)  # noqa: E731
    x = jnp.array([1.0, -2.0, 3.0, 0.5])
    np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon())(x), inner(x) * x * (1 + jnp.arange(4.0)), rtol=1e-5)
