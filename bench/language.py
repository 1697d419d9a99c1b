"""Speed at language models: patching every position of every layer, and attribution of generated text.

A GPT of 12 layers of random weights (LayerNorm, learnt positions). The sweep patches what each layer leaves in the
residual stream, one position at a time, from a clean run into a corrupt one: by one program, by a Python loop of
compiled runs of the same model, and by TransformerLens' loop over hooks, on the same weights. The generated text of 32
prompts of different lengths is explained by gradients: by `explain_generation`, and by a loop that compiles a gradient
for each length that it meets.

    python bench/language.py [--quick]
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from bench.harness import OURS, PEER, PLAIN, Case, Program, installed, script
from jaxplain import language


@dataclasses.dataclass(frozen=True)
class Size:
    """A model: its layers, the width of its stream, heads, tokens, vocabulary."""

    layers: int = 12
    width: int = 256
    heads: int = 8
    tokens: int = 48
    words: int = 512


def weights(size: Size) -> dict[str, Any]:
    """Random weights, biases and scales."""
    rng, shapes = np.random.default_rng(0), {"embed": (size.words, size.width), "position": (size.tokens, size.width)}
    shapes |= {"unembed": (size.width, size.words), "end": (size.width,), "end_shift": (size.width,)}
    names = {"q": 1, "k": 1, "v": 1, "o": 1, "up": 4}
    block = {name: (size.width, many * size.width) for name, many in names.items()} | {
        "down": (4 * size.width, size.width)
    }
    block |= {f"{name}_bias": (shape[1],) for name, shape in block.items()}
    block |= dict.fromkeys(("first", "first_shift", "second", "second_shift"), (size.width,))

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        scale = 0.1 if len(shape) == 1 else shape[0] ** -0.5 if name not in ("embed", "position") else 0.5
        return (rng.normal(size=shape) * scale + (name in ("first", "second", "end"))).astype(np.float32)

    params: dict[str, Any] = {name: draw(name, shape) for name, shape in shapes.items()}
    return {**params, "blocks": [{n: draw(n, s) for n, s in block.items()} for _ in range(size.layers)]}


def normalized(x: Any, scale: Any, shift: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
    return centred / spread * scale[None, None] + shift[None, None]


def layer(x: Any, p: dict[str, Any], heads: int) -> Any:
    """One block `[B, T, D] -> [B, T, D]`."""

    def linear(y: Any, name: str) -> Any:
        return y @ p[name] + p[f"{name}_bias"][None, None]

    y = normalized(x, p["first"], p["first_shift"])
    q, k, v = (linear(y, name).reshape(*y.shape[:2], heads, -1) for name in "qkv")
    logits = jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5
    causal = jnp.tril(jnp.ones(logits.shape[-2:], bool))
    patterns = jax.nn.softmax(jnp.where(causal[None, None], logits, -jnp.inf))
    x = x + linear(jnp.einsum("bhts,bshd->bthd", patterns, v).reshape(x.shape), "o")
    y = normalized(x, p["second"], p["second_shift"])
    return x + linear(jax.nn.gelu(linear(y, "up")), "down")


def gpt(params: Any, ids: Any, heads: int, keep: Callable[[int, Any], Any] = lambda number, x: x) -> Any:
    """Logits `[B, T, K]` of ids `[B, T]`; `keep` may replace what a layer leaves."""
    x = params["embed"][ids] + params["position"][None, : ids.shape[1]]
    for number, p in enumerate(params["blocks"]):
        with jax.named_scope(f"block_{number}"):
            x = layer(x, p, heads)
        x = keep(number, x)
    return normalized(x, params["end"], params["end_shift"]) @ params["unembed"]


def patching(size: Size) -> Case:
    """Every layer and position, of the last token's logit."""
    params, rng = jax.tree.map(jnp.asarray, weights(size)), np.random.default_rng(1)
    clean, corrupt = (jnp.asarray(rng.integers(0, size.words, size.tokens), jnp.int32) for _ in range(2))
    where, target = size.tokens - 1, 3
    f = language.token_logit(functools.partial(gpt, heads=size.heads), params)
    names = [f"block_{number}" for number in range(size.layers)]  # "block_*" is all that is inside of them, too
    swept = jax.jit(language.sweep(f, names, axes=0, batch_size=size.tokens))

    @jax.jit
    def held(params: Any, ids: Any) -> Any:
        found: list[Any] = []
        gpt(params, ids[None], size.heads, lambda number, x: found.append(x) or x)
        return jnp.stack(found)

    @jax.jit
    def patched(params: Any, ids: Any, kept: Any, number: Any, position: Any) -> Any:
        chosen = (jnp.arange(size.tokens) == position)[None, :, None]
        put = lambda own, x: jnp.where((own == number) & chosen, kept[own], x)  # noqa: E731
        return gpt(params, ids[None], size.heads, put)[0, where, target]

    def loop() -> Any:
        kept, before = held(params, clean), patched(params, corrupt, held(params, corrupt), 0, 0)
        places = [(number, position) for number in range(size.layers) for position in range(size.tokens)]
        found = [patched(params, corrupt, kept, *place) - before for place in places]
        return jnp.stack(found).reshape(size.layers, size.tokens)

    def ours() -> Any:
        found = swept(clean, corrupt, where, target)
        return jnp.stack([found[name] for name in names])

    programs = [Program("sweep", ours, OURS), Program("Python loop of compiled runs", loop, PLAIN)]
    prove = None
    if installed("transformer_lens"):
        from bench import language_peers

        peer = language_peers.Peer(params, size.heads)
        run = lambda: peer.sweep(np.asarray(clean), np.asarray(corrupt), where, target)  # noqa: E731
        programs.append(Program("TransformerLens, a loop over hooks", run, PEER, most=3))

        def prove() -> str:
            apart = np.abs(peer.logits(np.asarray(clean)) - gpt(params, clean[None], size.heads)[0]).max()
            assert apart < 1e-4 * size.width, apart
            return f"equal models: logits agree with TransformerLens to {apart:.1e}"

    title = f"patching {size.layers} layers x {size.tokens} positions"
    return Case(title, programs, 1e-3, size.layers * size.tokens, prove, {PLAIN: 1.0, PEER: 1.0})


def generated(size: Size, count: int = 32) -> Case:
    """The tokens that were generated for prompts of different lengths."""
    params, rng = jax.tree.map(jnp.asarray, weights(size)), np.random.default_rng(2)
    longest = size.tokens - 4
    lengths = rng.permutation(np.linspace(longest // 4, longest, count).astype(int))
    prompts = [rng.integers(0, size.words, length).tolist() for length in lengths]
    continuations = [rng.integers(0, size.words, 4).tolist() for _ in lengths]

    def explained(params: Any) -> list[Any]:
        score = language.token_log_probability(functools.partial(gpt, heads=size.heads), params)
        return language.explain_generation(
            jaxplain.input_x_gradient, score, prompts, continuations, longest=size.tokens
        )

    @jax.jit
    def one(params: Any, ids: Any, position: Any, token: Any) -> Any:
        def of_rows(rows: Any) -> Any:
            x = rows[None] + params["position"][None, : len(ids)]
            for p in params["blocks"]:
                x = layer(x, p, size.heads)
            logits = normalized(x, params["end"], params["end_shift"]) @ params["unembed"]
            return jax.nn.log_softmax(logits[0, position])[token]

        rows = params["embed"][ids]
        return (jax.grad(of_rows)(rows) * rows).sum(-1)

    def loop() -> list[Any]:
        found = []
        for prompt, tokens in zip(prompts, continuations, strict=True):
            ids = jnp.asarray(prompt + tokens[:-1])
            found.append(jnp.stack([one(params, ids, len(prompt) - 1 + t, k) for t, k in enumerate(tokens)]))
        return found

    def prove() -> str:
        programs = compilations(lambda: explained(params))
        again = compilations(lambda: explained(jax.tree.map(lambda leaf: leaf * 1.01, params)))
        assert programs <= 3, programs
        assert not again, again
        return f"{programs} compilations for {count} prompts of {len(set(lengths))} lengths, {again} with other weights"

    programs = [
        Program("explain_generation", lambda: explained(params), OURS),
        Program("a compiled gradient for each length", loop, PLAIN),
    ]
    return Case(f"generated text of {count} prompts", programs, 1e-3, count, prove, {PLAIN: 1.0})


def compilations(run: Callable[[], Any]) -> int:
    """How many programs of `explain_generation` a call compiles."""
    from jaxplain.explain.language.generation import _program

    before = _program.plain._cache_size()
    jax.block_until_ready(run())
    return int(_program.plain._cache_size() - before)


def cases(quick: bool) -> list[Case]:
    size = Size(layers=12, width=64, heads=4, tokens=24, words=64) if quick else Size()
    return [patching(size), generated(size)]


if __name__ == "__main__":
    script("language", cases, __doc__ or "")
