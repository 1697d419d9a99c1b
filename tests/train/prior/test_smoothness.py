"""On digits: a prior of smoothness makes attributions smooth and stable, and costs no accuracy that can be measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits

import jaxplain
from jaxplain import evaluate, train

KEYS = jax.random.split(jax.random.key(0), 5)


def network(params, x):
    hidden = jnp.tanh(x.reshape(len(x), -1) @ params["w"] + params["b"][None])
    return hidden @ params["v"]


def start(key):
    first, second = jax.random.split(key)
    return {
        "w": jax.random.normal(first, (64, 32)) / 8,
        "b": jnp.zeros(32),
        "v": jax.random.normal(second, (32, 10)) / 32**0.5,
    }


def method(params):
    return jaxplain.gradient(jaxplain.log_probability(network, params))


def variation(a):
    """Total variation of each map `[N, 8, 8, 1]`, and for each unit of its absolute values."""
    total = sum(jnp.abs(jnp.diff(a, axis=axis)).sum(axis=(1, 2, 3)) for axis in (1, 2))
    return total, total / jnp.abs(a).sum(axis=(1, 2, 3))


@pytest.mark.slow
@pytest.mark.optimized
def test_smoothness_of_attributions_costs_no_accuracy_and_makes_them_stable():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = jnp.asarray(x[order].reshape(-1, 8, 8, 1) / 16, jnp.float32), jnp.asarray(y[order])
    data, (asked, labels) = (x[:800], y[:800]), (x[800:], y[800:])

    def of(key, weight):
        penalty = train.attribution_prior(method, weight=weight)
        params = train.fit(
            network, start(key), data, key=key, epochs=30, batch_size=40, penalty=penalty, optimizer=optax.adam(0.01)
        ).params
        hits = jnp.argmax(network(params, asked), axis=1) == labels
        maps = jax.vmap(method(params))(asked[:200], labels[:200])
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(200))
        changes = [
            jax.vmap(evaluate.max_sensitivity(method(params), radius=0.1, relative=relative))(
                keys, asked[:200], labels[:200]
            )
            for relative in (True, False)
        ]
        return hits.astype(jnp.float32), *(part.mean() for part in (*variation(maps), *changes))

    plain, smooth = (jax.jit(jax.vmap(of, in_axes=(0, None)))(KEYS, weight) for weight in (0.0, 0.1))
    hits, now = np.asarray(plain[0]), np.asarray(smooth[0])
    # Total variation, the same without what smaller values do to it, and the largest change around an example, with and
    # without the divisor: of each of five runs.
    for before, after, share in zip(plain[1:], smooth[1:], (0.7, 0.85, 0.7, 0.7), strict=True):
        assert (np.asarray(after) < share * np.asarray(before)).all(), (before, after)
    lost = (hits - now).mean(axis=0)
    half = 1.96 * lost.std(ddof=1) / len(lost) ** 0.5
    assert hits.mean() > 0.93
    assert lost.mean() <= half, (hits.mean(), now.mean(), half)
