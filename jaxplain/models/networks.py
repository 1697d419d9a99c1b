"""Small Flax models of four families, and `from_nnx`, which makes a model written in NNX a pure function.

Every factory returns a Linen module called as `module.apply(params, x, train=False)`, batch first. Submodules carry
names that read well as paths: "CNN/conv_1", "ResNet/block_3", "Transformer/block_0/attention".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import public
from jaxplain.types import Array

Activation = Literal["relu", "gelu"]
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}


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
            x = _ACTIVATIONS[self.activation](nn.Dense(width, name=f"dense_{index}")(x))
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
        _need_images(x, "cnn", 2 ** len(self.widths))
        activation = _ACTIVATIONS[self.activation]
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
        activation = _ACTIVATIONS[self.activation]
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
        _need_images(x, "resnet", 1)
        x = nn.Conv(self.widths[0], (3, 3), use_bias=False, name="conv_stem")(x)
        x = _ACTIVATIONS[self.activation](_norm("norm_stem", train)(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.depth):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"block_{stage * self.depth + block}"
                x = ResidualBlock(width, stride, self.activation, name=name)(x, train)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.outputs, name="head")(x)


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a LayerNorm and a residual connection."""

    heads: int
    activation: Activation
    dropout: float

    @nn.compact
    def __call__(self, x: Array, mask: Array | None, train: bool = False) -> Array:
        """Map `[B, T, D]` to `[B, T, D]`; tokens that `mask` `[B, 1, 1, T]` leaves out are attended by none."""
        width = x.shape[-1]
        drop = functools.partial(nn.Dropout, self.dropout, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            num_heads=self.heads, dropout_rate=self.dropout, deterministic=not train, name="attention"
        )
        x = x + drop()(attention(nn.LayerNorm(name="norm_0")(x), mask=mask))
        y = nn.Dense(4 * width, name="dense_0")(nn.LayerNorm(name="norm_1")(x))
        y = nn.Dense(width, name="dense_1")(drop()(_ACTIVATIONS[self.activation](y)))
        return x + drop()(y)


class Transformer(nn.Module):
    """An encoder over image patches or token ids; made by `transformer`."""

    outputs: int
    width: int
    depth: int
    heads: int
    length: int
    patch: int | None
    vocabulary: int | None
    pool: Literal["mean", "class"]
    activation: Activation
    dropout: float

    def setup(self) -> None:
        """Make the submodules (not compact, so that `embed` can be called by itself)."""
        if self.patch is None:
            self.token_embedding = nn.Embed(self.vocabulary, self.width)
        else:
            size = (self.patch, self.patch)
            self.patch_embedding = nn.Conv(self.width, size, strides=size, padding="VALID")
        if self.pool == "class":
            self.class_token = self.param("class_token", nn.initializers.normal(0.02), (1, 1, self.width))
        self.position = self.param("position", nn.initializers.normal(0.02), (1, self.length, self.width))
        self.block = [TransformerBlock(self.heads, self.activation, self.dropout) for _ in range(self.depth)]
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(self.outputs)

    def embed(self, x: Array) -> Array:
        """Embed ids `[B, T]` or images `[B, H, W, C]` as `[B, T, width]`, without positions."""
        if self.patch is None:
            return self.token_embedding(x)
        _need_images(x, "transformer", self.patch)
        tokens = self.patch_embedding(x)
        return tokens.reshape(tokens.shape[0], -1, self.width)

    def __call__(self, x: Array, mask: Array | None = None, train: bool = False) -> Array:
        """Map ids `[B, T]`, embeddings `[B, T, width]` (with `mask`) or images `[B, H, W, C]` to `[B, outputs]`."""
        tokens, mask = self._tokens(x, mask)
        if tokens.shape[1] > self.length:
            raise ValueError(
                f"transformer: {tokens.shape[1]} tokens came, but the model has positions for {self.length}. Build it "
                "with a larger `length`, or cut the input."
            )
        tokens = tokens + self.position[:, : tokens.shape[1]]
        if self.pool == "class":
            first = jnp.broadcast_to(self.class_token, (tokens.shape[0], 1, self.width)).astype(tokens.dtype)
            tokens = jnp.concatenate([first, tokens], axis=1)
            mask = mask if mask is None else jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)
        for block in self.block:
            tokens = block(tokens, None if mask is None else mask[:, None, None, :], train)
        tokens = self.norm(tokens)
        return self.head(tokens[:, 0] if self.pool == "class" else _masked_mean(tokens, mask))

    def _tokens(self, x: Array, mask: Array | None) -> tuple[Array, Array | None]:
        if self.patch is not None:
            if mask is not None:
                raise ValueError("transformer: `mask` is for token ids and embeddings; a model of patches takes none.")
            return self.embed(x), None
        if jnp.issubdtype(x.dtype, jnp.integer) and x.ndim == 2:
            return self.embed(x), _checked_mask(x != 0 if mask is None else mask, x.shape)
        if x.ndim != 3 or x.shape[-1] != self.width or mask is None:
            raise ValueError(
                f"transformer: got x of shape {x.shape} and dtype {x.dtype} and {'no' if mask is None else 'a'} mask. "
                f"Pass integer ids [B, T], or embeddings [B, T, {self.width}] (from `method='embed'`) with the mask "
                "[B, T] of the real tokens, which embeddings do not show."
            )
        return x, _checked_mask(mask, x.shape[:2])


def _checked_mask(mask: Array, shape: tuple[int, ...]) -> Array:
    if jnp.shape(mask) != shape:
        raise ValueError(f"transformer: `mask` has shape {jnp.shape(mask)}, but the tokens have {shape}.")
    return jnp.asarray(mask, bool)


def _masked_mean(tokens: Array, mask: Array | None) -> Array:
    """The mean over the real tokens; 0 where there are none."""
    if mask is None:
        return jnp.mean(tokens, axis=1)
    real = mask[..., None].astype(tokens.dtype)
    return jnp.sum(jnp.where(mask[..., None], tokens, 0), axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)


def _norm(name: str, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)


def _need_images(x: Array, name: str, multiple: int) -> None:
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}; images are [B, H, W, C] (grey ones with C = 1).")
    if min(x.shape[1:3]) < multiple or (name == "transformer" and (x.shape[1] % multiple or x.shape[2] % multiple)):
        what = "sides that are multiples of the patch" if name == "transformer" else "sides of at least 2 per pooling"
        raise ValueError(f"{name}: images of {x.shape[1]}x{x.shape[2]} pixels do not fit; {what} ({multiple}) do.")


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
    _settings("mlp", activation, dropout, outputs=outputs, widths=widths)
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
    _settings("cnn", activation, dropout, outputs=outputs, widths=widths, dense=dense)
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
    _settings("resnet", activation, dropout, outputs=outputs, widths=widths, depth=depth)
    return ResNet(outputs, tuple(widths), depth, activation, dropout)


@public
def transformer(
    outputs: int,
    *,
    patch: int | None = None,
    vocabulary: int | None = None,
    length: int = 256,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    pool: Literal["mean", "class"] = "mean",
    activation: Activation = "gelu",
    dropout: float = 0.0,
) -> nn.Module:
    """A transformer encoder over square patches of an image (`patch=`) or over token ids (`vocabulary=`).

    Token id 0 is padding: it is attended by no token and left out of the pooling, so that right padding changes
    nothing of the output. `module.apply(params, ids, method="embed")` gives the embeddings `[B, T, width]` without
    positions, and `module.apply(params, embeddings, mask)` runs the rest (positions are added there), which is where
    gradient methods attach: `x` are the embeddings, the baseline is the embedding of id 0, positions stay.

    Args:
        outputs: Number of outputs; they are logits.
        patch: Side of a patch in pixels; images `[B, H, W, C]` with sides that are its multiples.
        vocabulary: Number of token ids, padding included; ids `[B, T]`.
        length: Most tokens (or patches) of an example; one learned position each.
        width: Features of a token; a multiple of `heads`.
        depth: Number of blocks, named "block_0", "block_1", ...
        heads: Attention heads.
        pool: "mean" over the real tokens, or "class": a learned first token.
        activation: "gelu" or "relu".
        dropout: Fraction dropped in attention and after each layer while training.

    Returns:
        A Linen module: `module.apply(params, x, mask=None, train=False)` gives `[B, outputs]`.

    Raises:
        ValueError: Both or neither of `patch` and `vocabulary`, or a setting out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> module = transformer(2, vocabulary=100, width=16, depth=1, heads=2)
        >>> ids = jnp.array([[5, 7, 0, 0]])
        >>> params = module.init(jax.random.key(0), ids)
        >>> tokens = module.apply(params, ids, method="embed")
        >>> tokens.shape, bool(jnp.allclose(module.apply(params, ids), module.apply(params, tokens, ids != 0)))
        ((1, 4, 16), True)

    After Vaswani et al. 2017, "Attention Is All You Need", eq. 1; patches after Dosovitskiy et al. 2021, eq. 1 to 4.
    """
    sizes = {"patch": patch} if patch is not None else {"vocabulary": vocabulary}
    if (patch is None) == (vocabulary is None):
        raise ValueError("transformer: pass either `patch` (for images) or `vocabulary` (for token ids).")
    _settings("transformer", activation, dropout, outputs=outputs, length=length, width=width, heads=heads, **sizes)
    check.count(depth, "transformer", "depth", least=0)
    check.choice(pool, ("mean", "class"), "transformer", "pool")
    if width % heads:
        raise ValueError(f"transformer: `width` {width} has to be a multiple of `heads` {heads}.")
    return Transformer(outputs, width, depth, heads, length, patch, vocabulary, pool, activation, dropout)


def _settings(name: str, activation: str, dropout: float, **sizes: Any) -> None:
    for argument, size in sizes.items():
        for value in size if isinstance(size, Sequence) else (size,):
            check.count(value, name, argument)
        if isinstance(size, Sequence) and not size:
            raise ValueError(f"{name}: `{argument}` is empty; give at least one width.")
    check.choice(activation, tuple(_ACTIVATIONS), name, "activation")
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: `dropout` has to lie in [0, 1), not {dropout}.")
