"""Models: shapes, names, padding, modes; NNX models as pure functions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxplain
from jaxplain import models

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
IDS = np.array([[5, 7, 2, 0], [3, 0, 0, 0]])


def seeded(module, *inputs, **settings):
    return jax.jit(functools.partial(module.init, **settings))(jax.random.key(0), *inputs)


def run(module, params, *inputs, **settings):
    return jax.jit(functools.partial(module.apply, **settings))(params, *inputs)


@pytest.fixture(scope="module")
def text():
    module = models.transformer(3, vocabulary=11, length=8, width=8, depth=1, heads=2)
    return module, seeded(module, IDS)


@pytest.fixture(scope="module")
def residual():
    module = models.resnet(4, widths=(3, 5), depth=1)
    return module, seeded(module, IMAGES)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_mlp_is_what_numpy_computes(activation):
    module = models.mlp(3, widths=(5, 4), activation=activation)
    params = seeded(module, IMAGES)
    layers = params["params"]
    assert sorted(layers) == ["dense_0", "dense_1", "head"]
    h = IMAGES.reshape(2, 64)
    for name in ("dense_0", "dense_1"):
        z = h @ np.asarray(layers[name]["kernel"]) + np.asarray(layers[name]["bias"])[None]
        cubic = np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
        h = np.maximum(z, 0) if activation == "relu" else 0.5 * z * (1 + np.tanh(cubic))
    expected = h @ np.asarray(layers["head"]["kernel"])
    np.testing.assert_allclose(module.apply(params, IMAGES), expected, atol=1e-5)


def test_cnn_width_and_depth():
    module = models.cnn(4, widths=(3, 5, 6), dense=7)
    params = jax.eval_shape(module.init, jax.random.key(0), IMAGES)["params"]
    assert {name: params[name]["kernel"].shape for name in params} == {
        "conv_0": (3, 3, 1, 3),
        "conv_1": (3, 3, 3, 5),
        "conv_2": (3, 3, 5, 6),
        "dense": (6, 7),
        "head": (7, 4),
    }


@pytest.mark.slow
def test_resnet_blocks_and_statistics(residual):
    module, params = residual
    assert [name for name in sorted(params["params"]) if name.startswith("block")] == ["block_0", "block_1"]
    assert "conv_shortcut" not in params["params"]["block_0"]
    assert params["params"]["block_1"]["conv_shortcut"]["kernel"].shape == (1, 1, 3, 5)
    outputs, changed = run(module, params, IMAGES, train=True, mutable=["batch_stats"])
    stem = jax.lax.conv_general_dilated(
        IMAGES, params["params"]["conv_stem"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        changed["batch_stats"]["norm_stem"]["mean"], 0.1 * np.asarray(stem).mean((0, 1, 2)), atol=1e-6
    )
    assert outputs.shape == (2, 4)
    one_by_one = jnp.concatenate([run(module, params, IMAGES[i : i + 1]) for i in range(2)])
    np.testing.assert_allclose(run(module, params, IMAGES), one_by_one, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        models.mlp(3, widths=(16,), dropout=0.5),
        models.cnn(3, widths=(4,), dense=16, dropout=0.5),
        models.transformer(3, patch=4, width=8, depth=1, heads=2, dropout=0.5),
    ],
    ids=["mlp", "cnn", "transformer"],
)
@pytest.mark.sampled(3)
def test_dropout_only_while_training(module):
    params = seeded(module, IMAGES)
    noisy = jax.jit(lambda key: module.apply(params, IMAGES, train=True, rngs={"dropout": key}))
    assert not np.allclose(noisy(jax.random.key(1)), noisy(jax.random.key(2)))
    assert np.array_equal(run(module, params, IMAGES), run(module, params, IMAGES, train=False))


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.sampled(2)
def test_right_padding_changes_nothing(pool):
    module = models.transformer(3, vocabulary=11, length=8, width=8, depth=1, heads=2, pool=pool)
    params = seeded(module, IDS)
    longer = np.pad(IDS, ((0, 0), (0, 3)))
    outputs = run(module, params, IDS)
    np.testing.assert_allclose(outputs, run(module, params, longer), atol=1e-6)
    other = jax.tree.map(lambda a: a, params)
    table = other["params"]["token_embedding"]["embedding"]
    other["params"]["token_embedding"]["embedding"] = table.at[0].add(5.0)
    np.testing.assert_allclose(outputs, run(module, other, IDS), atol=1e-6)


def test_transformer_runs_from_embeddings(text):
    module, params = text
    tokens = module.apply(params, IDS, method="embed")
    mask = IDS != 0
    np.testing.assert_allclose(run(module, params, tokens, mask), run(module, params, IDS), atol=1e-6)
    gradient = jax.jit(jax.grad(lambda t: module.apply(params, t, mask)[:, 1].sum()))(tokens)
    assert np.all(np.asarray(gradient)[~mask] == 0)
    assert np.all(np.abs(np.asarray(gradient)[mask]).sum(-1) > 0)


def test_transformer_of_padding_alone_is_finite(text):
    module, params = text
    assert np.isfinite(run(module, params, np.zeros_like(IDS))).all()


def test_transformer_of_patches_is_an_embedding_of_patches():
    module = models.transformer(3, patch=4, length=4, width=8, depth=0, heads=2)
    params = seeded(module, IMAGES)
    kernel = np.asarray(params["params"]["patch_embedding"]["kernel"]).reshape(16, 8)
    patches = IMAGES.reshape(2, 2, 4, 2, 4, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 16)
    np.testing.assert_allclose(module.apply(params, IMAGES, method="embed"), patches @ kernel, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.mlp(0), "mlp: `outputs` has to be at least 1"),
        (lambda: models.mlp(2, widths=()), "mlp: `widths` is empty"),
        (lambda: models.cnn(2, activation="tanh"), "one of 'relu', 'gelu'"),
        (lambda: models.resnet(2, dropout=1.0), r"`dropout` has to lie in \[0, 1\)"),
        (lambda: models.transformer(2), "either `patch`"),
        (lambda: models.transformer(2, patch=2, vocabulary=3), "either `patch`"),
        (lambda: models.transformer(2, patch=2, width=6, heads=4), "multiple of `heads`"),
        (lambda: seeded(models.cnn(2), np.zeros((1, 8, 8))), r"cnn: x has shape \(1, 8, 8\)"),
        (lambda: seeded(models.cnn(2, widths=(2,) * 4), IMAGES), "images of 8x8 pixels do not fit"),
        (lambda: seeded(models.transformer(2, patch=3), IMAGES), "multiples of the patch"),
        (lambda: seeded(models.transformer(2, vocabulary=9, length=3), IDS), "4 tokens came"),
        (lambda: seeded(models.transformer(2, vocabulary=9), np.zeros((1, 4, 64), np.float32)), "no mask"),
        (lambda: seeded(models.transformer(2, vocabulary=9), IDS, IDS[:, :2] > 0), "`mask` has shape"),
    ],
)
def test_bad_settings_and_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Network(nnx.Module):
    def __init__(self, rngs):
        self.body = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(jax.nn.relu(self.norm(self.body(x)))))


ROWS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def test_nnx_evaluates_and_leaves_the_model_alone():
    model = Network(nnx.Rngs(0))
    before = jax.tree.map(jnp.copy, nnx.state(model))
    apply, params = models.from_nnx(model)
    outputs = apply(params, ROWS)
    apply(params, ROWS, train=True)
    assert not model.dropout.deterministic
    assert not model.norm.use_running_average
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(nnx.state(model)), strict=True):
        assert bool(jnp.all(old == new))
    twin = Network(nnx.Rngs(0))
    twin.eval()
    np.testing.assert_allclose(outputs, twin(ROWS), atol=1e-6)


def test_nnx_training_mode_returns_changed_state():
    apply, params = models.from_nnx(Network(nnx.Rngs(0)))
    outputs, changed = jax.jit(functools.partial(apply, train=True))(params, ROWS)
    hidden = ROWS @ np.asarray(params["body"]["kernel"].get_value())
    momentum = 0.99
    np.testing.assert_allclose(changed["norm"]["mean"].get_value(), (1 - momentum) * hidden.mean(0), atol=1e-6)
    assert int(changed["dropout"]["rngs"]["count"].get_value()) == 1
    assert np.all(np.asarray(params["norm"]["mean"].get_value()) == 0)
    again, _ = apply(changed, ROWS, train=True)
    assert outputs.shape == (5, 3)
    assert not np.allclose(outputs, again)


def test_nnx_apply_is_compared_by_value():
    (one, params), (two, others) = (models.from_nnx(Network(nnx.Rngs(seed))) for seed in (0, 1))
    third, _ = models.from_nnx(nnx.Linear(4, 3, rngs=nnx.Rngs(0)))
    assert one == two
    assert hash(one) == hash(two)
    assert one != third
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(apply, params):
        traces.append(1)
        return apply(params, ROWS)

    assert not np.allclose(run(one, params), run(two, others))
    assert len(traces) == 1


def test_nnx_under_transformations():
    (apply, params), (_, others) = (models.from_nnx(nnx.Linear(4, 3, rngs=nnx.Rngs(seed))) for seed in (0, 1))
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, others)
    both = jax.vmap(apply, in_axes=(0, None))(stacked, ROWS)
    np.testing.assert_allclose(both[1], apply(others, ROWS), atol=1e-6)
    gradient = jax.grad(lambda p: apply(p, ROWS).sum())(params)
    np.testing.assert_allclose(gradient["kernel"].get_value(), np.broadcast_to(ROWS.sum(0)[:, None], (4, 3)), atol=1e-5)


def test_nnx_partition_and_reseed():
    apply, params = models.from_nnx(Network(nnx.Rngs(0)))
    trained, rest = apply.partition(params)
    assert len(jax.tree.leaves(trained)) == 6
    assert jax.tree.structure(apply.combine(trained, rest)) == jax.tree.structure(params)
    draws = [apply.train(apply.reseed(params, jax.random.key(seed)), (ROWS,), None)[0] for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])


def test_nnx_refuses_other_models():
    with pytest.raises(TypeError, match=r"`model` is MLP, not a flax\.nnx\.Module"):
        models.from_nnx(models.mlp(2))


@pytest.mark.slow
def test_the_fifty_layers_of_a_residual_network():
    """Parameters and operations of ResNet-50 as published: 25.6 million, and 4.1 billion multiply-adds of an image."""
    module = models.resnet(1000, widths=(64, 128, 256, 512), depth=(3, 4, 6, 3), bottleneck=True, stem="strided")
    x = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *x.shape), x.dtype))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params["params"])) == 25_557_032
    table = jaxplain.layers(jaxplain.logit(module.apply, params))(x, 0)
    assert 8.1e9 < sum(layer.forward for layer in table) < 8.4e9
    shapes = {layer.path: layer.shape for layer in table}
    sizes = [shapes[f"ResNet/block_{last}"][-3:] for last in (2, 6, 12, 15)]
    assert sizes == [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]


def test_a_strided_stem_and_bottlenecks_run():
    module = models.resnet(3, widths=(2, 3), depth=(1, 2), bottleneck=True, stem="strided")
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 1))
    params = seeded(module, x)
    assert [name for name in params["params"] if name.startswith("block")] == ["block_0", "block_1", "block_2"]
    assert run(module, params, x).shape == (2, 3)
    with pytest.raises(ValueError, match="`depth` has 3 numbers, but there are 2 widths"):
        models.resnet(3, widths=(2, 3), depth=(1, 2, 3))
    with pytest.raises((TypeError, ValueError), match="`stem`"):
        models.resnet(3, stem="wide")
