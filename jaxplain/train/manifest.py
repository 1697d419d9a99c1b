"""What a checkpoint of ours says of its leaves beside their values: names, shapes, dtypes and checksums."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxplain.program import escaped, unescaped

FILE = "jaxplain.json"
FORMAT = 2
"""1, of earlier versions, had no file of this kind."""

Parts = tuple[str, ...]


class Entry(NamedTuple):
    """A leaf: its shape, dtype and the checksum of its bytes."""

    shape: tuple[int, ...]
    dtype: str
    crc32: int


def entry(value: np.ndarray) -> Entry:
    """What is noted of a value."""
    flat = np.ascontiguousarray(value).reshape(-1)
    return Entry(tuple(value.shape), str(value.dtype), zlib.crc32(flat.view(np.uint8).data) if flat.size else 0)


def stored(parts: Parts) -> Parts:
    """The keys under which a leaf is stored; Orbax joins them with points and lets two names of one spelling be one."""
    return tuple(map(escaped, parts)) or ("value",)  # one leaf without a container


def write(folder: Path, leaves: Mapping[Parts, np.ndarray]) -> None:
    """Write the file into a checkpoint's folder."""
    listed = [[list(stored(parts)), *entry(value)] for parts, value in leaves.items()]
    text = json.dumps({"format": FORMAT, "crc32": _checksum(listed), "leaves": listed}, indent=1)
    (folder / FILE).write_text(text, encoding="utf-8")


def read(folder: Path, what: str) -> dict[Parts, Entry] | None:
    """What the file says, by name; None where there is none: somebody else's checkpoint.

    Raises:
        ValueError: A damaged file, or one of a newer format.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, crc32, listed = content["format"], content["crc32"], content["leaves"]
        whole = crc32 == _checksum(listed)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(what, path) from error
    if version != FORMAT:
        raise ValueError(f"{what} is of the format {version!r} of jaxplain; this version reads the format {FORMAT}.")
    if not whole:
        raise _damaged(what, path)
    return {tuple(map(unescaped, keys)): Entry(tuple(shape), dtype, crc) for keys, shape, dtype, crc in listed}


def _checksum(listed: Any) -> int:
    return zlib.crc32(json.dumps(listed).encode())


def _damaged(what: str, path: Path) -> ValueError:
    return ValueError(f"{what} is damaged: {path} cannot be read. Restore the folder from a copy, or save it again.")
