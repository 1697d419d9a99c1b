"""The list of attentions: by module path, with the reason where one stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.internals.fused import fused_attentions
from jaxplain.models import transformer
from jaxplain.program.trace import attention_context
from tests.shared import four_frameworks

KEY = jax.random.key(0)


def vit(dtype=jnp.bfloat16, **settings):
    model = transformer(3, **{"patch": 4, "width": 16, "depth": 2, "heads": 2, **settings})
    x = jax.random.normal(KEY, (8, 8, 3)).astype(dtype)
    shapes = jax.eval_shape(model.init, KEY, x[None])  # which are enough for a list
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), shapes)
    return jaxplain.logit(model.apply, params), x


def test_rows_by_module_path():
    f, x = vit()
    rows = fused_attentions(f, platform="gpu")(x, 0)
    assert [row.path for row in rows] == ["Transformer/block_0/attention", "Transformer/block_1/attention"]
    assert all(row.fused and row[1:6] == (2, 4, 4, 8, "bfloat16") for row in rows)
    lines = str(rows).splitlines()
    assert lines[0].split() == list(rows[0]._fields)
    assert len({line.find("bfloat16") for line in lines[1:]}) == 1


def test_on_a_cpu_nothing_is_fused_and_the_list_says_so():
    f, x = vit()
    for row in fused_attentions(f)(x, 0):
        assert not row.fused
        assert row.reason == "on the platform 'cpu' attentions stay as they are written"
    with attention_context("xla"):
        assert all(row.fused for row in fused_attentions(f)(x, 0))
    with attention_context("off"):
        assert not any(row.fused for row in fused_attentions(f, platform="gpu")(x, 0))


def test_reasons_name_what_came():
    f, x = vit(jnp.float32)
    assert {row.reason for row in fused_attentions(f, platform="gpu")(x, 0)} == {
        "cuDNN takes bfloat16 and float16, and not float32"
    }
    f, x = vit(width=24)
    assert {row.reason for row in fused_attentions(f, platform="gpu")(x, 0)} == {
        "cuDNN takes heads of a multiple of 8 and at most 128 features, and not 12"
    }
    weights = lambda x: (lambda p: (p @ x).sum() + p[0, 0])(jax.nn.softmax(x @ x.T))  # noqa: E731
    (row,) = fused_attentions(weights, platform="gpu")(jnp.ones((4, 8), jnp.bfloat16))
    assert (row.queries, row.reason) == (0, "its weights or scores are read by something else too")
    assert fused_attentions(lambda x: x.sum())(jnp.ones(3)) == ()


@pytest.mark.parametrize(
    "framework", [pytest.param(name, marks=pytest.mark.slow) for name in four_frameworks.FRAMEWORKS]
)
def test_every_framework(framework):
    f = four_frameworks.score(framework, "transformer")
    x = jax.random.normal(KEY, (2, 5, four_frameworks.WIDTH))
    with attention_context("xla"):
        (row,) = fused_attentions(f)(x[0], 0)
        assert row.fused
        assert (row.heads, row.queries, row.keys, row.features) == (2, 5, 5, 2)
        assert "attention" in row.path.lower()
        fused = jax.jit(jax.vmap(jaxplain.gradient(f), (0, None)))(x, 1)
    np.testing.assert_allclose(fused, jax.jit(jax.vmap(jax.grad(f), (0, None)))(x, 1), atol=1e-5)
    e = jaxplain.occlusion(f, window=(1, 4))
    plain = jaxplain.explain_batch(e, x, jnp.array([0, 1]))
    with attention_context("xla"):
        np.testing.assert_allclose(jaxplain.explain_batch(e, x, jnp.array([0, 1])), plain, atol=1e-5)


@pytest.mark.slow
def test_tokens_with_padding():
    model = transformer(3, vocabulary=11, width=16, depth=2, heads=2, length=6)
    ids = jnp.array([[3, 1, 4, 1, 0, 0], [5, 9, 2, 6, 5, 0]])
    params = jax.jit(model.init)(KEY, ids)
    embedded = model.apply(params, ids, method="embed")
    f = jaxplain.logit(lambda params, batch: model.apply(params, batch[0], mask=batch[1]), params)
    e = jaxplain.gradient(lambda x, keep, label: f((x, keep), label))
    plain = jax.jit(jax.vmap(e))(embedded, ids != 0, jnp.array([0, 1]))
    with attention_context("xla"):
        rows = fused_attentions(lambda x, keep, label: f((x, keep), label))(embedded[0], ids[0] != 0, 0)
        assert [row.fused for row in rows] == [True, True]
        np.testing.assert_allclose(jax.jit(jax.vmap(e))(embedded, ids != 0, jnp.array([0, 1])), plain, atol=1e-5)
