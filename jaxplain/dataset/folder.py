"""A run's folder: made, or compared with what it holds; what is finished in it, and its end."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxplain.dataset.explanations import require_ledger, usable
from jaxplain.dataset.fingerprint import (
    NAME,
    arrays_of,
    differences,
    refuse,
    rows_digest,
    settings_of,
    versions,
)
from jaxplain.dataset.ledger import Finished, finished_chunks
from jaxplain.dataset.run import Plan
from jaxplain.dataset.source import Source, shapes
from jaxplain.dataset.store import FORMAT, OWN, Spec, Store, create, open_store, read_attributes, write_group
from jaxplain.program.trace import program_digest


class Run(NamedTuple):
    """A folder ready to be written: its chunk length, points at once, arrays, and finished chunks by number."""

    folder: Path
    chunk: int
    points: int
    store: Store
    finished: dict[int, Finished]

    @classmethod
    def from_told(cls, folder: Path, told: Mapping[str, Any]) -> Run:
        """As the first process described it."""
        finished = {entry[0]: Finished(*entry) for entry in told["finished"]}
        return cls(
            folder, told["chunk"], told["points"], open_store(folder, told["names"], told["chunk"], finished), finished
        )

    def close(self, count: int | None) -> None:
        """Give the arrays their final length, and put what readers of Zarr look for into the group's file."""
        store = open_store(self.folder, list(self.store.arrays), self.chunk)
        if count is not None:
            store.resize(count)
        known = read_attributes(self.folder)
        assert known is not None
        known["data"]["count"] = count
        write_group(self.folder, known, list(store.arrays))


def describe(plan: Plan, source: Source) -> dict[str, Any]:
    """Everything by which one run is told from another. Every process takes part where parameters are spread."""
    record = plan.record
    return {
        "format": FORMAT,
        "versions": versions(),
        "method": settings_of(record.explain),
        "arrays": {
            **arrays_of(record.explain),
            **{f"reduce.{k}": v for k, v in arrays_of(record.reduce).items()},
            **{f"prepare.{k}": v for k, v in arrays_of(record.prepare).items()},
        },
        "program": _program(plan),
        "key": None if plan.key is None or not record.needs_key else _key_data(plan.key),
        "data": {"count": source.count, **shapes(plan.sample)},
        "settings": {"target": record.target, "reduce": settings_of(record.reduce), "dtype": record.dtype}
        | ({} if record.prepare is None else {"prepare": settings_of(record.prepare)}),
    }


def _key_data(key: Any) -> list[int]:
    data = jax.random.key_data(key) if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.asarray(data).tolist()


def _program(plan: Plan) -> str:
    try:
        with jax.set_mesh(None):
            return program_digest(plan.program())
    except (ValueError, TypeError, RuntimeError):  # a model that names the axes of a mesh is traced under it alone
        with plan.devices.context():
            return program_digest(plan.program())


def open_run(
    folder: Path,
    manifest: dict[str, Any],
    specs: Mapping[str, Spec],
    share: int,
    source: Source,
    resume: bool,
) -> dict[str, Any]:
    """Make the folder's arrays, or compare what it holds with this run.

    Args:
        folder: It is there, and locked.
        manifest: From `describe`.
        specs: Of the arrays to make.
        share: Rows of a batch in each process, of which a new run's chunks are made.
        source: The data, to compare the finished chunks with, where they can be read again.
        resume: Whether to finish a run that is there.

    Returns:
        What the other processes have to know: chunk, names, and the finished chunks.

    Raises:
        FileExistsError: Something else is there, or a run, and `resume` is off.
        ValueError: A run with another model, method, key or data; a corrupt chunk.
    """
    known = read_attributes(folder)
    if known is None:
        if any(path.name not in (OWN, *_roots(specs)) for path in folder.iterdir()):
            raise _foreign(folder)
        if any((folder / root / "c").is_dir() for root in _roots(specs)) and finished_chunks(folder / OWN):
            raise ValueError(
                f"{NAME}: {folder} holds finished chunks, but its file zarr.json is missing. Restore that file from a "
                "copy, or pass another folder."
            )
        for path in [*(folder / OWN).glob("finished-*.log"), *(folder / OWN).glob("aggregate-*.npz")]:
            path.unlink()  # left by a run whose arrays have been deleted
        chunk = _chunk(specs, share, source.count)
        attributes = {**manifest, "chunk": chunk, "names": list(specs)}
        create(folder, specs, chunk if source.count is None else source.count, chunk, attributes)
        return {"chunk": chunk, "points": manifest["points"], "names": list(specs), "finished": []}
    if not resume:
        raise FileExistsError(f"{NAME}: {folder} holds a run. Pass `resume=True` to finish it, or another folder.")
    return _continued(folder, known, manifest, source)


LONGEST, LARGEST, PARTS = 512, 2**23, 32
"""A chunk of several batches has at most so many examples and bytes, and the dataset at least so many such chunks."""


def _chunk(specs: Mapping[str, Spec], share: int, count: int | None) -> int:
    """How many examples a new run's chunks hold: a batch, or several small ones of a large dataset.

    A chunk is a file of every array, each of which waits for the disk; a run that is killed loses the one it was at.
    """
    if count is None or jax.process_count() > 1:
        return share
    size = sum(spec.dtype.itemsize * math.prod(spec.shape) for spec in specs.values())
    return share * max(1, min(LONGEST, LARGEST // max(1, size), count // PARTS) // share)


def make_folder(folder: Path) -> None:
    """Make the folder and its subfolder for what a run needs.

    Raises:
        PermissionError: It cannot be written.
        FileExistsError: There is a file, or a folder with something else in it.
    """
    try:
        if folder.is_dir() and not (folder / OWN).exists() and any(folder.iterdir()):
            if read_attributes(folder) is not None:
                require_ledger(folder)
            raise _foreign(folder)
        (folder / OWN).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no right to write to {folder}")
    except (FileExistsError, NotADirectoryError) as error:
        if folder.is_dir():
            raise
        raise FileExistsError(f"{NAME}: {folder} is a file, or lies in one; pass the path of a folder.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, f"{NAME}: the disk of {folder} is full: {error}. Make room.") from error
        raise PermissionError(f"{NAME}: the folder {folder} cannot be written: {error}.") from error


def _foreign(folder: Path) -> FileExistsError:
    names = sorted(path.name for path in folder.iterdir() if path.name != OWN)
    return FileExistsError(
        f"{NAME}: {folder} holds something that is no run of explain_dataset ({', '.join(names[:3])}); pass a new "
        "or an empty folder."
    )


def _roots(specs: Mapping[str, Spec]) -> set[str]:
    """What a run that was killed while it made its arrays may have left."""
    return {name.split("/")[0] for name in specs}


def _continued(folder: Path, known: dict[str, Any], manifest: dict[str, Any], source: Source) -> dict[str, Any]:
    if source.count is None:  # a stream's length shows at its end
        known = {**known, "data": {**known["data"], "count": None}}
    lines = differences(known, json.loads(json.dumps(manifest)))
    if lines:
        raise refuse(folder, lines)
    noted = finished_chunks(folder / OWN)
    store = open_store(folder, known["names"], known["chunk"], noted)
    fitting = {n: entry for n, entry in noted.items() if usable(entry, known["chunk"], known["data"]["count"])}
    finished = {n: entry for n, entry in fitting.items() if not store.missing(n)}
    store.verify(finished.values())
    if source.random_access:
        for number, rows in source.chunks(known["chunk"], sorted(finished)):
            if rows_digest(rows) != finished[number].data:
                first = number * known["chunk"]
                raise refuse(folder, [f"data: the examples {first} to {first + rows.size - 1} are others"])
    told = {"chunk": known["chunk"], "names": known["names"], "finished": [list(f) for f in finished.values()]}
    return {**told, "points": known.get("points", manifest["points"])}
