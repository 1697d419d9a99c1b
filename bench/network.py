"""What most areas time: 64 images of 28x28 through a CNN of two convolutions, in Flax and, equal, in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from bench.harness import BOUND, OURS, Program
from jaxplain import fast_layout

IMAGES, CLASSES = 64, 10
LAYER = "features"
"""The path of the last convolution's output after ReLU."""
TORCH_LAYER = 4
"""Its number in `torch_network`."""
GROUPS = np.arange(28)[:, None] // 4 * 7 + np.arange(28)[None, :] // 4
"""49 squares of 4x4 pixels."""


class Net(nn.Module):
    """Two convolutions with max pooling, two dense layers."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        """Logits of a batch."""
        x = nn.max_pool(nn.relu(nn.Conv(16, (3, 3), name="conv_0")(x)), (2, 2), (2, 2))
        x = checkpoint_name(nn.relu(nn.Conv(32, (3, 3), name="conv_1")(x)), LAYER)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64, name="dense")(x.reshape(x.shape[0], -1)))
        return nn.Dense(CLASSES, name="head")(x)


class Work(NamedTuple):
    """The score that is explained, the network's variables, images and labels."""

    f: Any
    variables: Any
    x: Any
    labels: Any


def work(images: int = IMAGES) -> Work:
    """The same network and images at every call."""
    x = jax.random.uniform(jax.random.key(0), (images, 28, 28, 1))
    variables = jax.tree.map(lambda w: w + 0.02, Net().init(jax.random.key(1), x[:1]))  # biases that are not zero
    return Work(jaxplain.logit(Net().apply, variables), variables, x, jnp.arange(images) % CLASSES)


def explained(e: Any, w: Work, key: Any = None) -> Program:
    """One explanation of the batch."""
    return Program("jaxplain", lambda: jaxplain.explain_batch(e, w.x, w.labels, key=key), OURS)


@jax.jit
def _scores(f: Any, x: Any, labels: Any) -> Any:
    return fast_layout(jax.vmap(f))(x, labels)


@jax.jit
def _gradients(f: Any, x: Any, labels: Any) -> Any:
    return fast_layout(jax.vmap(jax.grad(f)))(x, labels)


def passes(w: Work, forward: int = 0, gradients: int = 0, most: int = 100) -> Program:
    """The bound: as many forward passes and gradients of the batch, one compiled call after the other.

    They run as fast as this network can be run here (in the fast layout); of many, the time of `most` is multiplied.
    """
    counts = ((_gradients, gradients, "gradient"), (_scores, forward, "forward pass"))
    share = min(1, most / (forward + gradients))
    calls = [run for run, count, _ in counts for _ in range(round(share * count))]
    named = [_counted(count, word) for _, count, word in counts if count]
    return Program(
        f"{' and '.join(named)} of the batch",
        lambda: [run(w.f, w.x, w.labels) for run in calls],
        BOUND,
        result=None,
        scale=(forward + gradients) / len(calls),
    )


def _counted(count: int, word: str) -> str:
    plural = word + ("es" if word.endswith("s") else "s")
    return f"{count} {word if count == 1 else plural}"


def torch_network(variables: Any) -> Any:
    """The network in torch as a `Sequential`; the dense layer's weights are in the order in which torch flattens."""
    import torch

    p = jax.tree.map(np.asarray, variables["params"])

    def filled(layer: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
        layer.weight.data, layer.bias.data = torch.tensor(weight.copy()), torch.tensor(bias.copy())
        return layer

    def convolution(name: str) -> Any:
        kernel = p[name]["kernel"]
        layer = torch.nn.Conv2d(*kernel.shape[2:], 3, padding=1)
        return filled(layer, np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), p[name]["bias"])

    def dense(kernel: np.ndarray, bias: np.ndarray) -> Any:
        return filled(torch.nn.Linear(*kernel.shape), np.ascontiguousarray(kernel.T), bias)

    relu, pool = torch.nn.ReLU, lambda: torch.nn.MaxPool2d(2)
    flat = p["dense"]["kernel"].reshape(7, 7, 32, 64).transpose(2, 0, 1, 3).reshape(-1, 64)
    layers = [convolution("conv_0"), relu(), pool(), convolution("conv_1"), relu(), pool(), torch.nn.Flatten()]
    head = dense(p["head"]["kernel"], p["head"]["bias"])
    return torch.nn.Sequential(*layers, dense(flat, p["dense"]["bias"]), relu(), head).eval()


def torch_batch(w: Work) -> tuple[Any, Any]:
    """The images, channels first, and the labels."""
    import torch

    return torch.tensor(np.asarray(w.x).transpose(0, 3, 1, 2).copy()), torch.tensor(np.asarray(w.labels)).long()


def channels_last(values: Any) -> np.ndarray:
    """torch's images as ours are laid out."""
    return values.detach().permute(0, 2, 3, 1).numpy()


def without_gradients(run: Callable[[], Any]) -> Callable[[], Any]:
    """`run` under torch's `no_grad`."""

    def call() -> Any:
        import torch

        with torch.no_grad():
            return run()

    return call
