"""Prints the numbers of captum 0.9 that `tests/shared/recorded_captum.py` holds.

python tests/peers/perturbation.py        (torch and captum==0.9.0; nothing of this library is imported)
"""

import numpy as np
import torch
from captum.attr import FeatureAblation, Occlusion
from captum.robust import FGSM, PGD


def wave(shift, *shape):
    return torch.tensor(np.sin(shift + 1.7 * np.arange(np.prod(shape))).reshape(shape), dtype=torch.float64)


FIRST, SECOND, LAST = wave(1, 20, 6), wave(2, 3, 6), wave(3, 6, 3)
A, B = wave(4, 2, 4, 5), wave(5, 2, 3)


def model(a, b):
    return torch.tanh(a.reshape(len(a), -1) @ FIRST + b @ SECOND) @ LAST


def show(name, *values):
    for value in values:
        print(f"{name} = {np.round(value.detach().numpy(), 7).tolist()}")


def main():
    target = torch.tensor([0, 2])
    show(
        "OCCLUSION",
        Occlusion(lambda a, b: model(a, b)).attribute(
            A, (3, 2), strides=(2, 1), baselines=0.3, target=target, additional_forward_args=(B,)
        ),
    )
    groups = (torch.arange(20).reshape(1, 4, 5) // 7, torch.tensor([[0, 3, 2]]))
    found = FeatureAblation(model).attribute((A, B), baselines=(0.2, -0.1), target=target, feature_mask=groups)
    show("ABLATION", *found)
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    mask = (torch.arange(20).reshape(1, 4, 5) % 3 > 0).double()
    attacked = lambda a: model(a, B)  # noqa: E731
    show("FGSM", FGSM(attacked, loss, lower_bound=-0.9, upper_bound=0.9).perturb(A, 0.1, target, mask=mask))
    pgd = PGD(attacked, loss, lower_bound=-1.0, upper_bound=1.0)
    show("PGD_LINF", pgd.perturb(A, 0.15, 0.04, 7, target, mask=mask))
    show("PGD_L2", pgd.perturb(A, 0.3, 0.1, 5, target, norm="L2", mask=mask))
    show("PGD_TARGETED", pgd.perturb(A, 0.3, 0.1, 5, torch.tensor([1, 1]), targeted=True, norm="L2"))


if __name__ == "__main__":
    main()
