"""Adapters, one per framework, that name the output of every module while a function is traced.

Models are not edited. Linen and Haiku have interceptors; the calls of NNX and Equinox modules are wrapped for the time
of tracing, in this thread only. A framework that is not imported cannot be in the function, and is not imported here.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jaxplain.program.trace.compat import trace_context
from jaxplain.program.trace.marks import owner, state, tag

_PATCHING = threading.RLock()
_STAMP = "_jaxplain_path"


@contextlib.contextmanager
def tagging(batch: int = 1) -> Iterator[None]:
    """Name module outputs in everything that is traced inside.

    Transformations nest (capture of intervene of a score): the adapters enter once, so that no output is named twice.

    Args:
        batch: The length of the batch axis that scores add; more than one only to look at shapes.
    """
    before = state.tagging, state.batch
    state.tagging, state.batch = True, batch
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(trace_context(("jaxplain", batch)))
            for adapter in () if before[0] else _adapters():
                stack.enter_context(adapter())
            yield
    finally:
        state.tagging, state.batch = before


def _adapters() -> list[Callable[[], contextlib.AbstractContextManager[None]]]:
    by_module: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        "flax.linen": _linen,
        "haiku": _haiku,
        "flax.nnx": _nnx,
        "equinox": _equinox,
    }
    return [adapter for name, adapter in by_module.items() if name in sys.modules]


@contextlib.contextmanager
def _linen() -> Iterator[None]:
    from flax import linen

    calls: list[tuple[Any, str, str]] = []  # the modules being called: module, method, name of their root

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module, method = context.module, context.method_name
        repeated = calls and calls[-1][0] is module and calls[-1][1] == method  # a call of super() is no other call
        if repeated or not _is_public(method):
            return call(*args, **kwargs)
        root = _linen_root(module, linen.Module) or (calls[-1][2] if calls else type(module).__name__)
        path = "/".join((root, *module.path)) + ("" if method == "__call__" else f".{method}")
        calls.append((module, method, root))
        try:
            with owner(path):
                out = call(*args, **kwargs)
        finally:
            calls.pop()
        return tag(out, path, type(module).__name__)

    with linen.intercept_methods(intercept):
        yield


def _is_public(method: str) -> bool:
    return method == "__call__" or not (method.startswith("_") or method == "setup")


def _linen_root(module: Any, base: type) -> str | None:
    """The name of the outermost module; None inside a lifted transformation, where the way up is cut."""
    while isinstance(module.parent, base):
        module = module.parent
    return None if module.path else module.name or type(module).__name__


@contextlib.contextmanager
def _haiku() -> Iterator[None]:
    import haiku

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if not _is_public(context.method_name):
            return call(*args, **kwargs)
        method = "" if context.method_name == "__call__" else f".{context.method_name}"
        path = context.module.module_name + method
        with owner(path):
            out = call(*args, **kwargs)
        return tag(out, path, type(context.module).__name__)

    with haiku.intercept_methods(intercept):
        yield


def _nnx() -> contextlib.AbstractContextManager[None]:
    from flax import nnx

    return _patched(nnx.Module, nnx.Pytree, stamped=True)


def _equinox() -> contextlib.AbstractContextManager[None]:
    import equinox

    return _patched(equinox.Module, equinox.Module, stamped=False)


class _Calls(threading.local):
    """The modules that are being called in this thread, and the paths of all modules seen from the outermost one."""

    def __init__(self) -> None:
        self.active = False
        self.stack: list[tuple[Any, str, str]] = []  # module, path, method where it is not the module itself
        self.paths: dict[int, str] = {}
        self.kept: list[Any] = []  # ids are compared, so the objects must live as long as they are


@contextlib.contextmanager
def _patched(base: type, container: type, stamped: bool) -> Iterator[None]:
    """Wrap `__call__` of every subclass of `base` that defines one; other threads see no difference.

    Args:
        base: The framework's class of modules.
        container: What modules are found in, besides lists, tuples and dicts.
        stamped: Write the path into the modules for the time of the call, as a static attribute: inside NNX's own scan
            and remat the objects are new, and the attribute rides in the graph definition.
    """
    calls = _Calls()
    calls.active = True
    with _PATCHING:
        classes = [cls for cls in _subclasses(base) if "__call__" in cls.__dict__ and not _is_plumbing(cls, base)]
        originals = [(cls, cls.__dict__["__call__"]) for cls in classes]
        for cls, original in originals:
            type.__setattr__(cls, "__call__", _wrapped(original, container, calls, stamped))
        try:
            yield
        finally:
            for cls, original in originals:
                type.__setattr__(cls, "__call__", original)


def _is_plumbing(cls: type, base: type) -> bool:
    """Whether a class is one of the framework's wrappers of functions, and no layer.

    These have private names, or (in Equinox, but for its bound methods) lie outside of its layers.
    """
    framework, _, place = cls.__module__.partition(".")
    if framework != base.__module__.partition(".")[0]:
        return False
    outside = framework == "equinox" and not place.startswith("nn.")
    return cls.__name__.startswith("_") or (outside and cls.__name__ != "BoundMethod")


def _subclasses(base: type) -> list[type]:
    found: list[type] = [base]
    waiting: list[type] = [base]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for cls in below:
            if cls not in found:
                found.append(cls)
                waiting.append(cls)
    return found


def _wrapped(original: Any, container: type, calls: _Calls, stamped: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = original.__get__(self, type(self))
        module, method = _called(self)
        last = calls.stack[-1] if calls.stack else (None, "", "")
        if not calls.active or (last[0] is module and last[2] == method):  # a call of super() is no other call
            return bound(*args, **kwargs)
        outermost = not calls.stack
        try:
            path = _path(module, container, calls, stamped) + method
            calls.stack.append((module, path, method))
            try:
                with owner(path):
                    out = bound(*args, **kwargs)
            finally:
                calls.stack.pop()
        finally:
            if outermost:
                _forget(calls)
        return tag(out, path, type(module).__name__)

    return call


def _called(module: Any) -> tuple[Any, str]:
    """The module that is called, and what its path ends with: Equinox makes a module of every method that it binds."""
    owned = getattr(module, "__self__", None)
    if owned is None:
        return module, ""
    name = getattr(module.__func__, "__name__", "")
    return owned, "" if name == "__call__" else f".{name}"


def _path(module: Any, container: type, calls: _Calls, stamped: bool) -> str:
    """The path of a module from the outermost call; modules not seen yet are new roots."""
    if id(module) not in calls.paths:
        name = type(module).__name__
        root = vars(module).get(_STAMP) or (f"{calls.stack[-1][1]}/~{name}" if calls.stack else name)
        for path, child in _modules(module, root, container):
            calls.paths.setdefault(id(child), path)
            calls.kept.append(child)
            if stamped and callable(child):
                vars(child)[_STAMP] = calls.paths[id(child)]
    return calls.paths[id(module)]


def _forget(calls: _Calls) -> None:
    """Leave the user's modules as they were."""
    for module in calls.kept:
        if hasattr(module, "__dict__"):
            vars(module).pop(_STAMP, None)
    calls.paths.clear()
    calls.kept.clear()


def _modules(root: Any, path: str, container: type) -> Iterator[tuple[str, Any]]:
    """All modules (and containers of them) in attributes, lists, tuples and dicts, each once, by the shortest path."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [(path, root)]
    while waiting:
        path, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, container):
            yield path, value
            children = [(k, v) for k, v in vars(value).items() if not str(k).startswith("_pytree__")]
        elif isinstance(value, list | tuple):
            children = [(str(index), item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            children = list(value.items())
        else:
            continue
        waiting.extend((f"{path}/{key}", child) for key, child in children)
