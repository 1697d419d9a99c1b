"""Residual networks, from three small stages to the fifty layers of the original.

Submodules carry names that read well as paths: "ResNet/block_3/conv_0".
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxplain.models.parts import ACTIVATIONS, Activation, check_settings, need_images
from jaxplain.program import public
from jaxplain.types import Array


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


class ResNet(nn.Module):
    """A residual network with BatchNorm; made by `resnet`."""

    outputs: int
    widths: Sequence[int]
    depth: int
    activation: Activation
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        need_images(x, "resnet", 1)
        x = nn.Conv(self.widths[0], (3, 3), use_bias=False, name="conv_stem")(x)
        x = ACTIVATIONS[self.activation](_norm("norm_stem", train)(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.depth):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"block_{stage * self.depth + block}"
                x = ResidualBlock(width, stride, self.activation, name=name)(x, train)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="head")(x)


def _norm(name: str, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)


@public
def resnet(
    outputs: int,
    *,
    widths: Sequence[int] = (16, 32, 64),
    depth: int = 2,
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """A residual network with BatchNorm: `depth` blocks for each width, halving the sides between widths.

    Its variables hold the collection "batch_stats" besides "params"; training carries both.

    Args:
        outputs: Number of outputs; they are logits.
        widths: Channels of each stage.
        depth: Blocks in a stage; blocks are named "block_0", "block_1", ... through all stages.
        activation: "relu" or "gelu".
        dropout: Fraction of the pooled features dropped while training.

    Returns:
        A Linen module: `module.apply(params, x, train=False)` maps `[B, H, W, C]` to `[B, outputs]`.

    Raises:
        ValueError: A size below 1, an unknown activation or a dropout outside [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = resnet(10, widths=(4, 8), depth=1)
        >>> params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
        >>> sorted(params), [name for name in params["params"] if name.startswith("block")]
        (['batch_stats', 'params'], ['block_0', 'block_1'])

    After He et al. 2016, "Deep Residual Learning for Image Recognition", eq. 1 and 2.
    """
    check_settings("resnet", activation, dropout, outputs=outputs, widths=widths, depth=depth)
    return ResNet(outputs, tuple(widths), depth, activation, dropout)
