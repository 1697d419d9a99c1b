"""Functions and trees in one line: the call that made them, arrays by dtype and shape, totals of many."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import html
import inspect
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

MOST_LEAVES = 3
"""A tree of more arrays is told by its totals."""

FEW = 8
"""So many numbers of a result are shown as numbers; more of them as a shape."""

_SHORT = {"bool": "bool", "bfloat16": "bf16"}

K = TypeVar("K", bound=type)


def call_text(value: Any) -> str:
    """A frozen dataclass as the call that made it: its maker's name, and the settings that differ from its defaults.

    The maker is the function whose name the value carries, or the class (`made_by`), or the class's name in snake case.
    A setting is read from the field or property of its name, or from that of a part (a split model knows its path).
    """
    name = call_name(value)
    maker = _maker(type(value).__module__, name)
    fields = {field: getattr(value, field) for field in _fields(value)}
    if maker is None:
        return f"{name}({_arguments(list(fields.values())[:1], dict(list(fields.items())[1:]))})"
    shown: list[str] = []
    for index, parameter in enumerate(inspect.signature(maker).parameters.values()):
        found = _told(value, parameter.name)
        if found is _UNKNOWN and index == 0 and fields:
            found = next(iter(fields.values()))
        if found is _UNKNOWN:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            shown += map(short, found)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.KEYWORD_ONLY:
            shown.append(short(found))
        elif not _same(found, parameter.default):
            shown.append(f"{parameter.name}={short(found)}")
    return f"{name}({', '.join(shown)})"


def call_name(value: Any) -> str:
    """The name of the function that made a value."""
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else getattr(type(value), "made_by", _snake(type(value).__name__))


def _maker(module: str, name: str) -> Any:
    """The function that makes a class, of its own file or of its folder."""
    folder = module.rpartition(".")[0]
    siblings = [place for place in sys.modules if place.rpartition(".")[0] == folder]
    for place in (module, folder, *siblings):
        found = inspect.unwrap(getattr(sys.modules.get(place), name, None) or _snake)
        if inspect.isfunction(found) and found is not _snake:
            return found
    return None


_UNKNOWN = object()


def _fields(value: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(value) if field.name not in ("name", "kind_of")]


def _told(value: Any, name: str, deep: bool = True) -> Any:
    """A setting of a made value, by its own name or as a part has it; a layer is a path there."""
    for own in (name, *(("path",) if name == "layer" else ())):
        if own in _fields(value) or isinstance(getattr(type(value), own, None), property):
            return getattr(value, own)
    for field in _fields(value) if deep else ():
        part = getattr(value, field)
        if hasattr(part, "kind_of") and (found := _told(part, name, deep=False)) is not _UNKNOWN:
            return found
    return _UNKNOWN


def short(value: Any) -> str:
    """Any value in one line: arrays as `f32[3,3,1,8]`, large trees by their totals, functions by name."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _array(value)
    if dataclasses.is_dataclass(value) and hasattr(value, "kind_of"):
        return repr(value)
    if isinstance(value, types.MethodType):
        owner = value.__self__
        return f"{owner.__name__ if inspect.isclass(owner) else type(owner).__name__}.{value.__func__.__name__}"
    if isinstance(value, functools.partial):
        return f"{short(value.func)}({_arguments(value.args, value.keywords)})"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if isinstance(value, Mapping | tuple | list) and len(jax.tree.leaves(value)) <= MOST_LEAVES:
        return _few(value)
    leaves = [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "shape")]
    if leaves and not jax.tree_util.all_leaves([value]):
        return totals(leaves)
    text = re.sub(r"\s+", " ", repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def totals(leaves: list[Any]) -> str:
    """How many numbers in how many arrays: `<11.7M numbers in 62 arrays>`."""
    count = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"<{count / size:.3g}{unit} numbers in {len(leaves)} arrays>"
    return f"<{count} numbers in {len(leaves)} arrays>"


def _array(value: Any) -> str:
    if value.shape == () and not isinstance(value, jax.core.Tracer) and hasattr(value, "item"):
        try:
            return f"{value.item():.6g}" if np.issubdtype(value.dtype, np.floating) else str(value.item())
        except (TypeError, ValueError, RuntimeError):  # a key, or an array that was given away
            pass
    kind = str(value.dtype)
    kind = _SHORT.get(kind) or re.sub(r"^(float|uint|int|complex)", lambda m: {"uint": "u"}.get(m[1], m[1][0]), kind)
    return f"{kind}[{','.join(map(str, value.shape))}]"


def _few(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {short(inner)}" for key, inner in value.items()) + "}"
    inside = ", ".join(short(inner) for inner in value)
    if isinstance(value, list):
        return f"[{inside}]"
    return f"({inside},)" if len(value) == 1 else f"({inside})"


def _arguments(args: Any, keywords: Mapping[str, Any]) -> str:
    return ", ".join([*map(short, args), *(f"{key}={short(inner)}" for key, inner in keywords.items())])


def _same(value: Any, default: Any) -> bool:
    inner = getattr(value, "value", value)  # a function that stands for "nothing given" has a private name
    if value is default or getattr(inner, "__name__", "").startswith("_"):
        return True
    try:
        return type(value) is type(default) and bool(value == default)
    except (TypeError, ValueError):
        return False


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().lstrip("_")


def html_table(heads: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> str:
    """A table as notebooks show it: the first column's words to the left, all else to the right, a note below."""

    def line(cells: Sequence[Any], tag: str) -> str:
        sides = ["left", *["right"] * (len(cells) - 1)]
        filled = (
            f'<{tag} style="text-align: {side}">{html.escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(filled)}</tr>"

    below = f"<p>{html.escape(note)}</p>" if note else ""
    body = "".join(line(cells, "td") for cells in rows)
    return f"<table><thead>{line(heads, 'th')}</thead><tbody>{body}</tbody></table>{below}"


def shown(kind: K) -> K:
    """Have notebooks show a result as a table of its parts, arrays by dtype and shape, and not as all their numbers.

    For named tuples and dataclasses; what they are is said below, in the first sentence of their docstring.
    """

    def _repr_html_(self: Any) -> str:
        rows = ((name.replace("_", " "), _cell(value)) for name, value in _parts(self))
        words = re.split(r"(?<=[.:])\s", " ".join((inspect.getdoc(kind) or "").split()))[0]
        return html_table((kind.__name__, ""), rows, words.rstrip(":."))

    kind._repr_html_ = _repr_html_  # type: ignore[attr-defined]
    return kind


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Names and values of a result's fields."""
    own = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else value._fields
    return [(name, getattr(value, name)) for name in own if not name.startswith("_")]


def _cell(value: Any) -> str:
    """A part of a result: few numbers as they are, another result by its own parts."""
    few = isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer)
    if few and value.ndim == 1 and 0 < value.size <= FEW and value.dtype.kind in "biuf":
        with contextlib.suppress(RuntimeError):  # an array that was given away
            return ", ".join(f"{number:.4g}" if value.dtype.kind == "f" else str(number) for number in value.tolist())
    if hasattr(type(value), "_fields") or (dataclasses.is_dataclass(value) and not hasattr(value, "kind_of")):
        parts = [(name, part) for name, part in _parts(value) if part is not None]
        return ", ".join(f"{name.replace('_', ' ')} {short(part)}" for name, part in parts[:FEW])
    return "-" if value is None else short(value)
