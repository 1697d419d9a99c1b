"""Regenerate the numbers of captum 0.9, shap 0.51 and scikit-learn 1.9 that the tests of Shapley values and LIME hold.

    python tests/peers/shapley.py

Needs torch, captum, shap and scikit-learn; not collected by pytest. The network, input, baseline, background and masks
are the formulas of `tests/peer_network.py`, the same for both.
"""

import sys
from pathlib import Path

import captum.attr as captum
import numpy as np
import shap
import torch
from sklearn.linear_model import Lasso, Ridge

sys.path.insert(0, str(Path(__file__).parents[1]))
from shared.peer_network import BACKGROUND, BASELINE, FIRST, GROUPS, MASKS, SECOND, X, lime_weights, network

np.set_printoptions(precision=8, suppress=True)


def torch_network(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ torch.tensor(FIRST)) @ torch.tensor(SECOND)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x)[None]


def main() -> None:
    exact = captum.ShapleyValues(torch_network)
    print("captum ShapleyValues", exact.attribute(tensor(X), baselines=tensor(BASELINE)).numpy()[0].tolist())
    grouped = exact.attribute(tensor(X), baselines=tensor(BASELINE), feature_mask=torch.tensor(GROUPS)[None])
    print("captum ShapleyValues, groups", grouped.numpy()[0].tolist())
    two = captum.ShapleyValues(lambda a, b: torch_network(torch.cat([a, b], 1))).attribute(
        (tensor(X[:2]), tensor(X[2:])),
        baselines=(tensor(BASELINE[:2]), tensor(BASELINE[2:])),
        feature_mask=(torch.tensor([[0, 1]]), torch.tensor([[1, 2, 0]])),
    )
    print("captum ShapleyValues, groups across inputs", [part.numpy()[0].tolist() for part in two])
    explain = shap.explainers.Exact(network, shap.maskers.Independent(BACKGROUND, max_samples=len(BACKGROUND)))
    print("shap Exact", explain(X[None]).values[0].tolist())
    print("shap Exact, interactions", explain(X[None], interactions=True).values[0].tolist())
    rows = np.where(MASKS, X, BASELINE).astype(np.float32)
    scores, weights = network(rows).astype(np.float64), lime_weights(MASKS)
    ridge = Ridge(alpha=0.1 * weights.sum()).fit(MASKS, scores, sample_weight=weights)
    print("scikit-learn Ridge", ridge.coef_.tolist())
    lasso = Lasso(alpha=0.01, tol=1e-12, max_iter=100_000).fit(MASKS, scores, sample_weight=weights)
    print("scikit-learn Lasso", lasso.coef_.tolist())


if __name__ == "__main__":
    main()
