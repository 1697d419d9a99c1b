"""How many points a method evaluates at once where nobody has said: what fills the device and fits its memory.

The one place of the rule. A method whose `batch_size` is None does not know the device or how many examples there are;
who does (`explain_batch`, `explain_dataset`, `evaluate_batch`) fills the number in before anything is compiled. In any
other place it is one point, so that nobody runs out of memory unseen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program.function import AROUND_CALL, Function, kept, needs_key
from jaxplain.program.memory import free_bytes, needed_bytes
from jaxplain.program.opaque import holds_opaque, with_own_errors
from jaxplain.program.text import call_name
from jaxplain.types import is_concrete, is_key

ROWS = {"gpu": 256, "tpu": 256}
"""Examples times points that fill a device, by platform; on a CPU one point at a time is fastest.

Measured on one H100 in bfloat16: with 32 images 8 points at once reach 98 % of the gradients a second of a batch of 256
(ResNet-50: 7,952 of 8,115, one point 6,781; ViT-B/16: 2,624 of 2,614, one point 1,984). On two CPU cores with 32 images
one point takes 0.65 of the time of sixteen (Deep SHAP) to 0.87 (Score-CAM), on a small convolutional network.
"""


HOST_ROWS = 4096
"""Rows in a call of a Python function (`black_box`): a call costs what hundreds of rows of a small model do."""

HOST_BYTES = 1 << 28
"""The most bytes of rows in such a call."""


def is_open(e: Any) -> bool:
    """Whether a number of points at once is left to be filled in, in an explanation or in one that it wraps."""
    return isinstance(e, Function) and kept(e, "_is_open", lambda: _is_open(e))


def _is_open(e: Function) -> bool:
    own = any(field.metadata.get("points") and getattr(e, field.name) is None for field in _fields(e))
    return own or any(is_open(inner) for _, value in _inside(e) for inner in _members(value))


def most_points(examples: int, platform: str) -> int:
    """How many points for each of so many examples fill a device of a platform."""
    return max(1, ROWS.get(platform, 1) // max(1, examples))


def filled(e: Any, points: int) -> Any:
    """An explanation with every None filled in: inner explanations first, so that the product is at most `points`.

    Numbers that somebody has chosen stay, and count.
    """
    return _filled(e, points)[0] if is_open(e) else e


def fitting(e: Any, points: int, fits: Callable[[Any], bool]) -> int:
    """The largest of `points`, a half of it, a quarter and so on with which an explanation fits; 1 in any case.

    Args:
        e: An explanation with a None.
        points: From `most_points`.
        fits: Whether the compiled program of a filled explanation has room. Asked once where the first has it.

    Returns:
        The number for `filled`.
    """
    while points > 1 and not fits(filled(e, points)):
        points //= 2
    return points


def _filled(e: Any, points: int) -> tuple[Any, int]:
    """The filled explanation, and how many points it evaluates at once."""
    if not isinstance(e, Function):
        return e, 1
    own = [field.name for field in _fields(e) if field.metadata.get("points")]
    chosen = math.prod(min(number, _count(e)) for name in own if (number := getattr(e, name)) is not None)
    changed, used = {}, 1
    for name, value in _inside(e):
        parts = [_filled(inner, max(1, points // chosen)) for inner in _members(value)]
        used = max([used, *(number for _, number in parts)])
        changed[name] = parts[0][0] if isinstance(value, Function) else type(value)(part for part, _ in parts)
    used *= chosen
    for name in own:
        if getattr(e, name) is None:
            changed[name] = max(1, points // used)
            used *= min(changed[name], _count(e))
    return dataclasses.replace(e, **changed), used  # type: ignore[type-var]


def _fields(e: Function) -> tuple[Any, ...]:
    return dataclasses.fields(e)  # type: ignore[arg-type]


def _inside(e: Function) -> list[tuple[str, Any]]:
    """The fields of an explanation that hold others: one, or a tuple or list of them."""
    values = ((field.name, getattr(e, field.name)) for field in _fields(e))
    return [(name, value) for name, value in values if any(isinstance(m, Function) for m in _members(value))]


def _members(value: Any) -> list[Any]:
    return list(value) if type(value) in (tuple, list) else [value]


def _count(e: Function) -> int:
    """How many points there are, where the setting that a class names in `counted` says so."""
    number = getattr(e, getattr(e, "counted", ""), None)
    return number if isinstance(number, int) else 1 << 30


def with_points(e: Any, lower: Callable[..., Any], x: Any, *inputs: Any) -> Any:
    """An explanation of which every number of points is the one that fills the devices where a batch lies.

    Looked up where the same object was asked with such a batch before. The program that is asked for its memory is the
    one that runs afterwards, so that it is compiled once if the first has room.

    Args:
        e: An explanation (or a metric) for one example.
        lower: `(e, x, *inputs)` to the lowered program of the batch.
        x: `[B, ...]`, which says where it runs.
        *inputs: What else the program takes.

    Returns:
        `e` itself where nothing is left open or one point at a time is right, and where a batch is spread over several
        processes, which might find different memories free and would then run different programs.
    """
    if not is_open(e):
        return e
    if is_hosted(e):
        return filled(e, host_points(x, jnp.shape(jax.tree.leaves(x)[0])[0]))
    devices = _devices_of(x)
    if not devices or devices[0].platform not in ROWS:
        return e
    platform, width = devices[0].platform, len(devices)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves((x, inputs)))
    known = kept(e, "_with_points", dict)
    if (platform, width, shapes) not in known:
        points = most_points(-(-shapes[0][0][0] // width), platform)
        known[platform, width, shapes] = filled(e, fitting(e, points, has_room(lower, devices[0], x, *inputs)))
    return known[platform, width, shapes]


def is_hosted(e: Any) -> bool:
    """Whether an explanation waits for a function on the host, whose calls are few and large then."""
    return bool(kept(e, "_hosted", lambda: holds_opaque(e)))


def host_points(x: Any, examples: int) -> int:
    """How many points of each of so many examples a function on the host is called with; `x` has all of them."""
    sizes = [jnp.size(leaf) * jnp.result_type(leaf).itemsize for leaf in jax.tree.leaves(x) if not is_key(leaf)]
    rows = min(HOST_ROWS, HOST_BYTES * examples // max(1, sum(sizes)))
    return max(1, rows // max(1, examples))


def _around_call(call: Callable[..., Any], e: Any, inputs: tuple[Any, ...]) -> Any:
    """A call of an explanation by itself: of a score on the host with many points, waited for to hear of its errors."""
    check.fitting(inputs[1 + needs_key(e) :], call_name(e), "arguments")  # at x each method looks itself
    if not is_hosted(e):
        return call(e, *inputs)
    arrays = [leaf for leaf in jax.tree.leaves(inputs) if hasattr(leaf, "dtype")]
    return with_own_errors(lambda: call(filled(e, host_points(arrays, 1)), *inputs))


AROUND_CALL.append(_around_call)


def has_room(lower: Callable[..., Any], device: Any, *inputs: Any) -> Callable[[Any], bool]:
    """Whether the compiled program of a filled explanation has room on a device."""
    return lambda e: needed_bytes(lower(e, *inputs).compile()) <= free_bytes(device)


def _devices_of(x: Any) -> list[Any]:
    """Where a batch will be explained: where its arrays lie (none, if some are another process's), else by default."""
    for leaf in jax.tree.leaves(x):
        if isinstance(leaf, jax.Array) and is_concrete(leaf):
            return sorted(leaf.devices(), key=lambda device: device.id) if leaf.is_fully_addressable else []
    return jax.local_devices()[:1]
