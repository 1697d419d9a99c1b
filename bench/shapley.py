"""What Shapley values cost: a two-layer CNN on 64 images of 28x28, against captum and against plain forward passes.

The network's weights are random and the same for both libraries; 49 groups are the squares of 4x4 pixels. First both
are shown to explain the same thing: exact Shapley values of 6 groups agree. Then medians of interleaved runs are timed,
compile time apart, each of jaxplain's methods beside the plain forward passes that it needs (as many batches of images,
in one loop). Last, the error of sampled Shapley values against one long run, at the same and at half the number of
forward passes. Captum's columns are left out where it is not installed (the extra 'bench').

    python bench/shapley.py [--quick]
"""

from __future__ import annotations

import argparse
import functools
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
    import captum.attr
    import torch
except ImportError:
    captum = None  # type: ignore[assignment]

KEY = jax.random.key(0)
GROUPS = (np.arange(28)[:, None] // 4 * 7 + np.arange(28)[None, :] // 4).astype(np.int64)
IMAGES = np.random.default_rng(0).random((64, 28, 28, 1), dtype=np.float32)
LABELS = np.arange(64) % 10
MODULE = cnn(10, widths=(16, 32), dense=64)
PARAMS = MODULE.init(jax.random.key(1), IMAGES[:1])
SCORE = jaxplain.logit(MODULE.apply, PARAMS)


def torch_network() -> Any:
    """The same network, with the same weights, in torch."""
    p = jax.tree.map(np.asarray, PARAMS["params"])

    class Flatten(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)  # flax flattens channels last

    def conv(layer: Any, channels: int) -> Any:
        module = torch.nn.Conv2d(channels, layer["kernel"].shape[-1], 3, padding=1)
        module.weight.data = torch.tensor(layer["kernel"].transpose(3, 2, 0, 1).copy())
        module.bias.data = torch.tensor(layer["bias"].copy())
        return module

    def dense(layer: Any) -> Any:
        module = torch.nn.Linear(*layer["kernel"].shape)
        module.weight.data = torch.tensor(layer["kernel"].T.copy())
        module.bias.data = torch.tensor(layer["bias"].copy())
        return module

    relu, pool = torch.nn.ReLU, functools.partial(torch.nn.MaxPool2d, 2)
    layers = [conv(p["conv_0"], 1), relu(), pool(), conv(p["conv_1"], 16), relu(), pool(), Flatten()]
    return torch.nn.Sequential(*layers, dense(p["dense"]), relu(), dense(p["head"])).eval()


def forward_passes(passes: int, images: Any, labels: Any) -> Callable[[], Any]:
    """As many plain forward passes of the batch as a method needs for each image, in one compiled loop."""

    def run(score: Any, x: Any, k: Any) -> Any:
        def body(carry: Any, _: None) -> Any:
            return carry + jax.vmap(score)(x + 1e-9 * carry.mean(), k), None

        return jax.lax.scan(body, jnp.zeros(len(labels)), None, length=passes)[0]

    compiled = jax.jit(run)
    return lambda: compiled(SCORE, images, labels)


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def compare(title: str, runs: dict[str, Callable[[], Any]], rounds: int) -> None:
    first = {name: timed(run) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds):
        order = list(runs.items())
        for name, run in order[index % len(order) :] + order[: index % len(order)]:
            times[name].append(timed(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"\n{title}")
    for name, median in medians.items():
        others = medians.items() if name == "jaxplain" else ()
        ratios = "".join(f", {median / other:.2f} of {key}" for key, other in others if key != name)
        print(f"  {name:12s} first {first[name]:6.2f} s, median {1e3 * median:8.1f} ms{ratios}")


def prove_equal(network: Any) -> None:
    groups = GROUPS // 7 // 2 % 3 * 2 + GROUPS % 7 // 4
    e = jaxplain.shapley_values(SCORE, groups=groups, batch_size=8)
    ours = np.asarray(jaxplain.explain_batch(e, IMAGES[:4], LABELS[:4]))[..., 0] * np.bincount(groups.ravel())[groups]
    mask = torch.tensor(groups)[None, None]
    exact = captum.attr.ShapleyValues(network)
    theirs = exact.attribute(channels_first(IMAGES[:4]), target=torch.tensor(LABELS[:4]), feature_mask=mask).detach()
    np.testing.assert_allclose(ours, theirs.numpy()[:, 0], atol=2e-5)
    print(f"exact Shapley values of 6 groups agree to {np.abs(ours - theirs.numpy()[:, 0]).max():.1e}")


def channels_first(images: np.ndarray) -> Any:
    return torch.tensor(images.transpose(0, 3, 1, 2).copy())


def sampling(network: Any, rounds: int) -> None:
    e = jaxplain.shapley_sampling(SCORE, groups=GROUPS, samples=26)
    runs = {
        "jaxplain": lambda: jaxplain.explain_batch(e, IMAGES, LABELS, key=KEY),
        "passes": forward_passes(26 * 48 + 2, IMAGES, LABELS),
    }
    if network is not None:
        runs["captum"] = functools.partial(captum_sampling, network, 25, 64)
    compare("Shapley sampling: 64 images, 49 groups, 26 orders (13 pairs; captum 25)", runs, rounds)


def captum_sampling(network: Any, samples: int, count: int) -> Any:
    method = captum.attr.ShapleyValueSampling(network)
    with torch.no_grad():
        return method.attribute(
            channels_first(IMAGES[:count]),
            target=torch.tensor(LABELS[:count]),
            feature_mask=torch.tensor(GROUPS)[None, None],
            n_samples=samples,
        ).numpy()[:, 0]


def captum_kernel(network: Any) -> None:
    method = captum.attr.KernelShap(network)
    mask = torch.tensor(GROUPS)[None, None]
    for image, label in zip(channels_first(IMAGES[:8]), LABELS[:8], strict=True):
        method.attribute(image[None], target=int(label), feature_mask=mask, n_samples=200)


def kernel(network: Any, rounds: int) -> None:
    e = jaxplain.kernel_shap(SCORE, groups=GROUPS, samples=200)
    runs = {
        "jaxplain": lambda: jaxplain.explain_batch(e, IMAGES[:8], LABELS[:8], key=KEY),
        "passes": forward_passes(202, IMAGES[:8], LABELS[:8]),
    }
    if network is not None:
        runs["captum"] = lambda: captum_kernel(network)
    compare("KernelSHAP: 8 images, 49 groups, 200 samples", runs, rounds)


def others(rounds: int) -> None:
    halves = GROUPS // 7 // 2 * 3 + GROUPS % 7 // 3
    for title, e, passes in (
        ("LIME: 64 images, 49 groups, 200 samples", jaxplain.lime(SCORE, groups=GROUPS, samples=200), 201),
        ("exact Shapley values: 64 images, 12 groups", jaxplain.shapley_values(SCORE, groups=halves), 2**12),
    ):
        few = IMAGES[:8], LABELS[:8]
        runs = {
            "jaxplain": lambda e=e, few=few: jaxplain.explain_batch(e, *few, key=KEY),
            "passes": forward_passes(passes, *few),
        }
        compare(title.replace("64", "8"), runs, rounds)


def errors(network: Any) -> None:
    """Root mean square error over 8 images, as means over repeated draws."""
    x, k = IMAGES[:8], LABELS[:8]
    make = functools.partial(jaxplain.shapley_sampling, SCORE, groups=GROUPS, batch_size=8)
    truth = np.asarray(jaxplain.explain_batch(make(samples=1000), x, k, key=jax.random.key(99)))[..., 0]
    for samples in (26, 12):
        found = [jaxplain.explain_batch(make(samples=samples), x, k, key=jax.random.key(s))[..., 0] for s in range(4)]
        error = np.sqrt(np.mean([np.square(np.asarray(a) - truth).mean() for a in found]))
        print(f"  jaxplain, {samples} orders ({samples * 48 + 2} passes): error {16 * error:.2e}")
    if network is not None:
        squares = [np.square(captum_sampling(network, 25, 8) / 16 - truth).mean() for _ in range(4)]
        print(f"  captum, 25 orders ({25 * 49 + 1} passes): error {16 * np.sqrt(np.mean(squares)):.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time Shapley values against captum and plain forward passes.")
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 5")
    rounds = 2 if parser.parse_args().quick else 5
    network = None
    if captum is not None:
        network = torch_network()
        prove_equal(network)
    sampling(network, rounds)
    kernel(network, rounds)
    others(rounds)
    print("\nError of sampled Shapley values against 1,000 orders, in units of the score")
    errors(network)


if __name__ == "__main__":
    main()
