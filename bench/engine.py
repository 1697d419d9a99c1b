"""What reading and rewriting costs: a ResNet's compiled forward pass and gradient, as they are and through the engine.

Each pair is first proved to compute the same numbers; then medians of interleaved runs are timed, compile time apart. A
rewritten program is expected to add no more than 5 % to the run time: names compile to nothing, and one captured layer
is one more output. Last, the time to trace a 12-layer transformer and to list its layers, which is paid once.

    python bench/engine.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.capture import capture, intervene, split
from jaxplain.layers import layers
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


def timed(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def prove_equal(runs: dict[str, Callable[..., Any]], args: tuple[Any, ...]) -> None:
    results = [jax.tree.leaves(run(*args))[0] for run in runs.values()]
    for name, result in zip(runs, results, strict=True):
        np.testing.assert_allclose(result, results[0], rtol=1e-5, atol=1e-6, err_msg=name)


def compare(kind: str, runs: dict[str, Callable[..., Any]], args: tuple[Any, ...], rounds: int) -> None:
    first = {name: timed(lambda run=run: run(*args)) for name, run in runs.items()}
    prove_equal(runs, args)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds):
        order = list(runs.items())
        for name, run in order[index % len(order) :] + order[: index % len(order)]:
            times[name].append(timed(partial(run, *args)))
    plain = statistics.median(next(iter(times.values())))
    print(f"\n{kind:45s}{'compile':>10s}{'median':>12s}{'spread':>20s}{'against plain':>15s}")
    for name, values in times.items():
        median = statistics.median(values)
        spread = f"{1e3 * min(values):.1f} to {1e3 * max(values):.1f}"
        print(f"{name:45s}{first[name]:8.2f} s{1e3 * median:9.2f} ms{spread:>17s} ms{median / plain - 1:+14.1%}")


def tracing() -> None:
    module = transformer(10, width=192, depth=12, heads=3, patch=8)
    x = jax.ShapeDtypeStruct((64, 64, 3), jnp.float32)
    params = jax.eval_shape(module.init, KEY, jax.ShapeDtypeStruct((1, *x.shape), x.dtype))
    f = logit(module.apply, params)
    print(f"\ntracing a transformer of 12 layers: {timed(lambda: jax.eval_shape(f, x, 0) and None):.2f} s as it is")
    print(f"  its table of {len(layers(f)(x, 0))} layers: ", end="")
    jax.clear_caches()
    print(f"{timed(lambda: layers(f)(x, 0) and None):.2f} s, named and traced at two sizes of batch")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the engine against the plain function.")
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 40")
    rounds = 5 if parser.parse_args().quick else 40
    module = resnet(10, widths=(16, 32, 64), depth=2)
    x = jax.random.normal(KEY, (32, 32, 32, 3))
    f = logit(partial(module.apply, train=False), module.init(jax.random.key(1), x))
    for kind, runs in programs(f).items():
        compare(kind, runs, (x, jnp.arange(32) % 10), rounds)
    tracing()


if __name__ == "__main__":
    main()
