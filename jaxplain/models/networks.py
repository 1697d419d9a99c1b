"""Perceptrons, convolutional and residual networks.

Every factory returns a Linen module called as `module.apply(params, x, train=False)`, batch first. Submodules carry
names that read well as paths: "CNN/conv_1", "ResNet/block_3".
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxplain.models.parts import ACTIVATIONS, Activation, check_settings, need_images
from jaxplain.program import public
from jaxplain.types import Array


class MLP(nn.Module):
    """Dense layers on flattened inputs; made by `mlp`."""

    outputs: int
    widths: Sequence[int]
    activation: Activation
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, ...]` to `[B, outputs]`."""
        x = x.reshape(x.shape[0], -1)
        for index, width in enumerate(self.widths):
            x = ACTIVATIONS[self.activation](nn.Dense(width, name=f"dense_{index}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="head")(x)


class CNN(nn.Module):
    """Convolutions with max pooling, then one dense layer; made by `cnn`."""

    outputs: int
    widths: Sequence[int]
    dense: int
    activation: Activation
    dropout: float

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        need_images(x, "cnn", 2 ** len(self.widths))
        activation = ACTIVATIONS[self.activation]
        for index, width in enumerate(self.widths):
            x = activation(nn.Conv(width, (3, 3), name=f"conv_{index}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = activation(nn.Dense(self.dense, name="dense")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="head")(x)


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
def mlp(
    outputs: int, *, widths: Sequence[int] = (64,), activation: Activation = "relu", dropout: float = 0.0
) -> nn.Module:
    """A perceptron with one hidden layer of each width; inputs of any shape are flattened.

    Args:
        outputs: Number of outputs (classes, or 1 for a regression or a binary head); they are logits.
        widths: Units of each hidden layer; their number is the depth.
        activation: "relu" or "gelu" (smooth, so that path integrals converge fast).
        dropout: Fraction of hidden units dropped while training.

    Returns:
        A Linen module: `module.apply(params, x, train=False)` maps `[B, ...]` to `[B, outputs]`.

    Raises:
        ValueError: A size below 1, an unknown activation or a dropout outside [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = mlp(10, widths=(64,))
        >>> params = module.init(jax.random.key(0), jnp.zeros((1, 100)))
        >>> module.apply(params, jnp.zeros((2, 100))).shape
        (2, 10)
    """
    check_settings("mlp", activation, dropout, outputs=outputs, widths=widths)
    return MLP(outputs, tuple(widths), activation, dropout)


@public
def cnn(
    outputs: int,
    *,
    widths: Sequence[int] = (32, 64),
    dense: int = 128,
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """A convolutional network: 3x3 convolution, activation and 2x2 max pooling for each width, then a dense layer.

    Args:
        outputs: Number of outputs; they are logits.
        widths: Channels of each convolution; their number is the depth. Images need sides of 2^depth or more.
        dense: Units of the dense layer before the head.
        activation: "relu" or "gelu".
        dropout: Fraction of the dense layer's units dropped while training.

    Returns:
        A Linen module: `module.apply(params, x, train=False)` maps `[B, H, W, C]` to `[B, outputs]`.

    Raises:
        ValueError: A size below 1, an unknown activation or a dropout outside [0, 1).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = cnn(10, widths=(8, 16), dense=32)
        >>> jax.eval_shape(module.init_with_output, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))[0].shape
        (2, 10)
    """
    check_settings("cnn", activation, dropout, outputs=outputs, widths=widths, dense=dense)
    return CNN(outputs, tuple(widths), dense, activation, dropout)


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
