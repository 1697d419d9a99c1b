"""Transformers over image patches, vectors or token ids."""

from __future__ import annotations

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxplain import check
from jaxplain.models.parts import ACTIVATIONS, Activation, check_settings, need_images
from jaxplain.program import public
from jaxplain.types import Array


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
        y = nn.Dense(width, name="dense_1")(drop()(ACTIVATIONS[self.activation](y)))
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
            self.token_embedding: nn.Embed = nn.Embed(self.vocabulary, self.width)
        else:
            size = (self.patch, self.patch)
            self.patch_embedding: nn.Conv = nn.Conv(self.width, size, strides=size, padding="VALID")
        if self.pool == "class":
            self.class_token: Array = self.param("class_token", nn.initializers.normal(0.02), (1, 1, self.width))
        self.position: Array = self.param("position", nn.initializers.normal(0.02), (1, self.length, self.width))
        self.block: list[TransformerBlock] = [
            TransformerBlock(self.heads, self.activation, self.dropout) for _ in range(self.depth)
        ]
        self.norm: nn.LayerNorm = nn.LayerNorm()
        self.head: nn.Dense = nn.Dense(self.outputs)

    def embed(self, x: Array) -> Array:
        """Embed ids `[B, T]` or images `[B, H, W, C]` as `[B, T, width]`, without positions."""
        if self.patch is None:
            return self.token_embedding(x)
        need_images(x, "transformer", self.patch)
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
    sizes |= {"outputs": outputs, "length": length, "width": width, "heads": heads}
    check_settings("transformer", activation, dropout, **sizes)
    check.count(depth, "transformer", "depth", least=0)
    check.choice(pool, ("mean", "class"), "transformer", "pool")
    if width % heads:
        raise ValueError(f"transformer: `width` {width} has to be a multiple of `heads` {heads}.")
    return Transformer(outputs, width, depth, heads, length, patch, vocabulary, pool, activation, dropout)
