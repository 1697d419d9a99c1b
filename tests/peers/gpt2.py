"""Regenerates `gpt2.json`: a small GPT-2 explained by LXT 2.1 (AttnLRP) and by inseq 0.7.1 (gradients, occlusion).

    python tests/peers/gpt2.py     # in an environment with torch, lxt, inseq and transformers below 5

The weights are drawn by name, so the Flax model of the test has the same ones.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as a script, too

from peers.attn_lrp import draw as drawn

CONFIG = {
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 23,
    "n_positions": 12,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TOKENS = (3, 17, 4, 1, 5)
CONTINUATION = (9, 2)
STEPS = 64


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of one parameter, by its name in torch; scales of normalisations lie around one."""
    own = drawn(name, shape)
    return 1 + own * 0.2 / 0.3 if ".ln_" in f".{name}" and name.endswith("weight") else own


def torch_model(model: type) -> object:
    """GPT-2 with these weights."""
    import torch
    from transformers import GPT2Config

    made = model(GPT2Config(**CONFIG, attn_implementation="eager")).eval()
    for name, value in made.named_parameters():
        value.data = torch.tensor(draw(name, tuple(value.shape)))
        value.requires_grad_(False)
    made.tie_weights()
    return made


def by_inseq() -> dict[str, object]:
    """Attributions `[T, S]` of the logits of the continuation."""
    import inseq
    import torch
    from peers.generated_text import word_tokenizer
    from transformers import GPT2LMHeadModel

    tokenizer = word_tokenizer(CONFIG["vocab_size"])
    found = {}
    settings = {
        "input_x_gradient": {},
        "integrated_gradients": {"n_steps": STEPS},
        "occlusion": {},
    }
    text = " ".join(map(str, TOKENS))
    for name, own in settings.items():
        model = inseq.load_model(torch_model(GPT2LMHeadModel), name, tokenizer=tokenizer)
        out = model.attribute(
            text, f"{text} {' '.join(map(str, CONTINUATION))}", attributed_fn="logit", show_progress=False, **own
        )
        values = out.sequence_attributions[0].target_attributions
        values = values.sum(-1) if values.ndim == 3 else values
        found[name] = torch.nan_to_num(values.T[-len(CONTINUATION) :, :-1]).tolist()
    return found


def by_lxt() -> dict[str, object]:
    """Relevance of the prompt's tokens for the logit of the first token of the continuation."""
    import torch
    from lxt.efficient import monkey_patch
    from transformers.models.gpt2 import modeling_gpt2

    monkey_patch(modeling_gpt2, verbose=True)
    model = torch_model(modeling_gpt2.GPT2LMHeadModel)
    embedded = model.transformer.wte(torch.tensor([TOKENS])).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits[0, -1]
    logits[CONTINUATION[0]].backward()
    return {"logits": logits.tolist(), "attn_lrp": (embedded * embedded.grad).sum(-1)[0].tolist()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    result = by_inseq() | by_lxt()  # the second one patches the model's code
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(result)
