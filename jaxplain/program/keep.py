"""Compiled programs kept on disk between runs, for scripts and the command line."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from jaxplain.program.spelling import public

LARGEST = 2**30
"""Bytes that the folder may hold when a run begins; what was used longest ago goes first."""

_OFF = "JAX_ENABLE_COMPILATION_CACHE=false"


@public
def keep_programs(*, quiet: bool = False) -> str | None:
    """Keep compiled programs in the user's cache folder, so that a script's second run need not compile again.

    By JAX's persistent compilation cache, for programs that compile in no time too. A folder that was chosen before
    (`JAX_COMPILATION_CACHE_DIR`, `jax.config`) stays, and so do limits. Ours is another one for each kind of processor,
    whose programs may not run on another, and is brought below 1 GiB when a run begins.

    Args:
        quiet: Say nothing; otherwise a line on standard error tells the folder, and how to turn it off.

    Returns:
        The folder; None where the cache is turned off by `JAX_ENABLE_COMPILATION_CACHE=false`, or the folder cannot be
        written.

    Example:
        >>> keep_programs(quiet=True)  # doctest: +SKIP
        '/home/me/.cache/jaxplain/programs-1f0c...'
    """
    if not getattr(jax.config, "jax_enable_compilation_cache", True):
        return None
    folder = getattr(jax.config, "jax_compilation_cache_dir", None)
    if not folder:
        try:
            folder = _made(_folder())
        except (OSError, RuntimeError) as error:  # no right to write, or no home at all
            _say(f"Compiled programs are not kept: {error}", quiet)
            return None
        jax.config.update("jax_compilation_cache_dir", folder)
    for name, (usual, value) in _LIMITS.items():
        if name.upper() not in os.environ and getattr(jax.config, name, None) == usual:
            jax.config.update(name, value)
    _say(f"Compiled programs are kept in {folder} ({_OFF} turns that off).", quiet)
    return str(folder)


_LIMITS = {
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    "jax_persistent_cache_min_entry_size_bytes": (0, -1),
}
"""JAX's own values, and those with which programs are kept that compile in no time, too; what a user has set stays."""


def _made(folder: Path) -> str:
    """A folder that can be written, below its limit."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"no right to write to {folder}")
    _shrink(folder, LARGEST)
    return str(folder)


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(text, file=sys.stderr)


def _folder() -> Path:
    """The user's cache folder for programs of this processor."""
    system = platform.system()
    if system == "Windows":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif system == "Darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one does not count, by its specification
        base = chosen if chosen.is_absolute() else Path.home() / ".cache"
    return base / "jaxplain" / f"programs-{_processor()}"


def _processor() -> str:
    """A short name of the processor's kind and of what it can do."""
    lines = [platform.machine(), platform.processor()]
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        lines += sorted({line for line in known if line.startswith(("flags", "Features", "model name"))})
    except OSError:  # not Linux
        pass
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _shrink(folder: Path, most: int) -> None:
    """Delete what was used longest ago until the folder holds at most so many bytes."""
    found = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
    total = sum(state.st_size for _, state in found)
    for path, state in sorted(found, key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime)):
        if total <= most:
            return
        path.unlink(missing_ok=True)  # another run may have been faster
        total -= state.st_size
