"""What the code inside a callable pytree reaches: arrays that are no leaves, and whether it will be garbage one day."""

from __future__ import annotations

import sys
import types
import weakref
from typing import Any

from jaxplain.program.function import codes, kept
from jaxplain.program.reach import is_array, is_atom, parts_of


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
        if is_atom(value) or id(value) in seen:
            continue
        if is_array(value):
            return True
        seen[id(value)] = value
        parts = parts_of(value)
        if parts is None:
            return True
        waiting.extend(parts)
    return False
