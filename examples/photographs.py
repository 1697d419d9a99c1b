"""Photographs: a network that knows a thousand classes, and why it names what it names.

EfficientNet-Lite0 in Flax, with the ImageNet weights that a package of the index carries (read without PyTorch), on
pictures that scikit-image and scikit-learn ship. Five explanations are drawn over each picture and judged, and a few of
its channels are shown what they respond to. Expect cats (285, 282, 281) and an espresso (967) with the probabilities
that the published network gives them, maps that lie on the animal and the cup, and Grad-CAM and occlusion, which are
coarse, ahead of the fine ones where whole regions are removed. Integrated gradients need more steps here than on a
small network: what is missing from completeness is printed (`tolerance=` adds steps until it is small).

    pip install jaxplain[photographs]
    python examples/photographs.py [--quick] [--output FOLDER]
"""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
from skimage import transform

import jaxplain

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
    side, size = min(picture.shape[:2]), np.array(picture.shape[:2])
    (top, left) = (size - side) // 2
    cut = picture[top : top + side, left : left + side]
    return ((transform.resize(cut, (224, 224), preserve_range=True, anti_aliasing=True) - 127) / 128).astype(np.float32)


def explanations(f, segments, quick):
    """Name -> map of one picture; what is random is given its key here."""
    key, steps = jax.random.key(0), 32 if quick else 128
    shap = jaxplain.kernel_shap(f, groups=segments, samples=128 if quick else 512, batch_size=32)
    return {
        "integrated gradients": jaxplain.integrated_gradients(f, steps=steps, batch_size=16),
        "Grad-CAM": jaxplain.grad_cam(f, "_bn1"),
        "LRP": jaxplain.lrp(f, jaxplain.relevance.epsilon_plus()),
        "occlusion": jaxplain.occlusion(f, window=48, stride=16, batch_size=32),
        "KernelSHAP": partial(shap, key),
    }
