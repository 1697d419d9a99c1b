"""Methods that need forward passes alone, against straightforward JAX, captum, and the cost of the passes themselves.

64 images of 28x28, a CNN of two convolutions, the same weights everywhere. First every pair is proved to compute the
same numbers; then medians of interleaved runs, compile time apart. `cost` is the time of as many plain forward passes
of the batch as the method needs (a jitted loop of them): a method is expected to stay within 1.15 of it, and to be at
least 1.3 times faster than captum, where that is installed. The straightforward JAX is a Python loop over features or
windows around a jitted forward pass.

    python bench/perturbation.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain.models import cnn

try:
    import torch
    from captum.attr import FeatureAblation, Occlusion
except ImportError:
    torch = None

IMAGES, SAMPLES = 64, 64
GROUPS = np.arange(28)[:, None] // 4 * 7 + np.arange(28)[None, :] // 4
MODULE = cnn(10, widths=(16, 32), dense=64)
Runs = dict[str, Callable[[], Any]]


def forward_passes(f: Any, x: Any, labels: Any, count: int) -> Callable[[], Any]:
    """That many forward passes of the whole batch in one compiled loop, each of a changed input."""

    @jax.jit
    def run(f: Any, x: Any, labels: Any) -> Any:
        def step(total: Any, index: Any) -> tuple[Any, None]:
            return total + jax.vmap(f)(x + index, labels), None

        return jax.lax.scan(step, jnp.zeros(len(x)), jnp.arange(count) * 1e-3)[0]

    return lambda: run(f, x, labels)


def looped(f: Any, x: Any, labels: Any, masks: np.ndarray) -> Callable[[], Any]:
    """Ablation of boolean masks `[N, 28, 28]` as most would write it: a Python loop, averaged over covering masks."""
    score = jax.jit(lambda f, x, labels: jax.vmap(f)(x, labels))

    def run() -> Any:
        whole, total = score(f, x, labels), jnp.zeros_like(x)
        for mask in masks:
            cover = mask[None, :, :, None].astype(np.float32)
            total = total + (whole - score(f, x * (1 - cover), labels))[:, None, None, None] * cover
        return total / masks.sum(axis=0)[None, :, :, None]

    return run


def torch_model(params: Any) -> Any:
    """The same network in torch, and the same weights."""
    p = jax.tree.map(np.asarray, params["params"])
    layers: list[Any] = []
    for name, channels in (("conv_0", (1, 16)), ("conv_1", (16, 32))):
        layer = torch.nn.Conv2d(*channels, 3, padding=1)
        layer.weight.data = torch.tensor(p[name]["kernel"].transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.tensor(p[name]["bias"])
        layers += [layer, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    first, last = torch.nn.Linear(32 * 49, 64), torch.nn.Linear(64, 10)
    kernel = p["dense"]["kernel"].reshape(7, 7, 32, 64).transpose(2, 0, 1, 3).reshape(32 * 49, 64)
    for layer, weight, bias in (
        (first, kernel, p["dense"]["bias"]),
        (last, p["head"]["kernel"], p["head"]["bias"]),
    ):
        layer.weight.data, layer.bias.data = torch.tensor(weight.T.copy()), torch.tensor(bias)
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), first, torch.nn.ReLU(), last).eval()


def peers(params: Any, x: Any, labels: Any) -> dict[str, Runs]:
    if torch is None:
        return {}
    model = torch_model(params)
    pictures, targets = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy()), torch.tensor(np.asarray(labels))
    masks = torch.tensor(GROUPS)[None, None]

    def ablation(at_once: int) -> Any:
        with torch.no_grad():
            found = FeatureAblation(model).attribute(
                pictures, target=targets, feature_mask=masks, perturbations_per_eval=at_once
            )
        return found.permute(0, 2, 3, 1).numpy()

    def occlusion(at_once: int) -> Any:
        with torch.no_grad():
            found = Occlusion(model).attribute(
                pictures, (1, 4, 4), strides=(1, 2, 2), target=targets, perturbations_per_eval=at_once
            )
        return found.permute(0, 2, 3, 1).numpy()

    return {
        "ablation, 49 groups": {f"captum, {n} at once": lambda n=n: ablation(n) for n in (1, 4)},
        "occlusion 4x4 stride 2": {f"captum, {n} at once": lambda n=n: occlusion(n) for n in (1, 4)},
    }


def tasks(f: Any, x: Any, labels: Any) -> dict[str, tuple[Any, int, Runs]]:
    """By name: the method, how many forward passes it needs, and straightforward JAX where that is short."""
    index = np.arange(28)
    starts = [(i, j) for i in range(0, 25, 2) for j in range(0, 25, 2)]
    windows = np.stack(
        [((index >= i) & (index < i + 4))[:, None] & ((index >= j) & (index < j + 4))[None, :] for i, j in starts]
    )
    groups = GROUPS[None] == np.arange(49)[:, None, None]
    return {
        "ablation, 49 groups": (
            jaxplain.feature_ablation(f, groups=jnp.asarray(GROUPS)), 50, {"jax loop": looped(f, x, labels, groups)}
        ),
        "occlusion 4x4 stride 2": (
            jaxplain.occlusion(f, window=(4, 4), stride=2), 170, {"jax loop": looped(f, x, labels, windows)}
        ),
        f"rise, {SAMPLES} masks": (jaxplain.rise(f, samples=SAMPLES), SAMPLES, {}),
        "permutation, 49 groups, 2 rows": (
            jaxplain.feature_permutation(f, x[:2], groups=jnp.asarray(GROUPS)), 99, {}
        ),
    }  # fmt: skip


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def compare(name: str, runs: Runs, rounds: int) -> None:
    first = {who: timed(run) for who, run in runs.items()}
    found = [np.asarray(run()) for who, run in runs.items() if who != "cost"]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=2e-4, err_msg=name)
    times: dict[str, list[float]] = {who: [] for who in runs}
    for index in range(rounds):
        order = list(runs.items())
        for who, run in order[index % len(order) :] + order[: index % len(order)]:
            times[who].append(timed(run))
    own = statistics.median(times["jaxplain"])
    print(f"\n{name:32s}{'first':>10s}{'median':>12s}{'spread':>20s}{'against jaxplain':>18s}")
    for who, values in times.items():
        spread = f"{1e3 * min(values):.0f} to {1e3 * max(values):.0f}"
        median = statistics.median(values)
        print(f"  {who:30s}{first[who]:8.2f} s{1e3 * median:9.0f} ms{spread:>17s} ms{median / own:17.2f}x")
    print(f"  jaxplain / cost of its passes: {own / statistics.median(times['cost']):.2f} (expected: at most 1.15)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time methods of forward passes.")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    rounds = 3 if parser.parse_args().quick else 15
    x = jax.random.normal(jax.random.key(0), (IMAGES, 28, 28, 1))
    params, labels = MODULE.init(jax.random.key(1), x[:1]), jnp.arange(IMAGES) % 10
    f = jaxplain.logit(MODULE.apply, params)
    others = peers(params, x, labels)
    for name, (e, count, plain) in tasks(f, x, labels).items():
        key = jax.random.key(2)
        own = {"jaxplain": lambda e=e, key=key: jaxplain.explain_batch(e, x, labels, key=key, values=False)}
        cost = {"cost": forward_passes(f, x, labels, count)}
        compare(name, own | plain | others.get(name, {}) | cost, rounds)


if __name__ == "__main__":
    main()
