"""What the table of layers counts as parameters: what is trained, and no masks or tables."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jaxplain

MASK = np.tril(np.ones((32, 32), np.float32))
X = jnp.ones((32, 16))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return (jnp.asarray(MASK) @ nn.Dense(4, use_bias=False, name="dense")(x)).sum(-2)


class Equinox(eqx.Module):
    weight: jax.Array
    mask: np.ndarray

    def __call__(self, x):
        return (self.mask @ (x @ self.weight)).sum()


def counted(f, *inputs):
    return sum(layer.parameters for layer in jaxplain.layers(f)(*inputs))


def test_a_mask_is_no_parameter():
    module = Linen()
    variables = module.init(jax.random.key(0), X[None])
    assert counted(jaxplain.logit(module.apply, variables), X, 0) == 64
    model = Equinox(jnp.ones((16, 4)), MASK)
    assert counted(model, X) == 64
    assert counted(lambda x: model(x), X) == 64
    table = jnp.sin(jnp.arange(32.0))[:, None] * jnp.ones((32, 16))
    assert counted(jaxplain.output(lambda p, x: ((x + table[None]) @ p).sum(1), jnp.ones((16, 4))), X, 0) == 64
    weight, far = jnp.linspace(0, 1, 64).reshape(16, 4), jnp.where(MASK > 0, 0.0, -1e9)
    for mask in (jnp.asarray(MASK), far):
        assert counted(lambda x, mask=mask: (jax.nn.softmax(mask) @ (x @ weight)).sum(), X) == 64
