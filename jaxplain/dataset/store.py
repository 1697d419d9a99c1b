"""A folder in Zarr v3, written and read through TensorStore: a group with an array for everything that is known.

Arrays are chunked along their first axis, the examples; chunks are compressed and carry a checksum, and are put into
their place whole. What a run needs beside them, which chunks are finished and which checksum each of them ends with,
lies in the subfolder `jaxplain-run`; it is visible, so that it goes along where the folder is copied.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.dataset.ledger import Finished
from jaxplain.program import escaped, unescaped
from jaxplain.types import Pytree

NAME = "explain_dataset"
FORMAT = 2
"""1, of earlier versions, kept what is finished in a hidden folder, without the chunks' checksums."""

OWN = "jaxplain-run"
"""The subfolder; no array has its name, as those of records are names of Python."""

EXAMPLES = "example"
"""The name of the first axis."""

MARK = 4
"""Bytes of the checksum at the end of a chunk's file; the last of the codecs puts it there."""

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
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)


class Store:
    """The arrays of a folder, open for writing or reading."""

    def __init__(self, folder: Path, chunk: int, arrays: dict[str, Any]) -> None:
        self.folder: Path = folder
        self.chunk: int = chunk
        self.arrays: dict[str, Any] = arrays
        self.finished: Mapping[int, Finished] = {}  # what chunks that are read are compared with

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
        for name, array in self.arrays.items():  # each one: a run may have been killed between two of them
            if array.shape[0] != length:
                self.arrays[name] = _resized(array, length)

    def marks(self, number: int) -> dict[str, str]:
        """The checksum at the end of a chunk's file, by array."""
        return {name: self._mark(name, number) for name in self.arrays}

    def _mark(self, name: str, number: int) -> str:
        path = chunk_file(self.folder / name, number, self.arrays[name].rank)
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - MARK, 0))
            return file.read(MARK).hex()

    def _at_home(self, name: str, numbers: Iterable[int]) -> None:
        """Require that chunks are those that were written in their places."""
        for number in numbers:
            entry = self.finished.get(number)
            try:
                moved = entry is not None and (entry.marks or {}).get(name) != self._mark(name, number)
            except FileNotFoundError:
                continue  # never written, or deleted since: reading it says so
            if moved:
                path = chunk_file(self.folder / name, number, self.arrays[name].rank)
                raise self._corrupt(name, number, path, "its checksum is not that of what was written there")

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
            for name in self.arrays:
                self._at_home(name, (entry.chunk,))
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
        places = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else np.asarray(rows)
        self._at_home(name, np.unique(places // self.chunk).tolist())
        return self._fetched(name, self.arrays[name][rows].read())

    def _fetched(self, name: str, future: Any) -> np.ndarray:
        try:
            return np.asarray(future.result())
        except ValueError as error:
            found = re.search(r'"([^"]*/c/(\d+)(?:/0)*)"', str(error))
            if found is None:
                raise
            reason = str(error).split("[")[0].strip()
            raise self._corrupt(name, int(found[2]), Path(found[1]), reason) from error

    def _corrupt(self, name: str, number: int, path: Path, reason: str) -> ValueError:
        return ValueError(
            f"the chunk {number} of {name!r} in {self.folder} (examples {number * self.chunk} to "
            f"{(number + 1) * self.chunk - 1}) is corrupt: {reason}. Delete the file {path} and run explain_dataset "
            "again with the same arguments: only what is missing is computed. The other chunks are as they were."
        )


def _resized(array: Any, length: int, **how: bool) -> Any:
    limits = [length, *[None] * (array.rank - 1)]
    return array.resize(exclusive_max=limits, resize_metadata_only=True, **how).result()


def chunk_file(folder: Path, number: int, rank: int) -> Path:
    """Where the chunk of an array lies; the other axes are never divided."""
    return folder.joinpath("c", str(number), *["0"] * (rank - 1))


def create(folder: Path, specs: Mapping[str, Spec], length: int, chunk: int, attributes: Mapping[str, Any]) -> Store:
    """Make the group and its arrays; the group's file comes last, so that a folder with it is whole.

    The folder is this run's own: locked, and without a group. What a run left that was killed in here is deleted.

    Raises:
        OSError: The folder cannot be written.
    """
    for root in {name.split("/")[0] for name in specs}:
        if (folder / root).exists():
            shutil.rmtree(folder / root)
    arrays = {}
    for name, spec in specs.items():
        arrays[name] = _opened(folder / name, {"metadata": _metadata(name, spec, length, chunk)}, create=True)
        if not (folder / name / "zarr.json").is_file():
            raise OSError(f"{NAME}: the array {folder / name} was not made there; pass a plainer path.")
    write_group(folder, attributes)
    return Store(folder, chunk, arrays)


def open_store(folder: Path, names: list[str], chunk: int, finished: Mapping[int, Finished] | None = None) -> Store:
    """Open the arrays of a folder that `create` made; chunks that are read are compared with what is `finished`."""
    store = Store(folder, chunk, {name: _opened(folder / name, {}, create=False) for name in names})
    store.finished = finished or {}
    rows = max((number * chunk + one.rows for number, one in store.finished.items()), default=0)
    for name, array in store.arrays.items():
        parts, file = tuple(array.chunk_layout.read_chunk.shape), folder / name / "zarr.json"
        if parts[0] != chunk:
            raise ValueError(f"{file} is damaged: its chunks are not of {chunk} examples.")
        if parts[1:] != tuple(max(side, 1) for side in array.shape[1:]) or array.shape[0] < rows:
            raise ValueError(
                f"{file} is damaged: it says {list(array.shape)}, but its chunks are {list(parts)} and {rows} examples "
                "are finished. Restore the file, or write into another folder."
            )
    return store


def read_attributes(folder: Path) -> dict[str, Any] | None:
    """The group's attributes, or None where there is no group that `create` made.

    Raises:
        ValueError: A group's file that is damaged, or of another format; it is named.
    """
    path = folder / "zarr.json"
    try:
        group = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise _damaged(path) from error
    attributes = group.get("attributes") if isinstance(group, dict) else None
    known = attributes.get("jaxplain") if isinstance(attributes, dict) else None
    if known is None:
        if (folder / OWN).exists():
            raise _damaged(path)
        return None
    version = known.get("format") if isinstance(known, dict) else None
    if type(version) is int and version != FORMAT:
        raise ValueError(
            f"{folder} is of the format {version}; this version of jaxplain reads and writes the format {FORMAT}. Use "
            "the version that wrote it, or explain again into another folder."
        )
    if not isinstance(known, dict) or known.get("checksum") != _checksum(known):
        raise _damaged(path)
    if any(part != escaped(unescaped(part)) for name in known["names"] for part in name.split("/")):
        raise _damaged(path)
    return {name: value for name, value in known.items() if name != "checksum"}


def _checksum(attributes: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in attributes.items() if name != "checksum"}
    return f"{zlib.crc32(json.dumps(rest, sort_keys=True).encode()):08x}"


def _damaged(path: Path) -> ValueError:
    return ValueError(
        f"{path} is damaged: what it says of the explanations cannot be read. Restore this file from a copy; without "
        "one, explain again into another folder. The chunks beside it are as they were."
    )


def write_group(folder: Path, attributes: Mapping[str, Any], names: Iterable[str] = ()) -> None:
    """Write the group's file, with the metadata of arrays in it, where readers of Zarr look for it."""
    attributes = json.loads(json.dumps(attributes))
    metadata = {}
    for name in names:
        for depth in range(1, len(name.split("/"))):
            metadata["/".join(name.split("/")[:depth])] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        metadata[name] = json.loads((folder / name / "zarr.json").read_text(encoding="utf-8"))
    known = {"jaxplain": {**attributes, "checksum": _checksum(attributes)}}
    group: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": known}
    if metadata:
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
        return ts.open(spec, create=create, open=not create).result()
    except ValueError as error:
        if create:
            raise OSError(f"{NAME}: cannot write to {path}: {str(error).split('[')[0]}") from error
        raise ValueError(f"open_explanations: {path} cannot be read: {str(error).split('[')[0]}") from error


def _metadata(name: str, spec: Spec, length: int, chunk: int) -> dict[str, Any]:
    short = name.replace("/", ".")
    floating = spec.dtype.kind in "fV"  # bfloat16 is of the kind V
    return {
        "shape": [length, *spec.shape],
        "data_type": str(spec.dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk, *(max(s, 1) for s in spec.shape)]}},
        "codecs": _CODECS,
        "fill_value": "NaN" if floating else False if spec.dtype.kind == "b" else 0,
        "dimension_names": [EXAMPLES, *(f"{short}_{axis + 1}" for axis in range(len(spec.shape)))],
    }


def nested(named: Mapping[str, Any]) -> Pytree:
    """Values by path (`a/b`, of escaped names) as nested dictionaries."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *parents, last = map(unescaped, name.split("/"))
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
