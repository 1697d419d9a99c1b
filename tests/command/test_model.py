"""What `--model` may return, and that the function it becomes is the model in evaluation mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxplain.command import model
from jaxplain.train import as_trainable, save

X = jnp.arange(6.0).reshape(2, 3)


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        x = linen.Dropout(0.9, deterministic=not train)(x)
        return linen.Dense(2, name="dense")(x)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.dense, self.dropout = nnx.Linear(3, 2, rngs=rngs), nnx.Dropout(0.9, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.dropout(x))


def made(found, **settings):
    given = {"checkpoint": None, "at": "", **settings}
    apply, params = model.built(lambda: found, "tiny.py:build", lambda: X[:1], **given)
    return as_trainable(apply), params


def test_functions_linen_and_nnx(tmp_path):
    module = Dense()
    params = module.init(jax.random.key(0), X)
    expected = module.apply(params, X, train=False)
    for found in ((module.apply, params), (module, params)):
        apply, own = made(found)
        np.testing.assert_allclose(apply(own, X), expected, rtol=1e-6)
    save(tmp_path / "run" / "params", params)
    for folder in ("run", "run/params"):
        apply, own = made(module, checkpoint=str(tmp_path / folder))
        np.testing.assert_allclose(apply(own, X), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="without parameters; pass --checkpoint"):
        made(module)
    network = Model(nnx.Rngs(0))
    apply, own = made(network)
    network.eval()
    np.testing.assert_allclose(apply(own, X), network(X), rtol=1e-6)
    apply, own = made((lambda params, x: x @ params, jnp.ones((3, 2))))
    np.testing.assert_array_equal(apply(own, X), X @ jnp.ones((3, 2)))


@pytest.mark.slow
def test_equinox():
    eqx = pytest.importorskip("equinox", reason="Equinox models are read where Equinox is installed")

    class Plain(eqx.Module):
        layer: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __call__(self, x, *, key=None):
            return self.layer(self.dropout(x, key=key))

    class Two(eqx.Module):
        weight: jax.Array

        def __call__(self, x, state):
            return x, state

    layer = eqx.nn.Linear(3, 2, key=jax.random.key(0))
    apply, params = made(Plain(layer, eqx.nn.Dropout(0.9)))
    np.testing.assert_allclose(apply(params, X), jax.vmap(layer)(X), rtol=1e-6)
    trained, _ = apply.train(params, (X,), jax.random.key(1))
    assert not np.allclose(trained, jax.vmap(layer)(X))
    apply, params = made(layer)
    np.testing.assert_allclose(apply(params, X), jax.vmap(layer)(X), rtol=1e-6)
    with pytest.raises(TypeError, match=r"takes x, state; write def build\(\): return apply, params"):
        made(Two(jnp.ones(2)))


def test_anything_else_is_answered_with_what_to_write():
    for wrong in (None, [1], {"w": 1}, (1, 2), (1, 2, 3), np.ones(2), "model"):
        with pytest.raises(TypeError, match=r"returned \w+; write def build\(\): return apply, params"):
            made(wrong)
