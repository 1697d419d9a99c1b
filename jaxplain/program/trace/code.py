"""What the code inside a callable pytree reaches: arrays that are no leaves, and whether it will be garbage one day."""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxplain.program.function import Static, is_array, kept

_LIBRARIES = frozenset(("jax", "jaxlib", "flax", "numpy", "optax", "jaxplain"))
_ATOMS = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, np.dtype)


def holds_foreign_code(f: Any) -> bool:
    """Whether code inside a callable pytree may hold arrays that are no leaves: in closures, globals, attributes.

    Args:
        f: A function, such as an explanation; what is `Static` in it is code.

    Returns:
        False only where every array that the code reaches was found to be a leaf; code of JAX, Flax, NumPy, optax and
        of this library holds none.
    """
    return any(_holds_arrays(code) for code in codes(f))


def holds_passing_code(f: Any) -> bool:
    """Whether code inside a callable pytree may be garbage one day, as a lambda of one call: `jit` would keep it."""
    return kept(f, "_passes", lambda: any(map(_passes, codes(f))))


def _passes(code: Any) -> bool:
    """Whether code is compared by identity and is not what its module holds under its name."""
    if isinstance(code, types.MethodType):
        code = code.__func__
    if isinstance(code, types.BuiltinFunctionType) or type(code).__hash__ not in (object.__hash__, _FUNCTION_HASH):
        return False
    name, module = getattr(code, "__qualname__", None), getattr(code, "__module__", None)
    found: Any = None if module == "__main__" else sys.modules.get(str(module))  # a notebook's cells are run again
    for part in str(name).split("."):
        found = getattr(found, part, None)
    return found is not code


_FUNCTION_HASH = types.FunctionType.__hash__


def codes(f: Any) -> list[Any]:
    """What is `Static` in a callable pytree, found once for each `Function`."""

    def found() -> list[Any]:
        nodes = jax.tree.leaves(f, is_leaf=is_static)
        return [node.value for node in nodes if is_static(node)]

    return kept(f, "_codes", found)


def is_static(node: Any) -> bool:
    """Whether a node of a callable pytree is code or a setting."""
    return isinstance(node, Static)


_KNOWN: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def _holds_arrays(code: Any) -> bool:
    if not isinstance(code, types.FunctionType):
        return _reaches_arrays(code)
    if code not in _KNOWN:
        _KNOWN[code] = _reaches_arrays(code)
    return _KNOWN[code]


def _reaches_arrays(value: Any) -> bool:
    """Whether an array can be reached from a value."""
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        if is_array(value):
            return True
        seen[id(value)] = value
        parts = _parts(value)
        if parts is None:
            return True
        waiting.extend(parts)
    return False


def _parts(value: Any) -> Iterable[Any] | None:
    """What a value holds; None where that cannot be known."""
    if str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES and callable(value):
        # Of a wrapper (jit, custom_jvp) of foreign code, the code; of a partial or a module, what it was made with.
        inner = getattr(value, "__wrapped__", None)
        return [inner] if inner is not None else list(getattr(value, "__dict__", {}).values())
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    attributes = list(getattr(value, "__dict__", {}).values())
    slots = [getattr(value, name) for cls in type(value).__mro__ for name in _slots(cls) if hasattr(value, name)]
    wrapped = [value.__wrapped__] if hasattr(value, "__wrapped__") else []
    return None if callable(value) and not (attributes or slots or wrapped) else [*attributes, *slots, *wrapped]


def _slots(cls: type) -> Iterable[str]:
    slots = cls.__dict__.get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _function_parts(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that code, and the functions defined in it, may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
