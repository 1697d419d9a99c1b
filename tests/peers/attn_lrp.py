"""Regenerates `attn_lrp.json`: relevance per token of a small BERT by LXT 2.1 (AttnLRP, transformers 4.57, torch).

    python tests/peers/attn_lrp.py     # in an environment with torch, lxt and transformers below 5

The weights are drawn by name, so the Flax model of the test has the same ones.
"""

from __future__ import annotations

import json
import warnings
import zlib
from pathlib import Path

import numpy as np

CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 23,
    "max_position_embeddings": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOKENS = (3, 17, 4, 1, 5, 9, 2)
TARGET = 1


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of one parameter, by its name in torch; scales of normalisations lie around one."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)
    if name.endswith("LayerNorm.weight"):
        return 1 + 0.2 * values
    return 0.3 * values


def main() -> None:
    import torch
    from lxt.efficient import monkey_patch
    from transformers import BertConfig
    from transformers.models.bert import modeling_bert

    monkey_patch(modeling_bert, verbose=True)
    config = BertConfig(**CONFIG, attn_implementation="eager")
    model = modeling_bert.BertForSequenceClassification(config).eval()
    for name, value in model.named_parameters():
        value.data = torch.tensor(draw(name, tuple(value.shape)))
        value.requires_grad_(False)
    embedded = model.bert.embeddings.word_embeddings(torch.tensor([TOKENS])).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, attention_mask=torch.ones(1, len(TOKENS))).logits
    logits[0, TARGET].backward()
    relevance = (embedded * embedded.grad).sum(-1)[0]
    result = {"logits": logits[0].tolist(), "relevance": relevance.tolist()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
