"""Attention and edges of Hugging Face's Flax models, with random weights: an optional extra."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import language
from jaxplain.internals import attention_weights

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra [transformers])")
    if int(transformers.__version__.split(".")[0]) != 4:
        pytest.skip("transformers 5 ships no Flax models; install version 4", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
IDS = jnp.array([3, 1, 4, 1, 5, 9])
OTHER = jnp.array([3, 2, 4, 7, 5, 9])
BERT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 11}


@pytest.fixture(autouse=True)
def _as_transformers_needs_it():
    with jax.numpy_rank_promotion("allow"):
        yield


def gpt2():
    config = transformers.GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=16)
    return transformers.FlaxGPT2LMHeadModel(config, input_shape=(1, 6))


def bert():
    config = transformers.BertConfig(**BERT, max_position_embeddings=16)
    return transformers.FlaxBertForSequenceClassification(config, input_shape=(1, 6))


@pytest.mark.parametrize("make", [gpt2, bert])
def test_weights_are_the_models_own_and_edges_are_found(make):
    model = make()
    wanted = model(IDS[None], output_attentions=True).attentions
    score = lambda ids: model(ids[None]).logits.reshape(-1)[-1]  # noqa: E731
    found = list(attention_weights(score)(IDS).values())
    assert len(found) == len(wanted) == 2
    for own, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(own, other[0], atol=1e-6)
    edges = language.edges(score)(IDS)
    heads = {writer for writer, _ in edges if "head" in writer}
    assert len(heads) == 4, edges
    kept = jnp.ones(len(edges))
    circuit = jax.jit(language.circuit_score(score))
    np.testing.assert_allclose(circuit(IDS, OTHER, kept), score(IDS), atol=1e-5)
    np.testing.assert_allclose(circuit(IDS, OTHER, 0 * kept), score(OTHER), atol=1e-5)
    linear = language.detached(score)(IDS)
    np.testing.assert_allclose(
        linear.offset + sum((j * x).sum() for j, x in zip(linear.jacobian, linear.x, strict=True)),
        score(IDS),
        atol=1e-5,
    )
