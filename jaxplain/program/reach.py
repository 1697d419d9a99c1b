"""What code reaches from outside of itself, and whether that is still what it was when the code was compiled.

Code that is compiled once is wrong from the moment at which something that it reads is another: a closure's variable or
a global is bound again, a module is trained in place. So every code has an edition, a number that is a new one when
what it reaches was found changed, and which is a part of what a compiled program is looked up by (`Static`).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import sys
import threading
import types
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import numpy as np

_LIBRARIES = frozenset(("jax", "jaxlib", "flax", "numpy", "optax", "jaxplain"))
_ATOMS = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, np.dtype)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_MOST = 20_000
"""Values that are looked at, those nearest to the code first: more is no closure but a world."""

_BYTES = 2**26
"""Bytes of one NumPy array that are summed up, in 64 parts where it has more."""


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
    attributes, members = _attributes(value), _members(type(value))
    wrapped = [value.__wrapped__] if "__wrapped__" in attributes or hasattr(type(value), "__wrapped__") else []
    if library and wrapped and callable(value):  # of a library's wrapper (jit, custom_jvp) of foreign code, the code
        return wrapped
    slots = [found for member in members if (found := _slot(member, value)) is not None]
    known = attributes or slots or wrapped or library or not callable(value)
    return [*attributes.values(), *slots, *wrapped] if known else None


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, which is asked for none that it would make."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


_MEMBERS: weakref.WeakKeyDictionary[type, tuple[Any, ...]] = weakref.WeakKeyDictionary()


def _members(cls: type) -> tuple[Any, ...]:
    """What reads the slots of a class."""
    if cls not in _MEMBERS:
        _MEMBERS[cls] = tuple(
            member
            for base in cls.__mro__
            for name in _slots(base)
            for member in [vars(base).get(f"_{base.__name__.lstrip('_')}{name}", vars(base).get(name))]
            if type(member) is types.MemberDescriptorType
        )
    return _MEMBERS[cls]


def _slots(cls: type) -> Iterable[str]:
    slots = vars(cls).get("__slots__", ())
    return [slots] if isinstance(slots, str) else slots


def _slot(member: Any, value: Any) -> Any:
    try:
        return member.__get__(value)
    except AttributeError:  # not assigned yet
        return None


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
    for value in (function.__globals__[name] for name in names if name in function.__globals__):
        yield value
        if isinstance(value, types.ModuleType) and _is_own(value.__name__):  # settings, read as `config.scale`
            yield from (vars(value)[inner] for inner in names if inner in vars(value))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """The names that code, and the functions defined in it, may look up."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return tuple(dict.fromkeys((*code.co_names, *inner)))


@functools.lru_cache(maxsize=4096)
def _is_own(module: str) -> bool:
    """Whether a module is somebody's own, and none that was installed or comes with Python."""
    if module == "__main__":  # of a notebook, too, whose file is an installed one
        return True
    if module.partition(".")[0] in (*_LIBRARIES, *sys.stdlib_module_names):
        return False
    file = str(getattr(sys.modules.get(module), "__file__", None))
    return not any(f"{name}-packages" in file for name in ("site", "dist"))


def _class_parts(cls: type) -> Iterator[Any]:
    """What a class of somebody's own gives to its instances: settings, and methods with the globals that they read."""
    for name, value in vars(cls).items():
        if isinstance(value, property):
            yield value.fget
        elif isinstance(value, staticmethod | classmethod):
            yield value.__func__
        elif isinstance(value, types.FunctionType) or not name.startswith("_"):
            yield value
    yield from (base for base in cls.__bases__ if _is_own(str(base.__module__)))


class _Reached(NamedTuple):
    """Everything that code reaches, in one order.

    things: what is the same where it is one object: arrays and code; facts: what is the same where it is equal: numbers
    and texts, types, and of a NumPy array, which can be written to, a sum of its bytes; structures: of containers.
    """

    things: list[Any]
    facts: list[Any]
    structures: list[Any]


def _reached(code: Any) -> _Reached:
    """Walk over everything that code reaches, the nearest first."""
    found = _Reached([], [], [])
    seen: dict[int, int] = {}
    waiting: list[Any] = [code]
    for value in waiting:  # grows meanwhile
        if len(found.things) + len(found.facts) >= _MOST:
            break
        sort = _SORTS.get(type(value)) or _sort(value)
        if sort == "fact":
            found.facts.append(value)
            continue
        if sort == "whole":
            found.things.append(value)
            continue
        if id(value) in seen:
            found.facts.append(seen[id(value)])
            continue
        parts = _parts_inside(value, sort, seen, found)
        kinds = list(map(type, parts))
        sorts = {kind: _SORTS.get(kind) or _sort(part) for kind, part in dict(zip(kinds, parts, strict=True)).items()}
        # An id is that of a type which lives as long as what is of it; types of somebody's own are not kept alive.
        found.facts.append(kinds if sorts.keys() <= _SORTS.keys() else list(map(id, kinds)))
        if set(sorts.values()) == {"whole"}:
            found.things.extend(parts)  # hundreds of arrays at once
        else:
            waiting += parts
    return found


def _parts_inside(value: Any, sort: str, seen: dict[int, int], found: _Reached) -> list[Any]:
    """What a value holds, of a container of containers all that they hold; what is known of the value itself is noted.

    Containers that were seen are not entered again, so that one in a cycle ends.
    """

    def ends(inner: Any) -> bool:
        if type(inner) not in _NODES or id(inner) in seen:
            return True
        seen[id(inner)] = len(seen)
        return False

    if type(value) in _NODES:
        before = dict(seen)
        try:
            parts, structure = jax.tree.flatten(value, is_leaf=ends)
        except (TypeError, ValueError):  # keys without an order
            seen.clear()
            seen.update(before)
        else:
            found.structures.append(structure)
            return parts
    seen[id(value)] = len(seen)
    if sort != "holder":
        found.things.append(value)
    if sort == "bytes":
        found.facts.append(_sum_of_bytes(value))
        return []
    if sort == "class":
        return list(_class_parts(value)) if _is_own(str(value.__module__)) else []
    own = [type(value)] if _is_own(str(type(value).__module__)) else []
    return [*(parts_of(value) or ()), *own]


_SORTS: dict[type, str] = {
    **dict.fromkeys((str, int, float, bool, bytes, complex, type(None)), "fact"),
    **dict.fromkeys(_CONTAINERS, "holder"),
    np.ndarray: "bytes",
}
"""How values of a type are looked at, of Python's and of libraries' types; others might be garbage one day."""


_NODES = frozenset((dict, list, tuple))


def _sort(value: Any) -> str:
    """How a value is looked at."""
    if isinstance(value, _CONTAINERS):
        return "holder"
    if isinstance(value, np.ndarray):
        return "bytes"
    if isinstance(value, type):
        return "class"
    if isinstance(value, _ATOMS):
        return "whole" if isinstance(value, types.ModuleType) else "fact"
    of_jax = str(type(value).__module__).partition(".")[0] in ("jax", "jaxlib", "numpy") and not callable(value)
    if of_jax:
        _SORTS[type(value)] = "whole"
    return "whole" if of_jax or is_array(value) else "code"


def _sum_of_bytes(value: np.ndarray) -> int | None:
    """A sum of the bytes of an array that can be written to: of all, or of parts of one that is large."""
    if not value.flags.writeable or value.dtype.hasobject or not value.size:
        return None
    if value.nbytes <= _BYTES:
        return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    if not value.flags.c_contiguous:
        value = value[:: -(-value.nbytes // _BYTES)]  # as many rows as are not too large together
        return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    flat, total, part = value.reshape(-1).view(np.uint8), 0, _BYTES // 64
    for start in np.linspace(0, flat.size - part, 64).astype(int):
        total = zlib.crc32(flat[start : start + part].data, total)
    return total


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
        self.number = 0
        try:
            self.code: Callable[[], Any] = weakref.ref(code, lambda _: _WATCHED.pop(key, None))
        except TypeError:  # none is possible: it is kept, and of a number that no other had, should it be forgotten
            self.code, self.number = (lambda: code), next(_NUMBERS)
            _HELD.append(key)
        self.note(_reached(code))

    def note(self, reached: _Reached) -> None:
        """Keep what is reached now."""
        self.things, self.facts, self.structures = list(map(_weak, reached.things)), reached.facts, reached.structures

    def look(self, code: Any) -> int:
        """The edition, which is another one where something else is reached now."""
        reached = _reached(code)
        noted = [thing() for thing in self.things]
        same = len(noted) == len(reached.things) and reached[1:] == (self.facts, self.structures)
        if not same or not (all(map(operator.is_, noted, reached.things)) or all(map(_is_same, noted, reached.things))):
            self.number = next(_NUMBERS)
            self.note(reached)
        return self.number


def _is_same(noted: Any, value: Any) -> bool:
    return noted is value or (type(noted) is _Kept and noted == value)


def _is_compared_by_identity(code: Any) -> bool:
    """Whether code can be watched: it has a weak reference, or it is no value (a frozen dataclass with slots)."""
    return type(code).__weakrefoffset__ != 0 or type(code).__hash__ is object.__hash__


_WATCHED: dict[int, _Watched] = {}
_HELD: deque[int] = deque()
_MOST_HELD = 256
"""How many codes are kept alive for want of a weak reference to them."""

_NUMBERS = itertools.count(1)
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
    """A number, 0 at first, that is another one once what code reaches was found changed.

    That is variables of closures, globals, attributes, what containers hold, and what all of these reach.
    Arrays and objects are compared by identity, numbers and texts by value, NumPy arrays by their bytes too.
    Cost: a walk over what is reached (20,000 values at most, the nearest first), a microsecond each and a millisecond
    for 2 MB of NumPy arrays (64 MB of one at most), once in a call of a public function.
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
            if not _is_compared_by_identity(code):
                return 0
            watched = _WATCHED[id(code)] = _Watched(code)
            number = watched.number
            while len(_HELD) > _MOST_HELD:
                _WATCHED.pop(_HELD.popleft(), None)
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
