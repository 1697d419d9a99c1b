"""CRAFT on networks of three frameworks, in three precisions: the same concepts whatever made the model."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept

K = np.asarray(jax.random.normal(jax.random.key(0), (3, 3, 2, 5)) / 3)
W = np.asarray(jax.random.normal(jax.random.key(1), (5, 3)))
X = jax.random.uniform(jax.random.key(2), (4, 10, 12, 2))


class Features(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(5, (3, 3), use_bias=False, name="conv")(x))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, use_bias=False, name="out")(Features(name="features")(x).mean(axis=(1, 2)))


class HaikuFeatures(hk.Module):
    def __call__(self, x):
        return jax.nn.relu(hk.Conv2D(5, 3, with_bias=False, name="conv")(x))


def haiku_net(x):
    return hk.Linear(3, with_bias=False, name="out")(HaikuFeatures(name="features")(x).mean(axis=(1, 2)))


class EquinoxFeatures(eqx.Module):
    conv: eqx.nn.Conv2d

    def __call__(self, x):
        h = self.conv(jnp.moveaxis(x, -1, 0))
        return jax.nn.relu(jnp.moveaxis(h, 0, -1))


class Equinox(eqx.Module):
    features: EquinoxFeatures
    out: jax.Array

    def __call__(self, x):
        return self.features(x).mean(axis=(0, 1)) @ self.out


def models(dtype):
    """Scores of one network, by framework."""
    k, w = jnp.asarray(K, dtype), jnp.asarray(W, dtype)
    linen = {"params": {"features": {"conv": {"kernel": k}}, "out": {"kernel": w}}}
    net = hk.without_apply_rng(hk.transform(haiku_net))
    haiku = {"features/conv": {"w": k}, "out": {"w": w}}
    conv = eqx.nn.Conv2d(2, 5, 3, padding=1, use_bias=False, key=jax.random.key(0))
    conv = eqx.tree_at(lambda c: c.weight, conv, jnp.moveaxis(k, (2, 3), (1, 0)))
    module = Equinox(EquinoxFeatures(conv), w)

    def equinox(x, label):
        return module(x)[label]

    return {
        "linen": jaxplain.logit(Linen().apply, linen),
        "haiku": jaxplain.logit(net.apply, haiku),
        "equinox": equinox,
    }


def found_in(dtype):
    x = X.astype(dtype)
    return {
        name: concept.craft(f, "features", x, 1, k=3, window=5, samples=8, key=jax.random.key(3))
        for name, f in models(dtype).items()
    }


def same(found, right, tolerance):
    for name, one in found.items():
        np.testing.assert_allclose(one.dictionary.atoms, right.dictionary.atoms, atol=tolerance, err_msg=name)
        np.testing.assert_allclose(one.importance, right.importance, atol=10 * tolerance, err_msg=name)


@pytest.mark.slow
def test_the_same_concepts_whatever_made_the_model():
    found = found_in(jnp.float32)
    same(found, found["linen"], 1e-4)
    assert {one.dictionary.atoms.dtype for one in found_in(jnp.bfloat16).values()} == {jnp.dtype("float32")}


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_same_concepts_in_double_precision():
    found = found_in(jnp.float64)
    same(found, found["linen"], 1e-8)
    assert {one.dictionary.atoms.dtype for one in found.values()} == {jnp.dtype("float64")}
