"""Prints what captum computes for the network of `tests/test_path.py`; its numbers are recorded there.

pip install captum==0.9.0 torch numpy && python tests/peers/captum_path.py
"""

import captum
import numpy as np
import torch
from captum.attr import IntegratedGradients

first = torch.tensor(np.sin(np.arange(12.0)).reshape(4, 3), dtype=torch.float64)
second = torch.tensor(np.cos(np.arange(3.0)), dtype=torch.float64)
x = torch.tensor([[0.5, -1.0, 2.0, 0.25]], dtype=torch.float64)
baseline = torch.tensor([[0.1, 0.2, -0.3, 0.4]], dtype=torch.float64)


def network(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ first) @ second


print("captum", captum.__version__)
for name in ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle"):
    result = IntegratedGradients(network).attribute(x, baseline, n_steps=8, method=name)
    print(name, [round(float(value), 9) for value in result[0]])
