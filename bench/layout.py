"""The CPU's fast layout: gradients inside loops, against the same gradients outside, plain JAX, and torch with captum.

Integrated gradients with 50 steps of a two-layer CNN on 64 images of 28x28, an epoch of training it, and the same
question for a residual network at 32x32 and a vision transformer.

    python bench/layout.py [--quick]
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bench.harness import BOUND, OURS, PEER, PLAIN, Case, Program, installed, script
from jaxplain.data.batching import batch_indices
from jaxplain.explain.batch import explain_batch
from jaxplain.explain.gradient.path import integrated_gradients
from jaxplain.models import resnet, transformer
from jaxplain.program.fast.layout import fast_layout
from jaxplain.readout.criterion import cross_entropy
from jaxplain.score import logit
from jaxplain.train.fit import fit

KEY = jax.random.key(0)
BATCH_SIZE, RATE = 32, 0.01
OPTIMIZER = optax.sgd(RATE)
LINES = ("first", "second")


def cnn(params: Any, images: Any) -> Any:
    """Two convolutions with max pooling, two dense layers: `[B, 28, 28, 1] -> [B, 10]`."""
    x = images
    for name in LINES:
        maps = lax.conv_general_dilated(x, params[name], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = lax.reduce_window(jax.nn.relu(maps), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(x.reshape(x.shape[0], -1) @ params["hidden"]) @ params["head"]


def cnn_params() -> Any:
    shapes = {"first": (3, 3, 1, 16), "second": (3, 3, 16, 32), "hidden": (1568, 128), "head": (128, 10)}
    keys = dict(zip(shapes, jax.random.split(KEY, len(shapes)), strict=True))
    return {n: jax.random.normal(keys[n], s) * np.sqrt(2 / np.prod(s[:-1])) for n, s in shapes.items()}


def gradients(f: Any, steps: int, fast: bool) -> Any:
    """The bound: a Python loop over compiled batched gradients along the path, each outside of any loop."""
    gradient = jax.vmap(jax.grad(f))
    one = jax.jit(lambda x, y, alpha: (fast_layout(gradient) if fast else gradient)(alpha * x, y))

    def run(x: Any, y: Any) -> Any:
        total = jnp.zeros_like(x)
        for step in range(steps):
            total += one(x, y, (step + 0.5) / steps)
        return total * x / steps

    return run


def plain_scan(f: Any, steps: int) -> Any:
    """What one writes first: a scan over the path, compiled."""
    gradient = jax.vmap(jax.grad(f))

    @jax.jit
    def run(x: Any, y: Any) -> Any:
        def step(total: Any, alpha: Any) -> tuple[Any, None]:
            return total + gradient(alpha * x, y), None

        return lax.scan(step, jnp.zeros_like(x), (jnp.arange(steps) + 0.5) / steps)[0] * x / steps

    return run


def path_case(name: str, f: Any, x: Any, steps: int, peers: list[Program], targets: dict[str, float]) -> Case:
    y = jnp.arange(len(x)) % 10
    e = integrated_gradients(f, steps=steps, rule="midpoint")
    by_hand = jax.jit(jax.vmap(e))
    runs = {
        ("explain_batch", OURS): lambda: explain_batch(e, x, y),
        ("jax.jit(jax.vmap(e))", OURS): lambda: by_hand(x, y),
        ("one compiled scan, plain JAX", PLAIN): functools.partial(plain_scan(f, steps), x, y),
        (f"{steps} compiled gradients, plain JAX", PLAIN): functools.partial(gradients(f, steps, False), x, y),
        (f"{steps} compiled gradients in the fast layout", BOUND): functools.partial(gradients(f, steps, True), x, y),
    }
    programs = [Program(n, run, role) for (n, role), run in runs.items()]
    return Case(
        f"{name}: integrated gradients, {steps} steps, {len(x)} images",
        [*programs, *peers],
        1e-3,
        len(x),
        targets=targets,
    )


def torch_cnn(params: Any) -> Any:
    """The same network in torch, with the same weights."""
    import torch
    from torch import nn

    class Flat(nn.Module):  # in the order of our axes, so that the dense weights are the same
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    layers = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.Conv2d(16, 32, 3, padding=1, bias=False)]
    dense = [nn.Linear(1568, 128, bias=False), nn.Linear(128, 10, bias=False)]
    for layer, name in zip(layers, LINES, strict=True):
        layer.weight.data = torch.from_numpy(np.array(params[name]).transpose(3, 2, 0, 1).copy())
    for layer, name in zip(dense, ("hidden", "head"), strict=True):
        layer.weight.data = torch.from_numpy(np.array(params[name]).T.copy())
    pooled = [part for layer in layers for part in (layer, nn.ReLU(), nn.MaxPool2d(2))]
    return nn.Sequential(*pooled, Flat(), dense[0], nn.ReLU(), dense[1])


def captum_programs(params: Any, x: Any, steps: int) -> list[Program]:
    if not (installed("captum") and installed("torch")):
        return []
    import torch
    from captum.attr import IntegratedGradients

    explainer = IntegratedGradients(torch_cnn(params))
    images = torch.from_numpy(np.array(x).transpose(0, 3, 1, 2).copy())
    targets = torch.arange(len(x)) % 10

    def explain(size: int | None) -> Any:
        return explainer.attribute(
            images, target=targets, n_steps=steps, method="riemann_middle", internal_batch_size=size
        )

    def result(out: Any) -> Any:
        return out.detach().numpy().transpose(0, 2, 3, 1)

    sizes = {"all at once": None, "64": 64, "128": 128, "320": 320, "640": 640}
    return [
        Program(f"captum, internal_batch_size {name}", functools.partial(explain, size), PEER, result)
        for name, size in sizes.items()
    ]


PROVED = 5
"""Steps after which parameters are compared: later, rounding in ReLUs and poolings that open or close adds up."""


def train_case(quick: bool) -> Case:
    count = 640 if quick else 4000
    params, x = cnn_params(), jax.random.uniform(KEY, (count, 28, 28, 1))
    y = jax.random.randint(jax.random.key(1), (count,), 0, 10)
    settings = {"key": KEY, "optimizer": OPTIMIZER, "epochs": 1, "batch_size": BATCH_SIZE, "progress": False}

    def order(size: int) -> Any:
        return batch_indices(jax.random.fold_in(KEY, 0), size, BATCH_SIZE)[0]  # in which `fit` takes the examples

    def step(state: Any, rows: Any) -> tuple[Any, Any]:
        params, opt_state = state
        loss, gradient = jax.value_and_grad(
            lambda params: jnp.mean(jax.vmap(cross_entropy)(cnn(params, x[rows]), y[rows]))
        )(params)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), opt_state), loss

    compiled, scanned = jax.jit(step), jax.jit(lambda state, rows: lax.scan(step, state, rows))
    start, indices = (params, OPTIMIZER.init(params)), order(count)

    def loop() -> Any:
        state = start
        for rows in indices:
            state, _ = compiled(state, rows)
        return state[0]

    def prove() -> str:
        few = PROVED * BATCH_SIZE
        ours = fit(cnn, params, (x[:few], y[:few]), **settings).params
        ends = [scanned(start, order(few))[0][0]]
        ends += [peer.result(peer.run()) for peer in torch_training(params, x[:few], y[:few], order(few))]
        apart = max(float(jnp.abs(ours[name] - end[name]).max()) for end in ends for name in ours)
        losses = float(fit(cnn, params, (x, y), **settings).history.loss[0]), float(scanned(start, indices)[1].mean())
        if not (apart < 1e-5 and abs(losses[0] - losses[1]) < 1e-3 * losses[1]):
            raise AssertionError(
                f"{PROVED} steps end {apart:.1e} apart; an epoch's loss is {losses[0]} and {losses[1]}."
            )
        return (
            f"equal work: after {PROVED} steps parameters are at most {apart:.1e} apart (with {len(ends)} others), and "
            f"the loss of the epoch is {losses[0]:.5f} and {losses[1]:.5f}"
        )

    programs = [
        Program("fit", lambda: fit(cnn, params, (x, y), **settings).params, OURS, None),
        Program("Python loop of compiled steps", loop, PLAIN, None),
        Program("the same scan without the transformation", lambda: scanned(start, indices)[0][0], PLAIN, None),
        *(dataclasses.replace(peer, result=None) for peer in torch_training(params, x, y, indices)),
    ]
    targets = {"Python loop of compiled steps": 1.0, "the same scan without the transformation": 0.2, PEER: 1.0}
    name = f"CNN: an epoch of {len(indices)} steps of {BATCH_SIZE}"
    return Case(name, programs, examples=count, prove=prove, targets=targets)


def torch_training(params: Any, x: Any, y: Any, indices: Any) -> list[Program]:
    if not installed("torch"):
        return []
    import torch

    images = torch.from_numpy(np.array(x).transpose(0, 3, 1, 2).copy())
    labels, rows = torch.from_numpy(np.array(y)).long(), torch.from_numpy(np.array(indices)).long()

    def train() -> Any:
        model = torch_cnn(params)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        for batch in rows:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        return model

    def result(model: Any) -> Any:
        weights = [p.detach().numpy() for p in model.parameters()]
        convolutions = [w.transpose(2, 3, 1, 0) for w in weights[:2]]
        return dict(zip((*LINES, "hidden", "head"), [*convolutions, weights[2].T, weights[3].T], strict=True))

    return [Program("torch, default layout", train, PEER, result)]


def cases(quick: bool) -> list[Case]:
    params, steps = cnn_params(), 8 if quick else 50
    x = jax.random.uniform(KEY, (64, 28, 28, 1))
    within = {f"{steps} compiled gradients, plain JAX": 1.2, BOUND: 1.15, PEER: 1 / 1.4}
    found = [path_case("CNN", logit(cnn, params), x, steps, captum_programs(params, x, steps), within)]
    found.append(train_case(quick))
    images = jax.random.normal(KEY, (8 if quick else 16, 32, 32, 3))
    module = resnet(10, widths=(16, 32, 64, 128) if quick else (32, 64, 128, 256), depth=2)
    residual = logit(functools.partial(module.apply, train=False), jax.jit(module.init)(KEY, images))
    attention = transformer(
        10, width=64 if quick else 192, depth=2 if quick else 6, heads=3 if not quick else 2, patch=4
    )
    vision = logit(functools.partial(attention.apply, train=False), jax.jit(attention.init)(KEY, images))
    for name, f in (("ResNet-18-like, 32x32", residual), ("ViT, 32x32", vision)):
        found.append(path_case(name, f, images, 2 if quick else 8, [], {BOUND: 1.15}))
    return found


if __name__ == "__main__":
    script("layout", cases, __doc__ or "")
