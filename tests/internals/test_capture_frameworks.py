"""Reading, replacing and splitting in models of NNX, Equinox and Haiku, unmodified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxplain.internals.capture import capture, intervene, split
from jaxplain.internals.layers import layers
from jaxplain.models.nnx import from_nnx
from jaxplain.score import logit

KEY = jax.random.key(0)


def composes(f, path, x, *args):
    body, head = split(f, path)
    h = body(x, *args)
    assert head(h, x, *args) == f(x, *args)
    assert intervene(f, {path: lambda value: value})(x, *args) == f(x, *args)
    gradient = jax.jit(jax.vmap(lambda x: jax.grad(head)(body(x, *args), x, *args)))(x[None])[0]
    assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, h)
    return h


class NNXBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.drop(self.norm(self.linear(x))))


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([NNXBlock(4, rngs) for _ in range(2)])
        self.shared = nnx.Linear(4, 4, rngs=rngs)
        self.head = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.relu, nnx.Linear(4, 3, rngs=rngs))

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.shared(self.shared(x)))


class NNXScanned(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stacked(rngs):
            return NNXBlock(4, rngs)

        self.blocks = stacked(rngs)
        self.last = NNXBlock(4, rngs)

    def __call__(self, x):
        step = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return nnx.remat(lambda block, x: block(x))(self.last, step(x, self.blocks))


def nnx_score(model):
    apply, params = from_nnx(model)
    return logit(apply, params)


def test_nnx_paths_values_and_cuts():
    model, x = NNXNet(nnx.Rngs(0)), jnp.array([0.3, -1.0, 2.0, 0.5])
    f = nnx_score(model)
    values = capture(f)(x, 1)[1]
    assert list(values) == [
        *(f"NNXNet/blocks/{i}{name}" for i in range(2) for name in ("/linear", "/norm", "/drop", "")),
        "NNXNet/shared:0",
        "NNXNet/shared:1",
        "NNXNet/head/layers/0",
        "NNXNet/head/layers/2",
        "NNXNet/head",
        "NNXNet",
    ]
    model.eval()
    hidden = x[None]
    for index, block in enumerate(model.blocks):
        np.testing.assert_array_equal(values[f"NNXNet/blocks/{index}/linear"], block.linear(hidden)[0])
        hidden = block(hidden)
        np.testing.assert_array_equal(values[f"NNXNet/blocks/{index}"], hidden[0])
    composes(f, "blocks/1/norm", x, 1)
    composes(f, "shared:0", x, 1)


def test_nnx_values_equal_its_own_intermediates():
    model, x = NNXNet(nnx.Rngs(0)), jnp.array([0.3, -1.0, 2.0, 0.5])
    values = capture(nnx_score(model))(x, 1)[1]
    model.eval()
    _, own = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)(x[None])
    leaves = jax.tree_util.tree_leaves_with_path(own)
    assert len(leaves) == len(values)
    for path, leaf in leaves:
        *keys, _, _, call = (str(getattr(part, "key", getattr(part, "idx", ""))) for part in path)
        name = "/".join(("NNXNet", *keys))
        np.testing.assert_array_equal(values[name if name in values else f"{name}:{call}"], leaf[0], err_msg=name)


def test_nnx_scan_and_remat_keep_paths():
    x = jnp.array([0.3, -1.0, 2.0, 0.5])
    f = nnx_score(NNXScanned(nnx.Rngs(0)))
    values = capture(f)(x, 1)[1]
    assert {path: value.shape for path, value in values.items()} == {
        **{f"NNXScanned/blocks{name}": (3, 4) for name in ("", "/linear", "/norm", "/drop")},
        **{f"NNXScanned/last{name}": (4,) for name in ("", "/linear", "/norm", "/drop")},
        "NNXScanned": (4,),
    }
    composes(f, "blocks/linear", x, 1)
    composes(f, "last/norm", x, 1)


def test_nnx_model_in_a_closure_is_left_as_it_was():
    model = NNXNet(nnx.Rngs(0))
    model.eval()
    before = nnx.split(model)[0]
    f = lambda x: model(x[None])[0, 1]  # noqa: E731
    x = jnp.array([0.3, -1.0, 2.0, 0.5])
    composes(f, "blocks/0", x)
    assert nnx.split(model)[0] == before
    assert not any("jaxplain" in name for part in (model, model.shared) for name in vars(part))
    assert NNXNet.__call__.__module__ == __name__
    assert not hasattr(NNXNet.__call__, "__wrapped__")


def test_nnx_parameters_are_counted():
    model = NNXNet(nnx.Rngs(0))
    table = layers(nnx_score(model))(jnp.ones(4), 0)
    params = nnx.state(model, nnx.Param)
    assert sum(layer.parameters for layer in table) == sum(p.size for p in jax.tree.leaves(params))
    assert {layer.path: layer.parameters for layer in table}["NNXNet/blocks/1/norm"] == 8


def test_failing_model_leaves_classes_as_they_were():
    class Broken(nnx.Module):
        def __call__(self, x):
            raise RuntimeError("broken")

    original = Broken.__dict__["__call__"]
    with pytest.raises(RuntimeError, match="broken"):
        capture(lambda x: Broken()(x))(jnp.ones(2))
    assert Broken.__dict__["__call__"] is original


def test_equinox_module_as_function_and_as_parameters():
    equinox = pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")
    model = equinox.nn.MLP(4, 3, 8, 2, key=KEY)
    x = jnp.array([0.3, -1.0, 2.0, 0.5])
    f = lambda x, k: model(x)[k]  # noqa: E731
    values = capture(f)(x, 1)[1]
    assert list(values) == [*(f"MLP/layers/{i}" for i in range(3)), "MLP"]
    np.testing.assert_array_equal(values["MLP/layers/0"], model.layers[0](x))
    composes(f, "layers/1", x, 1)
    # Written for one example and mapped over the batch that a score adds.
    g = logit(lambda model, batch: jax.vmap(model)(batch), model)
    np.testing.assert_allclose(composes(g, "layers/1", x, 1), values["MLP/layers/1"], rtol=1e-5)
    assert sum(layer.parameters for layer in layers(g)(x, 1)) == 4 * 8 + 8 + 8 * 8 + 8 + 8 * 3 + 3


def test_equinox_own_modules():
    equinox = pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")

    class Block(equinox.Module):
        linear: equinox.nn.Linear

        def __call__(self, x):
            return x + jax.nn.relu(self.linear(x))

    class Net(equinox.Module):
        blocks: list

        def __call__(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    model = Net([Block(equinox.nn.Linear(4, 4, key=k)) for k in jax.random.split(KEY, 2)])
    x = jnp.array([0.3, -1.0, 2.0, 0.5])
    f = lambda x: model(x)[0]  # noqa: E731
    assert list(capture(f)(x)[1]) == [
        "Net/blocks/0/linear", "Net/blocks/0", "Net/blocks/1/linear", "Net/blocks/1", "Net",
    ]  # fmt: skip
    np.testing.assert_array_equal(composes(f, "blocks/0", x), model.blocks[0](x))


def test_haiku():
    haiku = pytest.importorskip("haiku", reason="Haiku is not installed; it is part of the test extra")

    class Block(haiku.Module):
        def __call__(self, x):
            return x + jax.nn.relu(haiku.Linear(4, name="linear")(x))

    net = haiku.without_apply_rng(haiku.transform(lambda x: haiku.Linear(3, name="head")(Block(name="block")(x))))
    x = jnp.array([0.3, -1.0, 2.0, 0.5])
    params = net.init(KEY, x[None])
    f = logit(net.apply, params)
    values = capture(f)(x, 1)[1]
    assert list(values) == ["block/linear", "block", "head"]
    np.testing.assert_array_equal(
        values["block/linear"], (x @ params["block/linear"]["w"]) + params["block/linear"]["b"]
    )
    composes(f, "block/linear", x, 1)
    table = layers(f)(x, 1)
    assert {layer.path: layer.parameters for layer in table} == {"block/linear": 20, "block": 0, "head": 15}


def test_equinox_methods_are_called_by_their_names():
    equinox = pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")
    attention = equinox.nn.MultiheadAttention(2, 4, key=KEY)

    class Net(equinox.Module):
        attention: equinox.nn.MultiheadAttention
        wrapped: equinox.Partial

        def encode(self, x):
            return self.attention(x, x, x)

        def __call__(self, x):
            return self.wrapped(self.encode(x))

    model = Net(attention, equinox.Partial(jnp.tanh))
    x = jax.random.normal(KEY, (3, 4))
    f = lambda x: model(x).sum()  # noqa: E731
    values = capture(f)(x)[1]
    assert list(values) == [
        "Net/attention/query_proj", "Net/attention._project:0", "Net/attention/key_proj", "Net/attention._project:1",
        "Net/attention/value_proj", "Net/attention._project:2", "Net/attention/dropout", "Net/attention/output_proj",
        "Net/attention", "Net.encode", "Net",
    ]  # fmt: skip
    np.testing.assert_array_equal(values["Net/attention._project:1"], jax.vmap(attention.key_proj)(x).reshape(3, 2, 2))
    np.testing.assert_array_equal(values["Net.encode"], attention(x, x, x))
    composes(f, "attention._project:1", x)
    assert {layer.operation for layer in layers(f)(x)} == {"Linear", "MultiheadAttention", "Dropout", "Net", "function"}
    # A bound method as the function itself: `model.__call__` is the call of the model.
    for g in (lambda x: model.__call__(x).sum(), equinox.Partial(lambda m, x: m(x).sum(), model)):
        assert list(capture(g)(x)[1]) == list(values)
    assert list(capture(lambda x: model.encode(x).sum())(x)[1]) == list(values)[:-1]
