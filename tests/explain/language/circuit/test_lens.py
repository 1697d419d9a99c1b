"""Lenses and the detached Jacobian: closed forms, exactness in double precision, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from jaxplain.explain.language.circuit.held import RULES
from shared.attending import blocks, normalized, weights

PARAMS = weights(jax.random.key(1), 2, 4, 2, 5)
UNEMBED = jax.random.normal(jax.random.key(2), (4, 7))
X = jax.random.normal(jax.random.key(0), (3, 4))


def logits(x):
    return normalized(blocks(x, PARAMS, 2)) @ UNEMBED


def test_the_logit_lens_reads_with_what_follows_the_last_layer():
    found = language.lens(logits, "block_?")(X)
    assert list(found) == ["block_0", "block_1"]
    np.testing.assert_allclose(found["block_1"], logits(X), atol=1e-6)
    np.testing.assert_allclose(found["block_0"], normalized(blocks(X, PARAMS[:1], 2)) @ UNEMBED, atol=1e-6)


def test_the_jacobian_lens_of_a_linear_rest_is_that_rest():
    def linear(x):
        for number in range(2):
            with jax.named_scope(f"block_{number}"):
                x = jnp.tanh(x) if number == 0 else x @ PARAMS[0]["q"]
        return x @ UNEMBED

    found = language.lens(linear, "block_?", "jacobian")(X)
    np.testing.assert_allclose(found["block_0"], jnp.tanh(X) @ PARAMS[0]["q"] @ UNEMBED, atol=1e-5)
    np.testing.assert_allclose(found["block_1"], linear(X), atol=1e-5)


@pytest.mark.slow
def test_a_tuned_lens_learns_the_map_that_the_model_is():
    turn = jnp.array([[0.0, 1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 0, 1.0], [0, 0, 1.0, 0]])

    def model(x):
        with jax.named_scope("block_0"):
            h = x + 1
        with jax.named_scope("block_1"):
            h = h @ turn + jnp.array([0.3, -0.2, 0.1, 0])
        return h @ UNEMBED

    rows = jax.random.normal(jax.random.key(3), (256, 4))
    import optax

    translators = jaxplain.train.tuned_lens(
        model, "block_?", rows, key=jax.random.key(0), epochs=60, optimizer=optax.adam(3e-2)
    )
    read = language.lens(model, "block_?", "tuned", translators=translators)
    started = language.lens(model, "block_?").divergences(language.lens(model, "block_?").start(X[0]), X[0])
    gaps = [float(read.divergences(translators, x)[0]) for x in X]
    assert max(gaps) < 0.02 < 0.2 < float(started[0])
    np.testing.assert_allclose(read(X[0])["block_1"], model(X[0]), atol=1e-6)


def affine(x):
    """Without biases or offsets, but where the activation has one."""
    return (normalized(blocks(x, PARAMS, 2))[-1] @ UNEMBED)[3]


def with_offsets(x, softplus=False):
    y = normalized(blocks(x + 0.5, PARAMS, 2)) + 0.3
    y = jax.nn.gelu(y @ UNEMBED + 0.1) if not softplus else jax.nn.softplus(y @ UNEMBED)
    return y[-1].sum() + 2.0


@pytest.mark.slow
def test_the_detached_map_is_the_score_in_double_precision(monkeypatch):
    with jax.enable_x64(True):
        for name in ("PARAMS", "UNEMBED"):
            wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), globals()[name])
            monkeypatch.setitem(globals(), name, wide[:1] if name == "PARAMS" else wide)
        x = jnp.asarray(np.asarray(X), jnp.float64)
        for f in (affine, with_offsets, lambda x: with_offsets(x, True)):
            linear, value, gradient = jax.jit(lambda x, f=f: (language.detached(f)(x), f(x), jax.grad(f)(x)))(x)
            (j,), (at,) = linear.jacobian, linear.x
            np.testing.assert_allclose(linear.offset + (j * at).sum(), value, atol=1e-10, rtol=0)
            assert jnp.abs(j - gradient).max() > 1e-3
            if f is affine:
                assert abs(linear.offset) < 1e-10
        plain = jax.jit(language.detached(affine, rules=()))(x)
        np.testing.assert_allclose(plain.jacobian[0], jax.grad(affine)(x), atol=1e-10)


@pytest.mark.slow
def test_token_ids_are_the_embeddings_that_they_look_up():
    table = jax.random.normal(jax.random.key(4), (6, 4))
    f = lambda ids: affine(table[ids] + 0.1)  # noqa: E731
    ids = jnp.array([3, 1, 5])
    linear = jax.jit(language.detached(f))(ids)
    np.testing.assert_allclose(linear.x[0], table[ids])
    np.testing.assert_allclose(linear.offset + (linear.jacobian[0] * linear.x[0]).sum(), f(ids), rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: language.lens(logits, "block_?", "linear"), "lens: `how` is 'linear'"),
        (lambda: language.lens(logits, "blocks_?")(X), "lens: .*'blocks_\\?'"),
        (lambda: language.lens(logits, 3), "`paths` has to be a path"),
        (
            lambda: language.lens(logits, ["block_0/attention/~queries", "block_1"])(X),
            "Pass paths of layers of one shape",
        ),
        (lambda: language.lens(logits, "block_?", "tuned")(X), "no translator for 'block_0'"),
        (
            lambda: jaxplain.train.tuned_lens(logits, "block_1", X[None], key=jax.random.key(0)),
            "is one layer, the last",
        ),
        (lambda: language.detached(logits)(X), "has to return one number"),
        (lambda: language.detached(affine, rules="relu"), "`rules` is 'relu'"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_every_rule_has_a_name():
    assert RULES == ("normalization", "softmax", "activation", "product")
