"""What code reaches from outside of itself, and whether that is still what it was when the code was compiled.

Code that is compiled once is wrong from the moment at which something that it reads is another: a closure's variable or
a global is bound again, a module is trained in place. So every code has an edition, a number that grows when what it
reaches was found changed, and which is a part of what a compiled program is looked up by (`Static`).
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

_LIBRARIES = frozenset(("jax", "jaxlib", "flax", "numpy", "optax", "jaxplain"))
_ATOMS = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, np.dtype)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_MOST = 20_000
"""Values that are looked at, those nearest to the code first: more is no closure but a world."""


def is_array(value: Any) -> bool:
    """Whether `value` is a NumPy or JAX array (or a tracer), not a Python scalar."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def is_atom(value: Any) -> bool:
    """Whether a value holds no others that are looked at."""
    return isinstance(value, _ATOMS)


def parts_of(value: Any) -> Iterable[Any] | None:
    """What a value holds; None where that cannot be known."""
    library = str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES
    if isinstance(value, types.FunctionType) and not library:
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, _CONTAINERS):
        return value
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    wrapped = [value.__wrapped__] if hasattr(value, "__wrapped__") else []
    if library and wrapped and callable(value):  # of a library's wrapper (jit, custom_jvp) of foreign code, the code
        return wrapped
    attributes = list(getattr(value, "__dict__", {}).values())
    slots = [getattr(value, name) for cls in type(value).__mro__ for name in _slots(cls) if hasattr(value, name)]
    known = attributes or slots or wrapped or library or not callable(value)
    return [*attributes, *slots, *wrapped] if known else None


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
    names = _names(function.__code__)
    for name in names:
        if name in function.__globals__:
            value = function.__globals__[name]
            yield value
            if isinstance(value, types.ModuleType) and _is_own(value):  # settings that are read as `config.scale`
                yield from (vars(value)[inner] for inner in names if inner in vars(value))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names that code, and the functions defined in it, may look up."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


def _is_own(module: types.ModuleType) -> bool:
    """Whether a module is somebody's own, and none that was installed or comes with Python."""
    if module.__name__.partition(".")[0] in (*_LIBRARIES, *sys.stdlib_module_names):
        return False
    return not any(f"{name}-packages" in str(getattr(module, "__file__", None)) for name in ("site", "dist"))


def _reached(code: Any) -> tuple[list[Any], list[Any]]:
    """Everything that code reaches, in one order.

    Returns:
        What is the same where it is one object: arrays and code. And what is the same where it is equal: numbers and
        texts, of what holds others their types and a dict's keys, and of a NumPy array, which can be written to, a sum
        of its bytes.
    """
    things: list[Any] = []
    facts: list[Any] = []
    seen: dict[int, int] = {}
    waiting: list[Any] = [code]
    for value in waiting:  # grows meanwhile
        if len(things) + len(facts) >= _MOST:
            break
        sort = _SORTS.get(type(value)) or _sort(value)
        if sort == "fact":
            facts.append(value)
            continue
        if sort == "whole":
            things.append(value)
            continue
        if id(value) in seen:
            facts.append(seen[id(value)])
            continue
        seen[id(value)] = len(seen)
        named = type(value) is dict and set(map(type, value)) <= {str}
        if sort != "holder":
            things.append(value)
        facts += [tuple(value)] if named else [_sum_of_bytes(value)] if sort == "bytes" else []
        parts = list(value.values()) if named else [] if sort == "bytes" else list(parts_of(value) or ())
        kinds = list(map(type, parts))
        facts.append(tuple(map(id, kinds)))  # of what lives as long as what is of that type
        one_of_each = dict(zip(kinds, parts, strict=True))
        if all((_SORTS.get(kind) or _sort(part)) == "whole" for kind, part in one_of_each.items()):
            things += parts  # quicker for hundreds of arrays
        else:
            waiting += parts
    return things, facts


_SORTS: dict[type, str] = {
    **dict.fromkeys((str, int, float, bool, bytes, complex, type(None)), "fact"),
    **dict.fromkeys(_CONTAINERS, "holder"),
    np.ndarray: "bytes",
}
"""How values of a type are looked at, of Python's and of libraries' types; others might be garbage one day."""


def _sort(value: Any) -> str:
    """How a value is looked at."""
    if isinstance(value, _CONTAINERS):
        return "holder"
    if isinstance(value, np.ndarray):
        return "bytes"
    if is_array(value):
        if type(value).__module__.partition(".")[0] in _LIBRARIES:
            _SORTS[type(value)] = "whole"
        return "whole"
    if isinstance(value, type | types.ModuleType):
        return "whole"
    return "fact" if isinstance(value, _ATOMS) else "code"


def _sum_of_bytes(value: np.ndarray) -> int | None:
    if not value.flags.writeable or value.dtype.hasobject or not value.size:
        return None
    return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _weak(value: Any) -> Callable[[], Any]:
    """A reference that does not keep what code reaches alive, where one is possible."""
    try:
        return weakref.ref(value)
    except TypeError:
        return _Kept(value if is_array(value) else type(value))


class _Kept:
    """An array of NumPy's that has no weak reference, or the type of what has none; what that holds is looked at."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(self.value, np.generic):
            return type(other) is type(self.value) and other.tobytes() == self.value.tobytes()
        return other is self.value or type(other) is self.value

    __hash__ = None  # type: ignore[assignment]


class _Watched:
    """The edition of one code and what it reached then."""

    def __init__(self, code: Any) -> None:
        key = id(code)
        self.code = weakref.ref(code, lambda _: _WATCHED.pop(key, None))
        self.number = 0
        self.note(_reached(code))

    def note(self, reached: tuple[list[Any], list[Any]]) -> None:
        """Keep what is reached now."""
        self.things, self.facts = list(map(_weak, reached[0])), reached[1]

    def look(self, code: Any) -> int:
        """The edition, which is another one where something else is reached now."""
        things, facts = _reached(code)
        noted = [thing() for thing in self.things]
        same = len(noted) == len(things) and facts == self.facts
        if not same or not all(map(_is_same, noted, things)):
            self.number += 1
            self.note((things, facts))
        return self.number


def _is_same(noted: Any, value: Any) -> bool:
    return noted is value or (type(noted) is _Kept and noted == value)


_WATCHED: dict[int, _Watched] = {}
_LOCK = threading.RLock()  # code that is collected in between asks this thread to forget it
_LOOKED: ContextVar[dict[int, tuple[Any, int]] | None] = ContextVar("_LOOKED", default=None)
"""The editions that were looked up in this call of a public function."""


@contextlib.contextmanager
def looking_once() -> Iterator[None]:
    """Look at what each code reaches once from here on, at first use: what a call of a public function does."""
    before = _LOOKED.set({})
    try:
        yield
    finally:
        _LOOKED.reset(before)


def edition(code: Any) -> int:
    """How often what code reaches was found changed: variables of closures, globals, attributes, what containers hold.

    Arrays and objects are compared by identity, numbers and texts by value, NumPy arrays by their bytes too.
    Cost: a walk over what is reached, a microsecond each, once in a call of a public function.
    """
    if isinstance(code, _ATOMS + _CONTAINERS):
        return 0
    looked = _LOOKED.get()
    if looked is not None and id(code) in looked:
        return looked[id(code)][1]
    with _LOCK:
        watched = _WATCHED.get(id(code))
        if watched is not None and watched.code() is code:
            number = watched.look(code)
        else:
            number = 0
            try:
                _WATCHED[id(code)] = _Watched(code)
            except TypeError:  # no weak reference is possible, so that nothing would forget it
                return 0
    if looked is not None:
        looked[id(code)] = code, number
    return number


def calling(code: Any, call: Callable[[], Any]) -> Any:
    """Call what runs code: what the code itself changes (a count of its calls) does not make it another one."""
    if id(code) not in _WATCHED:
        return call()
    edition(code)
    try:
        return call()
    finally:
        with _LOCK:
            watched = _WATCHED.get(id(code))
            if watched is not None:
                watched.note(_reached(code))
