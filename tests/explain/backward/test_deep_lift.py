"""DeepLIFT against slow references, hand-worked networks, peers' numbers, and completeness on every kind of network."""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.backward.multipliers import Rescale
from jaxplain.models import mlp, resnet, transformer
from shared.networks import inputs, weights

RULES = ("rescale", "reveal_cancel")


# Networks of one hidden layer, worked out one unit at a time.


def slow_multipliers(x, b, first, second, activation, rule):
    """Multipliers of y = f(x W1 + c1) w2, by the source's rules."""
    z, z0 = x @ first["kernel"] + first["bias"], b @ first["kernel"] + first["bias"]
    multipliers = np.zeros(len(x))
    for j, w2 in enumerate(second):
        parts = [first["kernel"][i, j] * (x[i] - b[i]) for i in range(len(x))]
        rise, fall = sum(p for p in parts if p > 0), sum(p for p in parts if p < 0)
        if rule == "rescale":
            ms = dict.fromkeys((1, -1), (activation(z[j]) - activation(z0[j])) / (z[j] - z0[j]))
        else:
            f = activation
            up = 0.5 * (f(z0[j] + rise) - f(z0[j])) + 0.5 * (f(z0[j] + fall + rise) - f(z0[j] + fall))
            down = 0.5 * (f(z0[j] + fall) - f(z0[j])) + 0.5 * (f(z0[j] + rise + fall) - f(z0[j] + rise))
            ms = {1: up / rise if rise else 0.0, -1: down / fall if fall else 0.0}
        for i, part in enumerate(parts):
            multipliers[i] += first["kernel"][i, j] * ms[1 if part > 0 else -1] * w2
    return multipliers


def dense(activation):
    def apply(params, x):
        h = activation(x @ params["first"]["kernel"] + params["first"]["bias"][None])
        return h @ params["second"]["kernel"] + params["second"]["bias"][None]

    return jaxplain.logit(apply, jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights()))


ACTIVATIONS = {
    "ReLU": (jax.nn.relu, lambda z: max(z, 0.0)),
    "Functional": (lambda z: jnp.where(z > 0, z, 0.0), lambda z: max(z, 0.0)),
    "Sigmoid": (jax.nn.sigmoid, lambda z: 1 / (1 + np.exp(-z))),
    "Tanh": (jnp.tanh, np.tanh),
    "Softplus": (jax.nn.softplus, lambda z: np.log1p(np.exp(z))),
    "GELU": (functools.partial(jax.nn.gelu, approximate=False), lambda z: z * 0.5 * (1 + math.erf(z / 2**0.5))),
    "Sine": (jnp.sin, np.sin),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.sampled(2)
def test_one_hidden_layer_equals_the_slow_reference(name, rule):
    x, b = (np.asarray(v, np.float64) for v in (inputs()["vector"], inputs()["background"][0]))
    fast, slow = ACTIVATIONS[name]
    w = weights()
    right = slow_multipliers(x, b, w["first"], w["second"]["kernel"][:, 1], slow, rule) * (x - b)
    e = jax.jit(jaxplain.deep_lift(dense(fast), baseline=jnp.asarray(b, jnp.float32), rule=rule))
    np.testing.assert_allclose(e(jnp.asarray(x, jnp.float32), 1), right, rtol=1e-4, atol=1e-6)


# captum 0.9.0 and shap 0.51.0 on the same weights, by tests/peers/deep_lift_peers.py.
# fmt: off
CAPTUM = {
    "ReLU": [0.039365, -0.036624, 0.114238, -0.298822],
    "Sigmoid": [0.017458, -0.027705, -0.007885, -0.144474],
    "Tanh": [0.057616, -0.100501, -0.016749, -0.51697],
    "Softplus": [0.036016, -0.046795, 0.013642, -0.274818],
}
SHAP = {
    "ReLU": [-0.050814, -0.133036, 0.036093, -0.21938],
    "Tanh": [-0.060779, -0.266042, 0.003859, -0.434435],
}
SHAP_CONVOLUTION = [0.054325, 0.012663, -0.005802, -0.030594, -0.004642, -0.010225]
# fmt: on


@pytest.mark.parametrize("name", CAPTUM)
@pytest.mark.sampled(2)
def test_deep_lift_equals_captums(name):
    e = jaxplain.deep_lift(dense(ACTIVATIONS[name][0]), baseline=inputs()["background"][0])
    np.testing.assert_allclose(e(inputs()["vector"], 1), CAPTUM[name], atol=2e-6)


@pytest.mark.parametrize("name", SHAP)
def test_deep_shap_equals_shaps(name):
    e = jaxplain.deep_shap(dense(ACTIVATIONS[name][0]), inputs()["background"])
    np.testing.assert_allclose(e(inputs()["vector"], 1), SHAP[name], atol=2e-6)


def convolutional(window, stride):
    def apply(params, x):
        kernel = params["conv"]["kernel"]
        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        h = jax.nn.relu(h + params["conv"]["bias"][None, None, None])
        h = nn.max_pool(h, (window, window), (stride, stride))
        head = params[f"head_{stride}"]
        return h.reshape(h.shape[0], -1) @ head["kernel"] + head["bias"][None]

    return jaxplain.logit(apply, jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights()))


def test_a_convolution_with_max_pooling_equals_shaps():
    # captum gives half of a window's change to each run's winner, whose own difference may be zero.
    a = jax.jit(jaxplain.deep_lift(convolutional(2, 2)))(jnp.asarray(inputs()["image"]), 1)
    np.testing.assert_allclose(a[2, :, 1], SHAP_CONVOLUTION, atol=2e-6)


# By hand.


@pytest.mark.slow
def test_reveal_cancel_sees_both_sides_of_a_minimum():
    # min(p, q) = p - relu(p - q) at (3, 1) from (0, 0). The ReLU opens fully, so rescale's slope is 1: p gets
    # 3 - 3 = 0, q gets 1. RevealCancel: the rise is 3, the fall -1; y+ = (3 + 2) / 2 = 5/2 and
    # y- = (0 + (2 - 3)) / 2 = -1/2; p gets 3 - 5/2 = 1/2, q gets 1/2.
    kernel, out = jnp.array([[1.0, 1.0], [-1.0, 0.0]]), jnp.array([-1.0, 1.0])

    def layer(x):  # as a layer with weights: (p - q, p)
        h = x @ kernel
        return jax.nn.relu(h)[0] * out[0] + h[1] * out[1]

    def layers(x):  # each layer with its own use
        return jax.nn.relu(x @ kernel[:, 0]) * out[0] + x[0]

    def difference(x):  # as a difference
        return x[0] - jnp.maximum(x[0] - x[1], 0)

    x = jnp.array([3.0, 1.0])
    for f in (layers, difference):
        np.testing.assert_allclose(jaxplain.deep_lift(f)(x), [0.0, 1.0], atol=1e-6)
        np.testing.assert_allclose(jaxplain.deep_lift(f, rule="reveal_cancel")(x), [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(jaxplain.deep_lift(layer)(x), [0.0, 1.0], atol=1e-6)


WRITTEN = {  # max(p - q, 0) with what comes between the sum and the nonlinearity
    "product": lambda x: jax.nn.relu(x @ jnp.array([1.0, -1.0])),
    "two products": lambda x: jax.nn.relu(x[:1] @ jnp.ones(1) - x[1:] @ jnp.ones(1)),
    "difference": lambda x: jax.nn.relu(x[0] - x[1]),
    "other sign": lambda x: jax.nn.relu(-(x[1] - x[0])),
    "scaled": lambda x: jax.nn.relu((x @ jnp.array([1.0, -1.0])) * -2.0 / -2.0),
    "added first": lambda x: jax.nn.relu(((x[1] - 3 * x[0]) + 2 * x[0]) / -1.0),
    "shifted": lambda x: jax.nn.relu((3 - (x @ jnp.array([-1.0, 1.0]))) - 3),
    "moved": lambda x: jax.nn.relu((x[None] @ jnp.array([[1.0, 0.0], [-1.0, 5.0]])).reshape(2, 1).T[0, 0]),
    "halves": lambda x: (jax.nn.relu(jnp.broadcast_to((x @ jnp.array([0.5, -0.5]))[None], (2,))) * 1.0).sum(),
    "summed": lambda x: jax.nn.relu((x * jnp.array([1.0, -1.0])).sum()),
    "running sum": lambda x: jax.nn.relu(jnp.cumsum(x * jnp.array([1.0, -1.0]))[-1]),
    "scattered": lambda x: jax.nn.relu(jnp.zeros(3).at[jnp.array([1, 1])].add(x * jnp.array([1.0, -1.0]))[1]),
    "mean": lambda x: 2 * jax.nn.relu((x * jnp.array([1.0, -1.0])).mean()),
    "split": lambda x: jax.nn.relu(jnp.split(x @ jnp.array([[1.0, 2.0], [-1.0, 1.0]]), 2)[0][0]),
    "joined": lambda x: jax.nn.relu(jnp.concatenate([x[1:] - x[:1], x])[0] * -1.0),
    "chosen": lambda x: jax.nn.relu(jnp.where(jnp.array([True, False]), (x[0] - x[1])[None], x)[0]),
    "branch": lambda x: jax.nn.relu(jax.lax.cond(True, lambda x: x[0] - x[1], lambda x: x[1] - x[0], x)),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.sampled(4)
def test_parts_go_through_all_that_is_linear(name):
    # As above: at (3, 1) from (0, 0) the rise 3 has the effect 5/2 and the fall -1 the effect -1/2.
    e = jaxplain.deep_lift(WRITTEN[name], rule="reveal_cancel")
    np.testing.assert_allclose(e(jnp.array([3.0, 1.0])), [2.5, -0.5], rtol=1e-6)


@pytest.mark.slow
def test_a_sum_of_layers_is_one_layer():
    keys = jax.random.split(jax.random.key(1), 6)
    w, u, b = (jax.random.normal(key, shape) for key, shape in zip(keys, [(4, 3), (3, 3), (3,)], strict=False))
    x, start, out = (jax.random.normal(key, (n,)) for key, n in zip(keys[3:], (4, 4, 3), strict=True))
    both = jnp.concatenate([w, u])

    def hidden(x):  # with values of their own, which are the layer's second input
        return jnp.tanh(x[:3] * 2)

    forms = {
        "one product": lambda x: jnp.tanh(jnp.concatenate([x, hidden(x)]) @ both + b) @ out,
        "two products": lambda x: jnp.tanh(x @ w + hidden(x) @ u + b) @ out,
        "biases apart": lambda x: jnp.tanh((x @ w + b / 2) + (hidden(x) @ u + b / 2)) @ out,
        "a difference": lambda x: jnp.tanh(x @ w - (hidden(x) @ -u - b)) @ out,
        "scaled": lambda x: jnp.tanh((x @ (w / s[None]) + hidden(x) @ (u / s[None])) * s + b) @ out,
    }
    s = jnp.array([0.5, -2.0, 3.0])
    found = {k: jaxplain.deep_lift(f, baseline=start, rule="reveal_cancel")(x) for k, f in forms.items()}
    for name, a in found.items():
        np.testing.assert_allclose(a, found["one product"], atol=1e-5, err_msg=name)
    rescaled = jaxplain.deep_lift(forms["one product"], baseline=start)(x)
    assert float(jnp.abs(rescaled - found["one product"]).max()) > 0.01

    # A residual sum is the layer with the identity beside the weights.
    eye = jnp.eye(3)
    residual = lambda x: jax.nn.relu(hidden(x) + x @ w) @ out  # noqa: E731
    written = lambda x: jax.nn.relu(jnp.concatenate([hidden(x), x]) @ jnp.concatenate([eye, w])) @ out  # noqa: E731
    one, two = (jaxplain.deep_lift(f, baseline=start, rule="reveal_cancel")(x) for f in (residual, written))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_each_use_of_a_sum_has_its_multipliers():
    w = jax.random.normal(jax.random.key(2), (4, 3))
    uses = [lambda z: jax.nn.relu(z).sum(), lambda z: jnp.tanh(z).sum(), lambda z: 3 * z[1], lambda z: z[0] * z[2]]
    x, start = jax.random.normal(jax.random.key(3), (2, 4))
    each = [jaxplain.deep_lift(lambda x, u=u: u(x @ w), baseline=start, rule="reveal_cancel")(x) for u in uses]
    together = jaxplain.deep_lift(lambda x: sum(u(x @ w) for u in uses), baseline=start, rule="reveal_cancel")
    np.testing.assert_allclose(together(x), sum(each), atol=1e-5)


def test_a_given_rule_stays():
    f = WRITTEN["product"]
    e = jaxplain.deep_lift(f, rule="reveal_cancel", rules={"relu": Rescale()})
    np.testing.assert_allclose(e(jnp.array([3.0, 1.0])), [3.0, -1.0], rtol=1e-6)


@pytest.mark.slow
def test_gradients_through_revealed_parts():
    def attribution(w, x, b):
        return jaxplain.deep_lift(lambda x: jnp.tanh(x @ w), baseline=b, rule="reveal_cancel")(x)

    def formula(w, x, b):  # w (x - b) is (+, -)
        rise, fall = w * (x - b)
        z0 = b @ w
        up = 0.5 * (jnp.tanh(z0 + rise) - jnp.tanh(z0) + jnp.tanh(z0 + rise + fall) - jnp.tanh(z0 + fall))
        down = 0.5 * (jnp.tanh(z0 + fall) - jnp.tanh(z0) + jnp.tanh(z0 + rise + fall) - jnp.tanh(z0 + rise))
        return jnp.stack([up, down])

    point = jnp.array([0.5, -0.7]), jnp.array([1.0, 1.5]), jnp.array([-0.5, 0.25])
    for argument in range(3):
        one, two = (jax.jacobian(g, argument)(*point) for g in (attribution, formula))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_overlapping_windows_each_give_to_their_winner():
    # Windows of 3 at stride 2 over 5 values: the 3 in the middle wins both, and both rise from 0 (captum keeps one).
    def f(x):
        return nn.max_pool(x[None, :, None], (3,), (2,)).sum()

    x = jnp.array([1.0, 2.0, 3.0, 0.0, 1.0])
    assert jaxplain.deep_lift(f)(x).tolist() == [0, 0, 6, 0, 0]
    # From (4, 0, 0, 0, 0): the first window falls from 4 to 3. The maximum of both runs is 4, so the winner of the
    # reference, the first value, takes all of it; the second window rises by 3, for the third value.
    a = jaxplain.deep_lift(f, baseline=jnp.array([4.0, 0.0, 0.0, 0.0, 0.0]))(x)
    np.testing.assert_allclose(a, [-1.0, 0.0, 3.0, 0.0, 0.0])


def test_products_quotients_and_norms_by_hand():
    x, b = jnp.array([3.0, 2.0]), jnp.array([1.0, 4.0])
    # 6 - 4 = mean of the other factor (3, 2) times the differences (2, -2)
    product = jaxplain.deep_lift(lambda x: x[0] * x[1], baseline=b)
    np.testing.assert_allclose(product(x), [6.0, -4.0])
    # 3/2 - 1/4: (1/2 + 1/4) / 2 times 2, and -(3 + 1) / 2 / 8 times -2
    quotient = jaxplain.deep_lift(lambda x: x[0] / x[1], baseline=b)
    np.testing.assert_allclose(quotient(x), [0.75, 0.5], rtol=1e-6)
    square = jaxplain.deep_lift(lambda x: x[0] * x[0] + jax.lax.square(x[1]), baseline=b)
    np.testing.assert_allclose(square(x), [8.0, -12.0], rtol=1e-6)

    # From a constant input a LayerNorm's scale is held at x: its output times the multipliers.
    def normalised(x):
        return nn.LayerNorm(use_scale=False, use_bias=False).apply({}, x)[0]

    z = jnp.array([1.0, -2.0, 4.0])
    sigma = np.sqrt(np.var(np.array(z)) + 1e-6)
    a = jaxplain.deep_lift(normalised)(z)
    np.testing.assert_allclose(a, np.array([1 - 1 / 3, -1 / 3, -1 / 3]) * np.array(z) / sigma, rtol=1e-3)


def test_softmax_is_rescale_on_its_logarithm():
    z, z0 = np.array([1.0, -2.0, 0.5]), np.array([0.3, 1.0, 0.5])
    n, n0 = np.exp(z), np.exp(z0)
    d, d0 = n.sum(), n0.sum()
    changed = z != z0
    slope = np.where(changed, (n - n0) / np.where(changed, z - z0, 1), n)
    w = slope * (np.log(d) - np.log(d0)) / (d - d0)
    s, s0 = n / d, n0 / d0
    u = (s - s0) / (np.log(s) - np.log(s0))
    right = np.array([u[0] * ((i == 0) - w[i]) for i in range(3)]) * (z - z0)
    e = jaxplain.deep_lift(lambda z: jax.nn.softmax(z)[0], baseline=jnp.asarray(z0, jnp.float32))
    np.testing.assert_allclose(e(jnp.asarray(z, jnp.float32)), right, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(right.sum(), s[0] - s0[0])
    # A common shift of any size changes no softmax, and nothing is masked by infinities.
    shifted = jaxplain.deep_lift(lambda z: jax.nn.softmax(z)[0], baseline=jnp.asarray(z0 - 50, jnp.float32))
    np.testing.assert_allclose(shifted(jnp.asarray(z, jnp.float32)).sum(), s[0] - s0[0], atol=1e-4)

    def masked(z):
        return jax.nn.log_softmax(jnp.where(jnp.array([True, True, False]), z, -jnp.inf))[0]

    a = jaxplain.deep_lift(masked)(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(a.sum(), masked(z) - masked(0 * z), rtol=1e-5)
    assert a[2] == 0


# Completeness.


class Pooled(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.relu(nn.Conv(4, (3, 3))(x)), (3, 3), (2, 2), padding="SAME")
        x = nn.max_pool(jnp.maximum(nn.Conv(5, (3, 3))(x), 0), (3, 3), (2, 2))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Dense(8)(x)
        h = h + nn.Dense(8)(nn.silu(nn.Dense(8)(nn.LayerNorm()(h))) * nn.Dense(8)(nn.RMSNorm()(h)))
        h = h + nn.MultiHeadDotProductAttention(num_heads=2)(nn.GroupNorm(2)(h))
        return nn.Dense(3)(h[:, 0])


class Assorted(nn.Module):
    """Operations without modules: norms, quotients, choices, a log-softmax."""

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(6)(x)
        h = h / (jnp.linalg.norm(h, axis=-1, keepdims=True) + 1e-3)
        g = nn.Dense(6)(x)
        h = jnp.maximum(h, g) / (1.5 + jnp.tanh(g)) + jnp.where(g > 0, h * g, jnp.exp(-g))
        return nn.log_softmax(nn.Dense(3)(jnp.concatenate([h.max(1), jnp.abs(h).min(1), h.mean(1)], -1)))


class Recurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.RNN(nn.OptimizedLSTMCell(5), name="rnn")(x)[:, -1])


NETWORKS = {
    "mlp": (lambda: mlp(3, widths=(8, 8)), (5,)),
    "pooled": (Pooled, (11, 12, 2)),
    "resnet": (lambda: resnet(3, widths=(4, 6), depth=1), (8, 8, 2)),
    "vit": (lambda: transformer(3, patch=4, width=8, depth=1, heads=2, pool="class"), (8, 8, 2)),
    "gated": (Gated, (4, 5)),
    "assorted": (Assorted, (4, 5)),
    "recurrent": (Recurrent, (5, 4)),
}


@functools.cache
def network(name):
    make, shape = NETWORKS[name]
    module, x = make(), jax.random.normal(jax.random.key(3), (2, *shape))
    variables = jax.jit(module.init)(jax.random.key(0), x)
    variables = jax.tree.map(lambda v: v + 0.2 * jax.random.normal(jax.random.key(v.size), v.shape), variables)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(lambda v: jnp.abs(v) + 0.5, variables["batch_stats"])
    return jaxplain.logit(module.apply, variables), x


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_attributions_sum_to_the_difference(name):
    f, x = network(name)
    b = jax.random.normal(jax.random.key(8), x.shape[1:])
    score = jax.jit(jax.vmap(f, (0, None)))
    for rule, baseline in (("rescale", 0.0), ("reveal_cancel", b)):
        e = jaxplain.deep_lift(f, baseline=baseline, rule=rule)
        a = jaxplain.explain_batch(e, x, 1)
        difference = score(x, 1) - score(jnp.broadcast_to(baseline, x.shape), 1)
        np.testing.assert_allclose(a.reshape(2, -1).sum(1), difference, rtol=1e-4, err_msg=rule)
        assert float(jnp.abs(difference).max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_loop_equals_its_unrolled_form(rule):
    f, x = network("recurrent")
    p = f.params["params"]
    cell = nn.OptimizedLSTMCell(5)

    def unrolled(params, x):
        carry = (jnp.zeros((x.shape[0], 5)), jnp.zeros((x.shape[0], 5)))
        for t in range(5):
            carry, h = cell.apply({"params": params["OptimizedLSTMCell_0"]}, carry, x[:, t])
        return h @ params["head"]["kernel"] + params["head"]["bias"][None]

    g = jaxplain.logit(unrolled, p)
    b = jax.random.normal(jax.random.key(8), x.shape[1:])
    one, two = (jax.jit(jaxplain.deep_lift(h, baseline=b, rule=rule))(x[0], 2) for h in (f, g))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_a_loop_carries_parts():
    # h_t = h_{t-1} A + x_t B is summed over all turns before anything looks at it.
    a, b = jnp.diag(jnp.array([0.5, -0.8])), jax.random.normal(jax.random.key(1), (3, 2))
    x, start = jax.random.normal(jax.random.key(2), (2, 4, 3))

    def looped(x):
        last, each = jax.lax.scan(lambda h, row: (h * a.diagonal() + row @ b, h), jnp.zeros(2), x)
        return jax.nn.relu(last).sum() + jnp.tanh(each).sum()

    def unrolled(x):
        h, each = jnp.zeros(2), []
        for row in x:
            each.append(h)
            h = h * a.diagonal() + row @ b
        return jax.nn.relu(h).sum() + jnp.tanh(jnp.stack(each)).sum()

    def one_product(x):  # the last turn as one layer of all rows
        powers = [jnp.linalg.matrix_power(a, 3 - t) for t in range(4)]
        return jax.nn.relu(x.reshape(-1) @ jnp.concatenate([b @ p for p in powers])).sum()

    def last(x):
        return jax.nn.relu(jax.lax.scan(lambda h, row: (h * a.diagonal() + row @ b, 0), jnp.zeros(2), x)[0]).sum()

    for one, two in ((looped, unrolled), (last, one_product)):
        found = [jax.jit(jaxplain.deep_lift(f, baseline=start, rule="reveal_cancel"))(x) for f in (one, two)]
        np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.slow
def test_reveal_cancel_differs_from_rescale():
    f, x = network("pooled")
    one, two = (jaxplain.explain_batch(jaxplain.deep_lift(f, rule=rule), x, 1) for rule in RULES)
    assert float(jnp.abs(one - two).max()) > 0.01


# Laws.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pooled", "gated"])
def test_a_batch_leaks_nothing(name):
    f, x = network(name)
    x = jnp.concatenate([x, jnp.round(x), jnp.ones_like(x)])  # the latter are full of ties
    e = jaxplain.deep_lift(f, baseline=0.5)
    single = jnp.stack([jax.jit(e)(one, 1) for one in x])
    np.testing.assert_allclose(jaxplain.explain_batch(e, x, 1), single, atol=1e-5)


@pytest.mark.slow
def test_the_baseline_itself_gets_zeros():
    for name in ("pooled", "gated", "assorted"):
        f, x = network(name)
        e = jax.jit(jaxplain.deep_lift(f, baseline=x[0]))
        np.testing.assert_array_equal(e(x[0], 1), jnp.zeros_like(x[0]))
        near = e(x[0] + 1e-6, 1)
        assert bool(jnp.isfinite(near).all())
        assert float(jnp.abs(near).max()) < 1e-3


@pytest.mark.slow
def test_deep_shap_is_the_mean_over_its_baselines():
    f, x = network("pooled")
    rows = jax.random.normal(jax.random.key(5), (5, *x.shape[1:]))
    each = jnp.stack([jax.jit(jaxplain.deep_lift(f, baseline=b))(x[0], 1) for b in rows])
    for size in (2, 16):
        a = jax.jit(jaxplain.deep_shap(f, rows, batch_size=size))(x[0], 1)
        np.testing.assert_allclose(a, each.mean(0), atol=1e-5)
    np.testing.assert_allclose(a.sum(), f(x[0], 1) - jax.vmap(f, (0, None))(rows, 1).mean(), rtol=1e-4)


@pytest.mark.slow
def test_baselines_may_be_functions_and_draws():
    f, x = network("mlp")
    mean = jaxplain.deep_lift(f, baseline=jaxplain.baseline.mean(x))(x[0], 1)
    np.testing.assert_allclose(mean, jaxplain.deep_lift(f, baseline=x.mean(0))(x[0], 1), atol=1e-6)
    drawn = jaxplain.deep_lift(f, baseline=jaxplain.baseline.sample(x[1:]))(jax.random.key(0), x[0], 1)
    np.testing.assert_allclose(drawn, jaxplain.deep_lift(f, baseline=x[1])(x[0], 1), atol=1e-6)
    traced = jax.vmap(lambda b: jaxplain.deep_lift(f, baseline=b)(x[0], 1))(x)
    np.testing.assert_allclose(traced[1], drawn, atol=1e-6)


@pytest.mark.slow
def test_gradients_through_an_attribution_are_those_of_the_formula():
    def attribution(w, x, b):
        return jaxplain.deep_lift(lambda x: jnp.tanh(w * x[0]) * x[1], baseline=b)(x)

    def formula(w, x, b):
        t, t0 = jnp.tanh(w * x[0]), jnp.tanh(w * b[0])
        return jnp.stack([(t - t0) * 0.5 * (x[1] + b[1]), 0.5 * (t + t0) * (x[1] - b[1])])

    point = 0.7, jnp.array([1.0, 2.0]), jnp.array([-0.5, 0.25])
    for argument in range(3):
        one, two = (jax.jacobian(g, argument)(*point) for g in (attribution, formula))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


# Bad input.


def test_operations_without_a_rule_are_named():
    def f(x):
        with jax.named_scope("mixing"):
            return jax.lax.lgamma(x)[-1]

    def through_complex(x):
        return jnp.fft.rfft(x).real.sum()

    def loop(x):
        return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * x[0], c[1] + 1), (x[1], 0))[0]

    x = jnp.array([1.0, 2.0, 4.0, 3.0])
    with pytest.raises(ValueError, match=r"no rule for .*lgamma.* in 'mixing'.*rules=\{'lgamma': rule\}"):
        jaxplain.deep_lift(f)(x)
    with pytest.raises(ValueError, match="complex"):
        jaxplain.deep_lift(through_complex)(x)
    with pytest.raises(ValueError, match="while"):
        jaxplain.deep_lift(loop)(x)
    with pytest.raises(TypeError, match=r"`rules\['fft'\]` has to be a Rule"):
        jaxplain.deep_lift(f, rules={"fft": 3})
    with pytest.raises(TypeError, match="`rules` has to be a mapping"):
        jaxplain.deep_lift(f, rules="linear")
    with pytest.raises(ValueError, match=r"`rules` names 'lgammad', but .*'lgamma'"):
        jaxplain.deep_lift(f, rules={"lgammad": "linear"})(x)


@pytest.mark.slow
def test_an_operation_may_be_given_a_rule():
    def f(x):
        return jnp.cumprod(x)[-1]

    x = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jaxplain.deep_lift(f, rules={"cumprod": "linear"})(x), [2.0, 2.0])


def test_branches_that_depend_on_the_input_are_refused():
    def f(x):
        return jax.lax.cond(x.sum() > 0, lambda x: x.sum(), lambda x: (x**2).sum(), x)

    with pytest.raises(ValueError, match="branch"):
        jaxplain.deep_lift(f)(jnp.ones(2))


def test_settings_and_baselines_are_checked():
    f, x = network("mlp")
    with pytest.raises(ValueError, match="`rule` is 'gradient'"):
        jaxplain.deep_lift(f, rule="gradient")
    with pytest.raises(ValueError, match="does not broadcast"):
        jaxplain.deep_lift(f, baseline=jnp.ones(7))(x[0], 1)
    with pytest.raises(ValueError, match="structure"):
        jaxplain.deep_lift(f, baseline={"a": jnp.ones(5)})(x[0], 1)
    with pytest.raises(ValueError, match="a row for each baseline"):
        jaxplain.deep_shap(f, x[0])(x[0], 1)
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.deep_shap(f, x * jnp.nan)
    with pytest.raises(ValueError, match="`batch_size`"):
        jaxplain.deep_shap(f, x, batch_size=0)
