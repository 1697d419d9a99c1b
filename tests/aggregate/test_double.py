"""Means and variances of double precision values are right to double precision, whatever counts them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.aggregate import moments
from jaxplain.program import chunked_moments

VALUES = np.random.default_rng(0).normal(size=(23, 5)) + 3.0
LABELS = np.arange(23) % 3


@pytest.mark.parametrize("classes", [None, 3])
def test_moments(classes):
    with jax.enable_x64(True):
        aggregator = moments(classes)
        state = aggregator.init(jax.ShapeDtypeStruct((5,), jnp.float64))
        for start in range(0, 23, 7):  # batches of unequal lengths
            batch = slice(start, start + 7)
            state = aggregator.update(state, VALUES[batch], label=LABELS[batch])
        found = aggregator.compute(state)
    groups = [VALUES] if classes is None else [VALUES[k == LABELS] for k in range(3)]
    for name, expected in (
        ("mean", np.mean),
        ("mean_absolute", lambda v, axis: abs(v).mean(axis)),
        ("variance", np.var),
    ):
        np.testing.assert_allclose(
            np.reshape(getattr(found, name), (-1, 5)), [expected(group, axis=0) for group in groups], rtol=1e-13
        )


@pytest.mark.parametrize("size", [1, 4])
def test_moments_of_a_loop(size):
    with jax.enable_x64(True):
        mean, square = chunked_moments(lambda x: x, jnp.asarray(VALUES), size)
    np.testing.assert_allclose(mean, VALUES.mean(0), rtol=1e-14)
    np.testing.assert_allclose(square, 23 * VALUES.var(0), rtol=1e-13)


@pytest.mark.slow
def test_variances_of_noisy_gradients():
    with jax.enable_x64(True):
        x, key = jnp.asarray(VALUES[0]), jax.random.key(1)
        e = jaxplain.vargrad(lambda x: x, sigma=0.3, samples=9)
        found = e(key, x)
        wide = jax.vmap(lambda i: jaxplain.vargrad(lambda x: x, sigma=0.3, samples=9, batch_size=9)(key, x) + 0 * i)(
            jnp.arange(1.0)
        )[0]
        np.testing.assert_allclose(found, wide, rtol=1e-13)
    assert found.dtype == np.float64
