"""A trial of a fused attention while its program is traced: on random inputs it gives what is written.

Which steps are an attention is known from what they are. The trial is there for what cannot be known so, such as a
library of kernels that refuses a shape, or takes it and computes another thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program.fast.attention.axes import flat
from jaxplain.program.fast.attention.kernel import Implementation
from jaxplain.program.fast.attention.opened import Value
from jaxplain.program.fast.attention.region import Region, differentiable

LARGEST = 2**24
"""The most scores of an attention that is tried."""

CLOSE = 16
"""How far (norm of the difference over norm) the two may be apart, in units of the dtype's relative rounding."""

_TRIED: dict[Any, str | None] = {}


def trial(region: Region, how: Implementation) -> str | None:
    """Why the fused form of an attention is not used; None where output and gradient are those of the plain form.

    An attention of more than `LARGEST` scores is not tried. Each is tried once in a process.
    """
    sizes = region.attention.sizes()
    if math.prod(sizes[name] for name in ("batch", "heads", "shared", "rows", "keys")) > LARGEST:
        return None
    key = how.name, _described(region)
    if key not in _TRIED:
        with jax.ensure_compile_time_eval():
            _TRIED[key] = _outcome(region, how)
    return _TRIED[key]


def _described(region: Region) -> Any:
    """What distinguishes one attention from another: its steps and how they hang together."""
    numbers = {value: place for place, value in enumerate(region.inputs)}
    steps = []
    for step in region.steps:
        operands = [numbers.get(value, str(value.known)) for value in step.operands]
        numbers.update({value: len(numbers) + place for place, value in enumerate(step.results)})
        steps.append((step.name, str(step.equation.params), *operands))
    found = region.attention
    parts = [part for part in (found.query, found.key, found.value, found.bias, found.output) if part is not None]
    parts += [mask.part for mask in found.masks]
    labels = list(dict.fromkeys(label for part in parts for label in flat(part.axes)))
    places = tuple(tuple(labels.index(label) for label in flat(part.axes)) for part in parts)
    groups = tuple(tuple(labels.index(label) for label in group) for group in found.groups)
    kinds = tuple((value.shape, str(value.dtype)) for value in region.inputs)
    return region.form, kinds, places, groups, tuple(steps)


def _outcome(region: Region, how: Implementation) -> str | None:
    draw = np.random.default_rng(0)
    inputs = [_drawn(draw, region, value) for value in region.inputs]

    def compute(f: Callable[..., Any]) -> Any:
        def both(*moving: Any) -> Any:
            given = dict(zip(region.moving, moving, strict=True))
            out, pull = jax.vjp(
                lambda *moving: f(*({**dict(enumerate(inputs)), **dict(zip(given, moving, strict=True))}.values())),
                *moving,
            )
            return out, pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape).astype(out.dtype))

        return jax.jit(both)(*(inputs[place] for place in region.moving))

    plain = compute(region.plain)
    try:
        fused = compute(differentiable(region, how))
    except Exception as error:  # whatever a compiler says of a shape that its library does not take
        return f"it does not compile: {type(error).__name__}: {error}".partition("\n")[0]
    apart = max(map(_apart, jax.tree.leaves(fused), jax.tree.leaves(plain)))
    return None if apart <= CLOSE else f"on random inputs it was {apart:.0f} roundings away from the plain form"


def _drawn(draw: np.random.Generator, region: Region, value: Value) -> Any:
    array = region.opened.array(value)
    if array is not None:
        return jnp.asarray(array)
    if value.dtype == np.bool_:
        return jnp.asarray(draw.random(value.shape) < 0.8)
    return jnp.asarray(draw.normal(size=value.shape), value.dtype)


def _apart(fused: Any, plain: Any) -> float:
    """The norm of a difference over the norm of the plain one, in units of the dtype's relative rounding."""
    a, b = (np.asarray(value).astype(np.float64) for value in (fused, plain))
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return math.inf
    rounding = max(float(jnp.finfo(plain.dtype).eps), 1e-6)
    norm = float(np.linalg.norm(np.nan_to_num(b)))
    return float(np.linalg.norm(np.nan_to_num(a - b))) / max(norm, 1e-30) / rounding
