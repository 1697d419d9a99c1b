"""Prints what captum and shap give on small networks: the constants of `test_deep_lift_peers.py`.

PYTHONPATH=tests python tests/peers/deep_lift_peers.py    (torch, captum 0.9.0, shap 0.51.0)
"""

import captum
import numpy as np
import shap
import torch

from shared.networks import inputs, weights


class Dense(torch.nn.Module):
    def __init__(self, activation):
        super().__init__()
        w = weights()
        self.first, self.second = _linear(w["first"]), _linear(w["second"])
        self.activation = activation

    def forward(self, x):
        return self.second(self.activation(self.first(x)))


class Convolutional(torch.nn.Module):
    def __init__(self, stride):
        super().__init__()
        w = weights()
        self.conv, self.head = torch.nn.Conv2d(2, 4, 3, padding=1), _linear(w[f"head_{stride}"])
        self.conv.weight.data = torch.tensor(w["conv"]["kernel"].transpose(3, 2, 0, 1).copy(), dtype=torch.float32)
        self.conv.bias.data = torch.tensor(w["conv"]["bias"], dtype=torch.float32)
        self.relu, self.pool = torch.nn.ReLU(), torch.nn.MaxPool2d(4 - stride, stride)

    def forward(self, x):
        h = self.pool(self.relu(self.conv(x)))
        return self.head(h.permute(0, 2, 3, 1).flatten(1))


class Functional(Dense):
    def forward(self, x):
        return self.second(torch.nn.functional.relu(self.first(x)))


class Normalized(Dense):
    def __init__(self):
        super().__init__(torch.nn.ReLU())
        self.norm = torch.nn.LayerNorm(5)

    def forward(self, x):
        return self.second(self.norm(self.first(x)))


def _linear(w):
    layer = torch.nn.Linear(*w["kernel"].shape)
    layer.weight.data = torch.tensor(w["kernel"].T.copy(), dtype=torch.float32)
    layer.bias.data = torch.tensor(w["bias"], dtype=torch.float32)
    return layer


def show(name, values):
    print(f'    "{name}": {np.round(np.asarray(values, np.float64), 6).tolist()},')


def main():
    x, background = (torch.tensor(v) for v in (inputs()["vector"], inputs()["background"]))
    image = torch.tensor(inputs()["image"]).permute(2, 0, 1)[None]
    print("CAPTUM = {")
    for name in ("ReLU", "Sigmoid", "Tanh", "Softplus"):
        model = Dense(getattr(torch.nn, name)())
        found = captum.attr.DeepLift(model).attribute(x[None], background[:1], target=1)
        show(name, found[0].detach())
    print("}\nSHAP = {")
    for name in ("ReLU", "Tanh"):
        explainer = shap.DeepExplainer(Dense(getattr(torch.nn, name)()), background)
        show(name, explainer.shap_values(x[None])[0, :, 1])
    explainer = shap.DeepExplainer(Convolutional(2), torch.zeros_like(image))
    show("convolution", explainer.shap_values(image)[0, 1, 2, :, 1])
    print("}\nwrong completeness, of the difference of the score:")
    for name, model, of, start in (
        ("GELU, which it takes for linear", Dense(torch.nn.GELU()), x[None], background[:1]),
        ("functional ReLU", Functional(torch.nn.ReLU()), x[None], background[:1]),
        ("LayerNorm", Normalized(), x[None], background[:1]),
        ("overlapping max pooling", Convolutional(1), image, image.flip(3)),
    ):
        found, gap = captum.attr.DeepLift(model).attribute(of, start, target=1, return_convergence_delta=True)
        print(f"    {name}: {float(gap[0]):.4f} of {float((model(of) - model(start))[0, 1]):.4f}")


if __name__ == "__main__":
    main()
