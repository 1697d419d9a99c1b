"""What class activation maps and DeepLIFT cost, beside captum, pytorch-grad-cam and shap on the same weights.

DeepLIFT is proved equal to captum's by its sum, since captum shares a max pooling's change otherwise; the alignment of
corners of pytorch-grad-cam is switched off, for that too. Expected: Grad-CAM and DeepLIFT at least as fast as captum,
Score-CAM and Ablation-CAM at least 5 times as fast as pytorch-grad-cam, Deep SHAP with 100 baselines 5 times as fast as
shap.

    python bench/cam.py [--quick]
"""

from __future__ import annotations

import contextlib
import functools
import io
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import numpy as np

import jaxplain
from bench.harness import PEER, Case, Program, installed, script
from bench.network import (
    LAYER,
    TORCH_LAYER,
    Work,
    channels_last,
    explained,
    passes,
    torch_batch,
    torch_network,
    work,
)

FEW = 2
"""How many images shap explains, for all classes at once."""


def stretched(maps: Any) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def summed(values: Any) -> np.ndarray:
    return np.asarray(values).reshape(len(values), -1).sum(1)


def complete(e: Any, w: Work) -> str:
    """Prove that attributions sum to the score's change from zeros, where no peer has the method."""
    scores = jax.jit(jax.vmap(w.f))
    change = np.asarray(scores(w.x, w.labels) - scores(0 * w.x, w.labels))
    gap = np.abs(summed(jaxplain.explain_batch(e, w.x, w.labels)) - change).max() / np.abs(change).max()
    if not gap < 1e-4:
        raise AssertionError(f"attributions miss the change of score by {gap:.1e} of the largest")
    return f"attributions sum to the change of score to {gap:.0e}"


def quietly(run: Callable[[], Any]) -> Any:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return run()


def captum_programs(w: Work) -> dict[str, list[Program]]:
    if not installed("captum"):
        return {}
    import torch
    from captum.attr import DeepLift, LayerGradCam

    model, (images, wanted) = torch_network(w.variables), torch_batch(w)
    grad_cam, deep_lift = LayerGradCam(model, model[TORCH_LAYER]), DeepLift(model)
    black = torch.zeros_like(images)
    return {
        "grad_cam": [
            Program(
                "captum",
                lambda: grad_cam.attribute(images, target=wanted),
                PEER,
                lambda values: channels_last(values)[..., 0],
            )
        ],
        "deep_lift": [
            Program(
                "captum",
                lambda: quietly(lambda: deep_lift.attribute(images, black, target=wanted)),
                PEER,
                lambda values: summed(values.detach()),
            )
        ],
    }


def grad_cam_programs(w: Work) -> dict[str, list[Program]]:
    if not installed("pytorch_grad_cam"):
        return {}
    import pytorch_grad_cam
    import torch
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.nn.UpsamplingBilinear2d = lambda size: torch.nn.Upsample(size=size, mode="bilinear", align_corners=False)
    model, (images, _) = torch_network(w.variables), torch_batch(w)
    targets = [ClassifierOutputTarget(int(label)) for label in w.labels]

    def program(kind: str) -> list[Program]:
        cam = getattr(pytorch_grad_cam, kind)(model=model, target_layers=[model[TORCH_LAYER]])
        run = lambda: quietly(lambda: cam(input_tensor=images, targets=targets))  # noqa: E731
        return [Program("pytorch-grad-cam", run, PEER, stretched)]

    return {"score_cam": program("ScoreCAM"), "ablation_cam": program("AblationCAM")}


def shap_programs(w: Work, rows: Any) -> dict[str, list[Program]]:
    if not installed("shap"):
        return {}
    import shap

    model, (images, _) = torch_network(w.variables), torch_batch(w)
    background = torch_batch(w._replace(x=rows))[0]

    def run() -> Any:
        values = shap.DeepExplainer(model, background).shap_values(images[:FEW], check_additivity=False)
        return np.stack([values[i, 0, :, :, int(w.labels[i])] for i in range(FEW)])[..., None]

    return {"deep_shap": [Program("shap", run, PEER)]}


def cases(quick: bool) -> list[Case]:
    del quick
    w, rows = work(), jax.random.uniform(jax.random.key(2), (100, 28, 28, 1))
    few = w._replace(x=w.x[:FEW], labels=w.labels[:FEW])
    peers = captum_programs(w) | grad_cam_programs(w) | shap_programs(w, rows)
    channels = 32

    def case(name: str, short: str, ours: Program, bound: Program, tolerance: float, goal: float) -> Case:
        return Case(name, [ours, *peers.get(short, []), bound], tolerance, len(w.x), targets={PEER: 1 / goal})

    def compared(e: Any, result: Any = lambda out: out, w: Work = w) -> Program:
        ours = explained(e, w)
        return Program(ours.name, ours.run, ours.role, result)

    once, twice = passes(w, gradients=1), passes(w, gradients=1, forward=1)
    apart = passes(w, gradients=2, forward=2)  # what rises and what falls go through the layers, too
    grad_cam = jaxplain.grad_cam(w.f, LAYER, relu=False, resize=False)
    shap = jaxplain.deep_shap(w.f, rows, batch_size=100)
    revealed = jaxplain.deep_lift(w.f, rule="reveal_cancel")
    sums = functools.partial(complete, revealed, w)
    return [
        case("Grad-CAM", "grad_cam", compared(grad_cam), once, 1e-4, 1),
        case("DeepLIFT", "deep_lift", compared(jaxplain.deep_lift(w.f), summed), twice, 1e-3, 1),  # and the baseline
        Case("DeepLIFT, RevealCancel", [compared(revealed), apart], examples=len(w.x), prove=sums),
        case(
            "Score-CAM", "score_cam", compared(jaxplain.score_cam(w.f, LAYER), stretched), passes(w, channels), 1e-3, 5
        ),
        case(
            "Ablation-CAM",
            "ablation_cam",
            compared(jaxplain.ablation_cam(w.f, LAYER), stretched),
            passes(w, channels),
            1e-3,
            5,
        ),
        Case(
            f"Deep SHAP, {FEW} images, 100 baselines",
            [compared(shap, w=few), *peers.get("deep_shap", []), passes(few, gradients=100)],
            1e-3,
            FEW,
            targets={PEER: 1 / 5},
        ),
    ]


if __name__ == "__main__":
    script("cam", cases, __doc__ or "")
