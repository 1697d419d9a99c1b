"""Names of a pytree's leaves, in files and messages: one for each leaf, whatever the containers' keys are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax

from jaxplain.types import Pytree

Parts = tuple[str, ...]

_KEPT = frozenset(" _-~()[]{},;=+@#$&!'`^")
"""What a file's name holds as it is, beside letters and digits. No point: Orbax and xarray join names with it."""


def leaves_by_parts(tree: Pytree) -> dict[Parts, Any]:
    """Leaves by the names on their way; the attribute `value` that NNX puts under each variable is left out.

    Raises:
        ValueError: Keys that differ and are written alike, so that two leaves have the same names.
    """
    ways = jax.tree_util.tree_leaves_with_path(tree)
    names = [tuple(_name(key) for key in way) for way, _ in ways]
    variables = [bool(way) and isinstance(way[-1], jax.tree_util.GetAttrKey) for way, _ in ways]
    short = without_value(names)
    found: dict[Parts, Any] = {}
    for (way, leaf), parts, variable in zip(ways, names, variables, strict=True):
        parts = parts[:-1] if variable and short[parts] != parts else parts
        if parts in found:
            raise ValueError(
                f"the pytree has two leaves of the name {'/'.join(parts)!r} (the second at "
                f"{jax.tree_util.keystr(way)}); rename a key, so that each leaf has a name of its own in files."
            )
        found[parts] = leaf
    return found


def without_value(names: Iterable[Parts]) -> dict[Parts, Parts]:
    """Names without `value` at their end where nothing lies beside it, so that no two of them become one.

    What stands between an NNX variable and its array is an attribute in memory and a key in a checkpoint.
    """
    names = list(names)
    below = Counter(parts[:depth] for parts in names for depth in range(len(parts)))

    def short(parts: Parts) -> Parts:
        while parts and parts[-1] == "value" and below[parts[:-1]] == 1:
            parts = parts[:-1]
        return parts

    return {parts: short(parts) for parts in names}


def leaves_by_path(tree: Pytree) -> dict[str, Any]:
    """Leaves by their path, joined by "/".

    Raises:
        ValueError: Two leaves of one path, such as those of `{"a": {"b": 1}, "a/b": 2}`.
    """
    found: dict[str, Any] = {}
    for parts, leaf in leaves_by_parts(tree).items():
        path = "/".join(parts)
        if path in found:
            raise ValueError(f"the pytree has two leaves of the path {path!r}; rename a key that holds a '/'.")
        found[path] = leaf
    return found


def escaped(part: str) -> str:
    """A name as a file's may be: what a path, a separator or a reserved name could be is written %XX; one to one."""
    text = "".join(char if _is_kept(char) else _hexadecimal(char) for char in part)
    if text.startswith("__"):  # reserved by Zarr
        text = _hexadecimal("_") + text[1:]
    return text or "%"


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    return re.sub("(?:%[0-9A-F]{2})+", _character, "" if text == "%" else text)


def _is_kept(char: str) -> bool:
    return (char.isalnum() or char in _KEPT) if char.isascii() else char > "\x9f" and not "\ud800" <= char <= "\udfff"


def _hexadecimal(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _character(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogatepass")


def _name(part: Any) -> str:
    for field in ("key", "idx", "name"):
        if hasattr(part, field):
            return str(getattr(part, field))
    return str(part)
