"""DeepLIFT through sorting: the rule against its integral, and complete in every form that a model sorts in."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward.sorting import _mean_passed
from shared.tables import halves


def slow(x, x0, m):
    """The mean of M(s) between x0 and x, interval by interval; m belongs to the largest, the second largest, ..."""
    ends = sorted([*x, *x0])
    result = np.zeros(len(x))
    for i, (a, b) in enumerate(zip(x, x0, strict=True)):
        for low, high in itertools.pairwise(ends):
            if high > low and min(a, b) <= low and high <= max(a, b):
                s = 0.5 * (low + high)
                first, last = sorted((sum(v > s for v in x), sum(v > s for v in x0)))
                share = np.mean(m[first:last]) if last > first else 0.5 * (m[last - 1] + m[last])
                result[i] += share * (high - low)
    return result / np.abs(np.subtract(x, x0))


def test_the_rule_is_its_integral():
    generator = np.random.default_rng(0)
    for size in (2, 7):
        x, x0, m = generator.normal(size=(3, size))
        np.testing.assert_allclose(jax.jit(_mean_passed)(x, x0, m), slow(x, x0, m), rtol=1e-4, atol=1e-5)


def test_by_hand():
    # The larger of (3, 1) from (0, 0): between 0 and 1 both are above, M = (m_1 + m_2) / 2 = 1/2; between 1 and 3 the
    # first alone, M = m_1 = 1. So the first gets 1/2 + 2, the second 1/2.
    f = lambda x: jnp.sort(x)[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(jaxplain.deep_lift(f))(jnp.array([3.0, 1.0])), [2.5, 0.5], rtol=1e-6)
    # Where the order stays: the multiplier of a value's own place, if no other value passes it.
    x, b, w = jnp.array([5.0, -1.0, 2.0]), jnp.array([5.5, -2.0, 3.0]), jnp.array([1.0, 10.0, 100.0])
    a = jax.jit(jaxplain.deep_lift(lambda x: jnp.sort(x) @ w, baseline=b))(x)
    np.testing.assert_allclose(a, (x - b) * jnp.array([100.0, 1.0, 10.0]), rtol=1e-5)
    # What does not change has no effect, whatever passes it; with the runs alike the multipliers are the gradient.
    x, b = jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 2.0, 0.0])
    assert float(jax.jit(jaxplain.deep_lift(lambda x: jnp.sort(x) @ w, baseline=b))(x)[1]) == 0
    np.testing.assert_allclose(jax.jit(_mean_passed)(x, x, w), [100.0, 10.0, 1.0])


W = jnp.array([[0.3, -1.2, 0.8, 0.1], [1.1, 0.4, -0.6, 0.9], [-0.5, 0.7, 0.2, -1.3], [0.6, 0.3, 1.4, -0.2]])

FORMS = {
    "ascending": lambda x: jnp.sort(x) @ W[0],
    "descending": lambda x: jnp.sort(x, descending=True) @ W[0],
    "along the first axis": lambda x: (jnp.sort(jnp.outer(x, W[0]) + W, axis=0) * W).sum(),
    "behind a layer": lambda x: jnp.sort(jax.nn.relu(x @ W)) @ W[1],
    "top-k": lambda x: lax.top_k(x @ W, 2)[0] @ W[0, :2],
    "top-k in rows": lambda x: (lax.top_k(jnp.outer(x, W[0]), 3)[0] * W[:, :3]).sum(),
    "median": lambda x: jnp.median(x @ W) * x[0],
    "quantile": lambda x: jnp.quantile(x, 0.3) + jnp.percentile(x, 80.0),
    "ties": lambda x: jnp.sort(jnp.concatenate([x, x, jnp.zeros(3)])) @ jnp.arange(11.0),
    "masked": lambda x: jnp.exp(jnp.sort(jnp.where(jnp.arange(4) < 3, x, -jnp.inf))) @ W[0],
    "in a loop": lambda x: lax.scan(lambda h, w: (jnp.sort(h * w) + h, None), x, W)[0] @ W[2],
}


@pytest.mark.parametrize("name", halves(list(FORMS)))
@pytest.mark.sampled(4)
def test_sorting_is_complete(name):
    f, x, b = FORMS[name], jax.random.normal(jax.random.key(0), (5, 4)), jax.random.normal(jax.random.key(1), (4,))
    x = x.at[0].set(b.at[0].add(1e-3))
    for rule in ("rescale", "reveal_cancel"):
        a = jax.jit(jax.vmap(jaxplain.deep_lift(f, baseline=b, rule=rule)))(x)
        np.testing.assert_allclose(a.sum(1), jax.vmap(f)(x) - f(b), rtol=1e-4, atol=2e-5)


def test_multipliers_are_bounded_where_differences_vanish():
    x, m = jax.random.normal(jax.random.key(0), (50,)), jax.random.normal(jax.random.key(1), (50,))
    found = jax.jit(_mean_passed)(x, x + 1e-7 * m, m)
    assert float(jnp.abs(found).max()) <= float(jnp.abs(m).max())


def test_values_carried_along_are_refused():
    with pytest.raises(ValueError, match=r"no rule for 'sort'"):
        jaxplain.deep_lift(lambda x: lax.sort((x, x**2), num_keys=1)[1] @ W[0])(jnp.ones(4))
