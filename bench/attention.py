"""Attention as one fused operation and as it is written: a ViT-B/16 at 224x224, its gradient and its forward passes.

    python -m bench --device gpu --only attention

On a GPU the fused operation is cuDNN's. On a CPU it is the same mathematics written out, which nothing is gained by:
the row is there to show that leaving attentions alone is right.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

import jaxplain
from bench.harness import OTHER, OURS, Case, Program
from jaxplain.models import transformer
from jaxplain.program.trace import attention_context

KEY = jax.random.key(0)
CLASSES = 1000


def counted(how: str | None, e: Any, x: Any, y: Any) -> str:
    """Instructions and temporary bytes of the compiled program."""

    def call(e: Any, x: Any, y: Any) -> Any:
        return jaxplain.explain_batch(e, x, y, values=False)

    with attention_context(how):
        compiled = jax.jit(call).lower(e, x, y).compile()
    lines = [line for line in compiled.as_text().splitlines() if " = " in line]
    kernels = sum("custom-call(" in line and "fmha" in line for line in lines)
    memory = compiled.memory_analysis()
    size = "unknown" if memory is None else f"{memory.temp_size_in_bytes / 2**20:.0f} MB"
    return f"{len(lines)} instructions, {kernels} of them fused attentions, {size} of temporary memory"


def case(how: str, name: str, e: Any, x: Any, y: Any) -> Case:
    """A method with attentions fused and as written, in turns."""

    def run(how: str) -> Any:
        with attention_context(how):
            return jaxplain.explain_batch(e, x, y)

    def prove() -> str:
        return f"fused: {counted(how, e, x, y)}; as written: {counted('off', e, x, y)}"

    programs = [
        Program(f"fused by {how}", lambda: run(how), OURS),
        Program("as written", lambda: run("off"), OTHER),
    ]
    tolerance = 0.1 if x.dtype == jnp.bfloat16 else 1e-3
    return Case(f"{name}, {x.dtype.name}, batch of {len(x)}", programs, tolerance, len(x), prove)


def made(how: str, sizes: dict[str, int], size: int, batches: list[int], dtype: Any) -> list[Case]:
    module = transformer(CLASSES, **sizes)
    params = jax.jit(module.init)(KEY, jnp.zeros((1, size, size, 3)))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    f = jaxplain.logit(functools.partial(module.apply, train=False), params)
    found = []
    for batch in batches:
        x, y = jax.random.normal(KEY, (batch, size, size, 3), dtype), jnp.arange(batch) % CLASSES
        found.append(case(how, "ViT gradient", jaxplain.gradient(f), x, y))
    x, y = x[: batches[0]], y[: batches[0]]
    return [*found, case(how, "ViT occlusion", jaxplain.occlusion(f, window=size // 4), x, y)]


def cases(quick: bool) -> list[Case]:
    """A CPU, where the fused form is only written in another way."""
    if quick:
        return made("xla", {"patch": 8, "width": 16, "depth": 2, "heads": 2}, 32, [2], jnp.float32)
    return made("xla", {"patch": 16, "width": 384, "depth": 4, "heads": 6}, 224, [4], jnp.float32)


def gpu_cases(quick: bool) -> list[Case]:
    """A GPU, where it is cuDNN's; ViT-B/16 of 196 tokens."""
    how = "cudnn" if jax.default_backend() == "gpu" else "xla"
    if quick:
        return made(how, {"patch": 8, "width": 16, "depth": 2, "heads": 2}, 32, [2, 4], jnp.bfloat16)
    return made(how, {"patch": 16, "width": 768, "depth": 12, "heads": 12}, 224, [32, 256], jnp.bfloat16)
