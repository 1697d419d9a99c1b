"""Regenerates `rules.json`: what zennit 0.5.1 and captum 0.9.0 compute on the networks of `rule_networks.py`.

python tests/peers/rules.py        # in an environment with torch, zennit and captum
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import captum
import numpy as np
import torch
import zennit
from captum.attr import LRP, Deconvolution, GuidedBackprop
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from rule_networks import convolutional_network, dense_network, residual_network
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    ExcitationBackprop,
    LayerMapComposite,
    layer_map_base,
)
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZPlus
from zennit.types import Linear

RULES = {
    "epsilon": lambda: Epsilon(epsilon=1e-6),
    "epsilon_large": lambda: Epsilon(epsilon=0.25),
    "gamma": lambda: Gamma(gamma=0.25),
    "z_plus": ZPlus,
    "alpha2_beta1": lambda: AlphaBeta(alpha=2, beta=1),
    "w_square": WSquare,
    "flat": Flat,
}


def dense(bias: bool) -> tuple[torch.nn.Module, torch.Tensor]:
    made = dense_network(bias)
    modules: list[torch.nn.Module] = []
    for weight, offset in zip(made["weights"], made["biases"], strict=True):
        layer = torch.nn.Linear(*weight.shape)
        layer.weight.data, layer.bias.data = torch.tensor(weight.T.copy()), torch.tensor(offset)
        modules += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1]), torch.tensor(made["x"])[None]


def convolutional() -> tuple[torch.nn.Module, torch.Tensor]:
    w = {name: torch.tensor(value) for name, value in convolutional_network().items()}
    first, second = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 5, 3, padding=1)
    norm, head = torch.nn.BatchNorm2d(4, eps=1e-5), torch.nn.Linear(20, 3)
    for layer, name in ((first, "first"), (second, "second")):
        layer.weight.data, layer.bias.data = w[name].permute(3, 2, 0, 1).contiguous(), w[f"{name}_bias"]
    norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var = (
        w["scale"], w["shift"], w["mean"], w["variance"],
    )  # fmt: skip
    # The head reads features in the order H, W, C of the JAX network.
    head.weight.data = w["head"].reshape(2, 2, 5, 3).permute(3, 2, 0, 1).reshape(3, 20).contiguous()
    head.bias.data = w["head_bias"]
    model = torch.nn.Sequential(
        first, norm, torch.nn.ReLU(), torch.nn.MaxPool2d(2), second, torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Flatten(), head,
    )  # fmt: skip
    return model.eval(), w["x"].permute(2, 0, 1)[None]


class Residual(torch.nn.Module):
    """y = head(x + relu(inner(x))), without biases and with a plain addition."""

    def __init__(self) -> None:
        super().__init__()
        w = residual_network()
        self.inner, self.head = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 2, bias=False)
        self.inner.weight.data, self.head.weight.data = torch.tensor(w["inner"].T), torch.tensor(w["head"].T)
        self.relu = torch.nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + self.relu(self.inner(x)))


def wrong_numbers() -> dict[str, Any]:
    """What peers give where they are wrong; the tests derive the right numbers by hand."""
    one = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False))
    one[0].weight.data = torch.tensor([[1.0, -2.0]])
    one[0].rule = Alpha1_Beta0_Rule()
    composite = LayerMapComposite([*layer_map_base(), (Linear, Epsilon(epsilon=1e-6))])
    x = torch.tensor(residual_network()["x"])[None]
    return {
        "captum_alpha1_beta0": channels_last(LRP(one).attribute(torch.tensor([[3.0, -1.0]]))),
        "zennit_residual": propagated(Residual(), x, composite),
    }


def propagated(model: torch.nn.Module, x: torch.Tensor, composite: Any, start: float | None = None) -> list[Any]:
    x = x.clone().requires_grad_()

    def seed(output: torch.Tensor) -> torch.Tensor:
        chosen = torch.zeros_like(output)
        chosen[:, 1] = output[:, 1] if start is None else start
        return chosen

    with Gradient(model, composite, attr_output=seed) as attributor:
        _, relevance = attributor(x)
    return channels_last(relevance)


def channels_last(value: torch.Tensor) -> list[Any]:
    value = value.detach()[0]
    return np.round((value.permute(1, 2, 0) if value.ndim == 3 else value).numpy().astype(np.float64), 7).tolist()


def main() -> None:
    result: dict[str, Any] = {"versions": {"zennit": zennit.__version__ if hasattr(zennit, "__version__") else "0.5.1"}}
    result["versions"] |= {"captum": captum.__version__, "torch": torch.__version__}
    for name in ("dense", "dense_without_bias", "convolutional"):
        model, x = convolutional() if name == "convolutional" else dense(name == "dense")
        found = {"output": model(x).detach().numpy()[0].tolist()}
        merge = [SequentialMergeBatchNorm()]
        for rule, make in RULES.items():
            composite = LayerMapComposite([*layer_map_base(), (Linear, make())], canonizers=merge)
            found[rule] = propagated(model, x, composite)
        composites = {
            "epsilon_plus": EpsilonPlus(canonizers=merge),
            "epsilon_plus_flat": EpsilonPlusFlat(canonizers=merge),
            "epsilon_gamma_box": EpsilonGammaBox(low=-3.0, high=3.0, canonizers=merge),
            "epsilon_alpha2_beta1": EpsilonAlpha2Beta1(canonizers=merge),
            "epsilon_alpha2_beta1_flat": EpsilonAlpha2Beta1Flat(canonizers=merge),
        }
        for rule, composite in composites.items():
            found[rule] = propagated(model, x, composite)
        found["excitation_backprop"] = propagated(model, x, ExcitationBackprop(canonizers=merge), start=1.0)
        found["captum_guided_backprop"] = channels_last(GuidedBackprop(model).attribute(x, target=1))
        found["captum_deconvnet"] = channels_last(Deconvolution(model).attribute(x, target=1))
        if name.startswith("dense"):
            for layer in model:
                layer.rule = EpsilonRule(epsilon=1e-6)
            found["captum_lrp_epsilon"] = channels_last(LRP(model).attribute(x, target=1))
        result[name] = found
    result["wrong"] = wrong_numbers()
    lines = [
        f' "{name}": {{\n' + ",\n".join(f'  "{k}": {json.dumps(v)}' for k, v in part.items()) + "\n }"
        for name, part in result.items()
    ]
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
