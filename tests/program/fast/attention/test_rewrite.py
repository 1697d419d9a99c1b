"""A fused attention has the derivatives of what is written, in every mode and order, wherever it stands."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program.fast import fast_layout
from jaxplain.program.fast.attention import trial
from jaxplain.program.trace import attention_context
from tests.shared.attentions import HEAD, HEADS, T, count, fused, operands, plain

WIDTH = HEADS * HEAD
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(4, WIDTH, WIDTH)) / 4, jnp.float32)
BIAS = jnp.asarray(np.random.default_rng(2).normal(size=(1, T, T)), jnp.float32)
X = jnp.asarray(np.random.default_rng(0).normal(size=(T, WIDTH)), jnp.float32)
MASK = np.tril(np.ones((T, T), bool))[None]
PADDING = jnp.array([True] * 4 + [False] * 2)


@pytest.fixture
def untried(monkeypatch):
    monkeypatch.setattr(trial, "LARGEST", 0)


def block(weights, x, mask=None, bias=None):
    """A residual block of self-attention on `[T, D]`."""
    q, k, v = (jnp.reshape(x @ w, (T, HEADS, HEAD)) for w in weights[:3])
    mask = None if mask is None else jnp.broadcast_to(mask, (HEADS, T, T))
    bias = None if bias is None else jnp.broadcast_to(bias, (HEADS, T, T))
    return x + jnp.tanh(plain(q, k, v, mask=mask, bias=bias).reshape(x.shape) @ weights[3])


def score(weights, x, keep=PADDING):
    """Two blocks, the second with a mask of keys that is an argument."""
    return jnp.sum(jnp.sin(block(weights, block(weights, x, MASK), keep[None, None])) ** 2)


def stacked(weights, x):
    """Layers in a `scan`, rematerialised."""
    turn = jax.checkpoint(lambda h, w: (block(w, h, None, BIAS), None))
    return jnp.sum(jax.lax.scan(turn, x, weights)[0] ** 3)


def branched(weights, x):
    return jnp.sum(
        jax.lax.cond(x[0, 0] > 0, lambda x: block(weights, x), lambda x: 2 * block(weights, x, MASK), x) ** 2
    )


def closed(f, *first):
    return lambda x, *args: f(*first, x, *args)


SCORES = {
    "blocks": closed(score, WEIGHTS),
    "scan": closed(stacked, jnp.stack([WEIGHTS, 0.5 * WEIGHTS])),
    "cond": closed(branched, WEIGHTS),
    "jit": jax.jit(closed(score, WEIGHTS)),
}
HELD = {"blocks": 2, "scan": 1, "cond": 2, "jit": 2}


def both(f, *args):
    """What a function gives with attentions as written and fused, compiled; a new function each time."""
    want = jax.jit(lambda *args: f(*args))(*args)
    with attention_context("xla"):
        return want, jax.jit(lambda *args: f(*args))(*args)


def agree(f, *args, at=1e-5):
    want, got = both(f, *args)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=at * max(1.0, float(jnp.abs(b).max())), rtol=0)


@pytest.mark.parametrize(
    "name", ["scan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("blocks", "cond", "jit"))]
)
def test_gradients_of_batches(name, untried):
    f = SCORES[name]
    e = jax.vmap(jaxplain.gradient(f))
    batch = jnp.stack([X, -X, 0.5 * X])
    agree(e, batch)
    with attention_context("xla"):
        # Forward and backward of each attention, and what the value of the score takes.
        assert fused(lambda x: e(x), batch) >= 2 * HELD[name]
    assert fused(lambda x: e(x), batch) == 0


def test_forward_passes_and_what_is_made_of_them(untried):
    f = SCORES["blocks"]
    e = jaxplain.occlusion(f, window=(2, WIDTH))
    batch = jnp.stack([X, -X])
    agree(lambda x: fast_layout(jax.vmap(e))(x), batch)
    with attention_context("xla"):
        assert fused(lambda x: fast_layout(jax.vmap(f))(x), batch) == 2


DERIVATIVES = {
    "jvp of the gradient": lambda g, x: jax.jvp(g, (x,), (jnp.cos(x),))[1],
    "gradient of the gradient": jax.grad(lambda g, x: jnp.sum(jnp.sin(g(x))), argnums=1),
    "third": lambda g, x: jax.jvp(jax.grad(lambda x: jnp.sum(jnp.sin(g(x)))), (x,), (jnp.cos(x),))[1],
    "vmap of jvps": lambda g, x: jax.vmap(lambda t: jax.jvp(g, (x,), (t,))[1])(jnp.stack([x, jnp.cos(x)])),
    "scan of gradients": lambda g, x: jax.lax.scan(lambda x, _: (x - 0.01 * g(x), None), x, length=3)[0],
    "linearized": lambda g, x: jax.linearize(g, x)[1](jnp.cos(x)),
}


SLOW = ("third", "linearized", "vmap of jvps", "scan of gradients", "gradient of the gradient")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in DERIVATIVES]
)
def test_derivatives_of_gradients(name, untried):
    agree(functools.partial(DERIVATIVES[name], jaxplain.gradient(SCORES["blocks"])), X, at=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("f", ["scan", "cond"])
def test_derivatives_of_gradients_inside_loops(name, f, untried):
    agree(functools.partial(DERIVATIVES[name], jaxplain.gradient(SCORES[f])), X, at=1e-4)


@pytest.mark.slow
def test_forward_form_has_every_derivative(untried):
    f = fast_layout(SCORES["blocks"])
    agree(lambda x: jax.jvp(f, (x,), (jnp.cos(x),)), X)
    agree(lambda x: jax.grad(f)(x), X)
    agree(lambda x: jax.jvp(jax.grad(f), (x,), (jnp.cos(x),))[1], X, at=1e-4)


@pytest.mark.slow
def test_gradients_of_explanations_with_respect_to_parameters(untried):
    def penalty(weights, bias, x):
        f = lambda x: jnp.sum(block(weights, block(weights, x, MASK), None, bias) ** 2)  # noqa: E731
        return jnp.sum(jaxplain.gradient(f)(x) ** 2)

    agree(jax.grad(penalty, (0, 1)), WEIGHTS, BIAS, X, at=1e-4)


@pytest.mark.slow
def test_a_bias_that_follows_the_input_has_its_gradient(untried):
    def f(x):
        q, k, v = (jnp.reshape(x @ w, (T, HEADS, HEAD)) for w in WEIGHTS[:3])
        near = -jnp.square(x[:, None, :HEADS] - x[None, :, :HEADS])
        return jnp.sum(plain(q, k, v, bias=jnp.moveaxis(near, -1, 0)) ** 2) + jnp.sum(
            plain(q, k, v, bias=near[None, :, :, 0]) ** 2
        )

    agree(jax.vmap(jaxplain.gradient(f)), jnp.stack([X, -X]))


@pytest.mark.slow
def test_arguments_that_only_some_examples_have(untried):
    e = jaxplain.gradient(SCORES["blocks"])
    keeps = jnp.stack([PADDING, ~PADDING, PADDING | True])
    agree(lambda x, keep: jax.vmap(e, (None, 0))(x, keep), X, keeps)
    agree(lambda x, keep: jax.vmap(jax.vmap(e, (0, None)), (None, 0))(x, keep), jnp.stack([X, -X]), keeps)
    crossed = lambda q, k: jnp.sum(plain(q, k, k * 2) ** 2)  # noqa: E731
    q, k, _ = operands()
    agree(lambda q, k: jax.vmap(jaxplain.gradient(crossed), (0, None))(q, k), jnp.stack([q, -q]), k)
    turned = lambda k, q: crossed(q, k)  # noqa: E731
    agree(lambda q, k: jax.vmap(jaxplain.gradient(turned), (0, None))(k, q), q, jnp.stack([k, -k]))


@pytest.mark.slow
def test_barred_queries_have_the_gradient_that_is_written(untried):
    def f(x, fill):
        q, k, v = (jnp.reshape(x @ w, (T, HEADS, HEAD)) for w in WEIGHTS[:3])
        mask = jnp.broadcast_to((jnp.arange(T) != 2)[None, :, None] & PADDING[None, None], (HEADS, T, T))
        return jnp.sum(plain(q, k, v, mask=mask, fill=fill) ** 2)

    agree(lambda x: jaxplain.gradient(lambda x: f(x, -1e9))(x), X)
    want, got = both(lambda x: jax.value_and_grad(lambda x: f(x, -jnp.inf))(x), X)
    assert all(np.isnan(leaf).all() for leaf in (*want, *got))


@pytest.mark.slow
def test_methods_that_need_more_than_gradients(untried):
    f = SCORES["blocks"]
    for e in (
        jaxplain.integrated_hessians(f, steps=2),
        jaxplain.integrated_gradients(f, steps=3),
        jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=2),
    ):
        key = (jax.random.key(0),) if jaxplain.program.needs_key(e) else ()
        agree(e, *key, X, at=1e-4)


def test_who_looks_inside_sees_what_is_written(untried):
    f = jaxplain.logit(lambda weights, x: jax.vmap(functools.partial(named, weights))(x), WEIGHTS)
    agree(lambda x: jaxplain.capture(f, "weights")(x, 0), X)
    agree(lambda x: jaxplain.lrp(f, jaxplain.relevance.epsilon())(x, 0), X)
    agree(lambda x: jaxplain.deep_lift(f)(x, 0), X)
    body, head = jaxplain.split(f, "weights")
    agree(lambda x: jaxplain.gradient(lambda h: head(h, x, 0))(body(x, 0)), X)
    with attention_context("xla"):
        assert fused(lambda x: jaxplain.capture(f, "weights")(x, 0), X) == 0
        assert fused(lambda x: jaxplain.gradient(lambda h: head(h, x, 0))(body(x, 0)), X) == 0


def named(weights, x):
    q, k, v = (jnp.reshape(x @ w, (T, HEADS, HEAD)) for w in weights[:3])
    with jax.named_scope("weights"):
        p = jax.nn.softmax(jnp.einsum("tnh,snh->nts", q, k))
    return jnp.einsum("nts,snd->tnd", p, v).mean((0, 1))


@pytest.mark.slow
def test_on_a_cpu_nothing_changes():
    f = SCORES["blocks"]
    methods = [
        lambda x: jax.vmap(jaxplain.gradient(f))(x),
        lambda x: jaxplain.explain_batch(jaxplain.occlusion(f, window=(2, WIDTH)), x),
    ]
    batch = jnp.stack([X, -X])

    def text(e):
        return jax.jit(lambda x: e(x)).lower(batch).as_text()

    for e in methods:
        as_it_comes = text(e)
        with attention_context("off"):
            assert text(e) == as_it_comes
        with attention_context("xla"):
            assert text(e) != as_it_comes


@pytest.mark.slow
def test_a_call_outside_of_jit_is_computed_as_written():
    with attention_context("xla"):
        np.testing.assert_array_equal(jaxplain.gradient(SCORES["blocks"])(X), jax.grad(SCORES["blocks"])(X))


@pytest.mark.slow
def test_a_wrong_kernel_is_found_by_its_trial():
    from jaxplain.program.fast.attention import WRITTEN, listed, rewrite
    from jaxplain.program.trace import compat

    program, _ = compat.trace(SCORES["blocks"], X)
    wrong = WRITTEN._replace(
        name="wrong", forward=lambda form, q, k, v, *rest: WRITTEN.forward(form, q, 1.1 * k, v, *rest)
    )
    assert all("away from the plain form" in str(row.reason) for row in listed(program, wrong, True))
    assert all(row.reason is None for row in listed(program, wrong, False))
    assert all(row.reason is None for row in listed(program, WRITTEN, True))

    def fails(form, *args):
        raise NotImplementedError("no kernel")

    broken = WRITTEN._replace(name="broken", forward=fails)
    assert all("NotImplementedError: no kernel" in str(row.reason) for row in listed(program, broken, True))
    assert count(compat.trace(lambda x: rewrite.rewritten(program, broken, gradient=True)(x), X)[0]) == 0
