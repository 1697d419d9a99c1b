"""One small dataset, model and set of explanations for the tests of the driver, in this process and in others."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain.aggregate import combine, moments, top_k

COUNT, CLASSES = 43, 4


def arrays(count=COUNT):
    generator = np.random.default_rng(0)
    params = {
        "first": generator.normal(size=(12, 16)).astype(np.float32),
        "second": generator.normal(size=(16, CLASSES)).astype(np.float32),
    }
    x = generator.normal(size=(count, 4, 3)).astype(np.float32)
    return params, x, generator.integers(0, CLASSES, count)


def network(params, x):
    return jnp.tanh(x.reshape(x.shape[0], -1) @ params["first"]) @ params["second"]


def score(params):
    return jaxplain.logit(network, params)


def deterministic(params):
    return jaxplain.integrated_gradients(score(params), steps=8)


def random(params):
    return jaxplain.smoothgrad(jaxplain.gradient(score(params)), sigma=0.1, samples=3)


def adaptive(params):
    return jaxplain.integrated_gradients(score(params), steps=8, tolerance=1e-4)


def aggregate():
    return combine(mean=moments(CLASSES), best=top_k(3))
