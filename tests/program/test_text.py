"""Everything made here says in one line which call made it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import evaluate, models, relevance
from jaxplain.program import Function, short
from shared.methods import METHODS
from shared.metrics import METRICS


def model(params, batch):
    return batch.reshape(batch.shape[0], -1) @ params


F = jaxplain.logit(model, jnp.ones((12, 3)))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (F, "logit(model, f32[12,3])"),
        (
            jaxplain.logit(model, jnp.ones((12, 3)), select="logits"),
            "logit(model, f32[12,3], select='logits')",
        ),
        (jaxplain.gradient(F), "gradient(logit(model, f32[12,3]))"),
        (
            jaxplain.smoothgrad(jaxplain.integrated_gradients(F, steps=64), sigma=0.1),
            "smoothgrad(integrated_gradients(logit(model, f32[12,3]), steps=64), sigma=0.1)",
        ),
        (jaxplain.lrp(F, relevance.gamma(0.1)), "lrp(logit(model, f32[12,3]), gamma(value=0.1))"),
        (jaxplain.grad_cam(F, "conv_1"), "grad_cam(logit(model, f32[12,3]), 'conv_1')"),
        (jaxplain.capture(F, "a", "b"), "capture(logit(model, f32[12,3]), 'a', 'b')"),
        (jaxplain.fgsm(F, epsilon=0.1), "fgsm(logit(model, f32[12,3]), epsilon=0.1)"),
        (evaluate.deletion(F, steps=4), "deletion(logit(model, f32[12,3]), steps=4)"),
        (evaluate.pixel_flipping(F, order="lerf"), "pixel_flipping(logit(model, f32[12,3]), order='lerf')"),
        (jaxplain.baseline.uniform_noise(0.0, 1.0), "uniform_noise(0.0, 1.0)"),
        (jaxplain.gradient(functools.partial(F, inputs=3)), "gradient(logit(model, f32[12,3])(inputs=3))"),
    ],
)
def test_a_repr_reads_like_the_call(made, text):
    assert repr(made) == text


def test_every_method_and_metric_fits_a_line():
    rows = [row.build(F) for row in METHODS]
    for made in [row for row in rows if isinstance(row, Function)]:
        assert "\n" not in repr(made)
        assert len(repr(made)) < 200, repr(made)
    named = [row.build(F, jaxplain.gradient(F)) for row in METRICS if "randomization" not in row.name]
    for made in [row for row in named if isinstance(row, Function)]:
        assert len(repr(made)) < 200, repr(made)


def test_a_large_model_is_told_by_its_totals():
    module = models.resnet(10, depth=2)
    shapes = jax.eval_shape(lambda key: module.init(key, jnp.zeros((1, 32, 32, 3))), jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes)
    f = jaxplain.logit(functools.partial(module.apply, train=False), params)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert repr(f) == f"logit(ResNet.apply(train=False), <{count / 1e3:.3g}k numbers in 77 arrays>)"
    assert repr(jaxplain.layers(f)) == f"layers({f!r})"


def test_values_in_one_line():
    assert short(jnp.ones((3, 3, 1, 8))) == "f32[3,3,1,8]"
    assert [short(jnp.zeros(2, kind)) for kind in ("bfloat16", "uint8", "bool", "int32")] == [
        "bf16[2]",
        "u8[2]",
        "bool[2]",
        "i32[2]",
    ]
    assert short({"a": np.zeros((2, 2)), "b": (1, None)}) == "{'a': f64[2,2], 'b': (1, None)}"
    assert short(np.float32(0.5)) == "0.5"
    assert short([np.zeros(2)] * 9) == "<18 numbers in 9 arrays>"
    assert jax.jit(lambda x: len(short(x)))(jnp.ones(())) == len("f32[]")
