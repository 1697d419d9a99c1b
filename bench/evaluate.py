"""Metrics against Quantus and against plain JAX loops, on 256 images of 28x28 and one CNN of five layers.

Both run the same weights on the same images, with as many model passes: pixel flipping (784 steps), faithfulness
correlation (100 subsets), max sensitivity (200 samples of the gradient), parameter randomization (5 layers, integrated
gradients with 20 steps), infidelity (squares of 7x7) and ROAD (9 shares). Values are compared where nothing is drawn.
Expected: at least 5 times faster than Quantus in the geometric mean, none slower.

    python bench/evaluate.py [--quick]
"""

from __future__ import annotations

import functools
import pathlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxplain
from bench.harness import OURS, PEER, PLAIN, Case, Program, installed, script

KEY = jax.random.key(0)
NAMES = (
    "pixel_flipping", "faithfulness_correlation", "max_sensitivity", "parameter_randomization", "infidelity", "road",
)  # fmt: skip
RADIUS, SIDE = 0.1, 7


def weights() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {"conv_0": (3, 3, 1, 8), "conv_1": (3, 3, 8, 16), "dense_0": (784, 64), "dense_1": (64, 32)}
    shapes["head"] = (32, 10)
    return {
        name: {
            "kernel": (rng.normal(size=s) * np.sqrt(2 / np.prod(s[:-1]))).astype(np.float32),
            "bias": np.zeros(s[-1], np.float32),
        }
        for name, s in shapes.items()
    }


def apply(params: Any, x: Any) -> Any:
    """Two convolutions with max pooling, then three dense layers; channels last."""
    for name in ("conv_0", "conv_1"):
        x = lax.conv_general_dilated(
            x, params[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[name]["bias"].reshape(1, 1, 1, -1))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(x.shape[0], -1)
    for name in ("dense_0", "dense_1"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def torch_model(params: Any) -> Any:
    import torch

    class Channels(torch.nn.Module):
        """Flatten in the order of the channels-last network."""

        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Channels(),
        nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    layers = [m for m in model if hasattr(m, "weight")]
    with torch.no_grad():
        for layer, value in zip(layers, params.values(), strict=True):
            kernel = value["kernel"]
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T))
            layer.bias.copy_(torch.tensor(value["bias"]))
    return model.eval()


class Peer:
    """Quantus on the same arrays."""

    def __init__(self, params: Any, x: np.ndarray, y: np.ndarray, a: np.ndarray) -> None:
        import quantus
        import torch

        warnings.filterwarnings("ignore")
        self.quantus, self.torch, self.model = quantus, torch, torch_model(params)
        self.arrays = {
            "x_batch": x.transpose(0, 3, 1, 2).copy(),
            "y_batch": y,
            "a_batch": a.transpose(0, 3, 1, 2).copy(),
        }

    def gradient(self, model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        torch = self.torch
        x = torch.tensor(np.asarray(inputs), requires_grad=True)
        model(x).gather(1, torch.tensor(np.asarray(targets))[:, None]).sum().backward()
        return x.grad.numpy()

    def integrated(self, model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        x = np.asarray(inputs)
        total = sum(self.gradient(model, x * ((k + 0.5) / 20), targets) for k in range(20))
        return x * total / 20

    def metric(self, name: str) -> tuple[Any, dict[str, Any]]:
        q, off = (
            self.quantus,
            {"normalise": False, "abs": False, "disable_warnings": True, "display_progressbar": False},
        )
        fit = {"softmax": False, "batch_size": len(self.arrays["y_batch"])}
        if name == "pixel_flipping":
            return q.PixelFlipping(features_in_step=1, perturb_baseline="black", **off), fit
        if name == "faithfulness_correlation":
            return q.FaithfulnessCorrelation(nr_runs=100, subset_size=196, perturb_baseline="black", **off), fit
        if name == "max_sensitivity":
            return q.MaxSensitivity(nr_samples=200, lower_bound=RADIUS, **off), fit | {"explain_func": self.gradient}
        if name == "parameter_randomization":
            correlation = q.similarity_func.correlation_spearman
            return q.MPRT(layer_order="top_down", similarity_func=correlation, **off), fit | {
                "explain_func": self.integrated
            }
        if name == "infidelity":
            return q.Infidelity(n_perturb_samples=10, perturb_patch_sizes=[SIDE], **off), fit
        return q.ROAD(percentages=[10, 20, 30, 40, 50, 60, 70, 80, 90], **off), fit

    def run(self, name: str) -> Any:
        metric, settings = self.metric(name)
        return metric(model=self.model, **self.arrays, **settings)


def ours(params: Any) -> dict[str, Any]:
    f = jaxplain.logit(apply, params)
    e = jaxplain.gradient(f)

    def integrated(p: Any) -> Any:
        return jaxplain.integrated_gradients(jaxplain.logit(apply, p), steps=20, rule="midpoint")

    def right(x: Any, k: Any) -> Any:
        return 1.0 * (jnp.argmax(apply(params, x[None])[0]) == k)

    return {
        "pixel_flipping": jaxplain.evaluate.pixel_flipping(f),
        "faithfulness_correlation": jaxplain.evaluate.faithfulness_correlation(f, size=196, samples=100),
        "max_sensitivity": jaxplain.evaluate.max_sensitivity(e, radius=RADIUS, samples=200),
        "parameter_randomization": jaxplain.evaluate.parameter_randomization_curve(integrated, params),
        "infidelity": jaxplain.evaluate.infidelity(f, perturbation="square", side=SIDE, samples=160),
        "road": jaxplain.evaluate.road_curve(right),
    }


def plain(params: Any, x: Any, y: Any, a: Any) -> dict[str, Callable[[], Any]]:
    """What one would write without the library: a Python loop around compiled batch programs."""

    @jax.jit
    def score(x: Any) -> Any:
        return jnp.take_along_axis(apply(params, x), y[:, None], axis=1)[:, 0]

    gradient = jax.jit(jax.grad(lambda x: score(x).sum()))
    rank = jnp.argsort(jnp.argsort(-a.reshape(len(y), -1), axis=1), axis=1).reshape(a.shape)
    replace = jax.jit(lambda k: score(jnp.where(rank < k, 0.0, x)))

    @jax.jit
    def change(key: Any, centre: Any) -> Any:
        moved = gradient(x + jax.random.uniform(key, x.shape, minval=-RADIUS, maxval=RADIUS)) - centre
        return jnp.linalg.norm(moved.reshape(len(y), -1), axis=1)

    def sensitivity() -> Any:
        centre = gradient(x)
        keys = jax.random.split(KEY, 200)
        largest = jnp.stack([change(key, centre) for key in keys]).max(0)
        return largest / jnp.linalg.norm(centre.reshape(len(y), -1), axis=1)

    return {
        "pixel_flipping": lambda: jnp.stack([replace(k) for k in range(785)], axis=1),
        "max_sensitivity": sensitivity,
    }


def cases(quick: bool) -> list[Case]:
    count = 16 if quick else 256
    params, rng = weights(), np.random.default_rng(1)
    x = rng.uniform(size=(count, 28, 28, 1)).astype(np.float32)
    x[:, 0, 0] = 0.0  # the peer's "black" is the least value of an image
    y = np.asarray(apply(params, x).argmax(1))
    a = np.asarray(jaxplain.explain_batch(jaxplain.gradient(jaxplain.logit(apply, params)), x, y))
    loops = plain(params, jnp.asarray(x), jnp.asarray(y), jnp.asarray(a))
    metrics, peer = ours(params), Peer(params, x, y, a) if installed("quantus") and installed("torch") else None

    # Of equal attributions either may go first.
    distinct = [len(np.unique(row)) == row.size for row in a]

    def compared(scores: Any) -> np.ndarray:
        return np.asarray(scores)[distinct][:, -784:]

    def case(name: str) -> Case:
        same = name == "pixel_flipping"  # the others draw
        own = functools.partial(jaxplain.evaluate.evaluate_batch, metrics[name], x, a, y, key=KEY)
        programs = [Program("jaxplain", own, OURS, (lambda found: compared(found.score)) if same else None)]
        if name in loops:
            programs.append(Program("Python loop of compiled batches", loops[name], PLAIN, compared if same else None))
        if peer is not None:
            run = functools.partial(peer.run, name)
            programs.append(Program("quantus", run, PEER, compared if same else None, most=2))
        return Case(name.replace("_", " "), programs, 1e-3, count, targets={PEER: 1.0, PLAIN: 1.15})

    return [case(name) for name in NAMES]


if __name__ == "__main__":
    script("evaluate", cases, __doc__ or "")
