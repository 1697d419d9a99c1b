"""Which axes count filters, read from the traced model of any framework; directions of the filters' own lengths."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train
from jaxplain.train.landscape.filters import filter_axes
from jaxplain.train.trainable import PlainModel

KEY = jax.random.key(0)


def drawn(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.LayerNorm()(nn.Conv(5, (3, 3))(x)))
        return nn.Dense(3)(x.mean(axis=(1, 2)))


def of_equinox(p, static, x):
    return jax.vmap(eqx.combine(p, static))(x).sum()


CASES = {
    "dense": (lambda p: (jnp.ones((2, 4)) @ p).sum(), drawn(4, 3), (1,)),
    "turned": (lambda p: (p.T @ jnp.ones((4, 2))).sum(), drawn(4, 3), (1,)),
    "rows": (lambda p: jax.vmap(lambda x: p @ x)(jnp.ones((2, 3))).sum(), drawn(4, 3), (0,)),
    "a vector": (lambda p: (jnp.ones((2, 4)) @ p).sum(), drawn(4), ()),
    "heads": (lambda p: jnp.einsum("btd,dhk->bthk", jnp.ones((1, 2, 4)), p).sum(), drawn(4, 3, 2), (1, 2)),
    "experts": (lambda p: jnp.einsum("eti,eio->eto", jnp.ones((3, 2, 4)), p).sum(), drawn(3, 4, 2), (0, 2)),
    "a table": (lambda p: jnp.take(p, jnp.array([0, 2, 2]), axis=0).sum(), drawn(4, 3), (0,)),
    "jitted": (lambda p: jax.jit(lambda p, x: x @ p)(p[None].squeeze(0), jnp.ones((2, 4))).sum(), drawn(4, 3), (1,)),
    "rematerialized": (lambda p: jax.checkpoint(lambda p: jnp.ones((2, 4)) @ p)(p).sum(), drawn(4, 3), (1,)),
    "layers of a loop": (
        lambda p: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), jnp.ones((2, 3)), p)[0].sum(),
        drawn(5, 3, 3),
        (0, 2),
    ),
    "layers by number": (lambda p: (jnp.tanh(jnp.ones((2, 4)) @ p[0]) @ p[1]).sum(), drawn(2, 4, 4), (0, 2)),
    "a layer by a traced number": (
        lambda p: (jnp.ones((2, 4)) @ p[jnp.argmax(p.sum((1, 2)))]).sum(),
        drawn(2, 4, 3),
        (0, 2),
    ),
    "a layer taken": (lambda p: (jnp.take(p, jnp.int32(1), axis=1) @ jnp.ones((4, 2))).sum(), drawn(3, 2, 4), (0, 1)),
    "a row taken": (lambda p: (p[jnp.int32(1)] @ jnp.ones((4, 2))).sum(), drawn(3, 4), (0,)),
    "behind a condition": (
        lambda p: jax.lax.cond(p.sum() > 0, lambda p: (p @ jnp.ones((3, 2))).sum(), lambda p: 0.0, p),
        drawn(4, 3),
        (0,),
    ),
    "as often as needed": (
        lambda p: jax.lax.while_loop(lambda h: h[0] < 9, lambda h: jnp.tanh(p @ h) + 1, jnp.ones(3)).sum(),
        drawn(3, 3),
        (0,),
    ),
    "halves": (lambda p: (jnp.ones((2, 4)) @ p.T[:, :3] + jnp.ones((2, 4)) @ p.T[:, 3:]).sum(), drawn(6, 4), (0,)),
    "held by a loop": (
        lambda p: jax.lax.scan(lambda h, _: (jnp.tanh(h @ p), None), jnp.ones((2, 3)), None, length=2)[0].sum(),
        drawn(3, 3),
        (1,),
    ),
    "computed with first": (lambda p: (jnp.ones((2, 4)) @ (2 * p)).sum(), drawn(4, 3), (1,)),
    "a convolution": (
        lambda p: jax.lax.conv_general_dilated(jnp.ones((1, 2, 8, 8)), p, (1, 1), "SAME").sum(),
        drawn(5, 2, 3, 3),
        (0,),
    ),
    "a bias": (lambda p: (jnp.ones((2, 4)) + p[None]).sum(), drawn(4), None),
    "a scale before a product": (lambda p: ((jnp.ones((2, 4)) * p[None]) @ jnp.ones((4, 3))).sum(), drawn(4), None),
}


def test_axes_of_filters_are_read_from_the_program():
    for name, (objective, params, wanted) in CASES.items():
        assert filter_axes(objective, PlainModel(objective), params) == (wanted,), name


def test_axes_of_filters_of_frameworks():
    module = Convolutional()
    shapes = jax.eval_shape(module.init, KEY, jnp.ones((1, 6, 6, 2)))
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    objective = train.mean_loss(module.apply, variables, (jnp.ones((2, 6, 6, 2)), jnp.array([0, 1])))
    found = filter_axes(objective, objective.model, variables)
    trained = objective.model.partition(variables)[0]
    by_path = {jax.tree_util.keystr(p): a for (p, _), a in zip(jax.tree.leaves_with_path(trained), found, strict=True)}
    assert {path: axes for path, axes in by_path.items() if axes is not None} == {
        "['Conv_0']['kernel']": (3,),
        "['Dense_0']['kernel']": (1,),
    }
    layers = eqx.nn.Sequential(
        [eqx.nn.Conv2d(2, 5, 3, key=KEY), eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(80, 3, key=KEY)]
    )
    parts, static = eqx.partition(layers, eqx.is_array)
    model = PlainModel(lambda p: of_equinox(p, static, jnp.ones((2, 2, 6, 6))))
    assert filter_axes(model.function, model, parts) == ((0,), None, (0,), None)  # its bias has three axes


def relu_network(params, x):
    hidden = jax.nn.relu(x @ params["first"] + params["bias"][None])
    return jax.nn.relu(hidden @ params["second"]) @ params["third"]


@pytest.mark.slow
def test_one_factor_per_relu_layer_changes_no_picture():
    with jax.enable_x64(True):
        x, y = drawn(6, 3), np.arange(6) % 2
        shapes = {"first": (3, 5), "bias": (5,), "second": (5, 4), "third": (4, 2)}
        params = {name: drawn(*shape).astype(float) for name, shape in shapes.items()}
        factors = {"first": 8.0, "bias": 8.0, "second": 0.5, "third": 0.25}
        scaled = {name: factors[name] * leaf for name, leaf in params.items()}
        objective = train.mean_loss(relu_network, params, (x, y))
        places, pictures = jnp.linspace(-1, 1, 5), {}
        for kind in ("filter", "none"):
            planes = [train.random_plane(objective, p, key=KEY, normalization=kind) for p in (params, scaled)]
            pictures[kind] = [train.loss_surface(objective, plane, x=places, y=places).loss for plane in planes]
        np.testing.assert_allclose(*pictures["filter"], rtol=1e-10)
        assert np.abs(np.subtract(*pictures["none"])).max() > 0.1
        assert np.std(pictures["filter"][0]) > 0.01


def test_directions_are_as_long_as_the_filters():
    params = {"w": drawn(4, 3) * np.float32([1.0, 10.0, 0.1]), "b": drawn(3)}
    objective = lambda p: (jnp.ones((2, 4)) @ p["w"] + p["b"][None]).sum()  # noqa: E731
    by_filter, by_layer, free = (
        train.random_plane(objective, params, key=KEY, normalization=kind).directions
        for kind in ("filter", "layer", "none")
    )
    for direction in by_filter:
        np.testing.assert_allclose(*(np.linalg.norm(t["w"], axis=0) for t in (direction, params)), rtol=1e-5)
        assert not np.any(direction["b"])
    np.testing.assert_allclose(np.linalg.norm(by_layer[0]["w"]), np.linalg.norm(params["w"]), rtol=1e-5)
    assert np.any(free[0]["b"])
    assert np.abs(np.subtract(by_filter[0]["w"], by_filter[1]["w"])).max() > 0.1  # two directions, not one twice
    again = train.random_plane(objective, params, key=KEY).directions
    jax.tree.map(np.testing.assert_array_equal, again, by_filter)
