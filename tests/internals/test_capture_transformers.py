"""Models from Hugging Face's transformers 4, from configurations with random weights: an optional extra."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.internals.capture import capture, intervene, split
from jaxplain.internals.layers import layers
from jaxplain.score import logit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed; Flax models ship with version 4 (test extra)"
    )
    if int(transformers.__version__.split(".")[0]) != 4:
        pytest.skip("transformers 5 ships no Flax models; install version 4", allow_module_level=True)
    flax_bert = pytest.importorskip("transformers.models.bert.modeling_flax_bert")

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = jnp.array([3, 1, 4, 1, 5, 9])
TEXT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 11}
IMAGE = jax.random.normal(jax.random.key(0), (3, 16, 16))


def bert():
    config = transformers.BertConfig(**TEXT, max_position_embeddings=16)
    model = transformers.FlaxBertForSequenceClassification(config, input_shape=(1, 6))
    return model, lambda m, p, x: m(x, params=p).logits, TOKENS, 1, "bert/encoder/layer/1/attention/self"


def gpt2():
    config = transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=16)
    model = transformers.FlaxGPT2LMHeadModel(config, input_shape=(1, 6))
    return model, lambda m, p, x: m(x, params=p).logits, TOKENS, (5, 2), "transformer/h/1/mlp"


def vit():
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    )
    model = transformers.FlaxViTForImageClassification(config, input_shape=(1, 16, 16, 3))
    return model, lambda m, p, x: m(x, params=p).logits, IMAGE, 1, "vit/encoder/layer/0/attention/attention"


def resnet():
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    model = transformers.FlaxResNetForImageClassification(config, input_shape=(1, 16, 16, 3))
    return (
        model,
        lambda m, p, x: m(x, params=p).logits,
        IMAGE,
        1,
        "resnet/encoder/stages/1/layers/0/layer/layer_0",
    )


@pytest.fixture(autouse=True)
def _as_transformers_needs_it():
    with jax.numpy_rank_promotion("allow"):  # its models add biases of rank one
        yield


@pytest.mark.slow
@pytest.mark.parametrize("make", [bert, gpt2, vit, resnet])
def test_flax_models_of_transformers(make):
    model, call, x, target, path = make()
    f = logit(lambda params, batch: call(model, params, batch), model.params)
    output, values = capture(f)(x, target)
    assert output == f(x, target)
    own = intermediates(model, x)
    root = next(iter(values)).partition("/")[0]
    compared = 0
    for name, value in own.items():
        key = "/".join((root, *name))
        if key in values and not isinstance(values[key], tuple):
            np.testing.assert_allclose(values[key], value[0], rtol=1e-5, atol=1e-6, err_msg=key)
            compared += 1
    assert compared >= len(own) - 12
    first = f"{path}[0]" if isinstance(values[f"{root}/{path}"], tuple) else path
    body, head = split(f, first)
    h = body(x, target)
    assert head(h, x, target) == f(x, target)
    assert intervene(f, {first: lambda value: value})(x, target) == f(x, target)
    gradient = jax.grad(head)(h, x, target)
    direction = jnp.where(jnp.arange(h.size).reshape(h.shape) % 2 == 0, 2e-3, -2e-3)
    change = (head(h + direction, x, target) - head(h - direction, x, target)) / 2
    np.testing.assert_allclose(jnp.sum(gradient * direction), change, rtol=2e-2, atol=1e-5)
    counted = sum(layer.parameters for layer in layers(f)(x, target))
    held = sum(leaf.size for leaf in jax.tree.leaves(model.params.get("params", model.params)))
    assert 0.5 * held < counted <= held


def intermediates(model, x):
    """What Linen's own capture of intermediates finds, by path."""
    variables = model.params if "params" in model.params else {"params": model.params}
    if x.ndim == 3:
        args = (jnp.transpose(x[None], (0, 2, 3, 1)),)
    else:
        ids = x[None]
        position = jnp.arange(ids.shape[1])[None]
        mask = jnp.ones_like(ids)
        bert_like = hasattr(model.config, "type_vocab_size")
        args = (ids, mask, jnp.zeros_like(ids), position, None) if bert_like else (ids, mask, position)
    _, state = model.module.apply(variables, *args, capture_intermediates=True, mutable=["intermediates"])
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state["intermediates"]):
        keys = [part.key for part in path if hasattr(part, "key")]
        if keys and keys[-1] == "__call__" and len([p for p in path if hasattr(p, "idx")]) == 1:
            found[tuple(keys[:-1])] = leaf
    return found
