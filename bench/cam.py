"""What class activation maps and DeepLIFT cost, beside captum, pytorch-grad-cam and shap on the same weights.

64 images of 28x28 through a network of two convolutions. Each pair is first proved to compute the same (DeepLIFT beside
captum by its sum, since captum shares a max pooling's change otherwise; pytorch-grad-cam's alignment of corners is
switched off for that), then medians of interleaved runs are timed, compile time apart. Expected: Grad-CAM and DeepLIFT
at least as fast as captum, Score-CAM and Ablation-CAM at least 5 times as fast as pytorch-grad-cam, Deep SHAP with 100
baselines at least 5 times as fast as shap. Without the peers their rows are left out.

    python bench/cam.py [--quick]    (torch, captum, grad-cam and shap beside jax)
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

import jaxplain

KEY = jax.random.key(0)
LAYER = "features"


class Net(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.max_pool(nn.relu(nn.Conv(16, (3, 3), name="conv_0")(x)), (2, 2), (2, 2))
        x = checkpoint_name(nn.relu(nn.Conv(32, (3, 3), name="conv_1")(x)), LAYER)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(64, name="dense")(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name="head")(x)


class Pair(NamedTuple):
    """Ours and the peer's: how they are run, what is compared of both, and how many times as fast ours should be."""

    name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    same: Callable[[Any], np.ndarray]
    tolerance: float
    goal: float


def torch_model(variables: Any) -> Any:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_0, self.conv_1 = torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.Conv2d(16, 32, 3, padding=1)
            self.relus = torch.nn.ModuleList(torch.nn.ReLU() for _ in range(3))
            self.pools = torch.nn.ModuleList(torch.nn.MaxPool2d(2) for _ in range(2))
            self.dense, self.head = torch.nn.Linear(7 * 7 * 32, 64), torch.nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = self.pools[0](self.relus[0](self.conv_0(x)))
            x = self.pools[1](self.relus[1](self.conv_1(x)))
            return self.head(self.relus[2](self.dense(x.permute(0, 2, 3, 1).flatten(1))))

    model = Model().eval()
    for name, weights in variables["params"].items():
        kernel = np.asarray(weights["kernel"])
        layer = getattr(model, name)
        layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T).contiguous()
        layer.bias.data = torch.tensor(np.asarray(weights["bias"]))
    return model


def stretched(maps: Any) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def summed(values: Any) -> np.ndarray:
    return np.asarray(values).reshape(len(values), -1).sum(1)


def pairs(f: Any, variables: Any, x: Any, labels: Any, rows: Any) -> list[Pair]:
    import captum
    import pytorch_grad_cam
    import shap
    import torch
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.nn.UpsamplingBilinear2d = lambda size: torch.nn.Upsample(size=size, mode="bilinear", align_corners=False)
    model, images = torch_model(variables), torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    wanted, few = torch.tensor(np.asarray(labels)), 2
    targets = [ClassifierOutputTarget(int(label)) for label in labels]
    background = torch.tensor(np.asarray(rows)).permute(0, 3, 1, 2)

    def run(e: Any, x: Any = x, labels: Any = labels) -> Callable[[], Any]:
        return lambda: jaxplain.explain_batch(e, x, labels)

    def peer_map(kind: str) -> Callable[[], Any]:
        cam = getattr(pytorch_grad_cam, kind)(model=model, target_layers=[model.relus[1]])
        return lambda: quietly(lambda: cam(input_tensor=images, targets=targets))

    def peer_shap() -> Any:
        explainer = shap.DeepExplainer(model, background)
        values = explainer.shap_values(images[:few], check_additivity=False)  # for all classes at once
        return np.stack([values[i, 0, :, :, int(labels[i])] for i in range(few)])

    def to_numpy(values: Any) -> np.ndarray:
        return (values.detach() if hasattr(values, "detach") else np.asarray(values))[..., None].squeeze()

    grad_cam = captum.attr.LayerGradCam(model, model.relus[1])
    deep_lift = captum.attr.DeepLift(model)
    return [
        Pair(
            "grad_cam (captum)",
            run(jaxplain.grad_cam(f, LAYER, relu=False, resize=False)),
            lambda: grad_cam.attribute(images, target=wanted),
            lambda values: np.asarray(to_numpy(values)),
            1e-5,
            1,
        ),
        Pair(
            "deep_lift (captum)",
            run(jaxplain.deep_lift(f)),
            lambda: deep_lift.attribute(images, torch.zeros_like(images), target=wanted),
            lambda values: summed(to_numpy(values)),
            1e-4,
            1,
        ),
        Pair("score_cam (grad-cam)", run(jaxplain.score_cam(f, LAYER)), peer_map("ScoreCAM"), stretched, 1e-3, 5),
        Pair(
            "ablation_cam (grad-cam)", run(jaxplain.ablation_cam(f, LAYER)), peer_map("AblationCAM"), stretched, 1e-3, 5
        ),
        Pair(
            f"deep_shap, {few} images (shap)",
            run(jaxplain.deep_shap(f, rows, batch_size=100), x[:few], labels[:few]),
            peer_shap,
            lambda values: np.asarray(to_numpy(values)),
            1e-4,
            5,
        ),
    ]


def quietly(run: Callable[[], Any]) -> Any:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        return run()


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def compare(pair: Pair, rounds: int) -> None:
    first = timed(pair.ours)
    pair.peer()
    np.testing.assert_allclose(
        pair.same(pair.ours()), pair.same(pair.peer()), atol=pair.tolerance, rtol=1e-3, err_msg=pair.name
    )
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        times["ours"].append(timed(pair.ours))
        times["peer"].append(timed(pair.peer))
    ours, peer = (statistics.median(values) for values in times.values())
    met = "met" if peer / ours >= pair.goal else "missed"
    print(
        f"{pair.name:32s}{first:8.2f} s{1e3 * ours:10.1f} ms{1e3 * peer:10.1f} ms{peer / ours:8.1f} x"
        f"   at least {pair.goal:g}: {met}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time maps and DeepLIFT beside their peers.")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    rounds = 3 if parser.parse_args().quick else 15
    x, rows = (jax.random.uniform(key, (n, 28, 28, 1)) for key, n in zip(jax.random.split(KEY), (64, 100), strict=True))
    variables = jax.tree.map(lambda w: w + 0.02, Net().init(jax.random.key(1), x))
    labels = jnp.arange(64) % 10
    f = jaxplain.logit(Net().apply, variables)
    print(f"{'':32s}{'compile':>10s}{'ours':>13s}{'peer':>13s}{'ratio':>10s}")
    for pair in pairs(f, variables, x, labels, rows):
        compare(pair, rounds)


if __name__ == "__main__":
    main()
