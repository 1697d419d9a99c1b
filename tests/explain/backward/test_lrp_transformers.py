"""LRP on Hugging Face's Flax models (transformers 4, unmodified, random weights): an optional extra."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.attn_lrp import CONFIG, TARGET, TOKENS, draw

import jaxplain
from jaxplain.explain.backward import relevance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed; Flax models ship with version 4 (test extra)"
    )
    if int(transformers.__version__.split(".")[0]) != 4:
        pytest.skip("transformers 5 ships no Flax models; install version 4", allow_module_level=True)
    pytest.importorskip("transformers.models.bert.modeling_flax_bert")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
IMAGE = jax.random.normal(jax.random.key(0), (3, 16, 16))


def shaken(params):
    """Biases and scales that are neither zero nor one."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved)


def score(model, params=None):
    def apply(params, x):
        return model(x, params=params).logits

    return jaxplain.logit(apply, shaken(model.params) if params is None else params)


def vit():
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8
    )
    return score(transformers.FlaxViTForImageClassification(config, input_shape=(1, 16, 16, 3))), IMAGE


def resnet():
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[2, 1], layer_type="bottleneck")
    return score(transformers.FlaxResNetForImageClassification(config, input_shape=(1, 16, 16, 3))), IMAGE


def bert_model():
    return transformers.FlaxBertForSequenceClassification(transformers.BertConfig(**CONFIG), input_shape=(1, 7))


def bert():
    return score(bert_model()), jnp.array(TOKENS)


@pytest.mark.parametrize("make", [vit, resnet, bert], ids=["vit", "resnet", "bert"])
def test_the_balance_accounts_for_all_that_is_lost(make):
    f, x = make()
    e = jaxplain.lrp(f, relevance.attn_lrp())
    balance, attribution = jax.jit(lambda x: (jaxplain.relevance_balance(e)(x, 1), e(x, 1)))(x)
    assert attribution.shape == x.shape
    assert bool(jnp.isfinite(attribution).all())
    np.testing.assert_allclose(balance.start, f(x, 1), rtol=1e-4)
    np.testing.assert_allclose(balance.end, attribution.sum(), rtol=1e-3, atol=1e-5)
    assert abs(float(balance.unexplained)) < 1e-3 * abs(float(balance.start))
    # What is lost is lost to biases, constants of the model, normalisations and softmax, each by name.
    causes = ("dense", "convolution", "scale_shift", "normalization", "softmax", "add", "concatenate")
    named = sum(loss for loss, name in zip(balance.lost, balance.operations, strict=True) if name in causes)
    np.testing.assert_allclose(named, balance.lost.sum(), atol=1e-3 * abs(float(balance.start)))


def flax_weights(params):
    """The weights of the peer's script: drawn by the parameter's name in torch."""

    def weight(path, leaf):
        parts = [part.key for part in path]
        kernel = parts[-1] == "kernel"
        name = ".".join(
            [*parts[:-1], {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(parts[-1], "bias")]
        )
        drawn = draw(name, leaf.shape[::-1] if kernel else leaf.shape)
        return jnp.asarray(drawn.T if kernel else drawn)

    return jax.tree_util.tree_map_with_path(weight, params)


def test_attn_lrp_agrees_with_lxt_on_bert():
    peer = json.loads((Path(__file__).parents[2] / "peers" / "attn_lrp.json").read_text())
    model = bert_model()
    f = score(model, flax_weights(model.params))
    tokens = jnp.array(TOKENS)
    np.testing.assert_allclose([f(tokens, k) for k in range(2)], peer["logits"], atol=1e-4)
    ours = jax.jit(jaxplain.lrp(f, relevance.attn_lrp()))(tokens, TARGET)
    np.testing.assert_allclose(ours, peer["relevance"], atol=1e-3 * np.abs(peer["relevance"]).max())
