"""Logarithms of sums of exponentials, and other functions that take their largest value out, keep relevance."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain.explain.backward import relevance

W = jnp.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
X = jnp.array([1.0, 3.0, 2.0])
Z = X @ W  # 5, 11, 5
MASK = np.array([True, False, True])
B = np.array([0.5, 2.0, 1.5], np.float32)
SOFTMAX = np.exp(np.array([5.0, 11.0, 5.0]) - 11) / np.exp(np.array([5.0, 11.0, 5.0]) - 11).sum()


def lrp(f, x=X, stabiliser=1e-6):
    return jaxplain.lrp(f, relevance.epsilon(stabiliser))(x)


@pytest.mark.slow
def test_numbers_by_hand():
    # sum_k softmax_k f x_i w_ik / z_k, of z = (5, 11, 5): what log(exp(z).sum()) gives
    lse = lambda x: jax.nn.logsumexp(x @ W)  # noqa: E731
    score = float(lse(X))
    right = np.asarray(X) * (np.asarray(W) @ (SOFTMAX / np.asarray(Z))) * score
    np.testing.assert_allclose(right, [0.0163, 8.976, 2.0127], rtol=3e-3)
    for f in (lse, lambda x: jnp.log(jnp.exp(x @ W).sum())):
        np.testing.assert_allclose(lrp(f), right, rtol=1e-5)
    own = np.asarray(X * W[:, 1])
    for f in (lambda x: (x @ W)[1] - lse(x), lambda x: jax.nn.log_softmax(x @ W)[1]):
        np.testing.assert_allclose(lrp(f), own - right, rtol=1e-2, atol=2e-5)
        np.testing.assert_allclose(lrp(f).sum(), f(X), atol=1e-5)
    np.testing.assert_allclose(own - right, [-0.0163, 0.0241, -0.0127], atol=1e-4)


@pytest.mark.slow
def test_cross_entropy_of_optax():
    labels = jax.nn.one_hot(1, 3)
    losses = {
        "one hot": lambda x: optax.softmax_cross_entropy(x @ W, labels),
        "integer": lambda x: optax.softmax_cross_entropy_with_integer_labels(x @ W, jnp.array(1)),
    }
    for name, f in losses.items():
        np.testing.assert_allclose(lrp(f), [0.0163, -0.0241, 0.0127], atol=1e-4, err_msg=name)


def by_hand(z):
    m = z.max()
    return m + jnp.log(jnp.sum(jnp.exp(z - m)))


def kept(z):
    m = jnp.max(z, axis=-1, keepdims=True)
    return (jnp.log(jnp.exp(z - m).sum(-1, keepdims=True)) + m)[..., 0]


# The function, and the plain spelling that it has to equal.
SPELLINGS = {
    "plain": (jax.nn.logsumexp, lambda z: jnp.log(jnp.exp(z).sum())),
    "by hand": (by_hand, lambda z: jnp.log(jnp.exp(z).sum())),
    "kept axis": (kept, lambda z: jnp.log(jnp.exp(z).sum())),
    "einsum": (
        lambda z: z.max() + jnp.log(jnp.einsum("i,i", jnp.exp(z - z.max()), jnp.asarray(B, z.dtype))),
        lambda z: jnp.log((B * jnp.exp(z)).sum()),
    ),
    "mask": (lambda z: jax.nn.logsumexp(z, where=MASK), lambda z: jnp.log((MASK * jnp.exp(z)).sum())),
    "weights": (lambda z: jax.nn.logsumexp(z, b=B), lambda z: jnp.log((B * jnp.exp(z)).sum())),
    "both": (lambda z: jax.nn.logsumexp(z, b=B, where=MASK), lambda z: jnp.log((MASK * B * jnp.exp(z)).sum())),
    "with sign": (lambda z: jax.nn.logsumexp(z, b=B, return_sign=True)[0], lambda z: jnp.log((B * jnp.exp(z)).sum())),
    "temperature": (lambda z: jax.nn.logsumexp(4 * z) / 4, lambda z: jnp.log(jnp.exp(4 * z).sum()) / 4),
    "axes": (
        lambda z: jax.nn.logsumexp(jnp.stack([z, z[::-1] / 2]), axis=(0, 1)),
        lambda z: jnp.log(jnp.exp(jnp.stack([z, z[::-1] / 2])).sum()),
    ),
    "rows": (
        lambda z: jax.nn.logsumexp(jnp.stack([z, z[::-1] / 2]), axis=1, keepdims=True)[1, 0],
        lambda z: jnp.log(jnp.exp(z / 2).sum()),
    ),
    "vmap": (
        lambda z: jax.vmap(jax.nn.logsumexp)(jnp.stack([z, z / 2])).sum(),
        lambda z: jnp.log(jnp.exp(jnp.stack([z, z / 2])).sum(1)).sum(),
    ),
    "jit": (jax.jit(jax.nn.logsumexp), lambda z: jnp.log(jnp.exp(z).sum())),
    "mean": (lambda z: jax.nn.logsumexp(z) - jnp.log(3.0), lambda z: jnp.log(jnp.exp(z).sum()) - jnp.log(3.0)),
    "two": (lambda z: jnp.logaddexp(z[0], z[1]), lambda z: jnp.log(jnp.exp(z[0]) + jnp.exp(z[1]))),
    "two, base 2": (lambda z: jnp.logaddexp2(z[0], z[1]), lambda z: jnp.log2(2 ** z[0] + 2 ** z[1])),
    "two, wider": (
        lambda z: jnp.logaddexp(z, z[:1] + 0.0).sum(), lambda z: jnp.log(jnp.exp(z) + jnp.exp(z[:1] + 0.0)).sum(),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_gives_what_the_plain_one_gives(name):
    f, plain = SPELLINGS[name]
    z, z0 = np.array([0.5, 1.25, -0.75]), np.array([-0.25, 1.5, -0.75])
    for wide in (True, False):
        dtype, digits = (np.float64, 1e-7) if wide else (np.float32, 1e-5)
        with jax.enable_x64() if wide else contextlib.nullcontext():
            x, start = jnp.asarray(z, dtype), jnp.asarray(z0, dtype)
            r = lrp(f, x)
            np.testing.assert_allclose(r, lrp(plain, x), rtol=digits, atol=digits)
            constant = np.log(3.0) if name == "mean" else 0.0  # which takes its part of the score
            np.testing.assert_allclose(r.sum(), f(x) + constant, rtol=digits, atol=digits)
            a = jaxplain.deep_lift(f, baseline=start)(x)
            np.testing.assert_allclose(a.sum(), f(x) - f(start), rtol=digits, atol=digits)
            np.testing.assert_allclose(a, jaxplain.deep_lift(plain, baseline=start)(x), rtol=100 * digits, atol=digits)


@pytest.mark.slow
def test_where_the_parts_are_no_group_the_shift_is_left_out():
    """Weights that vary, and moves between the parts, give what the spelling without a shift gives."""

    def moved(z, shift):
        e = jnp.exp(z - shift)
        return (e.reshape(1, 3).T / jnp.broadcast_to(e.sum(), (3, 1)))[1, 0]

    def weighted(z, shift):
        return jnp.log((jax.nn.sigmoid(z) * jnp.exp(z - shift)).sum()) + shift

    z = jnp.array([0.5, 1.25, -0.75])
    for f in (moved, weighted):
        for shift in (lambda z: jax.lax.stop_gradient(z.max()), jnp.max):
            r = lrp(lambda z, f=f, shift=shift: f(z, shift(z)), z)
            np.testing.assert_allclose(r, lrp(lambda z, f=f: f(z, 0.0), z), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(r.sum(), f(z, 0.0), rtol=1e-5)
    varying = lambda z: jax.nn.logsumexp(z, b=jax.nn.sigmoid(z))  # noqa: E731
    np.testing.assert_allclose(lrp(varying, z), lrp(lambda z: weighted(z, 0.0), z), rtol=1e-4, atol=1e-6)


def test_logits_far_apart_stay_finite():
    x, start = jnp.array([300.0, -300.0, 0.0]), jnp.array([-300.0, 300.0, 0.0])
    for f in (jax.nn.logsumexp, lambda z: jnp.logaddexp(z[0], z[1])):
        np.testing.assert_allclose(lrp(f, x), [300.0, 0.0, 0.0], atol=1e-3)
        a = jaxplain.deep_lift(f, baseline=start)(x)
        np.testing.assert_allclose(a.sum(), f(x) - f(start), atol=1e-3)
        other = jaxplain.deep_lift(f, baseline=0 * x)(x)
        np.testing.assert_allclose(other.sum(), f(x) - f(0 * x), rtol=1e-4)
    masked = lambda z: jax.nn.logsumexp(jnp.where(jnp.array(MASK), z, -jnp.inf))  # noqa: E731
    assert lrp(masked, x)[1] == 0
    np.testing.assert_allclose(jaxplain.deep_lift(masked)(x).sum(), masked(x) - masked(0 * x), rtol=1e-4)


@pytest.mark.slow
def test_log_softmax_conserves_with_masks_and_axes():
    z = jnp.array([[0.5, 1.25, -0.75], [2.0, 0.1, 0.3]])
    forms = {
        "one": lambda z: jax.nn.log_softmax(z)[0, 1],
        "all": lambda z: (jax.nn.log_softmax(z) * jnp.array([[1.0, -2.0, 0.5]])).sum(),
        "axis": lambda z: jax.nn.log_softmax(z, axis=0)[1, 0],
        "both axes": lambda z: jax.nn.log_softmax(z, axis=(0, 1))[1, 0],
        "masked": lambda z: jax.nn.log_softmax(jnp.where(jnp.array(MASK)[None], z, -jnp.inf))[0, 0],
    }
    for name, f in forms.items():
        r = lrp(f, z)
        np.testing.assert_allclose(r.sum(), f(z), rtol=1e-5, err_msg=name)
        assert float(jnp.abs(r).sum()) > 0.1
    plain = lambda z: z[0, 1] - jnp.log(jnp.exp(z).sum(1))[0]  # noqa: E731
    np.testing.assert_allclose(lrp(forms["one"], z), lrp(plain, z), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_hypotenuse_is_its_gradient_times_its_input():
    f = lambda x: jnp.hypot(x[0], x[1])  # noqa: E731
    for x in (jnp.array([3.0, 4.0]), jnp.array([-4.0, 3.0])):
        np.testing.assert_allclose(lrp(f, x), x**2 / 5, rtol=1e-6)
        np.testing.assert_allclose(lrp(lambda x: jnp.sqrt(x[0] ** 2 + x[1] ** 2), x), x**2 / 5, rtol=1e-6)
    wider = lambda x: jnp.hypot(x[:, None], x[None] * 1.0).sum()  # noqa: E731
    x = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(lrp(wider, x), x * jax.grad(wider)(x), rtol=1e-5)
    start = jnp.array([1.0, 2.0])
    a = jaxplain.deep_lift(f, baseline=start)(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(a.sum(), 5 - np.sqrt(5), rtol=1e-5)
    assert lrp(f, jnp.zeros(2)).tolist() == [0, 0]


def test_what_arrives_where_terms_cancel_is_lost_and_accounted_for():
    f = lambda x: jnp.exp(x[0] - x[1]) + 2 * x[2]  # noqa: E731
    x = jnp.array([5.0, 5.0, 1.5])
    np.testing.assert_allclose(lrp(f, x), [0.0, 0.0, 3.0], rtol=1e-6)
    balance = jaxplain.relevance_balance(f, relevance.epsilon())(x)
    lost = dict(zip(balance.operations, balance.lost, strict=True))
    np.testing.assert_allclose(lost["sub"], 1.0, rtol=1e-6)
    assert balance.amplified() == ()
    near = x.at[0].add(1e-5)
    (row,) = jaxplain.relevance_balance(f, relevance.epsilon())(near).amplified()
    assert row.operation == "sub"
    assert row.factor > 1e5
