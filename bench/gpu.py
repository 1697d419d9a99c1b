"""A GPU: images per second of nine methods, for ResNet-50 and ViT-B/16 at 224x224, float32 and bfloat16.

    python -m bench --device gpu --only gpu

The bound of a method is the passes it needs at the rate at which the same model's compiled gradient, or its compiled
forward pass, runs outside of any method at the batch that it is fastest at. Captum stands beside it where torch and
torchvision have the card: the same architectures with random weights of their own, so that times are compared and
numbers are not. Last, a dataset of uint8 images is explained into a folder. Cases stand in the order of their
importance, since a run ends at its time limit with what it has.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from bench.gpu_peer import captum_program
from bench.harness import BOUND, OURS, Case, Program
from jaxplain.models import resnet, transformer

KEY = jax.random.key(0)
CLASSES, TARGET = 1000, 1 / 1.15
STEPS, SAMPLES, WINDOW, COALITIONS, CELL = 32, 16, 56, 256, 32


class Model(NamedTuple):
    """A model to explain, the layer of its class activation map, the batch explained and the one it is fastest at."""

    module: Any
    layer: str
    batch: int
    best: int


class Method(NamedTuple):
    """A method, and how many gradients or forward passes of an example it needs."""

    build: Callable[[Any, Model, int], Any]
    passes: Callable[[int], int]
    backward: bool
    random: bool = False


def cells(size: int) -> Any:
    """Square groups of features, `[size, size, 3]`."""
    place = jnp.arange(size) // CELL
    square = place[:, None] * math.ceil(size / CELL) + place[None]
    return jnp.broadcast_to(square[..., None], (size, size, 3))


METHODS = {
    "gradient": Method(lambda f, model, size: jaxplain.gradient(f), lambda size: 1, True),
    f"integrated gradients, {STEPS} steps": Method(
        lambda f, model, size: jaxplain.integrated_gradients(f, steps=STEPS), lambda size: STEPS, True
    ),
    f"SmoothGrad, {SAMPLES} samples": Method(
        lambda f, model, size: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=SAMPLES),
        lambda size: SAMPLES,
        True,
        random=True,
    ),
    f"occlusion, windows of {WINDOW}": Method(
        lambda f, model, size: jaxplain.occlusion(f, window=min(WINDOW, size // 4)),
        lambda size: math.ceil(size / min(WINDOW, size // 4)) ** 2 + 1,
        False,
    ),
    f"KernelSHAP, {COALITIONS} coalitions": Method(
        lambda f, model, size: jaxplain.kernel_shap(f, samples=COALITIONS, groups=cells(size)),
        lambda size: COALITIONS + 2,
        False,
        random=True,
    ),
    "Grad-CAM": Method(lambda f, model, size: jaxplain.grad_cam(f, model.layer), lambda size: 1, True),
    "LRP-epsilon": Method(lambda f, model, size: jaxplain.lrp(f, jaxplain.relevance.epsilon()), lambda size: 1, True),
    "DeepLIFT": Method(lambda f, model, size: jaxplain.deep_lift(f), lambda size: 2, True),
    "guided backpropagation": Method(lambda f, model, size: jaxplain.guided_backprop(f), lambda size: 1, True),
}
"""Guided backpropagation looks for ReLUs, and a ViT has none."""


def models(quick: bool) -> dict[str, Model]:
    if quick:
        small = resnet(CLASSES, widths=(8, 16), depth=1, bottleneck=True, stem="strided")
        return {
            "ResNet": Model(small, "block_1", 2, 4),
            "ViT": Model(transformer(CLASSES, patch=8, width=16, depth=2, heads=2), "block_1", 2, 4),
        }
    fifty = resnet(CLASSES, widths=(64, 128, 256, 512), depth=(3, 4, 6, 3), bottleneck=True, stem="strided")
    return {
        "ResNet-50": Model(fifty, "block_15", 32, 256),
        "ViT-B": Model(transformer(CLASSES, patch=16, width=768, depth=12, heads=12), "block_11", 32, 256),
    }


@functools.partial(jax.jit, static_argnums=0)
def bare(backward: bool, f: Any, x: Any, y: Any) -> Any:
    """One pass of the model for each example."""
    return jax.vmap(jax.grad(f) if backward else f)(x, y)


def method_case(name: str, model: Model, params: Any, x: Any, how: str, method: Method) -> Case:
    y, size = jnp.arange(len(x)) % CLASSES, x.shape[1]
    f = jaxplain.logit(functools.partial(model.module.apply, train=False), params)
    e = method.build(f, model, size)
    options, passes = {"key": KEY} if method.random else {}, method.passes(size)
    rows, labels = x[: model.batch], y[: model.batch]
    programs = [
        Program("explain_batch", lambda: jaxplain.explain_batch(e, rows, labels, **options), OURS, None),
        Program(
            f"{passes} passes of the bare model",
            lambda: bare(method.backward, f, x, y),
            BOUND,
            None,
            scale=passes * model.batch / model.best,
        ),
    ]
    programs += captum_program(name, how, model.batch, size, x.dtype.name, passes)
    return Case(f"{name}, {x.dtype.name}: {how}", programs, examples=model.batch, targets={BOUND: 1 / TARGET})


def dataset_case(name: str, model: Model, params: Any, x: Any) -> Case:
    """Gradients of images that travel as uint8, written to a folder, beside the bare gradients of as many."""
    count = 8 * model.best
    images = np.random.default_rng(0).integers(0, 256, (count, *x.shape[1:]), np.uint8)
    y = jnp.arange(len(x)) % CLASSES
    f = jaxplain.logit(functools.partial(model.module.apply, train=False), params)

    def prepare(image: Any) -> Any:
        return (image.astype(jnp.float32) / 255.0).astype(x.dtype)

    def explain() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"out": f"{folder}/run", "batch_size": model.best, "prepare": prepare, "progress": False}
            data = (images, np.arange(count) % CLASSES)
            sums = jaxplain.dataset.channel_sum()
            return jaxplain.explain_dataset(jaxplain.gradient(f), data, reduce=sums, **settings).explanations.count

    programs = [
        Program("explain_dataset to a folder, uint8", explain, OURS, None, most=3),
        Program(f"{count} gradients of the bare model", lambda: bare(True, f, x, y), BOUND, None, scale=8),
    ]
    return Case(f"{name}, {x.dtype.name}: a dataset of {count} images", programs, examples=count)


def gpu_cases(quick: bool) -> list[Case]:
    """Both models in both dtypes, method by method."""
    size, every = 32 if quick else 224, models(quick)

    @functools.cache
    def made(name: str, dtype: Any) -> tuple[Any, Any]:
        params = jax.jit(every[name].module.init)(KEY, jnp.zeros((1, size, size, 3)))
        x = jax.random.normal(KEY, (every[name].best, size, size, 3), dtype)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params), x

    methods = [
        method_case(name, model, *made(name, dtype), how, method)
        for how, method in METHODS.items()
        for dtype in ((jnp.bfloat16,) if quick else (jnp.bfloat16, jnp.float32))
        for name, model in every.items()
        if not (how.startswith("guided") and name.startswith("ViT"))
    ]
    return [*methods, *(dataset_case(name, model, *made(name, jnp.bfloat16)) for name, model in every.items())]
