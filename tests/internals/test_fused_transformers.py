"""Attentions of models from Hugging Face's transformers 4, of small random weights: an optional extra."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.internals.fused import fused_attentions
from jaxplain.program.trace import attention_context

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed; Flax models ship with version 4 (test extra)"
    )
    if int(transformers.__version__.split(".")[0]) != 4:
        pytest.skip("transformers 5 ships no Flax models; install version 4", allow_module_level=True)
    pytest.importorskip("transformers.models.bert.modeling_flax_bert")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
IDS = jnp.array([3, 1, 4, 1, 5, 9])
KEEP = jnp.array([1, 1, 1, 1, 0, 0])
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 11,
    "max_position_embeddings": 16,
}
TWO = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 11, "n_positions": 16}
MODELS = {
    # Padding, added to the scores; a switch for each head, which is one.
    "bert": lambda: transformers.FlaxBertModel(transformers.BertConfig(**TEXT), input_shape=(1, 6)),
    # Rotary embeddings, applied by products; padding.
    "roformer": lambda: transformers.FlaxRoFormerModel(transformers.RoFormerConfig(**TEXT), input_shape=(1, 6)),
    # Causal and padding.
    "gpt2": lambda: transformers.FlaxGPT2LMHeadModel(transformers.GPT2Config(**TWO), input_shape=(1, 6)),
    # Rotary embeddings of a part of each head.
    "gpt-j": lambda: transformers.FlaxGPTJForCausalLM(transformers.GPTJConfig(**TWO, rotary_dim=4), input_shape=(1, 6)),
    # Local windows, no scale.
    "gpt-neo": lambda: transformers.FlaxGPTNeoForCausalLM(
        transformers.GPTNeoConfig(
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            attention_types=[[["global", "local"], 1]],
            vocab_size=11,
            max_position_embeddings=16,
            window_size=4,
        ),
        input_shape=(1, 6),
    ),
    # Rotary embeddings and grouped queries, causal.
    "llama": lambda: transformers.FlaxLlamaForCausalLM(
        transformers.LlamaConfig(**TEXT, num_key_value_heads=1), input_shape=(1, 6)
    ),
}


@pytest.fixture(autouse=True)
def _as_transformers_needs_it():
    with jax.numpy_rank_promotion("allow"):  # its models add biases of rank one
        yield


@pytest.mark.parametrize("name", MODELS)
def test_attentions_of_transformers(name):
    model = MODELS[name]()

    def score(params, keep):
        """A weighted sum of what is not padded."""
        out = model(IDS[None], params=params, attention_mask=keep[None])[0][0]
        return jnp.sum(jnp.sin(3 * out) * keep[:, None])

    moved = next(
        path for path in jax.tree_util.tree_leaves_with_path(model.params) if "embed" in str(path) or "wte" in str(path)
    )

    def of(embedding, keep):
        leaves, structure = jax.tree_util.tree_flatten_with_path(model.params)
        return score(jax.tree.unflatten(structure, [embedding if p == moved[0] else v for p, v in leaves]), keep)

    e = jaxplain.gradient(of)
    plain = jax.jit(lambda x: e(x, KEEP))(moved[1])
    with attention_context("xla"):
        rows = fused_attentions(of)(moved[1], KEEP)
        assert len(rows) == 2
        assert all(row.fused for row in rows), rows
        fused = jax.jit(lambda x: e(x, KEEP))(moved[1])
    np.testing.assert_allclose(fused, plain, atol=1e-5 * float(jnp.abs(plain).max()))
    assert float(jnp.abs(plain).max()) > 0
