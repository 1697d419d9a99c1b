"""Perceptrons and convolutional networks.

Every factory returns a Linen module called as `module.apply(params, x, train=False)`, batch first. Submodules carry
names that read well as paths: "CNN/conv_1".
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn

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
