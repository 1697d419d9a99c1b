"""Marks that tracing leaves in a program: names of values, owners of equations, and where a score added its batch axis.

All three are public JAX (`checkpoint_name`, `named_scope`) and leave nothing in what is compiled but names. They are
put only while the engine traces (`tags.tagging`); everything a mark says is in its text, since the inner traces that
JAX caches are not run again.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program.function import is_array
from jaxplain.program.trace.compat import Equation, checkpoint_name

_TAG = "jaxplain:"
_BATCH = "jaxplain batch axis"
_OWNER = re.compile(r"jaxplain\[([^\]]*)\]")
_WRAPPER = re.compile(r"\w+\(")  # transformations enclose scopes: transpose(jvp(block))/layer


class TraceState(threading.local):
    """What the engine is doing in this thread: tagging or not, and the batch size that scores are to use."""

    tagging: bool = False
    batch: int = 1


state = TraceState()


class Tag(NamedTuple):
    """The name of one array of a module's output: `leaf` of `leaves`."""

    path: str
    operation: str
    leaf: int
    leaves: int


def tag(value: Any, path: str, operation: str) -> Any:
    """Name every array of a module's output; what is no array (a Python number stays static) is left as it is."""
    leaves, structure = jax.tree.flatten(value)
    arrays = [index for index, leaf in enumerate(leaves) if _nameable(leaf)]
    for position, index in enumerate(arrays):
        text = _TAG + json.dumps([path, operation, position, len(arrays)])
        leaves[index] = checkpoint_name(leaves[index], text)
    return jax.tree.unflatten(structure, leaves)


def _nameable(leaf: Any) -> bool:
    return is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)


def read_tag(equation: Equation) -> Tag | None:
    """The tag that an equation is, or None; a `checkpoint_name` of the user's own names a value by itself."""
    if equation.primitive.name != "name" or equation.params["name"] == _BATCH:
        return None
    text = equation.params["name"]
    if not text.startswith(_TAG):
        return Tag(text, "checkpoint_name", 0, 1)
    return Tag(*json.loads(text[len(_TAG) :]))


def marks_batch(equation: Equation) -> bool:
    """Whether an equation says that a score added its batch axis there."""
    return bool(equation.primitive.name == "name" and equation.params["name"] == _BATCH)


@contextlib.contextmanager
def owner(path: str) -> Iterator[None]:
    """Put a module's path into the name stack of every equation that is traced inside."""
    with jax.named_scope(f"jaxplain[{path.replace('/', '|')}]"):
        yield


def owner_path(stack: str) -> str:
    """The innermost module that a name stack names; '' outside of all."""
    found = _OWNER.findall(stack)
    return found[-1].replace("|", "/") if found else ""


def scopes(stack: str) -> tuple[str, ...]:
    """The named scopes of a name stack, outermost first, without transformations and the engine's own."""
    plain = _WRAPPER.sub("", _OWNER.sub("", stack)).replace(")", "")
    return tuple(part for part in plain.split("/") if part)


def add_batch_axis(tree: Any) -> Any:
    """Give every leaf a leading axis of length one, as a model expects of a batch.

    While the engine looks for the batch axis of inner values, the axis has another length (`batch_axis_length`).
    """
    return jax.tree.map(_with_axis, tree)


def _with_axis(leaf: Any) -> Any:
    value = jnp.asarray(leaf)[None]
    return mark_batch(jnp.broadcast_to(value, (state.batch, *value.shape[1:]))) if state.tagging else value


def mark_batch(value: Any) -> Any:
    """Say, while the engine traces, that the function adds its batch axis here."""
    return checkpoint_name(value, _BATCH) if state.tagging else value


def batch_axis_length() -> int:
    """The length of the axis that `add_batch_axis` adds now: one, but for the engine's own looks at shapes."""
    return state.batch
