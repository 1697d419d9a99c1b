"""A folder in Zarr v3, written and read through TensorStore: a group with an array for everything that is known.

Arrays are chunked along their first axis, the examples; chunks are compressed and carry a checksum, and are put into
their place whole. What a run needs beside them lies in the subfolder `.jaxplain`.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.dataset.ledger import Finished
from jaxplain.types import Pytree

NAME = "explain_dataset"
EXAMPLES = "example"
"""The name of the first axis."""

AHEAD = 128
"""How many chunks are read at once where all are read."""

_CODECS = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 1, "shuffle": "shuffle"}},
    {"name": "crc32c"},
]


class Spec:
    """Shape of one example's value and dtype of an array."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)


class Store:
    """The arrays of a folder, open for writing or reading."""

    def __init__(self, folder: Path, chunk: int, arrays: dict[str, Any]) -> None:
        self.folder, self.chunk, self.arrays = folder, chunk, arrays

    @property
    def length(self) -> int:
        """How many examples the arrays have room for."""
        return int(next(iter(self.arrays.values())).shape[0])

    def write(self, start: int, rows: Mapping[str, np.ndarray]) -> list[Any]:
        """Start writing one whole chunk of every array; returns futures."""
        stop = start + len(next(iter(rows.values())))
        self.grow(stop)
        return [self.arrays[name][start:stop].write(values) for name, values in rows.items()]

    def grow(self, length: int) -> None:
        """Make room for examples, with some to spare: a stream does not say how many there will be."""
        for name, array in self.arrays.items():
            if array.shape[0] < length:
                wanted = max(2 * array.shape[0], -(-length // self.chunk) * self.chunk)
                try:
                    self.arrays[name] = _resized(array, wanted, expand_only=True)
                except ValueError:  # another process has made more room meanwhile
                    self.arrays[name] = _opened(self.folder / name, {}, create=False)
                    if self.arrays[name].shape[0] < length:
                        raise

    def resize(self, length: int) -> None:
        """Set the number of examples."""
        self.arrays = {name: _resized(array, length) for name, array in self.arrays.items()}

    def missing(self, number: int) -> bool:
        """Whether the file of a chunk is missing, in some array."""
        return not all(chunk_file(self.folder / name, number, a.rank).exists() for name, a in self.arrays.items())

    def verify(self, entries: Iterable[Finished]) -> None:
        """Read chunks of every array, some at once, so that checksums are compared.

        Raises:
            ValueError: One is corrupt; the error names the file.
        """
        waiting: deque[tuple[str, Any]] = deque()
        for entry in entries:
            rows = slice(entry.chunk * self.chunk, entry.chunk * self.chunk + entry.rows)
            waiting.extend((name, array[rows].read()) for name, array in self.arrays.items())
            while len(waiting) > AHEAD:
                self._fetched(*waiting.popleft())
        while waiting:
            self._fetched(*waiting.popleft())

    def read(self, name: str, rows: Any) -> np.ndarray:
        """Rows of an array, checksums compared.

        Raises:
            ValueError: A chunk that is corrupt; the error names its examples and its file.
        """
        return self._fetched(name, self.arrays[name][rows].read())

    def _fetched(self, name: str, future: Any) -> np.ndarray:
        try:
            return np.asarray(future.result())
        except ValueError as error:
            found = re.search(r'"([^"]*/c/(\d+)(?:/0)*)"', str(error))
            if found is None:
                raise
            number = int(found[2])
            raise ValueError(
                f"the chunk {number} of {name!r} in {self.folder} (examples {number * self.chunk} to "
                f"{(number + 1) * self.chunk - 1}) is corrupt: {str(error).split('[')[0].strip()}. Delete the file "
                f"{found[1]} and run explain_dataset again with the same arguments: only what is missing is computed. "
                "The other chunks are as they were."
            ) from error


def _resized(array: Any, length: int, **how: bool) -> Any:
    limits = [length, *[None] * (array.rank - 1)]
    return array.resize(exclusive_max=limits, resize_metadata_only=True, **how).result()


def chunk_file(folder: Path, number: int, rank: int) -> Path:
    """Where the chunk of an array lies; the other axes are never divided."""
    return folder.joinpath("c", str(number), *["0"] * (rank - 1))


def create(folder: Path, specs: Mapping[str, Spec], length: int, chunk: int, attributes: Mapping[str, Any]) -> Store:
    """Make the group and its arrays; the group's file comes last, so that a folder with it is whole.

    Raises:
        OSError: The folder cannot be written.
    """
    arrays = {}
    for name, spec in specs.items():
        arrays[name] = _opened(folder / name, {"metadata": _metadata(name, spec, length, chunk)}, create=True)
    write_whole(folder / "zarr.json", json.dumps(_group(attributes), indent=1))
    return Store(folder, chunk, arrays)


def open_store(folder: Path, names: list[str], chunk: int) -> Store:
    """Open the arrays of a folder that `create` made."""
    return Store(folder, chunk, {name: _opened(folder / name, {}, create=False) for name in names})


def read_attributes(folder: Path) -> dict[str, Any] | None:
    """The group's attributes, or None where there is no group that `create` made."""
    try:
        group = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, NotADirectoryError):
        return None
    attributes = group.get("attributes", {}) if isinstance(group, dict) else {}
    return attributes.get("jaxplain")


def consolidate(folder: Path, names: list[str]) -> None:
    """Put the arrays' metadata into the group's file, as readers of Zarr look for it."""
    group = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    metadata = {}
    for name in names:
        for depth in range(1, len(name.split("/"))):
            metadata["/".join(name.split("/")[:depth])] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        metadata[name] = json.loads((folder / name / "zarr.json").read_text(encoding="utf-8"))
    group["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": metadata}
    write_whole(folder / "zarr.json", json.dumps(group, indent=1))


def write_whole(path: Path, text: str | bytes) -> None:
    """Write aside in the same folder, and rename."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    data = text.encode() if isinstance(text, str) else text
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _opened(path: Path, more: dict[str, Any], *, create: bool) -> Any:
    import tensorstore as ts

    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "store_data_equal_to_fill_value": True,  # a chunk without a file is one that was never written
        "recheck_cached_metadata": "open",
        **more,
    }
    try:
        return ts.open(spec, create=create, open=not create, delete_existing=create).result()
    except ValueError as error:
        if create:
            raise OSError(f"{NAME}: cannot write to {path}: {str(error).split('[')[0]}") from error
        raise ValueError(f"open_explanations: {path} cannot be read: {str(error).split('[')[0]}") from error


def _metadata(name: str, spec: Spec, length: int, chunk: int) -> dict[str, Any]:
    short = name.replace("/", "_")
    floating = spec.dtype.kind in "fV"  # bfloat16 is of the kind V
    return {
        "shape": [length, *spec.shape],
        "data_type": str(spec.dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk, *(max(s, 1) for s in spec.shape)]}},
        "codecs": _CODECS,
        "fill_value": "NaN" if floating else False if spec.dtype.kind == "b" else 0,
        "dimension_names": [EXAMPLES, *(f"{short}_{axis + 1}" for axis in range(len(spec.shape)))],
    }


def _group(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "group", "attributes": {"jaxplain": dict(attributes)}}


def nested(named: Mapping[str, Any]) -> Pytree:
    """Values by path (`a/b`) as nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
