"""Errors as one line, and the exit status of each: 2 for what was passed, 1 for what failed, 130 for Ctrl-C."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FINE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

LONGEST = 700
"""Characters of an error's line; compilers write pages."""

_PACKAGE = str(Path(__file__).resolve().parents[1])
_INSTALLED = re.compile(r"site-packages|dist-packages|lib/python3")
_DISK = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


class Failed(Exception):
    """What a user's own function raised, in one line that says where."""


def status(error: BaseException) -> int:
    """The exit status of an error: what the library refuses is the caller's to mend, anything else has failed."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in _DISK:
        return FAILED
    refused = isinstance(error, ValueError | TypeError | OSError | ImportError)
    return WRONG if refused and _place(error)[0].startswith(_PACKAGE) else FAILED


def line(error: BaseException) -> str:
    """An error as one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what was written stays, and the same command (of train with --resume) goes on from there."
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = " ".join(text.split())
    text = f"{text[:LONGEST]} ..." if len(text) > LONGEST else text
    if status(error) == WRONG:
        return f"error: {text}"
    if not isinstance(error, Failed | OSError):
        file, number = _seen(error)
        text = f"{type(error).__name__}: {text} ({file}, line {number})."
    return f"failed: {text} The option --traceback shows more."


def called(function: Callable[..., Any], text: str, *inputs: Any) -> Any:
    """What a user's function returns; an error in it is said with its place.

    Args:
        function: The function.
        text: The option and its value, as they were written.
        *inputs: What it is called with.

    Raises:
        Failed: It raised something.
    """
    try:
        return function(*inputs)
    except Exception as error:
        raise Failed(f"{text} raised {said(error)}") from error


def said(error: BaseException) -> str:
    """Kind, message and place of an error in somebody else's code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {error.msg} ({error.filename}, line {error.lineno})."
    file, number = _seen(error)
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:LONGEST]} ({file}, line {number})."


def _place(error: BaseException) -> tuple[str, int]:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def _seen(error: BaseException) -> tuple[str, int]:
    """The innermost file and line that are the user's own, where there are any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((_PACKAGE, "<")) and not _INSTALLED.search(f.filename)]
    return (own[-1].filename, own[-1].lineno or 0) if own else _place(error)


def warn(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
    """Write a warning as one line, as `warnings.showwarning` is called."""
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)
