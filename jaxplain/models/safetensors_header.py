"""The header of a safetensors file, checked as strictly as the format's own library does.

Source: the format's description in the documentation of Hugging Face safetensors: eight bytes of the header's length, a
JSON header, the tensors' bytes, which the header covers one after another, without a hole and to the end.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

NAME = "load_safetensors"
LONGEST = 100_000_000
"""The longest header, in bytes, that the format's library reads."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": jnp.dtype(jnp.bfloat16),
    "F8_E5M2": jnp.dtype(jnp.float8_e5m2),
    "F8_E4M3": jnp.dtype(jnp.float8_e4m3fn),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class Tensor(NamedTuple):
    """Where a tensor lies in the file, and what it is."""

    dtype: np.dtype
    shape: tuple[int, ...]
    first: int
    end: int


class _Unfit(Exception):
    """What is wrong with a header."""


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, places counted from the file's beginning.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file that is cut short, no safetensors file, or one whose header is not as the format demands.
    """
    size = path.stat().st_size
    if size < 8:  # and so a pipe, which would be waited for
        raise ValueError(f"{NAME}: {path} is cut short or no safetensors file ({size} bytes).")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError(f"{NAME}: {path} is cut short or no safetensors file ({size} bytes).")
        if length > LONGEST:
            raise ValueError(f"{NAME}: the header of {path} has {length} bytes; at most {LONGEST} are read.")
        text = file.read(length)
    try:
        tensors = [(name, _tensor(name, value)) for name, value in _parsed(text).items() if name != "__metadata__"]
        _covers(tensors)
    except _Unfit as error:
        raise ValueError(f"{NAME}: the header of {path} cannot be read: {error}.") from error
    start, end = 8 + length, 8 + length + max((tensor.end for _, tensor in tensors), default=0)
    if end > size:
        raise ValueError(f"{NAME}: {path} is cut short: {size} bytes, but its tensors end at {end}.")
    if end < size:
        raise ValueError(f"{NAME}: {path} has {size} bytes, but its tensors end at {end}; it is no safetensors file.")
    return {name: tensor._replace(first=start + tensor.first, end=start + tensor.end) for name, tensor in tensors}


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _Unfit(f"it is no JSON ({type(error).__name__}: {str(error)[:200]})") from error
    if not isinstance(header, dict):
        raise _Unfit(f"it is a {type(header).__name__}, not a table of tensors")
    more = header.get("__metadata__")
    if more is not None and not (isinstance(more, dict) and all(isinstance(value, str) for value in more.values())):
        raise _Unfit("its '__metadata__' is not a table of texts")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _Unfit("a name is there twice")
    if any("\ud800" <= char <= "\udfff" for name in table for char in name):
        raise _Unfit("a name is no text")
    return table


def _no_number(text: str) -> Any:
    raise _Unfit(f"it holds {text}")


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _Unfit(f"{name!r} needs 'dtype', 'shape' and 'data_offsets', and nothing else")
    dtype, shape, places = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _Unfit(f"{name!r} has the dtype {str(dtype)[:40]}, which is not known here ({', '.join(DTYPES)} are)")
    if not _counts(shape):
        raise _Unfit(f"{name!r} has the shape {str(shape)[:80]}; a shape is a list of integers from 0")
    if not _counts(places) or len(places) != 2:
        raise _Unfit(f"{name!r} has the data_offsets {str(places)[:80]}; they are two integers from 0")
    needed = DTYPES[dtype].itemsize * math.prod(length or 1 for length in shape)
    if needed >= 2**64:
        raise _Unfit(f"{name!r} has the shape {str(shape)[:80]}, which is larger than any file")
    if places[1] - places[0] != (0 if 0 in shape else needed):
        raise _Unfit(f"{name!r} is {dtype}{shape} from {places[0]} to {places[1]}, whose size does not agree")
    return Tensor(DTYPES[dtype], tuple(shape), *places)


def _counts(value: Any) -> bool:
    """Whether a value is a list of integers that are not negative; JSON's true and false are none."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**64 for item in value)


def _covers(tensors: list[tuple[str, Tensor]]) -> None:
    """Require that tensors lie one after another; overlapping ones would let one be read as another."""
    end = 0
    for name, tensor in sorted(tensors, key=lambda item: (item[1].first, item[1].end)):
        if tensor.first != end:
            raise _Unfit(f"{name!r} begins at {tensor.first}, but what comes before it ends at {end}")
        end = tensor.end
