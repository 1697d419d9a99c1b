"""A dictionary of a layer of Linen's and of Equinox's: streamed, trained, spliced in, refused elsewhere."""

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept

X = np.asarray(jax.random.normal(jax.random.key(0), (24, 4)))
Y = np.arange(24) % 3


class Net(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="last")(nn.tanh(nn.Dense(5, name="first")(x)))


def linen():
    net = Net()
    return jaxplain.loss(net.apply, net.init(jax.random.key(1), X[:1])), "first", "last"


def of_equinox():
    first, last = (equinox.nn.Linear(a, b, key=jax.random.key(n)) for n, a, b in ((2, 4, 5), (3, 5, 3)))
    model = equinox.nn.Sequential([first, equinox.nn.Lambda(jnp.tanh), last])

    def apply(model, x):
        return jax.vmap(model)(x)

    return jaxplain.loss(apply, model), "layers/0", "layers/2"


@pytest.mark.slow
@pytest.mark.parametrize("make", [linen, of_equinox])
def test_a_layer_of_a_framework(make):
    f, layer, other = make()
    paths = [row.path for row in jaxplain.layers(f)(X[0], Y[0])]
    layer, other = (next(path for path in paths if path.endswith(end)) for end in (layer, other))
    stream = concept.activation_stream(f, layer, [(X, Y)], batch_size=8, buffer=16)
    site = concept.layer_site(f, layer, X[0], Y[0])
    d = concept.train_autoencoder(stream, 8, concept.top_k(2), key=jax.random.key(4), epochs=1, site=site).dictionary
    assert d.width == 5
    kept = concept.loss_recovered(f, layer, d, X, Y)
    assert np.isfinite(kept.recovered)
    _, head = jaxplain.split(f, layer)
    h = jaxplain.capture(f, layer)(X[0], Y[0])[1][layer]
    found = d.importance(head, h, X[0], Y[0])
    assert found.features.shape == (8,)
    with pytest.raises(ValueError, match="but it is used at"):
        concept.loss_recovered(f, other, d, X, Y)
