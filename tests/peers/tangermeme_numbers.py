"""The figures of tangermeme in `tests/explain/genomics/test_tangermeme.py`; run where it and torch are installed.

python tests/peers/tangermeme_numbers.py
"""

import sys

import numpy as np
import tangermeme
import torch
from tangermeme.deep_lift_shap import deep_lift_shap
from tangermeme.ersatz import dinucleotide_shuffle
from tangermeme.saturation_mutagenesis import saturation_mutagenesis


def waves(*shape, step):
    """Weights that need no generator of random numbers."""
    return torch.tensor(np.sin(step * np.arange(1, np.prod(shape) + 1)).reshape(shape), dtype=torch.float32)


def encoded(text):
    """One-hot letters `[1, 4, L]`."""
    return torch.tensor(np.eye(4)[["ACGT".index(letter) for letter in text]].T[None], dtype=torch.float32)


def network():
    """A convolution over five positions, a dense layer and an output, with ReLU between."""
    layers = torch.nn.Conv1d(4, 3, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU()
    model = torch.nn.Sequential(*layers, torch.nn.Linear(5, 1))
    with torch.no_grad():
        for place, (layer, shape) in enumerate(((0, (3, 4, 5)), (3, (5, 12)), (5, (1, 5)))):
            model[layer].weight.copy_(waves(*shape, step=1 + place))
            model[layer].bias.copy_(0.1 * waves(shape[0], step=4 + place))
    return model


def main():
    """Print the figures."""
    model, x = network(), encoded("ACAGATCA")
    references = torch.stack([encoded(text)[0] for text in ("ACAGATCA", "AGATCACA", "ATCAGACA")])[None]
    kept = {"device": "cpu", "references": references[:, 1:], "n_shuffles": 2}
    rows = {
        "y": model(x)[0],
        "hypothetical": deep_lift_shap(model, x, hypothetical=True, **kept)[0].T,
        "actual": deep_lift_shap(model, x, **kept)[0].T,
    }
    y0, y_hat = saturation_mutagenesis(model, x, raw_outputs=True, device="cpu", fast=False)[:2]
    rows["mutations"] = (y_hat[0, :, :, 0] - y0[0, 0]).T
    print("tangermeme", tangermeme.__version__, "torch", torch.__version__, file=sys.stderr)
    for name, values in rows.items():
        print(name, np.round(values.detach().numpy().astype(float), 5).tolist())
    shuffled = dinucleotide_shuffle(encoded("ACAGATCAG" * 3), n=50, random_state=0)[0].argmax(dim=1).numpy()
    kinds = {tuple(np.bincount(4 * row[:-1] + row[1:], minlength=16)) for row in shuffled}
    print("shuffles", len(kinds), {(int(row[0]), int(row[-1])) for row in shuffled})


if __name__ == "__main__":
    main()
