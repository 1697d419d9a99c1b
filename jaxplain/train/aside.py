"""A folder that appears whole: made aside, renamed into its place; what killed makers left is cleared away."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

ENDING = ".saving"


@contextlib.contextmanager
def made_aside(target: Path) -> Iterator[Path]:
    """A place to make a folder at, which becomes `target` when the block ends without an error.

    What is at `target` is moved away in the last moment and deleted after. All that is made on the way lies in one
    folder, which its maker locks, so that the next one can tell what the dead have left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    clear(target)
    room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=ENDING, dir=target.parent))
    try:
        with _lock(room):
            yield room / "new"
            if target.exists():
                os.replace(target, room / "old")
            os.replace(room / "new", target)
    finally:
        _give_back(room, target)


def clear(target: Path) -> None:
    """Delete what makers that were killed have left, after giving back what one of them had moved away."""
    for found in target.parent.glob(f".{glob.escape(target.name)}.*{ENDING}"):
        with contextlib.suppress(OSError), _lock(found):  # its maker is alive, or nobody may write here
            _give_back(found, target)


def _give_back(room: Path, target: Path) -> None:
    """Delete a maker's folder; if it was stopped between its two renamings, what was there before comes back."""
    if (room / "old").exists() and not target.exists():
        os.replace(room / "old", target)
    shutil.rmtree(room, ignore_errors=True)


@contextlib.contextmanager
def _lock(room: Path) -> Iterator[None]:
    descriptor = os.open(room, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise
        yield
    finally:
        os.close(descriptor)
