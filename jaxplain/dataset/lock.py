"""One run at a time on one folder: a lock that the system takes back when its holder dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

NAME = "explain_dataset"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which says who holds it.

    The lock is the system's (`flock`) and not the file's being there: a process that was killed holds none.

    Args:
        path: The file; it is made where it is not there, and stays.

    Raises:
        BlockingIOError: Another run holds it.
        OSError: The file cannot be made.
    """
    import fcntl

    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"{NAME}: another run is writing to {path.parent.parent}{_holder(path)}. Wait for it, or pass another "
                "folder."
            ) from None
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _holder(path: Path) -> str:
    """Who wrote the lock file, as an error says it."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {holder['process']} on {holder['host']})"
    except (OSError, ValueError, KeyError, TypeError):  # being written at this moment, or not by a run
        return ""
