"""The mean loss as a function of the params: what it is, whatever the blocks, in whichever framework."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import train

KEY = jax.random.key(0)
X, Y = jax.random.normal(KEY, (7, 4)), jnp.arange(7) % 3


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(jnp.tanh(x)))


def plain(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def models():
    """(apply, params, outputs by hand) of three frameworks."""
    module = Normed()
    variables = module.init(KEY, X)
    parts, static = eqx.partition(eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=KEY), eqx.is_array)
    params = {"w": jax.random.normal(KEY, (4, 5)), "v": jax.random.normal(KEY, (5, 3))}
    return {
        "plain": (plain, params, plain(params, X)),
        "linen": (module.apply, variables, module.apply(variables, X, train=False)),
        "equinox": (
            lambda p, x: jax.vmap(eqx.combine(p, static))(x),
            parts,
            jax.vmap(eqx.combine(parts, static))(X),
        ),
    }


def test_it_is_the_mean_whatever_the_blocks():
    for name, (apply, params, outputs) in models().items():
        by_hand = -jax.nn.log_softmax(outputs)[jnp.arange(7), Y]
        for size in (3, 256):
            objective = train.mean_loss(apply, params, (X, Y), batch_size=size)
            np.testing.assert_allclose(objective(params), by_hand.mean(), rtol=1e-6, err_msg=name)
    weights = jnp.array([2.0, 0.0, 1.0, 0.5, 0.0, 0.0, 3.0])
    objective = train.mean_loss(apply, params, (X, Y, weights), batch_size=4)
    np.testing.assert_allclose(objective(params), (weights * by_hand).sum() / 7, rtol=1e-6)


def test_it_is_differentiated_and_compiled_as_any_function():
    apply, params, _ = models()["plain"]
    objective = train.mean_loss(apply, params, (X, Y), batch_size=3)
    slope = jax.jit(jax.grad(objective))(params)
    wanted = jax.grad(lambda p: -jax.nn.log_softmax(plain(p, X))[jnp.arange(7), Y].mean())(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), slope, wanted)
