"""Captum on torchvision's ResNet-50 and ViT-B/16, where both and a CUDA device are there: the peer's side of `gpu.py`.

Each method takes as many passes as ours, in chunks of the size that is fastest among a few, tried once each.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from bench.harness import PEER, Program, installed

CHUNKS = (1, 4, 8)
"""How many points of each example at once are tried, of methods that can."""


def captum_program(name: str, how: str, batch: int, size: int, dtype: str, passes: int) -> list[Program]:
    """Captum's form of a method on a model of that name; none where it has none or cannot run here.

    Args:
        name: 'ResNet-50', 'ViT-B', or their small stand-ins.
        how: The method, as `gpu.METHODS` names it.
        batch: How many images at once.
        size: Of their sides, pixels.
        dtype: 'bfloat16' or 'float32'.
        passes: How many gradients or forward passes it takes for each.
    """
    if not (installed("captum") and installed("torch") and installed("torchvision")):
        return []
    import torch

    if not torch.cuda.is_available() or size < 224:
        return []
    call = peer(name, how, batch, size, dtype, passes, "cuda")
    if call is None:
        return []
    return [Program("captum on CUDA", call, PEER, None)]


def peer(name: str, how: str, batch: int, size: int, dtype: str, passes: int, device: str) -> Callable[[], Any] | None:
    """A call of captum's method, at the chunk size at which it is fastest."""
    import torch

    model = _model(name, size).to(device, getattr(torch, dtype)).eval()
    x = torch.randn(batch, 3, size, size, device=device, dtype=getattr(torch, dtype))
    y = torch.arange(batch, device=device) % 1000
    made = _method(model, name, how, size, passes)
    if made is None:
        return None
    attribute, chunked = made

    def call(chunk: int) -> Any:
        found = attribute(x, y, chunk)
        if device == "cuda":
            torch.cuda.synchronize()
        return found.detach().float().cpu().numpy()

    if not chunked:
        return functools.partial(call, 1)
    seconds = {}
    for chunk in CHUNKS:
        call(chunk)
        start = time.perf_counter()
        call(chunk)
        seconds[chunk] = time.perf_counter() - start
    return functools.partial(call, min(seconds, key=seconds.__getitem__))


@functools.cache
def _model(name: str, size: int) -> Any:
    import torchvision

    if name.startswith("ResNet"):
        return torchvision.models.resnet50(weights=None)
    return torchvision.models.vit_b_16(weights=None, image_size=size)


def _method(model: Any, name: str, how: str, size: int, passes: int) -> tuple[Callable[..., Any], bool] | None:
    """`(x, y, chunk) -> attribution`, and whether the chunk counts."""
    import torch
    from captum import attr

    if how == "gradient":
        saliency = attr.Saliency(model)
        return lambda x, y, chunk: saliency.attribute(x, target=y, abs=False), False
    if how.startswith("integrated"):
        paths = attr.IntegratedGradients(model)
        return lambda x, y, chunk: paths.attribute(
            x, target=y, n_steps=passes, method="gausslegendre", internal_batch_size=chunk * len(x)
        ), True
    if how.startswith("SmoothGrad"):
        noisy = attr.NoiseTunnel(attr.Saliency(model))
        return lambda x, y, chunk: noisy.attribute(
            x, target=y, nt_samples=passes, nt_samples_batch_size=chunk, stdevs=0.1, abs=False
        ), True
    if how.startswith("occlusion"):
        window = round(size / (passes - 1) ** 0.5)
        hidden = attr.Occlusion(model)
        return lambda x, y, chunk: hidden.attribute(
            x, target=y, sliding_window_shapes=(3, window, window), strides=(3, window, window),
            perturbations_per_eval=chunk,
        ), True  # fmt: skip
    if how.startswith("KernelSHAP"):
        cell = torch.arange(size) // 32
        groups = (cell[:, None] * -(-size // 32) + cell[None]).broadcast_to(1, 3, size, size)
        shap = attr.KernelShap(model)

        def explain(x: Any, y: Any, chunk: int) -> Any:  # it takes one example at a time
            rows = zip(x.split(1), y.split(1), strict=True)
            return torch.cat(
                [
                    shap.attribute(
                        a,
                        target=b,
                        feature_mask=groups.to(a.device),
                        n_samples=passes,
                        perturbations_per_eval=8 * chunk,
                    )
                    for a, b in rows
                ]
            )

        return explain, True
    return _backward(attr, model, name, how)


def _backward(attr: Any, model: Any, name: str, how: str) -> tuple[Callable[..., Any], bool] | None:
    """The methods of one pass; those that captum has for residual networks alone are left out of a ViT."""
    if not name.startswith("ResNet"):
        return None
    if how == "Grad-CAM":
        layer = attr.LayerGradCam(model, model.layer4)
        return lambda x, y, chunk: layer.attribute(x, target=y), False
    if how.startswith("guided"):
        guided = attr.GuidedBackprop(model)
        return lambda x, y, chunk: guided.attribute(x, target=y), False
    return None  # its LRP and DeepLIFT refuse torchvision's ReLUs, which are used more than once
