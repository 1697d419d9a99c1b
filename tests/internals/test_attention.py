"""Attention found in traced models: weights by head, parts as sites, fused kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.internals.attention import attention_weights
from jaxplain.internals.capture import capture, intervene, split
from shared.attending import attention, blocks, weights

X = jax.random.normal(jax.random.key(0), (4, 6))
PARAMS = weights(jax.random.key(1), 2, 6, 2, 8)


def f(x):
    return blocks(x, PARAMS, 2).sum()


def by_hand(x, p, heads):
    """The weights of one attention, in NumPy."""
    x, p = np.asarray(x, np.float64), {name: np.asarray(value, np.float64) for name, value in p.items()}
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    found = []
    for head in range(heads):
        size = x.shape[1] // heads
        q, k = (x @ p[name][:, head * size : (head + 1) * size] for name in "qk")
        logits = np.where(np.tril(np.ones((len(x), len(x)))) > 0, q @ k.T / np.sqrt(size), -np.inf)
        exponential = np.exp(logits - logits.max(-1, keepdims=True))
        found.append(exponential / exponential.sum(-1, keepdims=True))
    return np.stack(found)


def test_weights_are_those_of_a_reference():
    found = attention_weights(f)(X)
    assert list(found) == ["block_0/attention", "block_1/attention"]
    np.testing.assert_allclose(found["block_0/attention"], by_hand(X, PARAMS[0], 2), atol=1e-6)
    _, second = capture(lambda x: blocks(x, PARAMS, 2), "block_0")(X)
    np.testing.assert_allclose(found["block_1/attention"], by_hand(second["block_0"], PARAMS[1], 2), atol=1e-6)


@pytest.mark.optimized
def test_capture_changes_no_bit_and_keeps_nothing_else():
    plain, with_weights = jax.jit(f), jax.jit(capture(f, "block_0/attention/~weights"))
    output, values = with_weights(X)
    assert output == plain(X)
    assert values["block_0/attention/~weights"].shape == (2, 4, 4)
    alone = jax.jit(lambda x: capture(f, "block_0/attention/~weights")(x)[1])
    text = alone.lower(X).as_text()
    assert text.count("dot_general") == 3  # queries, keys and their product; no values, nothing after them


def test_parts_are_places_to_read_change_and_cut_at():
    _, found = capture(f, "*~*")(X)
    assert sorted(path.rpartition("~")[2] for path in found) == sorted(
        2 * ["heads", "keys", "logits", "queries", "values", "weights"]
    )
    at = "block_0/attention/~weights"
    np.testing.assert_allclose(jax.nn.softmax(found["block_0/attention/~logits"]), found[at], atol=1e-6)
    assert intervene(f, {at: lambda w: w})(X) == f(X)
    uniform = jnp.tril(jnp.ones((4, 4))) / jnp.arange(1, 5)[:, None]
    changed = [{**PARAMS[0], "q": 0 * PARAMS[0]["q"]}, PARAMS[1]]
    np.testing.assert_allclose(
        intervene(f, {at: lambda w: jnp.broadcast_to(uniform, w.shape)})(X), blocks(X, changed, 2).sum(), rtol=1e-5
    )
    body, head = split(f, "block_1/attention/~values")
    assert head(body(X), X) == f(X)


@pytest.mark.slow
def test_other_ways_to_write_attention():
    q, k = jax.random.normal(jax.random.key(2), (5, 4, 8)), jax.random.normal(jax.random.key(3), (5, 2, 8))
    wide = jnp.repeat(k, 2, axis=1)

    def reference(causal):
        logits = jnp.einsum("thd,shd->hts", q, wide) / 8**0.5
        return jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((5, 5), bool)) | (not causal), logits, -jnp.inf))

    for causal in (False, True):  # grouped queries: two heads share keys and values
        fused = lambda q, causal=causal: jax.nn.dot_product_attention(q[None], k[None], k[None], is_causal=causal).sum()  # noqa: E731
        (found,) = attention_weights(fused)(q).values()
        np.testing.assert_allclose(found, reference(causal), atol=1e-6)
    shared = lambda q: jnp.einsum("hts,sd->thd", jax.nn.softmax(jnp.einsum("thd,sd->hts", q, k[:, 0])), k[:, 0])  # noqa: E731
    (found,) = attention_weights(shared)(q).values()
    assert found.shape == (4, 5, 5)
    np.testing.assert_allclose(found, jax.nn.softmax(jnp.einsum("thd,sd->hts", q, k[:, 0])), atol=1e-6)
    inner = jax.jit(jax.checkpoint(lambda x: attention(x, PARAMS[0], 2)))
    (found,) = attention_weights(lambda x: inner(x).sum())(X).values()
    np.testing.assert_allclose(found, attention_weights(lambda x: attention(x, PARAMS[0], 2))(X)["~weights"], atol=1e-6)
    cross = lambda q: jax.nn.softmax(q @ k[:, 0].T) @ k[:, 1]  # noqa: E731
    (found,) = attention_weights(cross)(q[:3, 0]).values()
    assert found.shape == (1, 3, 5)


def test_a_scan_over_layers_has_a_row_for_each():
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *PARAMS)

    def scanned(x):
        return jax.lax.scan(lambda x, p: (blocks(x, [p], 2), None), x, stacked)[0].sum()

    (found,) = attention_weights(scanned)(X).values()
    np.testing.assert_allclose(found, jnp.stack(list(attention_weights(f)(X).values())), atol=1e-6)


def test_a_model_of_modules():
    module = jaxplain.models.transformer(2, vocabulary=9, width=8, depth=2, heads=2, length=6)
    ids = jnp.array([3, 1, 4, 0, 0])
    params = jax.eval_shape(module.init, jax.random.key(0), ids[None])
    shapes = jax.eval_shape(lambda p: attention_weights(jaxplain.logit(module.apply, p))(ids, 1), params)
    paths = ["Transformer/block_0/attention", "Transformer/block_1/attention"]
    assert {path: value.shape for path, value in shapes.items()} == dict.fromkeys(paths, (2, 5, 5))


def test_what_is_no_attention_and_what_is_fused():
    with pytest.raises(ValueError, match="attention_weights: no attention was found"):
        attention_weights(lambda x: jax.nn.softmax(x).sum())(X)
    with pytest.raises(ValueError, match="no attention was found"):
        attention_weights(lambda x: jnp.tanh(x @ x.T) @ x)(X)

    from jax.experimental import pallas

    def kernel(x, out):
        out[...] = x[...]

    def fused(x):
        return pallas.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)

    with pytest.raises(ValueError, match="inside the fused kernel `pallas_call`"):
        attention_weights(lambda x: fused(attention(x, PARAMS[0], 2)).sum())(X)


def _late(s, v):
    e = jnp.exp(s)
    return (e @ v) / e.sum(-1, keepdims=True)


def _powers(s, v):
    e = 2.0**s
    return (e / e.sum(-1, keepdims=True)) @ v


def _by_hand(s, v):
    e = jnp.exp(s - s.max(-1, keepdims=True))
    return jnp.einsum("ts,sd->td", e / jnp.sum(e, -1, keepdims=True), v)


READ = {
    "softmax": lambda s, v: jax.nn.softmax(s, axis=-1) @ v,
    "its other axis": lambda s, v: (v.T @ jax.nn.softmax(s.T, axis=0)).T,
    "written out": _by_hand,
    "a mask that is filled in": lambda s, v: jax.nn.softmax(jnp.where(jnp.tri(5, dtype=bool), s, -1e9), axis=-1) @ v,
}
NOT_READ = {
    "exp of log_softmax": lambda s, v: jnp.exp(jax.nn.log_softmax(s, axis=-1)) @ v,
    "exp without logsumexp": lambda s, v: jnp.exp(s - jax.scipy.special.logsumexp(s, axis=-1, keepdims=True)) @ v,
    "divided after the product": _late,
    "a mask of softmax": lambda s, v: jax.nn.softmax(s, axis=-1, where=jnp.tri(5, dtype=bool)) @ v,
    "powers of two": _powers,
    "in a scan": lambda s, v: jax.lax.scan(lambda h, _: (_late(s, h), None), v, length=2)[0],
}


def two_attentions(form):
    """A model of one attention as everybody writes it, and one of another form behind it."""
    w = [jax.random.normal(jax.random.key(i), (6, 6)) / 2 for i in range(6)]

    def attention(h, i, form):
        return form((h @ w[i]) @ (h @ w[i + 1]).T, h @ w[i + 2])

    def f(x):
        with jax.named_scope("first"):
            h = x + attention(x, 0, READ["softmax"])
        with jax.named_scope("second"):
            return (h + attention(h, 3, form)).sum()

    return f


@pytest.mark.parametrize("form", READ)
def test_forms_that_are_read(form):
    x = jax.random.normal(jax.random.key(9), (5, 6))
    weights = attention_weights(two_attentions(READ[form]))(x)
    assert list(weights) == ["first", "second"]
    np.testing.assert_allclose(weights["second"].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("form", NOT_READ)
def test_no_attention_is_left_out_without_a_word(form):
    x = jax.random.normal(jax.random.key(9), (5, 6))
    for make in (attention_weights, jaxplain.language.attention_rollout):
        with pytest.raises(ValueError, match="attention in 'second' is written in a form whose weights are not read"):
            make(two_attentions(NOT_READ[form]))(x)


def test_other_exponentials_are_no_attention():
    """Gates and decays that are contracted, and weights of parameters, are not taken for one."""
    w = jax.random.normal(jax.random.key(0), (6, 6))

    def f(x):
        with jax.named_scope("first"):
            h = jax.nn.softmax(x @ x.T, axis=-1) @ x
        gated = (h * jnp.exp(-jnp.abs(x))) @ (x * jnp.exp(-x)).T
        return gated.sum() + (jnp.exp(h) @ w).sum() + (jax.nn.softplus(h) @ w).sum() + jnp.power(h**2 + 1, -0.5).sum()

    assert list(attention_weights(f)(jnp.eye(6))) == ["first"]
