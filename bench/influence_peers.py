"""What dattri 0.3.0 and Captum 0.9 make of the same weights: products of gradients, TracIn, explicit influence.

A network here is a list of (weight `[in, out]`, bias) with an activation of `torch.nn`, by name, between; a function
returns `run()`, which computes values `[Q, N]` in our signs and units. Their factors: products have the other sign;
dattri's curvature is of the mean loss, with its penalty beside the mean, and its influence is of one example of N.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Layers = Sequence[tuple[Any, Any]]


def torch_model(layers: Layers, activation: str) -> Any:
    """The same network in torch."""
    import torch

    parts: list[Any] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(np.asarray(weight).T))
            linear.bias.copy_(torch.tensor(np.asarray(bias)))
        parts += [linear, getattr(torch.nn, activation)()]
    return torch.nn.Sequential(*parts[:-1])


def _tensors(data: Any) -> tuple[Any, Any]:
    import torch

    x, y = data
    return torch.tensor(np.asarray(x)).reshape(len(x), -1), torch.tensor(np.asarray(y)).long()


def _loader(data: Any) -> Any:
    import torch

    rows = torch.utils.data.TensorDataset(*_tensors(data))
    return torch.utils.data.DataLoader(rows, batch_size=len(rows), shuffle=False)


def _log_odds(outputs: Any, labels: Any) -> Any:
    import torch

    own = torch.arange(outputs.shape[-1]) == labels[..., None]
    return (outputs * own).sum(-1) - torch.logsumexp(outputs.masked_fill(own, -torch.inf), -1)


def _task(checkpoints: Sequence[Layers], activation: str, log_odds: bool) -> Any:
    """dattri's description of loss, queries (their loss, or log-odds) and checkpoints."""
    import torch
    from dattri.task import AttributionTask

    models = [torch_model(layers, activation) for layers in checkpoints]

    def outputs(params: Any, data: Any) -> tuple[Any, Any]:
        x, y = data
        found = torch.func.functional_call(models[0], params, (x,))
        return found.reshape(-1, found.shape[-1]), y.reshape(-1)

    def loss(params: Any, data: Any) -> Any:
        return torch.nn.functional.cross_entropy(*outputs(params, data))

    def target(params: Any, data: Any) -> Any:
        return _log_odds(*outputs(params, data)).sum()

    states = [dict(model.named_parameters()) for model in models]
    return AttributionTask(
        loss_func=loss, model=models[0], checkpoints=states, target_func=target if log_odds else loss
    )


def dattri_tracin(
    checkpoints: Sequence[Layers],
    activation: str,
    data: Any,
    asked: Any,
    rates: Sequence[float],
    log_odds: bool = False,
) -> Callable[[], np.ndarray]:
    """dattri's TracIn; with one checkpoint and rate 1 its gradient dot."""
    import torch
    from dattri.algorithm.tracin import TracInAttributor

    method = TracInAttributor(_task(checkpoints, activation, log_odds), torch.tensor(rates), normalized_grad=False)
    method.projector_kwargs = None  # by default it projects to 512 random numbers
    learnt, queries = _loader(data), _loader(asked)
    return lambda: -method.attribute(learnt, queries).numpy().T


def dattri_explicit(
    layers: Layers,
    activation: str,
    data: Any,
    asked: Any,
    damping: float,
    log_odds: bool = False,
) -> Callable[[], np.ndarray]:
    """dattri's influence with the whole Hessian; `damping` is ours, a penalty of the summed loss."""
    from dattri.algorithm.influence_function import IFAttributorExplicit

    count = len(data[0])
    method = IFAttributorExplicit(_task([layers], activation, log_odds), regularization=damping / count)
    learnt, queries = _loader(data), _loader(asked)

    def run() -> np.ndarray:
        method.cache(learnt)
        return -method.attribute(learnt, queries).detach().numpy().T / count

    return run


def captum_tracin(
    checkpoints: Sequence[Layers], activation: str, data: Any, asked: Any, rates: Sequence[float]
) -> Callable[[], np.ndarray]:
    """Captum's TracInCP with the learning rates of its checkpoints; queries are their losses."""
    import torch
    from captum.influence import TracInCP

    model, states = torch_model(checkpoints[0], activation), [torch_model(c, activation) for c in checkpoints]

    def load(model: Any, number: str) -> float:
        model.load_state_dict(states[int(number)].state_dict())
        return rates[int(number)]

    method = TracInCP(
        model,
        torch.utils.data.TensorDataset(*_tensors(data)),
        [str(number) for number in range(len(states))],
        checkpoints_load_func=load,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="sum"),
        batch_size=len(data[0]),
        sample_wise_grads_per_batch=True,
    )
    return lambda: -method.influence(_tensors(asked)).detach().numpy()
