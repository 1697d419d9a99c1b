"""The table of layers: rows, parameters, operations by hand formulas and by XLA's own count."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxplain.internals.layers import layers
from jaxplain.score import logit

KEY = jax.random.key(0)


class Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        q, k, v = (nn.DenseGeneral((self.heads, width // self.heads), name=n)(x) for n in ("query", "key", "value"))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(width // self.heads))
        return nn.DenseGeneral(width, axis=(-2, -1), name="out")(jnp.einsum("bhqk,bkhd->bqhd", weights, v))


class Encoder(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x):
        x = x + Attention(self.heads, name="attention")(nn.LayerNorm(name="norm_0")(x))
        hidden = nn.Dense(4 * x.shape[-1], name="up")(nn.LayerNorm(name="norm_1")(x))
        return x + nn.Dense(x.shape[-1], name="down")(nn.gelu(hidden))


class Transformer(nn.Module):
    patch: int = 16
    width: int = 768
    heads: int = 12
    depth: int = 12
    classes: int = 1000

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (self.patch,) * 2, strides=self.patch, padding="VALID", name="embed")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + self.param("position", nn.initializers.normal(0.02), (1, x.shape[1], self.width))
        for index in range(self.depth):
            x = Encoder(self.heads, name=f"layer_{index}")(x)
        return nn.Dense(self.classes, name="head")(nn.LayerNorm(name="norm")(x)[:, 0])


def shapes_only(module, x):
    return logit(module.apply, jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct((1, *x.shape), x.dtype)))


def row(table, path):
    (found,) = [layer for layer in table if layer.path == path]
    return found


@pytest.mark.slow
def test_vision_transformer_counts_what_is_published():
    x = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)
    table = layers(shapes_only(Transformer(), x))(x, 0)
    assert sum(layer.parameters for layer in table) == 86_567_656
    assert sum(layer.forward for layer in table) == pytest.approx(35.1e9, rel=0.01)
    tokens, width, heads = 197, 768, 12
    attention = row(table, "Transformer/layer_3/attention")
    products = 2 * 2 * tokens * tokens * width
    softmax = heads * tokens * (5 * tokens - 2)  # maximum, difference, exponential, sum, quotient
    assert attention.forward == pytest.approx(products + softmax + heads * tokens * tokens, abs=3 * heads * tokens)
    assert row(table, "Transformer/layer_0/up").forward == tokens * (2 * width * 4 * width + 4 * width)
    assert row(table, "Transformer/layer_0/up").shape == (tokens, 4 * width)
    assert row(table, "Transformer/head").parameters == width * 1000 + 1000


@pytest.mark.slow
def test_rows_in_call_order_with_shapes_for_one_example():
    module, x = Transformer(4, 8, 2, 1, 3), jnp.ones((8, 8, 3))
    table = layers(logit(module.apply, module.init(KEY, x[None])))(x, 0)
    assert [(layer.path.removeprefix("Transformer"), layer.operation, layer.shape) for layer in table] == [
        ("/embed", "Conv", (2, 2, 8)),
        ("/layer_0/norm_0", "LayerNorm", (5, 8)),
        ("/layer_0/attention/query", "DenseGeneral", (5, 2, 4)),
        ("/layer_0/attention/key", "DenseGeneral", (5, 2, 4)),
        ("/layer_0/attention/value", "DenseGeneral", (5, 2, 4)),
        ("/layer_0/attention/out", "DenseGeneral", (5, 8)),
        ("/layer_0/attention", "Attention", (5, 8)),
        ("/layer_0/norm_1", "LayerNorm", (5, 8)),
        ("/layer_0/up", "Dense", (5, 32)),
        ("/layer_0/down", "Dense", (5, 8)),
        ("/layer_0", "Encoder", (5, 8)),
        ("/norm", "LayerNorm", (5, 8)),
        ("/head", "Dense", (3,)),
        ("", "Transformer", (3,)),
    ]
    assert {layer.dtype for layer in table} == {"float32"}
    assert row(table, "Transformer/embed").bytes == 2 * 2 * 8 * 4
    assert row(table, "Transformer").parameters == 8 + 5 * 8  # the class token and positions, by no module below


@pytest.mark.parametrize(
    ("settings", "shape", "positions", "terms"),
    [
        ({"kernel_size": (3, 3), "padding": "VALID"}, (9, 9, 4), 49, 9 * 4),
        ({"kernel_size": (3, 3), "strides": 2, "padding": "SAME"}, (9, 9, 4), 25, 9 * 4),
        ({"kernel_size": (3, 3), "kernel_dilation": 2, "padding": "VALID"}, (9, 9, 4), 25, 9 * 4),
        ({"kernel_size": (3, 3), "feature_group_count": 2, "padding": "SAME"}, (9, 9, 4), 81, 9 * 2),
        ({"kernel_size": (1,), "padding": "VALID"}, (7, 4), 7, 4),
    ],
)
def test_convolutions_by_hand(settings, shape, positions, terms):
    module, x = nn.Conv(6, use_bias=False, name="conv", **settings), jnp.ones(shape)
    f = logit(lambda p, x: module.apply(p, x).reshape(x.shape[0], -1), module.init(KEY, x[None]))
    (conv, *_) = layers(f)(x, 0)
    assert conv.forward == 2 * positions * 6 * terms
    assert conv.backward == 2 * conv.forward  # with respect to the input and to the kernel
    assert conv.parameters == terms * 6


def test_transposed_convolution_does_not_count_inserted_zeros():
    module, x = nn.ConvTranspose(6, (2, 2), strides=(2, 2), use_bias=False), jnp.ones((5, 5, 4))
    f = logit(lambda p, x: module.apply(p, x).reshape(x.shape[0], -1), module.init(KEY, x[None]))
    assert layers(f)(x, 0)[0].forward == 2 * 25 * 4 * 4 * 6


def test_dense_and_normalisation_by_hand():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.LayerNorm(name="norm")(nn.Dense(16, name="dense")(x))

    module, x = Net(), jnp.ones((5, 8))
    f = logit(lambda p, x: module.apply(p, x).reshape(x.shape[0], -1), module.init(KEY, x[None]))
    table = layers(f)(x, 0)
    dense, norm = table[0], table[1]
    assert (dense.forward, dense.backward) == (5 * 16 * (2 * 8 + 1), 5 * 16 * (2 * 2 * 8 + 1))
    # Two means (x and x squared), squares, difference, scale and shift: about seven operations an element.
    assert 6 * 5 * 16 <= norm.forward <= 8 * 5 * 16
    assert (dense.parameters, norm.parameters) == (8 * 16 + 16, 32)


def xla_operations(f, *args):
    return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.optimized
def test_agrees_with_xla_on_dense_layers_and_valid_convolutions():
    def dense(x, w):
        return x @ w

    def valid(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for f, args in (
        (dense, (jnp.ones((64, 128)), jnp.ones((128, 32)))),
        (valid, (jnp.ones((2, 12, 12, 8)), jnp.ones((3, 3, 8, 16)))),
    ):
        total = sum(layer.forward for layer in layers(f)(*args))
        assert total == pytest.approx(xla_operations(f, *args), rel=0.02)


@pytest.mark.optimized
def test_agrees_with_xla_on_same_convolutions_without_padded_positions():
    def same(x, k):
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x, k = jnp.ones((2, 12, 12, 8)), jnp.ones((3, 3, 8, 16))
    reached = sum(1 for i in range(12) for d in (-1, 0, 1) if 0 <= i + d < 12)  # kernel rows inside the image
    padded = 2 * 2 * 8 * 16 * ((12 * 3) ** 2 - reached**2)
    total = sum(layer.forward for layer in layers(same)(x, k))
    assert total - padded == pytest.approx(xla_operations(same, x, k), rel=0.02)


def test_shared_modules_scans_and_running_averages():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.tanh(nn.Dense(4, use_bias=False, name="dense")(x)), None

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            shared = nn.Dense(4, name="shared")
            x = shared(shared(x))
            x = nn.BatchNorm(use_running_average=True, name="norm")(x)
            scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return scan(name="steps")(x, None)[0]

    module, x = Net(), jnp.ones(4)
    table = layers(logit(module.apply, module.init(KEY, x[None])))(x, 0)
    first, second = row(table, "Net/shared:0"), row(table, "Net/shared:1")
    assert (first.parameters, second.parameters) == (20, 0)
    assert first.forward == second.forward == 2 * 16 + 4
    assert row(table, "Net/norm").parameters == 8  # scale and bias; the running averages are not trained
    dense = row(table, "Net/steps/dense")
    assert (dense.forward, dense.parameters, dense.shape) == (3 * 2 * 16, 3 * 16, (3, 4))


def test_functional_operations_count_for_the_module_around_them():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jnp.einsum("bi,bj->bij", x, x).sum(-1) + nn.Dense(3, name="dense")(x)

    module, x = Net(), jnp.ones(3)
    table = layers(logit(module.apply, module.init(KEY, x[None])))(x, 0)
    assert row(table, "Net").forward == 2 * 9 + 3 * 2 + 3


def test_plain_functions_are_listed_by_scope_or_as_a_whole():
    def f(x):
        with jax.named_scope("a"):
            with jax.named_scope("b"):
                y = jnp.sin(x)
            z = y * 2
        return z.sum()

    table = layers(f)(jnp.ones(5))
    assert [(layer.path, layer.forward) for layer in table] == [("a/b", 5), ("a", 5), ("", 4)]
    (whole,) = layers(lambda x: (x * 2).sum())(jnp.ones(5))
    assert (whole.path, whole.shape, whole.forward) == ("", (), 9)


@pytest.mark.slow
def test_table_prints_with_totals():
    module, x = Transformer(4, 8, 2, 1, 3), jnp.ones((8, 8, 3))
    table = layers(logit(module.apply, module.init(KEY, x[None])))(x, 0)
    lines = str(table).splitlines()
    assert lines[0].split() == ["layer", "operation", "output", "dtype", "parameters", "forward", "backward", "bytes"]
    assert len(lines) == len(table) + 4
    assert lines[2].split()[:5] == ["Transformer/embed", "Conv", "2x2x8", "float32", "392"]
    assert lines[-1].split()[0] == "total"
    assert isinstance(table, tuple)


def test_dead_code_costs_nothing():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return {"logits": nn.Dense(2, name="used")(x), "aux": nn.Dense(50, name="unused")(x)}

    module, x = Net(), jnp.ones(3)
    table = layers(logit(module.apply, module.init(KEY, x[None]), select="logits"))(x, 0)
    assert row(table, "Net/used").forward == 2 * (2 * 3 + 1)
    assert (row(table, "Net/unused").forward, row(table, "Net/unused").parameters) == (0, 0)


def test_tracing_needs_no_values_and_counts_are_integers():
    x = jax.ShapeDtypeStruct((8, 8, 3), jnp.float32)
    table = layers(shapes_only(Transformer(4, 8, 2, 1, 3), x))(x, 0)
    assert all(isinstance(value, int | np.integer) for layer in table for value in layer[4:])
