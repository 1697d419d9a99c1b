"""Prints what captum says of the decoder of `tests/shared/language.py`; `test_peers.py` has the numbers.

pip install captum==0.9.0 torch transformers numpy && python tests/peers/generated_text.py
"""

from types import SimpleNamespace

import captum
import numpy as np
import tokenizers
import torch
from captum.attr import (
    FeatureAblation,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    LLMAttribution,
    LLMGradientAttribution,
    ShapleyValues,
    TextTokenInput,
)
from torch import nn
from transformers import PreTrainedTokenizerFast

VOCABULARY, WIDTH, LENGTH = 11, 8, 64
PROMPT, CONTINUATION, ABSENT = [3, 1, 4, 1, 5], [2, 6, 5], 7


def wave(shift, *shape):
    return torch.tensor(np.sin(shift + 2.3 * np.arange(np.prod(shape))).reshape(shape), dtype=torch.float32)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH, _weight=wave(0, VOCABULARY, WIDTH))
        self.position, self.unembed = wave(1, LENGTH, WIDTH), wave(2, WIDTH, VOCABULARY)
        shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)]
        self.q, self.k, self.v, self.o, self.up, self.down = (wave(3 + i, *s) for i, s in enumerate(shapes))
        self.device, self.config = torch.device("cpu"), SimpleNamespace(is_encoder_decoder=False)

    def forward(self, input_ids, attention_mask=None, **_):
        h = self.wte(input_ids) + self.position[: input_ids.shape[1]]
        scores = (h @ self.q) @ (h @ self.k).transpose(1, 2) / WIDTH**0.5
        causal = torch.tril(torch.ones(scores.shape[-2:], dtype=torch.bool))
        h = h + torch.softmax(torch.where(causal, scores, torch.tensor(-1e9)), -1) @ (h @ self.v) @ self.o
        h = h + nn.functional.gelu(h @ self.up, approximate="tanh") @ self.down
        return SimpleNamespace(logits=h @ self.unembed)

    def generate(self, *_, **__):
        raise NotImplementedError


def word_tokenizer(vocabulary=VOCABULARY):
    """Words that are numbers, each its own id."""
    model = tokenizers.models.WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="0")


def shown(values):
    return [[round(float(v), 6) for v in row] for row in values.detach()]


if __name__ == "__main__":
    print("captum", captum.__version__)
    model, tokenizer = Decoder(), word_tokenizer()
    text = " ".join(map(str, PROMPT))
    target = torch.tensor(CONTINUATION)
    for name, method, settings in (
        ("input_x_gradient", LayerGradientXActivation(model, model.wte), {}),
        (
            "integrated_gradients",
            LayerIntegratedGradients(model, model.wte),
            {"n_steps": 64, "method": "gausslegendre"},
        ),
    ):
        inputs = TextTokenInput(text, tokenizer, baselines=ABSENT)
        result = LLMGradientAttribution(method, tokenizer).attribute(inputs, target=target, **settings)
        print(name, shown(result.token_attr))
    for name, method in (("feature_ablation", FeatureAblation(model)), ("shapley_values", ShapleyValues(model))):
        inputs = TextTokenInput(text, tokenizer, baselines=ABSENT)
        result = LLMAttribution(method, tokenizer).attribute(inputs, target=target, use_cached_outputs=False)
        print(name, shown(result.token_attr))
