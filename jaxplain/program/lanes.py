"""A long loop run for one example with the very operations of a batch: one alone gets the bits of one among many.

Backends multiply a matrix by one row with another kernel than by two or more, and sum in another order. In a loop of
hundreds of gradient steps through ReLUs such a difference in the last bit grows until images differ visibly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain.program.compat import evaluate, trace
from jaxplain.types import Pytree


def as_among_others(f: Callable[..., Pytree], *args: Any, batch_size: int | None = None) -> Pytree:
    """f(*args), evaluated as two equal lanes; under `vmap` as the lanes that there are, some at once.

    Args:
        f: A function of pytrees of arrays that returns one.
        *args: Its arguments.
        batch_size: How many lanes are evaluated at once; None for 8 on a CPU, whose caches hold no more, else for all.

    Returns:
        f(*args). Cost: twice that of `f` for one example (less where a batch of two is not twice the work), once under
        `vmap`. Differentiable in reverse mode.
    """
    leaves, structure = jax.tree.flatten(args)
    # What the function closes over may be traced too, and has to come in by the front door.
    program, result = trace(lambda *leaves: f(*jax.tree.unflatten(structure, leaves)), *map(jnp.asarray, leaves))
    count = len(program.constants)
    most = batch_size or (8 if jax.default_backend() == "cpu" else 2**30)

    def plain(*inputs: Any) -> Pytree:
        return jax.tree.unflatten(result, evaluate(program.jaxpr, inputs[:count], inputs[count:]))

    def twice(*inputs: Any) -> Pytree:
        doubled = [jnp.stack([value, value]) for value in inputs]
        return jax.tree.map(lambda out: out[0], jax.vmap(plain)(*doubled))

    alone = jax.custom_batching.custom_vmap(twice)

    @alone.def_vmap
    def lanes(size: int, batched: list[bool], *inputs: Any) -> tuple[Pytree, Any]:
        if size == 1:
            first = [value[0] if one else value for value, one in zip(inputs, batched, strict=True)]
            results = jax.tree.map(lambda out: out[None], twice(*first))
        elif size <= most:
            results = jax.vmap(plain, tuple(0 if one else None for one in batched))(*inputs)
        else:
            rows = [value for value, one in zip(inputs, batched, strict=True) if one]

            def lane(row: list[Any]) -> Pytree:
                supply = iter(row)
                return plain(*(next(supply) if one else value for value, one in zip(inputs, batched, strict=True)))

            results = lax.map(lane, rows, batch_size=_at_once(size, most))
        return results, jax.tree.map(lambda _: True, results)

    # Reverse mode has no rule for a function with a batching rule of its own: it goes through the plain function.
    differentiable = jax.custom_vjp(alone)
    differentiable.defvjp(lambda *inputs: jax.vjp(plain, *inputs), lambda pull, cotangent: pull(cotangent))
    return differentiable(*map(jnp.asarray, (*program.constants, *leaves)))


def _at_once(size: int, most: int) -> int:
    """How many of `size` lanes go together, at most `most`.

    A rest is a second program to compile, and takes as long as the first one; without one it goes if at least half of
    the most go together. No lane is left over alone, since one alone would be summed in another order.
    """
    even = [count for count in range(most, max(1, most // 2), -1) if size % count == 0]
    return next(iter(even), next((count for count in range(most, 2, -1) if size % count != 1), 2))
