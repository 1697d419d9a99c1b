"""What reading and rewriting costs: a ResNet's compiled forward pass and gradient, as they are and through the engine.

A rewritten program is expected to add no more than 5 % to the run time: names compile to nothing, and one captured
layer is one more output. Above, the time to trace a 12-layer transformer and to list its layers, which is paid once.

    python bench/engine.py [--quick]
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # as a script, too

import jax
import jax.numpy as jnp

from bench.harness import OTHER, OURS, PLAIN, Case, Program, script, timed
from jaxplain.explain import explain_batch, gradient
from jaxplain.internals.capture import capture, intervene, split
from jaxplain.internals.layers import layers
from jaxplain.models import resnet, transformer
from jaxplain.score import logit

KEY = jax.random.key(0)
LAYER = "block_2"


def programs(f: Any) -> dict[str, dict[str, Callable[..., Any]]]:
    """By kind of pass: the plain function first, then what the engine makes of it."""
    body, head = split(f, LAYER)
    rewritten = {
        "as it is": f,
        "every value named and replaced by itself": intervene(f, {"*": lambda value: value}),
        f"captured at {LAYER}": lambda x, k: capture(f, LAYER)(x, k)[0],
        f"split at {LAYER} and composed": lambda x, k: head(body(x, k), x, k),
    }
    forward = {name: jax.jit(jax.vmap(g)) for name, g in rewritten.items()}
    gradient = {name: jax.jit(jax.vmap(jax.grad(g))) for name, g in rewritten.items()}
    forward[f"captured at {LAYER}, with its value"] = jax.jit(jax.vmap(capture(f, LAYER)))
    return {"forward": forward, "gradient": gradient}


def tracing() -> str:
    module = transformer(10, width=192, depth=12, heads=3, patch=8)
    x = jax.ShapeDtypeStruct((64, 64, 3), jnp.float32)
    params = jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct((1, *x.shape), x.dtype))
    f = logit(module.apply, params)
    plain = timed(lambda: len(jax.eval_shape(lambda f, x: f(x, 0), f, x).shape))[0]
    jax.clear_caches()
    table, names = timed(lambda: len(layers(f)(x, 0)))
    return (
        f"tracing a transformer of 12 layers: {plain:.2f} s as it is; its table of {names} layers: {table:.2f} s, "
        "named and traced at two sizes of batch"
    )


def cases(quick: bool) -> list[Case]:
    size = 8 if quick else 32
    module = resnet(10, widths=(16, 32, 64), depth=2)
    x, labels = jax.random.normal(KEY, (size, 32, 32, 3)), jnp.arange(size) % 10
    f = logit(partial(module.apply, train=False), jax.jit(module.init)(jax.random.key(1), x))
    found = []
    for kind, runs in programs(f).items():
        (plain, plain_run), *rest = runs.items()
        ordered = [*rest, (plain, plain_run)]
        made = [
            Program(
                name,
                partial(run, x, labels),
                PLAIN if name == plain else OURS if number == 0 else OTHER,
                lambda out: jax.tree.leaves(out)[0],
            )
            for number, (name, run) in enumerate(ordered)
        ]
        prove = tracing if not found else None
        found.append(Case(f"ResNet at 32x32: {kind}", made, 1e-5, size, prove, {PLAIN: 1.05}))
    return [*found, call_of_many_leaves()]


def call_of_many_leaves() -> Case:
    """What a call costs beside its program: a score of no work with 300 parameters, checks of values included."""
    params = {str(number): jnp.ones((2, 2)) for number in range(300)}
    e = gradient(logit(lambda params, x: x @ params["0"], params))
    x, labels = jax.random.normal(KEY, (4, 2)), jnp.arange(4) % 2
    program = jax.jit(lambda e, x, labels: jax.vmap(e)(x, labels))
    made = [
        Program("explain_batch", partial(explain_batch, e, x, labels), OURS),
        Program("its program under jit", partial(program, e, x, labels), PLAIN),
    ]
    return Case("a call with 300 parameter leaves", made, 1e-6, 4, None, {PLAIN: 3.0})


if __name__ == "__main__":
    script("engine", cases, __doc__ or "")
