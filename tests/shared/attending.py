"""A small transformer as a plain function of embeddings `[T, D]`, with weights that a test can set."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def weights(key: Any, depth: int, width: int, heads: int, inner: int, dtype: Any = jnp.float32) -> list[dict[str, Any]]:
    """Random weights of each block."""
    made = []
    for block in range(depth):
        shapes = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width)}
        shapes |= {"up": (width, inner), "gate": (width, inner), "down": (inner, width)}
        keys = jax.random.split(jax.random.fold_in(key, block), len(shapes))
        made.append(
            {n: jax.random.normal(k, s, dtype) / s[0] ** 0.5 for (n, s), k in zip(shapes.items(), keys, strict=True)}
        )
    return made


def normalized(x: Any) -> Any:
    """RMSNorm without a scale."""
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def attention(x: Any, p: dict[str, Any], heads: int, causal: bool = True) -> Any:
    """Multi-head attention `[T, D] -> [T, D]`."""
    q, k, v = (jnp.reshape(x @ p[name], (len(x), heads, -1)) for name in "qkv")
    logits = jnp.einsum("thd,shd->hts", q, k) / q.shape[-1] ** 0.5
    if causal:
        logits = jnp.where(jnp.tril(jnp.ones(logits.shape[-2:], bool)), logits, -jnp.inf)
    return jnp.einsum("hts,shd->thd", jax.nn.softmax(logits, axis=-1), v).reshape(x.shape) @ p["o"]


def blocks(x: Any, params: list[dict[str, Any]], heads: int, causal: bool = True, norm: Any = normalized) -> Any:
    """The residual stream behind all blocks."""
    for number, p in enumerate(params):
        with jax.named_scope(f"block_{number}"):
            with jax.named_scope("attention"):
                mixed = attention(norm(x), p, heads, causal)
            x = x + mixed
            with jax.named_scope("mlp"):
                y = norm(x)
                inner = (jax.nn.silu(y @ p["gate"]) * (y @ p["up"])) @ p["down"]
            x = x + inner
    return x
