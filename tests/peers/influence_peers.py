"""Regenerate the numbers of dattri 0.3.0 and captum 0.9 that the tests of attribution to training examples hold.

    python tests/peers/influence_peers.py

Needs torch, dattri, captum and scikit-learn; not collected by pytest. Data and weights are those of
`shared.peer_training`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from captum.influence import TracInCP
from dattri.algorithm.influence_function import IFAttributorExplicit
from dattri.algorithm.tracin import TracInAttributor
from dattri.task import AttributionTask
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))
from bench import influence_peers
from shared.peer_training import (
    ASKED_DIGITS,
    CHECKPOINTS,
    DAMPING,
    DIGITS,
    EARLIER,
    LABELS,
    LAYERS,
    QUERIES,
    QUERY_LABELS,
    RATES,
    REGULARIZATION,
    X,
)

torch.set_default_dtype(torch.float64)
MODEL = torch.nn.Linear(4, 3, bias=False)


def loader(x: np.ndarray, y: np.ndarray) -> DataLoader:
    return DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=len(x), shuffle=False)


def states(weights: np.ndarray) -> list[dict[str, torch.Tensor]]:
    return [{"weight": torch.tensor(w.T.copy())} for w in weights]


def loss(params: dict[str, torch.Tensor], data: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    x, y = data
    outputs = torch.func.functional_call(MODEL, params, (x,))
    return torch.nn.functional.cross_entropy(outputs.reshape(-1, 3), y.reshape(-1))


def main() -> None:
    learnt, asked = loader(X, LABELS), loader(QUERIES, QUERY_LABELS)
    task = AttributionTask(loss_func=loss, model=MODEL, checkpoints=states(CHECKPOINTS))
    for name, weights in (("dattri TracIn", RATES), ("dattri gradient dot", (0.0, 1.0))):
        method = TracInAttributor(task, torch.tensor(weights), normalized_grad=False)
        method.projector_kwargs = None  # by default it projects to 512 random numbers, even 12 params
        print(name, method.attribute(learnt, asked).numpy().T.tolist())
    last = AttributionTask(loss_func=loss, model=MODEL, checkpoints=states(CHECKPOINTS[-1:]))
    explicit = IFAttributorExplicit(last, regularization=REGULARIZATION)
    explicit.cache(learnt)
    print("dattri explicit", explicit.attribute(learnt, asked).detach().numpy().T.tolist())
    MODEL.load_state_dict(states(CHECKPOINTS)[-1])
    captum = TracInCP(
        MODEL,
        TensorDataset(torch.tensor(X), torch.tensor(LABELS)),
        ["kept"],
        checkpoints_load_func=lambda model, path: 1.0,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(X),
        sample_wise_grads_per_batch=True,
    )
    print("captum TracInCP", captum.influence((torch.tensor(QUERIES), torch.tensor(QUERY_LABELS))).detach().tolist())
    digits()


def digits() -> None:
    """The network of digits; of each array the sum and the values of six training examples are kept."""
    x, y = load_digits(return_X_y=True)
    data, asked = (x[DIGITS] / 16, y[DIGITS]), (x[ASKED_DIGITS] / 16, y[ASKED_DIGITS])
    given = ("Tanh", data, asked)
    for name, run in {
        "TracIn": influence_peers.dattri_tracin([EARLIER, LAYERS], *given, list(RATES)),
        "gradient dot": influence_peers.dattri_tracin([LAYERS], *given, [1.0]),
        "explicit": influence_peers.dattri_explicit(LAYERS, *given, DAMPING),
        "Captum's TracIn": influence_peers.captum_tracin([EARLIER, LAYERS], *given, list(RATES)),
    }.items():
        values = run()
        print("digits:", name, values.sum(axis=1).tolist(), values[:, :6].tolist())


if __name__ == "__main__":
    main()
