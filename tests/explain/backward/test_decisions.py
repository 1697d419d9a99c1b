"""What a model decides by its input: DeepLIFT takes the effect in, completely, or refuses it by name."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain

W = jax.random.normal(jax.random.key(0), (6, 6))
V = jax.random.normal(jax.random.key(1), (6, 6, 3))
w = jax.random.normal(jax.random.key(2), (6,))


def sparse_experts(x):
    """A switch: the best expert's layer is looked up."""
    best = jnp.argmax(x @ W)
    return (x @ V[best]).sum() * jax.nn.softmax(x @ W)[best]


def top_experts(x):
    gates, chosen = lax.top_k(x @ W, 2)
    return jax.nn.softmax(gates) @ jnp.einsum("d,kde->k", x, V[chosen])


def dense_experts(x):
    """Every expert runs, and the gates of those that are not chosen are zero."""
    logits = x @ W
    gates = jax.nn.softmax(logits) * jax.nn.one_hot(lax.top_k(logits, 2)[1], 6).sum(0)
    return gates @ jnp.einsum("d,kde->k", x, V)


def only_the_largest(x, hidden):
    logits = x @ W
    return jax.nn.softmax(jnp.where(logits >= lax.top_k(logits, 2)[0][1], logits, hidden)) @ w


def in_a_loop(x):
    return lax.scan(lambda h, _: (h + W @ W[jnp.argmax(h)] * (h @ W[jnp.argmax(h)]), None), x, None, length=2)[0] @ w


REFUSED = {
    "a row by argmax": (lambda x: W[jnp.argmax(x)] @ x, "argmax", "matmul"),
    "one-hot of argmax": (lambda x: jax.nn.one_hot(jnp.argmax(x), 6) @ (W @ x), "argmax", "matmul"),
    "one-hot alone": (lambda x: jax.nn.one_hot(jnp.argmax(x), 6) @ w, "argmax", "score itself"),
    "argsort": (lambda x: x[jnp.argsort(x)] @ w, "sort", "gather"),
    "take along": (lambda x: jnp.take_along_axis(W @ x, jnp.argsort(x)[:2], 0).sum(), "sort", "gather"),
    "a slice by argmax": (lambda x: lax.dynamic_slice(x, (jnp.argmax(x),), (2,)).sum(), "argmax", "dynamic_slice"),
    "a roll": (lambda x: jnp.roll(x, jnp.argmax(x)) @ w, "argmax", "dynamic_slice"),
    "set at": (lambda x: (W @ x).at[jnp.argmax(x)].set(0.0) @ w, "argmax", "scatter"),
    "added at": (lambda x: (W @ x).at[jnp.argmax(x)].add(x[0]) @ w, "argmax", "scatter_add"),
    "a switch of experts": (sparse_experts, "argmax", "matmul"),
    "top-k experts": (top_experts, "top_k", "matmul"),
    "a mask of -inf": (functools.partial(only_the_largest, hidden=-jnp.inf), "ge", "select_n"),
    "a mask of the smallest": (functools.partial(only_the_largest, hidden=-3e38), "ge", "select_n"),
    "a cast": (lambda x: W[x[0].astype(int)] @ x, "convert_element_type", "matmul"),
    "a count": (lambda x: (x > 0).sum().astype(float), "gt", "score itself"),
    "a histogram": (lambda x: jnp.histogram(x, 3, range=(-2.0, 2.0))[0].astype(float) @ w[:3], "eq", "score itself"),
    "joined": (lambda x: jnp.concatenate([x, jax.nn.one_hot(jnp.argmax(x), 6)]).sum(), "argmax", "concatenate"),
    "compared": (lambda x: jnp.maximum(x, jax.nn.one_hot(jnp.argmax(x), 6)) @ w, "argmax", "max"),
    "in a loop": (in_a_loop, "argmax", "matmul"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_multiplier_carries_is_refused_by_name(name):
    f, decision, place = REFUSED[name]
    x = jax.random.normal(jax.random.key(3), (6,))
    for rule in ("rescale", "reveal_cancel"):
        with pytest.raises(
            ValueError, match=f"what '{decision}' decides depends on `x` and (goes into|is part).*{place}"
        ):
            jaxplain.deep_lift(f, rule=rule)(x)


COMPLETE = {
    "dense experts": dense_experts,
    "a large mask": functools.partial(only_the_largest, hidden=-1e9),
    "a huge mask": functools.partial(only_the_largest, hidden=-1e20),
    "a mask of values": lambda x: ((x > 0).astype(float) * x) @ w,
    "a mean over what counts": lambda x: (x @ w) / ((x > 0).sum() + 1),
    "a choice by a sum": lambda x: jnp.where(x.sum() > 0, x @ w, (x * x).sum()),
    "a clipped norm": lambda x: jnp.where(jnp.linalg.norm(x) > 1, x / jnp.linalg.norm(x), x) @ w,
    "rounding": lambda x: jnp.round(x) @ w + jnp.floor(2 * x).sum(),
    "interpolation": lambda x: jnp.interp(x, jnp.arange(6.0) - 3, w).sum(),
    "pieces": lambda x: jnp.piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v * v]) @ w,
    "without NaN": lambda x: jnp.nan_to_num(x) @ w + jnp.nanmean(x * w),
    "a variance": lambda x: jnp.var(x) + jnp.std(x * w),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPLETE)
def test_choices_between_values_are_complete(name):
    f, b = COMPLETE[name], jax.random.normal(jax.random.key(9), (6,))
    x = jax.random.normal(jax.random.key(3), (8, 6))
    for rule in ("rescale", "reveal_cancel"):
        a = jax.jit(jax.vmap(jaxplain.deep_lift(f, baseline=b, rule=rule)))(x)
        np.testing.assert_allclose(a.sum(1), jax.vmap(f)(x) - f(b), rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_a_decision_that_changes_nothing_else_is_not_a_number():
    # x[0] alone decides: what is chosen between is the same in both runs.
    f = lambda x: jnp.where(x[0] > 0, x[1], x[2])  # noqa: E731
    x, b = jnp.array([1.0, 5.0, 3.0]), jnp.array([-1.0, 5.0, 3.0])
    e = jaxplain.deep_lift(f, baseline=b)
    with pytest.raises(ValueError, match=r"decide differently at 'select_n'"):
        e(x)
    with pytest.raises(ValueError, match=r"decide differently at 'select_n'"):
        jaxplain.deep_shap(f, b[None])(x)
    assert bool(jnp.isnan(jax.jit(e)(x)).any())
    np.testing.assert_allclose(jaxplain.deep_lift(f, baseline=b)(jnp.array([2.0, 6.0, 3.0])).sum(), 3.0, rtol=1e-6)


@pytest.mark.slow
def test_a_model_may_hold_a_decision_and_a_caller_leave_it_out():
    x = jax.random.normal(jax.random.key(3), (6,))
    held = lambda x: W[lax.stop_gradient(jnp.argmax(x))] @ x  # noqa: E731
    free = lambda x: x[jnp.argsort(x)] @ w  # noqa: E731
    assert jaxplain.deep_lift(held)(x).shape == (6,)
    np.testing.assert_allclose(jaxplain.deep_lift(free, rules={"gather": "linear"})(x).sum(), free(x), rtol=1e-5)
