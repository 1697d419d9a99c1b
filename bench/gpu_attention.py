"""Attention as one fused operation and as it is written: the gradient of a ViT-B/16 at 224x224 in bfloat16.

    python -m bench --device gpu --only gpu_attention

On a GPU the fused operation is cuDNN's. Tried on a CPU it is the same mathematics written out, by which nothing is
gained there (four blocks of width 384, float32: 1.00 of the time, 0.83 of the temporary memory).
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


def case(how: str, f: Any, x: Any, y: Any, told: bool) -> Case:
    """The gradient with attentions fused and as written, in turns; `told`: with what the compiler counts."""
    e = jaxplain.gradient(f)

    def run(how: str) -> Any:
        with attention_context(how):
            return jaxplain.explain_batch(e, x, y)

    def prove() -> str:
        return f"fused: {counted(how, e, x, y)}; as written: {counted('off', e, x, y)}"

    programs = [
        Program(f"fused by {how}", lambda: run(how), OURS),
        Program("as written", lambda: run("off"), OTHER),
    ]
    name = f"ViT gradient, {x.dtype.name}, batch of {len(x)}"
    return Case(name, programs, 0.1, len(x), prove if told else None)


def gpu_cases(quick: bool) -> list[Case]:
    """A batch of 32, and the one at which the model is fastest."""
    how = "cudnn" if jax.default_backend() == "gpu" else "xla"
    width, depth, heads, patch, size = (16, 2, 2, 8, 32) if quick else (768, 12, 12, 16, 224)
    module = transformer(CLASSES, patch=patch, width=width, depth=depth, heads=heads)
    params = jax.jit(module.init)(KEY, jnp.zeros((1, size, size, 3)))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    f = jaxplain.logit(functools.partial(module.apply, train=False), params)
    cases = []
    for number, batch in enumerate((2, 4) if quick else (32, 256)):
        x, y = jax.random.normal(KEY, (batch, size, size, 3), jnp.bfloat16), jnp.arange(batch) % CLASSES
        cases.append(case(how, f, x, y, told=number == 0))
    return cases
