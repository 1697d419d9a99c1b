"""A long loop run for one example with the very operations of a batch: one alone gets the bits of one among many.

Backends multiply a matrix by a few rows with another kernel than by many, and sum in another order. In a loop of
hundreds of gradient steps such a difference in the last bit grows until images differ visibly. So on a CPU the same
number of lanes always goes together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from jaxplain.program.trace import evaluate, trace
from jaxplain.types import Pytree

FEWEST = 4
"""Lanes that go together, at least; on a CPU at most as well. (Its caches hold few, so that eight are no faster.)"""


def as_among_others(f: Callable[..., Pytree], shared: Any, *args: Any, batch_size: int | None = None) -> Pytree:
    """f(shared, *args), evaluated as four equal lanes; under `vmap` as the lanes that there are, some at once.

    Args:
        f: A function of pytrees of arrays that returns one.
        shared: An argument that the lanes of one alone have in common, as they do those of a batch (parameters).
        *args: Its other arguments.
        batch_size: How many lanes are evaluated at once, four at least; None for four on a CPU, for all elsewhere.

    Returns:
        f(shared, *args). Cost: up to four times that of `f` for one example, under `vmap` once, and up to as much again
        for a few. Differentiable in reverse mode.
    """
    own = len(jax.tree.leaves(args))
    leaves, structure = jax.tree.flatten((shared, *args))
    # What the function closes over may be traced too, and has to come in by the front door.
    program, result = trace(lambda *leaves: f(*jax.tree.unflatten(structure, leaves)), *map(jnp.asarray, leaves))
    count = len(program.constants)
    most = max(FEWEST, batch_size or (FEWEST if jax.default_backend() == "cpu" else 2**30))

    def plain(*inputs: Any) -> Pytree:
        return jax.tree.unflatten(result, evaluate(program.jaxpr, inputs[:count], inputs[count:]))

    def several(*inputs: Any) -> Pytree:
        common = len(inputs) - own
        rows = [jnp.stack([value] * FEWEST) for value in inputs[common:]]
        together = jax.vmap(plain, (None,) * common + (0,) * own)(*inputs[:common], *rows)
        return jax.tree.map(lambda out: out[0], together)

    alone = jax.custom_batching.custom_vmap(several)

    @alone.def_vmap
    def lanes(size: int, batched: list[bool], *inputs: Any) -> tuple[Pytree, Any]:
        count = _at_once(size, most)
        places = jnp.minimum(jnp.arange(-(-size // count) * count), size - 1)
        rows = [value[places] for value, one in zip(inputs, batched, strict=True) if one]

        def lane(row: list[Any]) -> Pytree:
            supply = iter(row)
            return plain(*(next(supply) if one else value for value, one in zip(inputs, batched, strict=True)))

        results = jax.vmap(lane)(rows) if len(places) == count else lax.map(lane, rows, batch_size=count)
        results = jax.tree.map(lambda out: out[:size], results)
        return results, jax.tree.map(lambda _: True, results)

    # Reverse mode has no rule for a function with a batching rule of its own: it goes through the plain function.
    differentiable = jax.custom_vjp(alone)
    differentiable.defvjp(lambda *inputs: jax.vjp(plain, *inputs), lambda pull, cotangent: pull(cotangent))
    return differentiable(*map(_unfolded, (*program.constants, *leaves)))


def _at_once(size: int, most: int) -> int:
    """How many of `size` lanes go together, at most `most`: what leaves the fewest places to fill up, then the most.

    A rest of other size would be a second program to compile, and a small one would be summed in another order.
    """
    if size <= most:
        return max(size, FEWEST)
    return min(range(most, max(FEWEST, most // 2) - 1, -1), key=lambda count: -size % count)


def _unfolded(value: Any) -> Any:
    """`value`, of which the compiler does not know that it is a constant.

    XLA folds past its own optimization barriers on a CPU, which expands them first; what has to lie in memory in a
    certain way it leaves alone.
    """
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return value
    return with_layout_constraint(value, Layout(tuple(range(value.ndim))))
