"""Prints what pytorch-grad-cam and captum give on the network of `tests/cams.py`: the constants of `test_cam_peers.py`.

PYTHONPATH=tests python tests/peers/cam_peers.py    (torch, captum 0.9.0, grad-cam 1.5.7, jax, flax)
"""

import contextlib
import io

import captum
import numpy as np
import pytorch_grad_cam as peer
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from shared import cams

CLASS = 1


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        w = cams.weights()
        self.first, self.second = (_conv(w[name]) for name in ("first", "second"))
        self.features, self.last = torch.nn.ReLU(), torch.nn.ReLU()
        self.head = torch.nn.Linear(5, 3)
        _set(self.head, w["head"]["kernel"].T, w["head"]["bias"])

    def forward(self, x):
        x = self.last(self.second(self.features(self.first(x))))
        return self.head(x.mean((2, 3)))


def _conv(w):
    layer = torch.nn.Conv2d(w["kernel"].shape[2], w["kernel"].shape[3], 3, padding=1)
    _set(layer, w["kernel"].transpose(3, 2, 0, 1), w["bias"])
    return layer


def _set(layer, weight, bias):
    layer.weight.data = torch.tensor(np.ascontiguousarray(weight), dtype=torch.float32)
    layer.bias.data = torch.tensor(bias, dtype=torch.float32)


def show(name, values):
    print(f'    "{name}": {np.round(np.asarray(values, np.float64), 6).tolist()},')


def main():
    model, x = Net().eval(), torch.tensor(cams.image()).permute(2, 0, 1)[None]
    kinds = ("GradCAM", "HiResCAM", "XGradCAM", "LayerCAM", "EigenCAM", "EigenGradCAM", "ScoreCAM", "AblationCAM")
    print("scores", model(x).detach().numpy().tolist())
    print("PYTORCH_GRAD_CAM = {  # row 2 of maps after ReLU, stretched to [0, 1]")
    for kind in kinds:
        with contextlib.redirect_stderr(io.StringIO()):
            cam = getattr(peer, kind)(model=model, target_layers=[model.features])
            show(kind, cam(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)])[0, 2])
    cam = peer.GradCAMPlusPlus(model=model, target_layers=[model.features])  # gradients far above its epsilon of 1e-6
    show("GradCAMPlusPlus of 100 times the score", cam(input_tensor=x, targets=[lambda out: 100 * out[CLASS]])[0, 2])
    print("}\nCAPTUM = {  # row 2 of signed maps")
    grad_cam = captum.attr.LayerGradCam(model, model.features)
    small = grad_cam.attribute(x, target=CLASS)
    show("LayerGradCam", small[0, 0, 2].detach())
    show("interpolate", captum.attr.LayerAttribution.interpolate(small, (9, 15), "bilinear")[0, 0, 2].detach())
    print("}")


if __name__ == "__main__":
    main()
