"""A small causal transformer of plain JAX operations, and the numbers that its tests compare with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

VOCABULARY, WIDTH, LENGTH = 11, 8, 64


def parameters(key: int = 0, depth: int = 1, length: int = LENGTH, scale: float = 0.5) -> Any:
    """Weights of a decoder: embeddings, positions, blocks of one head and a perceptron, an unembedding."""
    draws = iter(jax.random.split(jax.random.key(key), 3 + 6 * depth))

    def draw(*shape: int) -> Any:
        return scale * jax.random.normal(next(draws), shape)

    shapes = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "o": (WIDTH, WIDTH)}
    shapes |= {"up": (WIDTH, 2 * WIDTH), "down": (2 * WIDTH, WIDTH)}
    return {
        "embed": draw(VOCABULARY, WIDTH),
        "position": draw(length, WIDTH),
        "unembed": draw(WIDTH, VOCABULARY),
        "blocks": [{name: draw(*shape) for name, shape in shapes.items()} for _ in range(depth)],
    }


def decoder(params: Any, ids: Any) -> Any:
    """Logits `[B, T, K]` of ids `[B, T]`, each position from itself and those before."""
    return behind_embedding(params, params["embed"][ids])


def behind_embedding(params: Any, h: Any) -> Any:
    """The same from the rows of the embedding `[B, T, D]`."""
    length = h.shape[1]
    h = h + params["position"][None, :length]
    causal = jnp.tril(jnp.ones((length, length), bool))[None]
    for block in params["blocks"]:
        q, k, v = (h @ block[name] for name in "qkv")
        scores = jnp.where(causal, q @ k.swapaxes(1, 2) / WIDTH**0.5, -1e9)
        h = h + jax.nn.softmax(scores) @ v @ block["o"]
        h = h + jax.nn.gelu(h @ block["up"]) @ block["down"]
    return h @ params["unembed"]
