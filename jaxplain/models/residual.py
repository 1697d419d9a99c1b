"""Residual networks, from three small stages to the fifty layers of the original.

Submodules carry names that read well as paths: "ResNet/block_3/conv_0".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp

from jaxplain import check
from jaxplain.models.parts import ACTIVATIONS, Activation, check_settings, need_images
from jaxplain.program import public
from jaxplain.types import Array

Stem = Literal["plain", "strided"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, after He et al. 2016 (a projection where shapes change)."""

    width: int
    stride: int
    activation: Activation

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, H, W, C]` to `[B, H/stride, W/stride, width]`."""
        activation = ACTIVATIONS[self.activation]
        strides = (self.stride, self.stride)
        y = nn.Conv(self.width, (3, 3), strides=strides, use_bias=False, name="conv_0")(x)
        y = activation(_norm("norm_0", train)(y))
        y = nn.Conv(self.width, (3, 3), use_bias=False, name="conv_1")(y)
        y = _norm("norm_1", train)(y)
        if x.shape != y.shape:
            x = nn.Conv(self.width, (1, 1), strides=strides, use_bias=False, name="conv_shortcut")(x)
            x = _norm("norm_shortcut", train)(x)
        return activation(x + y)


class BottleneckBlock(nn.Module):
    """A 3x3 convolution between two of 1x1, the last four times as wide, after He et al. 2016, figure 5, right."""

    width: int
    stride: int
    activation: Activation

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, H, W, C]` to `[B, H/stride, W/stride, 4 width]`."""
        activation = ACTIVATIONS[self.activation]
        strides = (self.stride, self.stride)
        y = nn.Conv(self.width, (1, 1), use_bias=False, name="conv_0")(x)
        y = activation(_norm("norm_0", train)(y))
        y = nn.Conv(self.width, (3, 3), strides=strides, padding=1, use_bias=False, name="conv_1")(y)
        y = activation(_norm("norm_1", train)(y))
        y = nn.Conv(4 * self.width, (1, 1), use_bias=False, name="conv_2")(y)
        y = _norm("norm_2", train)(y)
        if x.shape != y.shape:
            x = nn.Conv(4 * self.width, (1, 1), strides=strides, use_bias=False, name="conv_shortcut")(x)
            x = _norm("norm_shortcut", train)(x)
        return activation(x + y)


class ResNet(nn.Module):
    """A residual network with BatchNorm; made by `resnet`."""

    outputs: int
    widths: Sequence[int]
    depth: Sequence[int]
    activation: Activation
    dropout: float
    bottleneck: bool
    stem: Stem

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        need_images(x, "resnet", 1)
        x = self._stem(x, train)
        block, number = BottleneckBlock if self.bottleneck else ResidualBlock, 0
        for stage, (width, depth) in enumerate(zip(self.widths, self.depth, strict=True)):
            for place in range(depth):
                stride = 2 if stage > 0 and place == 0 else 1
                x = block(width, stride, self.activation, name=f"block_{number}")(x, train)
                number += 1
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="head")(x)

    def _stem(self, x: Array, train: bool) -> Array:
        strided = self.stem == "strided"
        size: dict[str, Any] = (
            {"kernel_size": (7, 7), "strides": (2, 2), "padding": 3} if strided else {"kernel_size": (3, 3)}
        )
        x = nn.Conv(self.widths[0], use_bias=False, name="conv_stem", **size)(x)
        x = ACTIVATIONS[self.activation](_norm("norm_stem", train)(x))
        return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))) if strided else x


def _norm(name: str, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)


@public
def resnet(
    outputs: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    depth: int | Sequence[int] = 2,
    activation: Activation = "relu",
    dropout: float = 0.0,
    bottleneck: bool = False,
    stem: Stem = "plain",
) -> nn.Module:
    """A residual network with BatchNorm: `depth` blocks for each width, halving the sides between widths.

    `resnet(1000, widths=(64, 128, 256, 512), depth=(3, 4, 6, 3), bottleneck=True, stem="strided")` is ResNet-50: 25.6
    million parameters, 8.2 billion operations (4.1 billion multiplications with their additions) for an image of
    224x224. Its variables hold the collection "batch_stats" besides "params"; training carries both.

    Args:
        outputs: Number of outputs; they are logits.
        widths: Channels of each stage.
        depth: Blocks in a stage, one number or one for each width; blocks are named "block_0", "block_1", ... through
            all stages.
        activation: "relu" or "gelu".
        dropout: Fraction of the pooled features dropped while training.
        bottleneck: Whether a block is 1x1, 3x3 and 1x1 convolutions, the last of four times the width, and not two
            of 3x3.
        stem: "plain" is one 3x3 convolution; "strided" is one of 7x7 and an overlapping 3x3 max pooling, each of which
            halves the sides, for photographs.

    Returns:
        A Linen module: `module.apply(params, x, train=False)` maps `[B, H, W, C]` to `[B, outputs]`.

    Raises:
        ValueError: A size below 1, a `depth` of another length than `widths`, an unknown activation or stem, a dropout
            outside [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = resnet(10, widths=(4, 8), depth=1)
        >>> params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> sorted(params), [name for name in params["params"] if name.startswith("block")]
        (['batch_stats', 'params'], ['block_0', 'block_1'])

    After He et al. 2016, "Deep Residual Learning for Image Recognition", eq. 1 and 2, and table 1 for
    the fifty layers (whose stride is in the 3x3 convolution here, as in most published weights).
    """
    check_settings("resnet", activation, dropout, outputs=outputs, widths=widths, depth=depth)
    check.choice(stem, get_args(Stem), "resnet", "stem")
    depths = (depth,) * len(widths) if isinstance(depth, int) else tuple(depth)
    if len(depths) != len(widths):
        raise ValueError(f"resnet: `depth` has {len(depths)} numbers, but there are {len(widths)} widths.")
    return ResNet(outputs, tuple(widths), depths, activation, dropout, bottleneck, stem)
