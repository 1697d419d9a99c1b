"""Which chunks are finished: a line for each, appended once it is on disk; half a line does not count."""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from pathlib import Path
from typing import Any, NamedTuple


class Finished(NamedTuple):
    """A chunk on disk: its number, how many examples it holds, and a digest of the data they were made of.

    marks: the checksum with which each array's file of the chunk ends, by the array's name. So a chunk is bound to its
    place, and another one there, whole as it may be, is noticed. time: when it was noted; the last note counts.
    """

    chunk: int
    rows: int
    data: str
    marks: dict[str, str] | None = None
    time: int = 0


class Ledger:
    """The finished chunks of a folder. Every process appends to a file of its own; all are read."""

    def __init__(self, folder: Path, process: int) -> None:
        self._path = folder / f"finished-{process}.log"

    def append(self, entry: Finished) -> None:
        """Note a chunk. It has to be on disk already; the note is on disk when this returns."""
        body = json.dumps(entry._replace(time=time.time_ns())._asdict())
        line = f"{zlib.crc32(body.encode()):08x} {body}\n".encode()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last writer was killed within its line
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def finished_chunks(folder: Path) -> dict[int, Finished]:
    """Every chunk that some process has noted, by number."""
    found: dict[int, Finished] = {}
    for path in sorted(folder.glob("finished-*.log")):
        for line in path.read_bytes().split(b"\n"):
            entry = _parsed(line)
            if entry is not None and (entry.chunk not in found or entry.time >= found[entry.chunk].time):
                found[entry.chunk] = entry
    return found


def _parsed(line: bytes) -> Finished | None:
    """A line's entry, or None for what is no whole line."""
    check, _, body = line.partition(b" ")
    if check != f"{zlib.crc32(body):08x}".encode() or not body:
        return None
    try:
        entry = Finished(**json.loads(body))
    except (ValueError, TypeError, RecursionError):
        return None
    return entry if _is_entry(entry) else None


def _is_entry(entry: Any) -> bool:
    numbers = all(type(number) is int and number >= 0 for number in (entry.chunk, entry.rows, entry.time))
    return numbers and isinstance(entry.data, str) and isinstance(entry.marks, dict | None)
