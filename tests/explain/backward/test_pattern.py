"""PatternNet and PatternAttribution: the law of a suppressor, the papers' formulas in NumPy, every form of a layer."""

from __future__ import annotations

import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain import models
from jaxplain.explain.backward import relevance
from jaxplain.pattern import estimate_patterns, pattern_attribution, pattern_net

GENERATOR = np.random.default_rng(0)
ROWS = (GENERATOR.normal(size=(40, 5)) @ GENERATOR.normal(size=(5, 5)) + 0.5).astype(np.float32)
W1 = GENERATOR.normal(size=(5, 6)).astype(np.float32)
W2 = GENERATOR.normal(size=(6, 3)).astype(np.float32)
B1 = (0.3 * GENERATOR.normal(size=6)).astype(np.float32)
LABELS = np.arange(40) % 3


def whitened(count, features):
    """A sample whose mean is zero and whose covariance is the identity, to the last digit."""
    z = np.random.default_rng(1).normal(size=(count, features))
    z -= z.mean(0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / count)).T


def of_neuron(x, y, counted):
    """The pattern of one neuron: its inputs [N, D], its outputs without the bias [N], and which of them count."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    part = counted / max(counted.sum(), 1)
    return (part * y) @ x - (part @ x) * y.mean()


def patterns_by_hand(x, w, z, rectified=True):
    """Two-component patterns [D, K] of a dense layer with weights [D, K] and outputs [N, K] with bias."""
    found = []
    for k in range(w.shape[1]):
        above = of_neuron(x, x @ w[:, k], z[:, k] > 0 if rectified else np.ones(len(x)))
        found.append(above / (w[:, k] @ above))
    return np.stack(found, 1)


def perceptron(params, x):
    first, bias, second = params
    return jax.nn.relu(x @ first + bias[None]) @ second


F = jaxplain.logit(perceptron, (W1, B1, W2))


@pytest.mark.parametrize("wide", [False, True])
def test_a_suppressor_has_no_share_where_gradient_and_lrp_give_it_weight(wide):
    """x = (signal + noise, noise, other), read by w = (1, -1, 0.5): noise has weight, and nothing to say."""
    with jax.enable_x64(wide):
        mix = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
        rows = jnp.asarray(whitened(64, 3) @ mix.T + np.array([3.0, -1.0, 0.0]), float if wide else np.float32)
        w = jnp.asarray([1.0, -1.0, 0.5], rows.dtype)
        covariance = mix @ mix.T
        a = covariance @ np.asarray(w) / (np.asarray(w) @ covariance @ np.asarray(w))
        assert a[1] == 0
        score = lambda x: x @ w  # noqa: E731
        patterns = estimate_patterns(score, rows, batch_size=20)
        net, shares = pattern_net(score, patterns), pattern_attribution(score, patterns)
        for x in rows[:3]:
            assert np.abs(net(x) - a).max() < 1e-6
            assert np.abs(shares(x) - np.asarray(w) * a).max() < 1e-6
            assert abs(float(shares(x).sum()) - 1) < 1e-6
            assert jaxplain.gradient(score)(x)[1] == -1
            assert float(jaxplain.lrp(score, relevance.epsilon())(x)[1]) == pytest.approx(-float(x[1]), rel=1e-4)


def test_a_perceptron_by_hand():
    x = ROWS.astype(float)
    z1 = x @ W1 + B1
    h = np.maximum(z1, 0)
    first, second = patterns_by_hand(x, W1, z1), patterns_by_hand(h, W2, h @ W2, rectified=False)
    patterns = estimate_patterns(F, ROWS, LABELS, batch_size=16)
    np.testing.assert_allclose(patterns.values[0], first, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(patterns.values[1], second, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose((patterns.values[0] * W1).sum(0), 1, rtol=1e-4)
    assert patterns.layers == ("'dense' (affine)", "'dense' (affine)")
    assert [int(n) for n in patterns.silent] == [0, 0]
    net, shares = pattern_net(F, patterns), pattern_attribution(F, patterns)
    signals, parts = (jaxplain.explain_batch(e, ROWS, LABELS) for e in (net, shares))
    for i in (0, 7):
        opened, k = z1[i] > 0, LABELS[i]
        np.testing.assert_allclose(signals[i], first @ (second[:, k] * opened), rtol=1e-3, atol=1e-4)
        by_hand = (W1 * first) @ ((W2 * second)[:, k] * opened)
        np.testing.assert_allclose(parts[i], by_hand, rtol=1e-3, atol=1e-4)
    whole = estimate_patterns(F, ROWS, LABELS, batch_size=1000)
    for one, other in zip(whole.values, patterns.values, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def patches(x, size):
    """The patches [N, places, size * size * C] of images [N, H, W, C], with zeros around them to keep H and W."""
    before = (size - 1) // 2
    wide = np.pad(x, ((0, 0), (before, size - 1 - before), (before, size - 1 - before), (0, 0)))
    places = [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]
    return np.stack([wide[:, i : i + size, j : j + size].reshape(len(x), -1) for i, j in places], 1)


def test_a_convolution_by_hand():
    """Places are examples, zeros around the image are inputs; pooling passes to the largest, a mean to all alike."""
    kernel = GENERATOR.normal(size=(3, 3, 2, 4)).astype(np.float32)
    images = GENERATOR.normal(size=(12, 4, 4, 2)).astype(np.float32)
    images[..., 1] += images[..., 0]
    head = GENERATOR.normal(size=(4,)).astype(np.float32)

    def pooled(x):
        z = lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        z = lax.reduce_window(jax.nn.relu(z + 0.1), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return z.mean((1, 2))[0] @ head

    found = estimate_patterns(pooled, images, batch_size=5)
    x = patches(images.astype(float), 3).reshape(-1, 18)
    w = kernel.reshape(18, 4).astype(float)
    right = patterns_by_hand(x, w, x @ w + np.float32(0.1))
    np.testing.assert_allclose(found.values[0].reshape(18, 4), right, rtol=1e-3, atol=1e-4)
    tall = (x @ w + np.float32(0.1)).reshape(12, 2, 2, 2, 2, 4).max((2, 4))
    mean = np.maximum(tall, 0).mean((1, 2))
    of_head = patterns_by_hand(mean, head[:, None].astype(float), mean @ head[:, None], rectified=False)[:, 0]
    np.testing.assert_allclose(found.values[1], of_head, rtol=1e-3, atol=1e-4)
    z = (x @ w + np.float32(0.1)).reshape(12, 4, 4, 4)[0]
    for method, a_head, a_kernel, share in (
        (pattern_net, of_head, right, 1.0),
        (pattern_attribution, of_head * head, right * w, 0.25),
    ):
        arrived = np.zeros((6, 6, 2))
        for i, j in np.ndindex(4, 4):
            block = z[i // 2 * 2 : i // 2 * 2 + 2, j // 2 * 2 : j // 2 * 2 + 2]
            wins = (z[i, j] == block.max((0, 1))) & (z[i, j] > 0)
            arrived[i : i + 3, j : j + 3] += (a_kernel @ (share * a_head * wins)).reshape(3, 3, 2)
        e = method(pooled, found)
        np.testing.assert_allclose(e(images[0]), arrived[1:-1, 1:-1], rtol=2e-3, atol=1e-4)


class Perceptron(eqx.Module):
    """The network of this file in Equinox, whose weights stand to the left of the input."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __call__(self, x):
        return self.second(jax.nn.relu(self.first(x)))


def spelt():
    """The same network in other words: weights to the left, several axes of features, scales, frameworks."""
    x1, x2 = W1.T, W2.T
    yield "left", lambda x, k: (x2 @ jax.nn.relu(x1 @ x + B1))[k]
    yield "maximum", lambda x, k: (jnp.maximum(x @ W1 + B1, 0) @ W2)[k]
    yield "where", lambda x, k: jnp.dot(jnp.where((z := x @ W1 + B1) > 0, z, 0), W2)[k]
    heads = W1.reshape(5, 2, 3)

    def in_heads(x, k):
        z = jax.nn.relu(jnp.einsum("d,dhe->he", x, heads) + B1.reshape(2, 3))
        return jnp.einsum("he,hek->k", z, W2.reshape(2, 3, 3))[k]

    yield "heads", in_heads
    yield "transposed", lambda x, k: (jax.nn.relu(jnp.einsum("bd,de->eb", x[None], W1) + B1[:, None]).T @ W2)[0, k]
    yield "scaled", lambda x, k: (jax.nn.relu(2.0 * (x @ (W1 / 2)) + B1) @ W2)[k]
    layers = [eqx.nn.Linear(5, 6, key=jax.random.key(0)), eqx.nn.Linear(6, 3, use_bias=False, key=jax.random.key(1))]
    first = eqx.tree_at(lambda m: (m.weight, m.bias), layers[0], (jnp.asarray(x1), jnp.asarray(B1)))
    module = Perceptron(first, eqx.tree_at(lambda m: m.weight, layers[1], jnp.asarray(x2)))
    yield "equinox", lambda x, k: module(x)[k]
    linen = models.mlp(3, widths=(6,))
    dense = {"dense_0": {"kernel": W1, "bias": B1}, "head": {"kernel": W2, "bias": np.zeros(3, np.float32)}}
    yield "linen", jaxplain.logit(functools.partial(linen.apply), {"params": dense})


QUICK = ("left", "linen")


@pytest.mark.parametrize("names", [QUICK, pytest.param(None, marks=pytest.mark.slow)], ids=["quick", "every"])
def test_the_same_network_in_other_words(names):
    patterns = estimate_patterns(F, ROWS, LABELS)
    right = jax.jit(pattern_net(F, patterns))(ROWS[3], 1)
    shares = jax.jit(pattern_attribution(F, patterns))(ROWS[3], 1)
    for name, f in spelt():
        if names is None or name in names:
            patterns = estimate_patterns(f, ROWS, LABELS)
            found = jax.jit(pattern_net(f, patterns))(ROWS[3], 1)
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4, err_msg=name)
            found = jax.jit(pattern_attribution(f, patterns))(ROWS[3], 1)
            np.testing.assert_allclose(found, shares, rtol=1e-3, atol=1e-4, err_msg=name)


def test_weights_of_their_own_for_each_place():
    """A batch axis that weights have too: each of its places holds neurons of its own."""
    w = GENERATOR.normal(size=(3, 2, 4)).astype(np.float32)
    rows = GENERATOR.normal(size=(30, 3, 2)).astype(np.float32)
    score = lambda x: jnp.einsum("pd,pde->pe", x, w)[1, 2]  # noqa: E731
    (found,) = estimate_patterns(score, rows).values
    found = np.asarray(found)
    assert found.shape == w.shape
    right = patterns_by_hand(rows[:, 1].astype(float), w[1], rows[:, 1] @ w[1], rectified=False)
    np.testing.assert_allclose(found[1], right, rtol=1e-3, atol=1e-4)


def test_an_input_in_other_units_has_the_same_shares():
    """Shifts and scales of the input are known: shares do not change, signals are in the units of the input."""
    scale, shift = np.array([2.0, 0.5, 4.0, 1.0, 3.0], np.float32), np.arange(5, dtype=np.float32)
    score = lambda x, k: F((x - shift) / scale, k)  # noqa: E731
    rows = ROWS * scale + shift
    patterns, own = estimate_patterns(score, rows, LABELS), estimate_patterns(F, ROWS, LABELS)
    x = rows[3]
    shares = pattern_attribution(score, patterns)(x, 1)
    np.testing.assert_allclose(shares, pattern_attribution(F, own)(ROWS[3], 1), rtol=1e-3, atol=1e-4)
    signal = pattern_net(score, patterns)(x, 1)
    np.testing.assert_allclose(signal, scale * pattern_net(F, own)(ROWS[3], 1), rtol=1e-3, atol=1e-4)


def test_neurons_that_never_open_or_never_vary_pass_nothing_on():
    first, bias = W1.copy(), B1.copy()
    bias[0] = -1e3  # closed
    first[:, 1], bias[1] = 0, 1.0  # the same for every input
    score = jaxplain.logit(perceptron, (first, bias, W2))
    patterns = estimate_patterns(score, ROWS, LABELS)
    assert int(patterns.silent[0]) == 2
    assert not np.asarray(patterns.values[0])[:, :2].any()
    assert np.isfinite(np.asarray(patterns.values[1])).all()
    rows = [str(row.rule) for row in jaxplain.audit(pattern_attribution(score, patterns))(ROWS[0], 0)]
    assert rows.count("pattern_times_weight") == 2
    assert "open" in rows


def test_a_layer_without_any_pattern_is_warned_of():
    """Closed for every input; or so far from zero that float32 does not tell the outputs apart, where float64 does."""
    score = lambda x: jax.nn.relu(x @ W1) @ W2[:, 0]  # noqa: E731
    with pytest.warns(UserWarning, match="no neuron of 'dense' .* has a pattern"):
        estimate_patterns(lambda x: jax.nn.relu(x @ W1 - 1e3) @ W2[:, 0], ROWS)
    with pytest.warns(UserWarning, match="no neuron of 'dense' .* has a pattern"):
        estimate_patterns(score, ROWS + np.float32(1e4))
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        patterns = estimate_patterns(score, ROWS.astype(float) + 1e4)
    assert np.asarray(patterns.values[0]).any()


def test_what_has_no_pattern_is_named():
    square = W1[:, :5]

    def looped(x):
        return lax.scan(lambda h, _: (jax.nn.relu(h @ square), None), x, None, length=2)[0].sum()

    refused = {
        "tanh": lambda x: jnp.tanh(x @ W1).sum(),
        "add": lambda x: (x + jax.nn.relu(x @ square)) @ W1[:, 0],
        "softmax": lambda x: jax.nn.softmax(x @ W1)[0],
        "mul": lambda x: ((x @ W1) * (x @ W1[::-1])).sum(),
        "relu6": lambda x: jax.nn.relu6(x @ W1) @ W2[:, 0],
        "scan": looped,
    }
    patterns = estimate_patterns(F, ROWS, LABELS)
    for word, score in refused.items():
        for call in (lambda s: estimate_patterns(s, ROWS), lambda s: pattern_net(s, patterns)(ROWS[0])):
            with pytest.raises(ValueError, match=rf"'{word}'.*Patterns are defined for layers"):
                call(score)


def test_bad_calls():
    patterns = estimate_patterns(F, ROWS, LABELS)
    bad = np.where(np.arange(5) == 2, np.nan, ROWS)
    for call, words in (
        (lambda: estimate_patterns(F, ROWS[:1], LABELS[:1]), "two examples or more, not 1"),
        (lambda: estimate_patterns(F, bad, LABELS), r"`inputs` has 40 NaN .*\(0, 2\)"),
        (lambda: estimate_patterns(F, ROWS, LABELS[:3]), "one common leading"),
        (lambda: estimate_patterns(F, ROWS, LABELS, batch_size=0), "`batch_size` has to be at least 1"),
        (lambda: estimate_patterns(lambda x: (x**2).sum(), ROWS), "no rule for"),
        (lambda: estimate_patterns(lambda x: x.sum(), ROWS), "no layer with weights"),
        (
            lambda: pattern_net(lambda x: x @ W1[:, 0], patterns)(ROWS[0]),
            r"shapes \[\(5, 6\), \(6, 3\)\], but .*\(5,\)",
        ),
        (lambda: pattern_net(F, patterns)(bad[0], 1), "`x` has 1 NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match=r"`patterns` has to be what .*estimate_patterns"):
        pattern_attribution(F, [W1, W2])
    with pytest.raises(TypeError, match="floating"):
        estimate_patterns(F, ROWS.astype(int), LABELS)


def test_patterns_are_arrays_and_the_explanation_has_a_derivative():
    """New patterns, or new parameters, compile nothing anew; the signal moves with the parameters."""
    patterns = estimate_patterns(F, ROWS, LABELS)
    call = jax.jit(lambda e, x: e(x, 1))
    shares = pattern_attribution(F, patterns)
    one = call(shares, ROWS[0])
    twice = jax.tree.map(lambda leaf: 2 * leaf if leaf.dtype == jnp.float32 else leaf, patterns)
    np.testing.assert_allclose(call(pattern_attribution(F, twice), ROWS[0]), 4 * one, rtol=1e-5)
    assert call._cache_size() == 1

    def first(scale):
        params = (W1, B1, scale * W2)
        return pattern_attribution(jaxplain.logit(perceptron, params), patterns)(ROWS[0], 1)[0]

    np.testing.assert_allclose(jax.grad(first)(1.0), one[0], rtol=1e-4)
