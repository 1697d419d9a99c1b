"""A small GPT-2 of Flax against LXT 2.1 and inseq 0.7.1 on the same weights; numbers by `tests/peers/gpt2.py`."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.gpt2 import CONFIG, CONTINUATION, TOKENS, draw

import jaxplain
from jaxplain import language

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed; Flax models ship with version 4 (test extra)"
    )
    if int(transformers.__version__.split(".")[0]) != 4:
        pytest.skip("transformers 5 ships no Flax models; install version 4", allow_module_level=True)
    pytest.importorskip("transformers.models.gpt2.modeling_flax_gpt2")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
PEER = json.loads((Path(__file__).parents[2] / "peers" / "gpt2.json").read_text())


@pytest.fixture(autouse=True)
def promoted():
    """Flax GPT-2 adds its biases to arrays of more axes."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def f():
    model = transformers.FlaxGPT2LMHeadModel(transformers.GPT2Config(**CONFIG), input_shape=(1, 7))

    def weight(path, leaf):
        """Drawn by the parameter's name in torch, whose layers of GPT-2 have the shapes of their transposes in Flax."""
        parts = [part.key for part in path]
        kernel = parts[-1] == "kernel"
        last = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(parts[-1], "bias")
        drawn = draw(".".join([*parts[:-1], last]), leaf.shape[::-1] if kernel else leaf.shape)
        return jnp.asarray(drawn.T if kernel else drawn)

    params = jax.tree_util.tree_map_with_path(weight, model.params)
    apply = lambda params, ids: model(ids, params=params)  # noqa: E731
    return language.token_logit(apply, params, select="logits")


def near(found, wanted, part=1e-3):
    np.testing.assert_allclose(found, wanted, atol=part * np.abs(wanted).max())


def test_attn_lrp_agrees_with_lxt(f):
    ids, last = jnp.array(TOKENS), len(TOKENS) - 1
    logits = jax.jit(jax.vmap(f, (None, None, 0)))(ids, last, jnp.arange(CONFIG["vocab_size"]))
    near(logits, PEER["logits"], 1e-5)
    ours = jax.jit(jaxplain.lrp(f, jaxplain.relevance.attn_lrp()))(ids, last, CONTINUATION[0])
    near(ours, PEER["attn_lrp"])


@pytest.mark.parametrize("name", ["input_x_gradient", "integrated_gradients", "occlusion"])
def test_attribution_of_a_continuation_agrees_with_inseq(f, name):
    method = {
        "input_x_gradient": jaxplain.input_x_gradient,
        "integrated_gradients": functools.partial(jaxplain.integrated_gradients, baseline=0, steps=64),
        "occlusion": functools.partial(jaxplain.occlusion, window=1, baseline=0),
    }[name]
    found = language.explain_generation(method, f, TOKENS, CONTINUATION, longest=CONFIG["n_positions"])
    near(jnp.abs(found) if name == "occlusion" else found, np.asarray(PEER[name]))
    if name == "occlusion":  # inseq shows sizes alone; a token that lowers the score has a negative part in it
        ids = jnp.array([*TOKENS, *CONTINUATION[:-1]])
        parts = [f(ids, len(ids) - 1, CONTINUATION[1]) - f(ids.at[s].set(0), len(ids) - 1, CONTINUATION[1])
                 for s in range(len(ids))]  # fmt: skip
        near(found[1], jnp.stack(parts))
        assert (np.asarray(parts) < 0).any()
