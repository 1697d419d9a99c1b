"""Integrated gradients: error against gradients and seconds, beside captum, on ReLU and on smooth networks.

For each number of steps both take the same (Gauss-Legendre) gradients, so they reach the same error: what is compared
is the time. The error is the L1 distance to the integral, as a part of its L1 norm, over examples. Last, what
`tolerance=` spends against the fixed number of steps whose 99th percentile of error is the same: of the error that the
tolerance bounds, the gap as a part of the score's change, and of the L1 distance as a part of the same.

    python bench/curve.py [--quick]
"""

from __future__ import annotations

import functools
import itertools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np

from bench.harness import OTHER, OURS, PEER, Case, Program, installed, script
from jaxplain.explain.batch import explain_batch
from jaxplain.explain.gradient.path import integrated_gradients, integrated_gradients_with_gap
from jaxplain.score import logit

KEY = jax.random.key(0)
SIZES = (64, 128, 128, 10)
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"ReLU": jax.nn.relu, "smooth": jnp.tanh}
TOLERANCE = 1e-2
FLOOR = 1e-3  # the library's default


def network(name: str, params: Any, x: Any) -> Any:
    """A dense network: `[B, 64] -> [B, 10]`."""
    *hidden, head = params
    for kernel, bias in hidden:
        x = ACTIVATIONS[name](x @ kernel + bias)
    return x @ head[0] + head[1]


def make_params() -> Any:
    pairs = list(itertools.pairwise(SIZES))
    keys = jax.random.split(KEY, len(pairs))
    kernels = [jax.random.normal(k, pair) * np.sqrt(2 / pair[0]) for k, pair in zip(keys, pairs, strict=True)]
    # Biases: without them a ReLU network is linear on the way from zero, and one gradient is exact.
    return [(kernel, jax.random.normal(key, (1, len(kernel[0])))) for key, kernel in zip(keys, kernels, strict=True)]


def error(attribution: Any, exact: Any) -> np.ndarray:
    """The L1 distance of each example's attribution to the integral, as a part of its norm."""
    return np.asarray(jnp.abs(attribution - exact).sum(-1) / jnp.abs(exact).sum(-1))


def captum_programs(name: str, params: Any, x: Any, y: Any, steps: int) -> list[Program]:
    if not (installed("captum") and installed("torch")):
        return []
    import torch
    from captum.attr import IntegratedGradients

    layers: list[Any] = []
    for kernel, bias in params:
        layer = torch.nn.Linear(*kernel.shape)
        layer.weight.data = torch.from_numpy(np.array(kernel).T.copy())
        layer.bias.data = torch.from_numpy(np.array(bias)[0].copy())
        layers += [layer, torch.nn.ReLU() if name == "ReLU" else torch.nn.Tanh()]
    explainer = IntegratedGradients(torch.nn.Sequential(*layers[:-1]))
    inputs, targets = torch.from_numpy(np.array(x)), torch.from_numpy(np.array(y)).long()

    def explain(size: int | None) -> Any:
        return explainer.attribute(
            inputs, target=targets, n_steps=steps, method="gausslegendre", internal_batch_size=size
        )

    def result(out: Any) -> Any:
        return out.detach().numpy()

    sizes = {"all at once": None, "four steps at once": 4 * len(x)}
    return [Program(f"captum, {n}", functools.partial(explain, s), PEER, result) for n, s in sizes.items()]


def curve_case(name: str, params: Any, x: Any, y: Any, exact: Any, steps: int) -> Case:
    e = integrated_gradients(logit(functools.partial(network, name), params), steps=steps)

    def prove() -> str:
        errors = error(explain_batch(e, x, y), exact)
        return f"{steps} gradients: L1 error {errors.mean():.1e}, 99th percentile {np.percentile(errors, 99):.1e}"

    ours = Program("explain_batch", lambda: explain_batch(e, x, y), OURS)
    programs = [ours, *captum_programs(name, params, x, y, steps)]
    return Case(f"{name} network: {steps} steps, Gauss-Legendre", programs, 1e-4, len(x), prove, {PEER: 1.0})


def gaps(attribution: Any, exact: Any) -> np.ndarray:
    """Each example's completeness gap, as a part of its change of score: what a tolerance bounds."""
    change = np.asarray(exact.sum(-1))
    return np.abs(np.asarray(attribution.sum(-1)) - change) / (np.abs(change) + FLOOR)


def distances(attribution: Any, exact: Any) -> np.ndarray:
    """The L1 distance of each example's attribution to the integral, as a part of its change of score."""
    return np.asarray(jnp.abs(attribution - exact).sum(-1) / (jnp.abs(exact.sum(-1)) + FLOOR))


def equal_steps(f: Any, x: Any, y: Any, worst: Callable[[Any], float], reached: float) -> int:
    """The fixed number of steps whose `worst` error is `reached`, between powers of two on a log-log line."""
    before, steps = (1, np.inf), 2
    while True:
        now = worst(explain_batch(integrated_gradients(f, steps=steps), x, y))
        if now <= reached or steps >= 4096:
            break
        before, steps = (steps, now), 2 * steps
    if not np.isfinite(before[1]) or now >= reached:
        return steps
    share = np.log(before[1] / reached) / np.log(before[1] / now)
    return int(np.ceil(before[0] * (steps / before[0]) ** share))


def tolerance_case(name: str, params: Any, x: Any, y: Any, exact: Any) -> Case:
    f = logit(functools.partial(network, name), params)
    e = integrated_gradients_with_gap(f, tolerance=TOLERANCE, max_steps=2048)
    found = explain_batch(e, x, y)
    spent, told, needed = float(found.steps.mean()), [], []
    for what, measure in {"gap": gaps, "L1 distance": distances}.items():

        def worst(attribution: Any, measure: Any = measure) -> float:
            return float(np.percentile(measure(attribution, exact), 99))

        reached = worst(found.attribution)
        needed.append(equal_steps(f, x, y, worst, reached))
        told.append(f"{what} {reached:.1e}, a fixed number needs {needed[-1]}: {spent / needed[-1]:.2f} of it")
    fixed = integrated_gradients(f, steps=needed[0])

    def prove() -> str:
        return (
            f"tolerance {TOLERANCE}: {spent:.1f} gradients an example; 99th percentiles: {'; '.join(told)} "
            "(asked for: at most 1.00)"
        )

    programs = [
        Program(f"tolerance={TOLERANCE}", lambda: explain_batch(e, x, y).attribution, OURS),
        Program(f"{needed[0]} steps for every example", lambda: explain_batch(fixed, x, y), OTHER),
    ]
    return Case(f"{name} network: tolerance", programs, 0.1, len(x), prove)


def cases(quick: bool) -> list[Case]:
    count = 32 if quick else 256
    x, y, params = jax.random.normal(KEY, (count, SIZES[0])), jnp.arange(count) % 10, make_params()
    found = []
    for name in ACTIVATIONS:
        f = logit(functools.partial(network, name), params)
        exact = explain_batch(integrated_gradients(f, steps=1024 if quick else 4096, batch_size=8), x, y)
        counts = (8, 32) if quick else (4, 8, 16, 32, 64, 128)
        found += [curve_case(name, params, x, y, exact, steps) for steps in counts]
        found.append(tolerance_case(name, params, x, y, exact))
    return found


if __name__ == "__main__":
    script("curve", cases, __doc__ or "")
