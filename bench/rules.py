"""LRP and guided backpropagation of 64 images of 28x28: jaxplain, straightforward JAX, captum and zennit.

One two-layer CNN with the same weights in all, on the CPU, in one process. Each row is first proved to compute the same
numbers; then medians of interleaved runs are timed, compile time apart. jaxplain runs through `explain_batch`, one
example's method under `vmap`; the straightforward program is written batch-first for this one network. captum and
zennit are left out where they are not installed.

    python bench/rules.py [--quick]
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
from jax import lax

import jaxplain
from jaxplain.explain import relevance

BATCH, WIDTHS, CLASSES, EPSILON = 64, (16, 32), 10, 1e-6
Runs = dict[str, Callable[[], Any]]


def weights() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {
        "first": (3, 3, 1, WIDTHS[0]), "first_bias": (WIDTHS[0],),
        "second": (3, 3, WIDTHS[0], WIDTHS[1]), "second_bias": (WIDTHS[1],),
        "head": (7 * 7 * WIDTHS[1], CLASSES), "head_bias": (CLASSES,),
    }  # fmt: skip
    scale = {
        name: np.sqrt(2 / max(np.prod(shape[:-1]), 1)) if len(shape) > 1 else 0.1 for name, shape in shapes.items()
    }
    return {name: (scale[name] * draw.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def convolve(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def network(p: Any, x: Any, relu: Callable[..., Any] = jax.nn.relu, linear: Callable[..., Any] | None = None) -> Any:
    apply = linear or (lambda f, x, w, b: f(x, w) + b)
    x = pool(relu(apply(convolve, x, p["first"], p["first_bias"][None, None, None])))
    x = pool(relu(apply(convolve, x, p["second"], p["second_bias"][None, None, None])))
    return apply(jnp.matmul, x.reshape(x.shape[0], -1), p["head"], p["head_bias"][None])


@jax.custom_vjp
def guided_relu(x: Any) -> Any:
    return jax.nn.relu(x)


guided_relu.defvjp(lambda x: (jax.nn.relu(x), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0),))


@jax.custom_vjp
def passing_relu(x: Any) -> Any:
    return jax.nn.relu(x)


passing_relu.defvjp(lambda x: (jax.nn.relu(x), None), lambda _, r: (r,))


def proportional(f: Callable[..., Any], x: Any, w: Any, b: Any) -> Any:
    """A layer whose pullback is the epsilon rule."""

    @jax.custom_vjp
    def layer(x: Any, w: Any, b: Any) -> Any:
        return f(x, w) + b

    def backward(kept: Any, r: Any) -> Any:
        x, w, z = kept
        (share,) = jax.vjp(lambda x: f(x, w), x)[1](r / (z + jnp.where(z >= 0, EPSILON, -EPSILON)))
        return x * share, None, None

    layer.defvjp(lambda x, w, b: (layer(x, w, b), (x, w, f(x, w) + b)), backward)
    return layer(x, w, b)


@jax.jit
def plain_guided(p: Any, x: Any, labels: Any) -> Any:
    return jax.grad(lambda x: network(p, x, guided_relu)[jnp.arange(BATCH), labels].sum())(x)


@jax.jit
def plain_lrp(p: Any, x: Any, labels: Any) -> Any:
    output, back = jax.vjp(lambda x: network(p, x, passing_relu, proportional), x)
    return back(output * jax.nn.one_hot(labels, CLASSES))[0]


def ours(p: Any, x: Any, labels: Any) -> dict[str, Runs]:
    f = jaxplain.logit(network, p)
    methods = {
        "guided backpropagation": jaxplain.guided_backprop(f),
        "LRP epsilon": jaxplain.lrp(f, relevance.epsilon(EPSILON)),
        "LRP epsilon-plus": jaxplain.lrp(f, relevance.epsilon_plus(stabiliser=EPSILON)),
    }
    runs: dict[str, Runs] = {
        name: {"jaxplain": lambda e=e: jaxplain.explain_batch(e, x, labels)} for name, e in methods.items()
    }
    runs["guided backpropagation"]["straightforward JAX"] = lambda: plain_guided(p, x, labels)
    runs["LRP epsilon"]["straightforward JAX"] = lambda: plain_lrp(p, x, labels)
    return runs


def torch_model(p: dict[str, np.ndarray]) -> Any:
    import torch

    first = torch.nn.Conv2d(1, WIDTHS[0], 3, padding=1)
    second = torch.nn.Conv2d(*WIDTHS, 3, padding=1)
    head = torch.nn.Linear(49 * WIDTHS[1], CLASSES)
    for layer, name in ((first, "first"), (second, "second")):
        layer.weight.data = torch.tensor(p[name]).permute(3, 2, 0, 1).contiguous()
        layer.bias.data = torch.tensor(p[f"{name}_bias"])
    order = torch.tensor(p["head"]).reshape(7, 7, WIDTHS[1], CLASSES).permute(3, 2, 0, 1)
    head.weight.data, head.bias.data = order.reshape(CLASSES, -1).contiguous(), torch.tensor(p["head_bias"])
    nn = torch.nn
    layers = (first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), head)
    return nn.Sequential(*layers).eval()


def channels_last(value: Any) -> np.ndarray:
    return value.detach().permute(0, 2, 3, 1).numpy()


def add_captum(runs: dict[str, Runs], p: dict[str, np.ndarray], x: np.ndarray, labels: np.ndarray) -> None:
    import torch
    from captum.attr import LRP, GuidedBackprop
    from captum.attr._utils.lrp_rules import EpsilonRule

    images, targets = torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_(), torch.tensor(labels)
    guided, model = GuidedBackprop(torch_model(p)), torch_model(p)

    def propagate() -> np.ndarray:
        for layer in model:  # captum takes the rules off after each call
            layer.rule = EpsilonRule(epsilon=EPSILON)
        return channels_last(LRP(model).attribute(images, target=targets))

    runs["guided backpropagation"]["captum"] = lambda: channels_last(guided.attribute(images, target=targets))
    runs["LRP epsilon"]["captum"] = propagate


def add_zennit(runs: dict[str, Runs], p: dict[str, np.ndarray], x: np.ndarray, labels: np.ndarray) -> None:
    import torch
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus, GuidedBackprop, LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.types import Linear

    images = torch.tensor(x).permute(0, 3, 1, 2).contiguous().requires_grad_()
    chosen = torch.nn.functional.one_hot(torch.tensor(labels), CLASSES)
    composites = {
        "guided backpropagation": (GuidedBackprop(), lambda output: chosen.to(output)),
        "LRP epsilon": (
            LayerMapComposite([*layer_map_base(), (Linear, Epsilon(epsilon=EPSILON))]),
            lambda o: o * chosen,
        ),
        "LRP epsilon-plus": (EpsilonPlus(), lambda output: output * chosen),
    }
    for name, (composite, seed) in composites.items():
        model = torch_model(p)

        def run(model: Any = model, composite: Any = composite, seed: Any = seed) -> np.ndarray:
            with Gradient(model, composite, attr_output=seed) as attributor:
                return channels_last(attributor(images)[1])

        runs[name]["zennit"] = run


def compare(name: str, runs: Runs, rounds: int) -> None:
    first, results = {}, {}
    for who, run in runs.items():
        start = time.perf_counter()
        results[who] = np.asarray(jax.block_until_ready(run()))
        first[who] = time.perf_counter() - start
    for who, result in results.items():  # by their mean: where z is near zero, epsilon-LRP magnifies float32 rounding
        difference, size = np.abs(result - results["jaxplain"]).mean(), np.abs(result).mean()
        if not difference < 1e-3 * size:
            raise AssertionError(f"{name}: {who} differs from jaxplain by {difference / size:.1e}")
    times: dict[str, list[float]] = {who: [] for who in runs}
    for index in range(rounds):
        order = list(runs.items())
        for who, run in order[index % len(order) :] + order[: index % len(order)]:
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[who].append(time.perf_counter() - start)
    print(f"\n{name:24s}{'first call':>14s}{'median':>12s}{'spread':>22s}{'against jaxplain':>18s}")
    ours = statistics.median(times["jaxplain"])
    for who, values in times.items():
        median = statistics.median(values)
        spread = f"{1e3 * min(values):.1f} to {1e3 * max(values):.1f} ms"
        print(f"{who:24s}{first[who]:12.2f} s{1e3 * median:9.2f} ms{spread:>22s}{median / ours:17.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time LRP and guided backpropagation against peers.")
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 30")
    rounds = 5 if parser.parse_args().quick else 30
    p, draw = weights(), np.random.default_rng(1)
    x, labels = draw.random((BATCH, 28, 28, 1), dtype=np.float32), draw.integers(0, CLASSES, BATCH)
    runs = ours(jax.tree.map(jnp.asarray, p), jnp.asarray(x), jnp.asarray(labels))
    for add in (add_captum, add_zennit):
        try:
            add(runs, p, x, labels)
        except ImportError as error:
            print(f"{add.__name__[4:]} is left out: {error}")
    for name, group in runs.items():
        compare(name, group, rounds)


if __name__ == "__main__":
    main()
