"""Attentions are found whatever the order of their axes and whoever wrote them, and nothing else is taken for one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.program.fast.attention import CUDNN, WRITTEN, listed, rewritten, trial
from jaxplain.program.trace import compat
from tests.shared.attentions import HEAD, S, T, exact, operands, orders, plain

MASK = np.random.default_rng(3).random((T, S)) < 0.7
MASK[:, 0] = True
PADDING = np.array([True, True, True, False])
BIAS = jnp.asarray(np.random.default_rng(4).normal(size=(2, T, S)), jnp.float32)


@pytest.fixture(autouse=True)
def _as_libraries_write_it(monkeypatch):
    monkeypatch.setattr(trial, "LARGEST", 0)  # values are compared here, so that each need not be tried
    with jax.numpy_rank_promotion("allow"):
        yield


def found(f, *args, how=WRITTEN, here=True):
    return list(listed(compat.trace(f, *args)[0], how, here))


def computed(f, *args):
    """What the rewritten program gives; every attention in it has to be rewritten."""
    program, _ = compat.trace(f, *args)
    rows = list(listed(program, WRITTEN, True))
    assert [row.reason for row in rows] == [None], rows
    return rewritten(program, WRITTEN, gradient=False)(*jax.tree.leaves(args))[0]


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_every_order_of_axes(every):
    q, k, v = operands()
    want, cases = exact(q, k, v), list(orders())
    assert len(cases) == 36
    for name, attend in cases[::every]:
        np.testing.assert_allclose(computed(attend, q, k, v), want, atol=2e-6, err_msg=name)


def grouped(q, k, v):
    """Queries `[T, K, G, H]` beside keys of K heads."""
    t, _, h = q.shape
    z = jnp.einsum("tkgh,skh->kgts", q.reshape(t, k.shape[1], -1, h), k) / math.sqrt(h)
    return jnp.einsum("kgts,skd->tkgd", jax.nn.softmax(z), v).reshape(q.shape)


def repeated(q, k, v):
    k, v = (jnp.repeat(a, q.shape[1] // a.shape[1], axis=1) for a in (k, v))
    return plain(q, k, v)


def broadcast(q, k, v):
    k, v = (jnp.broadcast_to(a[:, :, None], (S, a.shape[1], 2, HEAD)).reshape(S, -1, HEAD) for a in (k, v))
    return plain(q, k, v)


@pytest.mark.parametrize("attend", [grouped, repeated, pytest.param(broadcast, marks=pytest.mark.slow)])
def test_grouped_queries(attend):
    q, k, v = operands(heads=4, kv=2)
    np.testing.assert_allclose(computed(attend, q, k, v), exact(q, k, v), atol=2e-6)


@pytest.mark.slow
def test_one_query_at_a_time_and_one_head():
    q, k, v = operands(queries=1, heads=1, kv=1)
    np.testing.assert_allclose(computed(plain, q, k, v), exact(q, k, v), atol=2e-6)
    single = lambda q, k, v: jax.nn.softmax(q @ k.T / math.sqrt(HEAD)) @ v  # noqa: E731
    np.testing.assert_allclose(computed(single, q[:, 0], k[:, 0], v[:, 0]), exact(q, k, v)[:, 0], atol=2e-6)


def rotated(a):
    """Rotary embedding of `[T, N, H]`."""
    angle = jnp.arange(a.shape[0])[:, None, None] * 0.3
    one, two = jnp.split(a, 2, axis=-1)
    return jnp.concatenate(
        [one * jnp.cos(angle) - two * jnp.sin(angle), one * jnp.sin(angle) + two * jnp.cos(angle)], -1
    )


SCALES = {
    "before, on queries": lambda q, k, v: plain(q / math.sqrt(HEAD), k, v, scale=1.0),
    "by a root in the program": lambda q, k, v: plain(q, k, v, scale=1 / jnp.sqrt(jnp.float32(HEAD))),
    "by division": lambda q, k, v: jnp.einsum(
        "nts,snd->tnd", jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k) / jnp.sqrt(HEAD).astype(q.dtype)), v
    ),
    "twice": lambda q, k, v: plain(q * 0.5, k, v, scale=2 / math.sqrt(HEAD)),
    "flattened heads": lambda q, k, v: jnp.einsum(
        "bts,bsd->btd",
        jax.nn.softmax(jnp.einsum("bth,bsh->bts", q.swapaxes(0, 1), k.swapaxes(0, 1)) / math.sqrt(HEAD)),
        v.swapaxes(0, 1),
    ).swapaxes(0, 1),
    "without a shift": lambda q, k, v: jnp.einsum(
        "nts,snd->tnd",
        (lambda e: e / e.sum(-1, keepdims=True))(jnp.exp(jnp.einsum("tnh,snh->nts", q, k) / math.sqrt(HEAD))),
        v,
    ),
    "jax's own": lambda q, k, v: jax.nn.dot_product_attention(q, k, v),
    "in a jit": jax.jit(plain),
}


@pytest.mark.parametrize("name", SCALES)
def test_scales_and_ways_to_write(name):
    q, k, v = operands()
    np.testing.assert_allclose(computed(SCALES[name], q, k, v), exact(q, k, v), atol=3e-6)


def test_rotary_embeddings_stay_before_it():
    q, k, v = operands()
    f = lambda q, k, v: plain(rotated(q), rotated(k), v)  # noqa: E731
    np.testing.assert_allclose(computed(f, q, k, v), exact(rotated(q), rotated(k), v), atol=2e-6)


LARGE = float(jnp.finfo(jnp.float32).min)
MASKS = {
    "filled with the least number": (lambda q, k, v, m: plain(q, k, v, mask=m), MASK),
    "filled with minus infinity": (lambda q, k, v, m: plain(q, k, v, mask=m, fill=-jnp.inf), MASK),
    "filled with -1e9, of keys": (lambda q, k, v, m: plain(q, k, v, mask=m[None, None], fill=-1e9), PADDING),
    "the other way round": (
        lambda q, k, v, m: jnp.einsum(
            "nts,snd->tnd",
            jax.nn.softmax(jnp.where(~m, -1e9, jnp.einsum("tnh,snh->nts", q, k) / math.sqrt(HEAD))),
            v,
        ),
        MASK,
    ),
    "of numbers": (lambda q, k, v, m: plain(q, k, v, mask=m != 0), MASK.astype(jnp.float32)),
    "added, by a choice": (lambda q, k, v, m: plain(q, k, v, bias=jnp.where(m, 0.0, LARGE)), MASK),
    "added, of keys": (lambda q, k, v, m: plain(q, k, v, bias=jnp.where(m, 0.0, -jnp.inf)[None, None]), PADDING),
    "added, by arithmetic": (lambda q, k, v, m: plain(q, k, v, bias=(1.0 - m.astype(jnp.float32)) * -1e9), MASK),
    "subtracted": (
        lambda q, k, v, m: jnp.einsum(
            "nts,snd->tnd",
            jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k) / math.sqrt(HEAD) - 1e9 * (1 - m.astype(jnp.float32))),
            v,
        ),
        MASK,
    ),
    "two of them": (
        lambda q, k, v, m: plain(q, k, v, bias=jnp.where(PADDING, 0.0, LARGE)[None, None], mask=m),
        MASK & PADDING[None],
    ),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.sampled(2)
def test_masks(name):
    q, k, v = operands()
    f, mask = MASKS[name]
    allowed = np.broadcast_to(np.asarray(mask) != 0, (T, S))
    np.testing.assert_allclose(computed(f, q, k, v, mask), exact(q, k, v, mask=allowed), atol=2e-6)


def test_biases():
    q, k, v = operands()
    add = lambda q, k, v, b: plain(q, k, v, bias=b)  # noqa: E731
    np.testing.assert_allclose(computed(add, q, k, v, BIAS), exact(q, k, v, bias=BIAS), atol=2e-6)
    np.testing.assert_allclose(computed(add, q, k, v, BIAS[:, :1]), exact(q, k, v, bias=BIAS[:, :1]), atol=2e-6)
    less = lambda q, k, v, b: jnp.einsum(  # noqa: E731
        "nts,snd->tnd", jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k) - b), v
    )
    np.testing.assert_allclose(computed(less, q, k, v, BIAS), exact(q, k, v, 1.0, bias=-BIAS), atol=2e-6)
    both = lambda q, k, v, b, m: plain(q, k, v, bias=b, mask=m)  # noqa: E731
    np.testing.assert_allclose(computed(both, q, k, v, BIAS, MASK), exact(q, k, v, bias=BIAS, mask=MASK), atol=2e-6)


def test_a_causal_mask_is_known_and_a_mask_that_allows_all_is_none():
    q, k, v = operands(keys=T)
    causal = lambda q, k, v: plain(q, k, v, mask=jnp.tril(jnp.ones((T, T), bool)))  # noqa: E731
    np.testing.assert_allclose(
        computed(causal, q, k, v), exact(q, k, v, mask=np.tril(np.ones((T, T), bool))), atol=2e-6
    )
    q, k, v = operands(keys=T, dtype=jnp.bfloat16)
    odd = lambda q, k, v: plain(q[:5], k[:5], v[:5], mask=jnp.tril(jnp.ones((5, 5), bool)))  # noqa: E731
    (row,) = found(odd, q, k, v, how=CUDNN, here=False)
    assert row.reason is None  # which odd lengths with any other mask are not
    allowed = lambda q, k, v: plain(q[:5], k[:5], v[:5], mask=jnp.ones((5, 5), bool))  # noqa: E731
    (row,) = found(allowed, q, k, v, how=CUDNN, here=False)
    assert row.reason is None


def test_rows_that_are_barred_as_a_whole_keep_what_they_are():
    q, k, v = operands()
    mask = MASK & (np.arange(T) != 2)[:, None]
    got = computed(lambda q, k, v, m: plain(q, k, v, mask=m, fill=-jnp.inf), q, k, v, mask)
    np.testing.assert_array_equal(np.isnan(got).all((1, 2)), np.arange(T) == 2)
    np.testing.assert_allclose(np.delete(got, 2, 0), np.delete(exact(q, k, v, mask=mask), 2, 0), atol=2e-6)
    got = computed(lambda q, k, v, m: plain(q, k, v, mask=m, fill=-1e9), q, k, v, mask)
    np.testing.assert_allclose(got[2], np.mean(v, axis=0), atol=2e-6)


WEIGHTS = lambda q, k: jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k))  # noqa: E731
VALUES = lambda p, v: jnp.einsum("nts,snd->tnd", p, v)  # noqa: E731
SCORES = lambda q, k: jnp.einsum("tnh,snh->nts", q, k)  # noqa: E731
LEFT = {
    "weights that are returned": (lambda q, k, v: (VALUES(p := WEIGHTS(q, k), v), p), "read by something else"),
    "scores that are returned": (
        lambda q, k, v: (VALUES(jax.nn.softmax(z := SCORES(q, k)), v), z),
        "read by something else",
    ),
    "weights that are read twice": (
        lambda q, k, v: VALUES(p := WEIGHTS(q, k), v) + VALUES(p, 2 * v),
        "read by something else",
    ),
    "dropout": (
        lambda q, k, v: VALUES(jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, (2, T, S)), WEIGHTS(q, k), 0), v),
        "as dropout does",
    ),
    "weights times something": (
        lambda q, k, v: VALUES(WEIGHTS(q, k) * q[:1, :, :1].swapaxes(0, 1), v),
        "`mul` changes",
    ),
    "a soft cap": (
        lambda q, k, v: VALUES(jax.nn.softmax(30 * jnp.tanh(SCORES(q, k) / 30)), v),
        "`tanh` changes its scores",
    ),
    "a learned scale": (
        lambda q, k, v: VALUES(jax.nn.softmax(SCORES(q, k) * q[0, 0, 0]), v),
        "scaled by what is no number",
    ),
    "two biases": (lambda q, k, v: VALUES(jax.nn.softmax(SCORES(q, k) + BIAS + q[0, 0, 0]), v), "more than one bias"),
    "a scale after a bias": (
        lambda q, k, v: VALUES(jax.nn.softmax((SCORES(q, k) + BIAS) * 0.5), v),
        "scaled after a bias",
    ),
    "a mask with a small fill": (
        lambda q, k, v: VALUES(jax.nn.softmax(jnp.where(MASK, SCORES(q, k), -3.0)), v),
        "something else than a large negative number",
    ),
    "a stopped gradient": (
        lambda q, k, v: VALUES(jax.lax.stop_gradient(WEIGHTS(q, k)), v),
        "`stop_gradient` changes its weights",
    ),
    "weights in other digits": (
        lambda q, k, v: VALUES(WEIGHTS(q.astype(jnp.bfloat16), k.astype(jnp.bfloat16)).astype(jnp.float32), v),
        "differ in dtype",
    ),
    "a softmax over the queries": (
        lambda q, k, v: VALUES(jax.nn.softmax(SCORES(q, k), axis=1), v),
        None,
    ),
    "scores that are no product": (lambda q, k, v: VALUES(jax.nn.softmax(BIAS * q[0, 0, 0]), v), "no number"),
    "weights that are added to": (lambda q, k, v: VALUES(WEIGHTS(q, k) + BIAS, v), "`add` changes its weights"),
    "a sparse softmax": (
        lambda q, k, v: VALUES(
            jnp.maximum(SCORES(q, k), 0) / jnp.sum(jnp.maximum(SCORES(q, k), 0), -1, keepdims=True), v
        ),
        None,
    ),
    "another shift along the keys": (
        lambda q, k, v: VALUES((lambda e: e / e.sum(-1, keepdims=True))(jnp.exp(SCORES(q, k) - q[0, 0, :S])), v),
        "bias",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_reasons_to_leave_it(name):
    f, reason = LEFT[name]
    q, k, v = operands()
    if name == "another shift along the keys":  # is an additive bias, and right as one
        got = computed(f, q, k, v)
        np.testing.assert_allclose(got, exact(q, k, v, 1.0, bias=-np.asarray(q[0, 0, :S])), atol=2e-6)
        return
    rows = found(f, q, k, v)
    assert (reason is None and not rows) or (rows and all(reason in str(row.reason) for row in rows)), rows
    program, _ = compat.trace(f, q, k, v)
    again, _ = compat.trace(rewritten(program, WRITTEN, gradient=False), q, k, v)
    assert [e.primitive.name for e in again.equations] == [e.primitive.name for e in program.equations]


SHAPES = {
    "float32": ({"dtype": jnp.float32}, {}, "cuDNN takes bfloat16 and float16"),
    "a wide head": ({"head": 136}, {}, "at most 128"),
    "a head of 12": ({"head": 12}, {}, "multiple of 8"),
    "odd lengths with a mask": ({"queries": 5}, {"mask": jnp.ones((5, S), bool).at[1, 1].set(False)}, "odd lengths"),
    "odd lengths with a bias": ({"keys": 5}, {"bias": jnp.ones((1, 1, 5), jnp.bfloat16)}, "odd lengths"),
    "a wide bias": ({}, {"bias": BIAS, "wide": True}, "more digits"),
    "a bias in float16": ({"dtype": jnp.float16}, {"bias": BIAS.astype(jnp.float16)}, "float16"),
    "one key": ({"keys": 1}, {}, "nothing to attend to"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_cudnn_does_not_take_is_known_from_shapes(name):
    settings, options, reason = SHAPES[name]
    q, k, v = operands(**{"dtype": jnp.bfloat16, **settings})
    (row,) = found(lambda q, k, v: plain(q, k, v, **options), q, k, v, how=CUDNN, here=False)
    assert reason in str(row.reason), row
    (row,) = found(plain, *operands(dtype=jnp.bfloat16, queries=5, keys=5), how=CUDNN, here=False)
    assert row.reason is None


def test_values_of_another_width_than_the_keys():
    q, k, _ = operands(dtype=jnp.bfloat16)
    v = jnp.ones((S, 2, 16), jnp.bfloat16)
    (row,) = found(plain, q, k, v, how=CUDNN, here=False)
    assert "other width" in str(row.reason)
    q, k, _ = operands()
    v = jax.random.normal(jax.random.key(0), (S, 2, 3))
    np.testing.assert_allclose(computed(plain, q, k, v), exact(q, k, v), atol=2e-6)
