"""A GPU: images per second of six methods, for a CNN of ResNet-50's size and a ViT-B at 224x224, float32 and bfloat16.

    python -m bench --device gpu --only gpu

The bound of a method is the passes it needs at the rate at which the same model's compiled gradient, or its compiled
forward pass, runs on the same batch outside of any method.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxplain
from bench.harness import BOUND, OURS, Case, Program
from jaxplain.models import resnet, transformer

KEY = jax.random.key(0)
CLASSES, TARGET = 1000, 1 / 1.15
STEPS, SAMPLES, WINDOW, COALITIONS, CELL = 32, 16, 56, 256, 32


class Model(NamedTuple):
    """A model to explain, and the layer that its class activation map looks at."""

    module: Any
    layer: str
    batch: int


class Method(NamedTuple):
    """A method, and how many gradients or forward passes of an example it needs."""

    build: Callable[[Any, Model, int], Any]
    passes: Callable[[int], int]
    backward: bool
    random: bool = False


def cells(size: int) -> Any:
    """Square groups of features, `[size, size, 1]`."""
    place = jnp.arange(size) // CELL
    return (place[:, None] * math.ceil(size / CELL) + place[None])[..., None]


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
        lambda f, model, size: jaxplain.occlusion(f, window=min(WINDOW, size // 4), batch_size=4),
        lambda size: math.ceil(size / min(WINDOW, size // 4)) ** 2 + 1,
        False,
    ),
    f"KernelSHAP, {COALITIONS} coalitions": Method(
        lambda f, model, size: jaxplain.kernel_shap(f, samples=COALITIONS, groups=cells(size), batch_size=4),
        lambda size: COALITIONS + 2,
        False,
        random=True,
    ),
    "Grad-CAM": Method(lambda f, model, size: jaxplain.grad_cam(f, model.layer), lambda size: 1, True),
}


def models(quick: bool) -> dict[str, Model]:
    if quick:
        return {"CNN": Model(resnet(CLASSES, widths=(8, 16), depth=1), "block_1", 2)}
    return {
        "CNN of ResNet-50's size": Model(resnet(CLASSES, widths=(64, 128, 256, 512), depth=5), "block_19", 16),
        "ViT-B": Model(transformer(CLASSES, patch=16, width=768, depth=12, heads=12), "block_11", 16),
    }


def method_case(name: str, model: Model, dtype: Any, how: str, method: Method, size: int) -> Case:
    x = jax.random.normal(KEY, (model.batch, size, size, 3), dtype)
    y = jnp.arange(model.batch) % CLASSES
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), jax.jit(model.module.init)(KEY, x))
    apply = functools.partial(model.module.apply, train=False)
    f = jaxplain.logit(apply, params)
    e = method.build(f, model, size)
    one = jax.jit(lambda f, x, y: jax.vmap(jax.grad(f) if method.backward else f)(x, y))
    options = {"key": KEY} if method.random else {}
    programs = [
        Program("explain_batch", lambda: jaxplain.explain_batch(e, x, y, **options), OURS, None),
        Program(
            f"{method.passes(size)} passes of the bare model",
            lambda: one(f, x, y),
            BOUND,
            None,
            scale=method.passes(size),
        ),
    ]
    return Case(f"{name}, {jnp.dtype(dtype).name}: {how}", programs, examples=model.batch, targets={BOUND: 1 / TARGET})


def gpu_cases(quick: bool) -> list[Case]:
    """All methods that this version has."""
    size = 32 if quick else 224
    return [
        method_case(name, model, dtype, how, method, size)
        for name, model in models(quick).items()
        for dtype in (jnp.float32, jnp.bfloat16)
        for how, method in METHODS.items()
    ]
