"""Activation maximization: many units of one layer in one call against one call for each, and against Lucent.

First it is proved that units together and units alone give the same images, and (with torch and torch-lucent installed)
that both libraries evaluate the same network. Then the time of 100 units of one layer in one compiled call is printed
beside that of 100 calls (expected below half), and for 32 units time and final activation beside Lucent's, which
optimises one unit after another (expected at least three times the time, with no higher activation), and beside Lucent
with the 32 units put into one batch by hand. Same weights, same number of steps, Fourier images, Adam with a step of
0.05 and shifts of up to two pixels in all. Lucent's own jitter(d) shifts one way, by 0 to d - 1, and between four-pixel
grids of pooling it comes back to no shift more often; so it is given the same shifts as a transform of its own. Compile
time is apart; medians of interleaved rounds.

    python bench/activation.py [--quick] [--units N] [--steps N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import activation_maximization, image, objective, transform

WIDTHS, SIZE, SHIFT = (8, 16, 128), 28, 2
KEY = jax.random.key(0)


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
    return [(rng.normal(size=(3, 3, a, b)) * np.sqrt(2 / (9 * a))).astype(np.float32) for a, b in sizes]


def network(kernels: list[Any], x: Any) -> Any:
    """Three convolutions with ReLU, and max pooling between them; the last is the layer that is looked into."""
    x = x[None]
    for number, kernel in enumerate(kernels):
        with jax.named_scope(f"conv_{number}"):
            x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        if number < len(kernels) - 1:
            x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x[0]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(run())
    return time.perf_counter() - start, result


def together_and_alone(e: Any, units: int, calls: int, rounds: int) -> None:
    """Units in one call against a call for each; of the calls a part is timed, for all take the same time."""
    run = jax.vmap(e, (None, 0))
    compile_many, found = timed(lambda: run(KEY, jnp.arange(units)))
    compile_one, alone = timed(lambda: e(KEY, 0))
    np.testing.assert_allclose(alone.image, found.image[0], atol=1e-4)
    many, single = [], []
    for _ in range(rounds):
        single.append(timed(lambda: [e(KEY, unit) for unit in range(calls)])[0] * units / calls)
        many.append(timed(lambda: run(KEY, jnp.arange(units)))[0])
    one, other = statistics.median(many), statistics.median(single)
    print(f"{units} units in one call {one:.2f} s (first {compile_many:.1f} s), in {units} calls {other:.2f} s (first")
    print(f"  {compile_one:.1f} s; {calls} of them timed): ratio {one / other:.2f} (below 0.5: {one < 0.5 * other})")


def torch_network(kernels: list[np.ndarray]) -> Any:
    import torch
    from torch import nn

    parts: list[tuple[str, Any]] = []
    for number, kernel in enumerate(kernels):
        conv = nn.Conv2d(*kernel.shape[2:], 3, padding="same", bias=False)
        conv.weight = nn.Parameter(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()), requires_grad=False)
        parts.append((f"conv{number}", conv))
        if number < len(kernels) - 1:
            parts += [(f"relu{number}", nn.ReLU()), (f"pool{number}", nn.MaxPool2d(2))]
    return nn.Sequential(OrderedDict(parts)).eval()


def against_lucent(e: Any, kernels: list[np.ndarray], units: int, steps: int, rounds: int) -> None:
    try:
        import torch
        from lucent.optvis import objectives, param, render
    except ImportError as error:
        print(f"Lucent is left out: {error}. Install torch and torch-lucent.")
        return
    net, layer, shifts = torch_network(kernels), f"conv{len(kernels) - 1}", np.random.default_rng(2)
    x = np.random.default_rng(1).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)
    theirs = net(torch.tensor(x.transpose(2, 0, 1)[None])).detach().numpy()[0].transpose(1, 2, 0)
    np.testing.assert_allclose(network(kernels, x), theirs, rtol=1e-3, atol=1e-3)

    def shift(x: Any) -> Any:
        return torch.roll(x, tuple(shifts.integers(-SHIFT, SHIFT + 1, 2)), (2, 3))

    def lucent(goal: Any, batch: int) -> np.ndarray:
        settings = {"transforms": [shift], "thresholds": (steps,), "preprocess": False, "progress": False}
        torch.manual_seed(0)
        images = lambda: param.image(SIZE, batch=batch, decorrelate=False)  # noqa: E731
        return render.render_vis(net, goal, images, **settings, fixed_image_size=SIZE, show_image=False)[-1]

    def reached(images: np.ndarray) -> np.ndarray:
        value = net(torch.tensor(np.asarray(images).transpose(0, 3, 1, 2).copy())).mean((2, 3)).detach().numpy()
        return value[np.arange(len(images)), np.arange(len(images))]

    def one_by_one() -> np.ndarray:
        return np.concatenate([lucent(f"{layer}:{unit}", 1) for unit in range(units)])

    def batched() -> np.ndarray:
        goals = [objectives.channel(layer, unit, batch=unit) for unit in range(units)]
        return lucent(sum(goals[1:], goals[0]), units)

    runs = {
        "jaxplain, one call": lambda: jax.vmap(e, (None, 0))(KEY, jnp.arange(units)).image,
        "Lucent, one by one": one_by_one,
        "Lucent, batched by hand": batched,
    }
    first = {name: timed(run)[0] for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    images: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds, images[name] = timed(run)
            times[name].append(seconds)
    ours = statistics.median(times["jaxplain, one call"])
    print(f"\n{units} units, {steps} steps{'':18s}{'first':>9s}{'a unit':>12s}{'against ours':>14s}{'activation':>12s}")
    for name, values in times.items():
        median, mean = statistics.median(values), reached(images[name]).mean()
        line = f"{first[name]:7.2f} s{1e3 * median / units:9.1f} ms{median / ours:13.2f}x{mean:12.3f}"
        print(f"{name:34s}{line}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time activation maximization.")
    parser.add_argument("--quick", action="store_true", help="fewer units, steps and rounds")
    parser.add_argument("--units", type=int, help="units of the comparison with Lucent")
    parser.add_argument("--steps", type=int, help="steps of each optimisation")
    options = parser.parse_args()
    steps, rounds = options.steps or (16 if options.quick else 64), 1 if options.quick else 3
    kernels = weights()
    f = jax.tree_util.Partial(network, kernels)
    e = activation_maximization(
        objective.channel(f, f"conv_{len(kernels) - 1}"),
        image=image.fourier((SIZE, SIZE, 3)),
        transforms=(transform.jitter(SHIFT),),
        steps=steps,
    )
    together_and_alone(e, 100, 5 if options.quick else 20, rounds)
    against_lucent(e, kernels, options.units or (8 if options.quick else 32), steps, rounds)


if __name__ == "__main__":
    main()
