"""Regenerate the numbers of SAELens 6.54 that the tests of sparse autoencoders hold.

    python tests/peers/sae_peers.py

Needs torch and sae-lens; not collected by pytest. Weights and activations are those of `shared.peer_dictionaries`.
"""

import json
import sys
from pathlib import Path

import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedTrainingSAE,
    GatedTrainingSAEConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput

sys.path.insert(0, str(Path(__file__).parents[1]))
from shared import peer_dictionaries as p

SIZE = {"d_in": p.WIDTH, "d_sae": p.ATOMS, "dtype": "float64", "apply_b_dec_to_input": True}
PLAIN = {"rescale_acts_by_decoder_norm": False}
MODELS = {
    "standard": (StandardTrainingSAE, StandardTrainingSAEConfig(**SIZE)),
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig(k=p.K, **SIZE, **PLAIN)),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(k=p.K, **SIZE, **PLAIN)),
    "jumprelu": (
        JumpReLUTrainingSAE,
        JumpReLUTrainingSAEConfig(
            jumprelu_bandwidth=p.BANDWIDTH, jumprelu_sparsity_loss_mode="step", jumprelu_init_threshold=0.1, **SIZE
        ),
    ),
    "matryoshka": (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig(k=p.K, matryoshka_widths=[*p.SIZES, p.ATOMS], **SIZE, **PLAIN),
    ),
    "gated": (GatedTrainingSAE, GatedTrainingSAEConfig(**SIZE)),
}
WEIGHTS = {
    "W_enc": p.ENCODER, "W_dec": p.DECODER, "b_dec": p.OFFSET, "b_enc": p.BIAS, "b_gate": p.BIAS,
    "b_mag": p.SIZE_BIAS, "r_mag": p.GAIN, "threshold": p.THRESHOLD,
}  # fmt: skip


def numbers(name: str) -> dict[str, object]:
    """Codes of a batch in training, the loss, and its gradients."""
    kind, config = MODELS[name]
    model = kind(config).double()
    with torch.no_grad():
        for own, value in WEIGHTS.items():
            if hasattr(model, own):
                getattr(model, own).copy_(torch.tensor(value))
    out = model.training_forward_pass(
        TrainStepInput(
            sae_in=torch.tensor(p.ROWS),
            coefficients={"l1": p.PENALTY, "l0": p.PENALTY},
            dead_neuron_mask=None,
            n_training_steps=0,
            is_logging_step=False,
        )
    )
    out.loss.backward()
    gradients = {n: v.grad.tolist() for n, v in model.named_parameters() if v.grad is not None}
    return {"codes": out.feature_acts.detach().to_dense().tolist(), "loss": out.loss.item(), "gradients": gradients}


if __name__ == "__main__":
    text = json.dumps({name: numbers(name) for name in p.ARCHITECTURES})
    rounded = json.loads(text, parse_float=lambda number: round(float(number), 7))
    (Path(__file__).parent / "sae.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")
