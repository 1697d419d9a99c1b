"""Activation maximization: many units of one layer in one call against one call for each, and against Lucent.

It is proved that units together and units alone give the same images, and (with torch and torch-lucent installed) that
both libraries evaluate the same network; the activations that both reach are printed. Expected: 100 units of a layer in
one call in less than half the time of 100 calls; 32 units at least three times faster than Lucent, which optimises one
after another, with no lower activation. Lucent with the 32 units put into one batch by hand is timed too. Same weights,
same number of steps, Fourier images, Adam with a step of 0.05 and shifts of up to two pixels in all. Lucent's own
jitter(d) shifts one way, by 0 to d - 1, and within four-pixel grids of pooling more often by nothing; so
it is given the same shifts as a transform of its own.

    python bench/activation.py [--quick]
"""

from __future__ import annotations

import functools
import pathlib
import sys
from collections import OrderedDict
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.harness import OTHER, OURS, PEER, Case, Program, installed, script
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


def together_and_alone(e: Any, units: int, calls: int) -> Case:
    """Units in one call against a call for each; of the calls a part is timed, for all take the same time."""
    run = jax.vmap(e, (None, 0))

    def prove() -> str:
        alone, found = e(KEY, 0), run(KEY, jnp.arange(units))
        np.testing.assert_allclose(alone.image, found.image[0], atol=1e-4)
        return f"a unit alone and among {units}: equal to {float(jnp.abs(alone.image - found.image[0]).max()):.0e}"

    programs = [
        Program("one call", lambda: run(KEY, jnp.arange(units)), OURS, None),
        Program("a call for each", lambda: [e(KEY, k) for k in range(calls)], result=None, scale=units / calls, most=5),
    ]
    return Case(f"{units} units of a layer", programs, 1e-4, units, prove, {"a call for each": 0.5})


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


class Lucent:
    """Lucent on the same network."""

    def __init__(self, kernels: list[np.ndarray], steps: int) -> None:
        import torch

        self.torch, self.steps, self.kernels = torch, steps, kernels
        self.net, self.layer = torch_network(kernels), f"conv{len(kernels) - 1}"
        self.shifts = np.random.default_rng(2)

    def same_network(self) -> None:
        x = np.random.default_rng(1).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)
        theirs = self.net(self.torch.tensor(x.transpose(2, 0, 1)[None])).detach().numpy()[0].transpose(1, 2, 0)
        np.testing.assert_allclose(network(self.kernels, x), theirs, rtol=1e-3, atol=1e-3)

    def shift(self, x: Any) -> Any:
        return self.torch.roll(x, tuple(self.shifts.integers(-SHIFT, SHIFT + 1, 2)), (2, 3))

    def images(self, goal: Any, batch: int) -> np.ndarray:
        from lucent.optvis import param, render

        settings = {"transforms": [self.shift], "thresholds": (self.steps,), "preprocess": False, "progress": False}
        self.torch.manual_seed(0)
        start = lambda: param.image(SIZE, batch=batch, decorrelate=False)  # noqa: E731
        return render.render_vis(self.net, goal, start, **settings, fixed_image_size=SIZE, show_image=False)[-1]

    def one_by_one(self, units: int) -> np.ndarray:
        return np.concatenate([self.images(f"{self.layer}:{unit}", 1) for unit in range(units)])

    def batched(self, units: int) -> np.ndarray:
        from lucent.optvis import objectives

        goals = [objectives.channel(self.layer, unit, batch=unit) for unit in range(units)]
        return self.images(sum(goals[1:], goals[0]), units)

    def reached(self, images: Any) -> float:
        """Mean activation of each unit by its image."""
        values = self.net(self.torch.tensor(np.asarray(images).transpose(0, 3, 1, 2).copy())).mean((2, 3))
        return float(values.detach().numpy()[np.arange(len(images)), np.arange(len(images))].mean())


def against_lucent(e: Any, kernels: list[np.ndarray], units: int, steps: int) -> Case:
    own = lambda: jax.vmap(e, (None, 0))(KEY, jnp.arange(units)).image  # noqa: E731
    name, programs = f"{units} units, {steps} steps", [Program("one call", own, OURS, None)]
    if not (installed("torch") and installed("lucent")):
        return Case(name, programs, examples=units)
    peer = Lucent(kernels, steps)
    programs += [
        Program("Lucent, one by one", functools.partial(peer.one_by_one, units), PEER, None, most=3),
        Program("Lucent, batched by hand", functools.partial(peer.batched, units), OTHER, None, most=3),
    ]

    def prove() -> str:
        peer.same_network()
        found = {program.name: peer.reached(program.run()) for program in programs}
        return "activation reached: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items())

    return Case(name, programs, examples=units, prove=prove, targets={PEER: 1 / 3})


def cases(quick: bool) -> list[Case]:
    steps, kernels = 16 if quick else 64, weights()
    f = jax.tree_util.Partial(network, kernels)
    e = activation_maximization(
        objective.channel(f, f"conv_{len(kernels) - 1}"),
        image=image.fourier((SIZE, SIZE, 3)),
        transforms=(transform.jitter(SHIFT),),
        steps=steps,
    )
    return [together_and_alone(e, 100, 5 if quick else 20), against_lucent(e, kernels, 8 if quick else 32, steps)]


if __name__ == "__main__":
    script("activation", cases, __doc__ or "")
