"""The mean loss as a function of the params: what it is, whatever the blocks, in whichever framework."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 4)).astype(np.float32), np.arange(7) % 3


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(jnp.tanh(x)))


def plain(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def models():
    """(apply, params, the outputs' function) of three frameworks."""
    module = Normed()
    shapes = jax.eval_shape(module.init, KEY, X)
    variables = jax.tree.map(lambda leaf: RNG.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)
    parts, static = eqx.partition(eqx.nn.MLP(4, 3, 5, 1, activation=jnp.tanh, key=KEY), eqx.is_array)
    mlp = lambda p, x: jax.vmap(eqx.combine(p, static))(x)  # noqa: E731
    params = {"w": RNG.normal(size=(4, 5)).astype(np.float32), "v": RNG.normal(size=(5, 3)).astype(np.float32)}
    return {
        "plain": (plain, params, plain),
        "linen": (module.apply, variables, functools.partial(module.apply, train=False)),
        "equinox": (mlp, parts, mlp),
    }


def by_hand(model, params):
    """The losses of the examples, `[7]`."""
    return -np.asarray(jax.jit(lambda p: jax.nn.log_softmax(model(p, X)))(params))[np.arange(7), Y]


@pytest.mark.slow
def test_it_is_the_mean_whatever_the_blocks():
    for name, (apply, params, model) in models().items():
        losses = by_hand(model, params)
        objective = train.mean_loss(apply, params, (X, Y), batch_size=3)
        np.testing.assert_allclose(jax.jit(objective)(params), losses.mean(), rtol=1e-6, err_msg=name)
    apply, params, model = models()["plain"]
    losses, weights = by_hand(model, params), np.float32([2, 0, 1, 0.5, 0, 0, 3])
    for data, wanted in (((X, Y), losses.mean()), ((X, Y, weights), (weights * losses).sum() / 7)):
        np.testing.assert_allclose(train.mean_loss(apply, params, data)(params), wanted, rtol=1e-6)


def test_it_is_differentiated_and_compiled_as_any_function():
    apply, params, _ = models()["plain"]
    objective = train.mean_loss(apply, params, (X, Y), batch_size=3)
    slope = jax.jit(jax.grad(objective))(params)
    wanted = jax.jit(jax.grad(lambda p: -jax.nn.log_softmax(plain(p, X))[jnp.arange(7), Y].mean()))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), slope, wanted)
