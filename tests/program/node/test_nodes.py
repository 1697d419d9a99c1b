"""Which equations mean one operation: activations by what they compute, layers, softmax, normalisations."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxplain.program.node.chains import layer_of
from jaxplain.program.node.rewrite import open_score

X = jnp.array([0.5, -1.0, 2.0])


def nodes(f, x=X):
    """Kind and name of the nodes of a function, without sums and moves."""
    graph = open_score(lambda x: f(x).sum(), x, (), "test").graph
    return [(node.kind, node.name) for node in graph.walk() if node.kind not in ("sum", "structure")]


RELUS = {
    "jax.nn": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum the other way": lambda x: jnp.maximum(0.0, x),
    "clip": lambda x: jnp.clip(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0.0),
    "where not": lambda x: jnp.where(x <= 0, jnp.zeros_like(x), x),
    "mask": lambda x: x * (x > 0),
    "half of the sum with abs": lambda x: (x + jnp.abs(x)) / 2,
    "minimum": lambda x: -jnp.minimum(-x, 0),
    "jit": jax.jit(lambda x: jnp.maximum(x, 0.0)),
    "remat": jax.checkpoint(jax.nn.relu),
}


@pytest.mark.parametrize("form", list(RELUS))
def test_a_relu_is_known_in_whatever_form(form):
    assert nodes(RELUS[form]) == [("activation", "relu")]
    assert nodes(lambda x: RELUS[form](2 * x - 0.5)).count(("activation", "relu")) == 1


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (jax.nn.relu6, "relu6"),
        (jax.nn.gelu, "gelu_tanh"),
        (lambda x: jax.nn.gelu(x, approximate=False), "gelu"),
        (jax.nn.silu, "silu"),
        (jax.nn.elu, "elu"),
        (jax.nn.selu, "selu"),
        (jax.nn.leaky_relu, "leaky_relu"),
        (jax.nn.sigmoid, "sigmoid"),
        (jnp.tanh, "tanh"),
        (jax.nn.softplus, "softplus"),
        (jax.nn.mish, "mish"),
        (jax.nn.hard_swish, "hard_silu"),
        (jax.nn.log_sigmoid, "log_sigmoid"),
        (jax.nn.soft_sign, "soft_sign"),
        (lambda x: x * jnp.sin(x), "function"),
    ],
)
def test_activations_are_known_by_what_they_compute(f, name):
    assert ("activation", name) in nodes(f)
    assert len(nodes(f)) <= 2


def test_several_relus_are_several_nodes():
    assert (
        nodes(lambda x: jax.nn.relu(jnp.maximum(x, 0) - 1) + jnp.where(x > 0, x, 0)).count(("activation", "relu")) == 3
    )


def test_what_differs_from_a_relu_is_none():
    for f in (lambda x: jnp.maximum(x, 0.1), lambda x: jnp.maximum(x, -x), lambda x: jnp.where(x > 0.1, x, 0)):
        assert ("activation", "relu") not in nodes(f)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x)))
        x = nn.GroupNorm(2)(nn.max_pool(x, (2, 2), (2, 2)))
        x = x.reshape(x.shape[0], -1, 4)
        x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
        x = x + nn.Dense(4)(nn.gelu(nn.Dense(8)(nn.RMSNorm()(x))))
        return jax.nn.log_softmax(nn.Dense(3)(x.mean(1)))


def test_a_network_of_modules_becomes_its_layers():
    module, x = Block(), jax.random.normal(jax.random.key(0), (1, 4, 4, 2))
    params = jax.jit(module.init)(jax.random.key(1), x)
    graph = open_score(lambda x: module.apply(params, x)[0, 1], x, (), "test").graph
    found = [node.name for node in graph.walk() if node.kind not in ("sum", "structure")]
    assert found.count("normalization") == 3
    assert found.count("softmax") == found.count("log_softmax") == found.count("gelu_tanh") == 1
    assert found.count("dense") == 4 + 2 + 1
    assert found.count("matmul") == 2
    assert [name for name in found if name in ("convolution", "relu", "max_pooling")] == [
        "convolution", "relu", "max_pooling",
    ]  # fmt: skip
    (layer,) = [node for node in graph.walk() if node.name == "convolution"]
    assert layer.path == "Block/Conv_0"
    assert [step.name for step in layer.steps] == ["conv_general_dilated", "add", "sub", "mul", "add"]


SCALE, SHIFT = jnp.array([1.0, -2.0, 0.5, 3.0]), jnp.array([0.3, 0.1, -0.2, 0.0])
W = jax.random.normal(jax.random.key(3), (3, 4))
LAYERS = {
    "dense": (lambda x: (x @ W + SHIFT) * SCALE, (3,)),
    "batch": (lambda x: (x @ W - SHIFT[None]) / SCALE[None] + 1, (2, 3)),
    "shift first": (lambda x: SHIFT[None] - x @ W * 2, (2, 3)),
    "subtracted": (lambda x: SHIFT[None] - (x @ W + 1), (2, 3)),
    "weights on the left": (lambda x: jnp.einsum("io,bi->bo", W, x) * SCALE[None] + SHIFT[None], (2, 3)),
    "transposed": (lambda x: jnp.einsum("bi,io->ob", x, W) * SCALE[:, None] + SHIFT[:, None], (2, 3)),
    "heads": (
        lambda x: jnp.einsum("bi,ihd->bhd", x, W.reshape(3, 2, 2)) * SCALE.reshape(1, 2, 2) + SHIFT.reshape(1, 2, 2),
        (2, 3),
    ),
    "convolution": (
        lambda x: (
            lax.conv_general_dilated(x, jnp.tile(W, (3, 1, 1)), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
            * SCALE[None, None]
            + SHIFT[None, None]
        ),
        (1, 5, 3),
    ),
}


@pytest.mark.parametrize("name", list(LAYERS))
@pytest.mark.sampled(2)
def test_a_layer_with_its_scales_and_shifts_is_one_linear_map_with_a_bias(name):
    f, shape = LAYERS[name]
    x = jax.random.normal(jax.random.key(4), shape)
    opened = open_score(lambda x: f(x).sum(), x, (), "test")
    (node,) = [node for node in opened.graph.walk() if node.kind == "affine"]
    values = dict(zip(opened.graph.flat.inputs, opened.arguments, strict=True)) | dict(opened.graph.flat.constants)
    for step in opened.graph.flat.steps:
        operands = [v.number if v.number is not None else values[v] for v in step.operands]
        values.update(zip(step.results, step.evaluate(operands), strict=True))
    layer = layer_of(node, [values[v] for v in node.fixed])
    assert len(node.steps) > 2
    np.testing.assert_allclose(
        layer.linear(x, layer.weight) + layer.bias, values[node.outputs[0]], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(layer.linear(0 * x, layer.weight), 0)


def test_a_scale_that_varies_beyond_features_is_no_part_of_the_layer():
    kinds = [kind for kind, _ in nodes(lambda x: (x @ W) * jnp.arange(8.0).reshape(2, 4), jnp.ones((2, 3)))]
    assert kinds == ["affine", "scale"]


def test_a_batch_norm_that_follows_no_layer_is_a_layer_of_its_own():
    assert nodes(lambda x: (jax.nn.relu(x) - 0.5) * 2.0 + 1.0)[-1] == ("affine", "scale_shift")


def test_values_that_stop_carry_nothing():
    graph = open_score(lambda x: (x * lax.stop_gradient(jnp.exp(x))).sum(), X, (), "test").graph
    assert [(node.kind, node.name) for node in graph.walk()] == [("scale", "mul"), ("sum", "reduce_sum")]
