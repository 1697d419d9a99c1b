"""Paths that a caller passes: absolute, at home where they begin with `~`, and read alike by all who open them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def as_path(value: Any, name: str, argument: str) -> Path:
    """Require a path, and return it absolute, with `~` at its beginning as the home folder."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name}: `{argument}` is {type(value).__name__}; pass a path, a text or a `pathlib.Path`.")
    if not text or "\0" in text:
        raise ValueError(f"{name}: `{argument}` is {text!r}, which is no path.")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{name}: `{argument}` is {text!r}, and there is no such home folder.") from error


def as_folder(value: Any, name: str, argument: str) -> Path:
    """Require the path of a folder whose files TensorStore can open, and return it as `as_path` does.

    TensorStore takes a backslash for a slash, and so would open another folder.
    """
    found = as_path(value, name, argument)
    text = str(found)
    if "\\" in text and os.sep != "\\":
        raise ValueError(
            f"{name}: `{argument}` is {text!r}; a backslash in it would be taken for a slash, and another folder be "
            "opened. Divide folders with '/', and rename those whose names hold a backslash."
        )
    if any(part.endswith(".__lock") for part in found.parts) or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError(
            f"{name}: `{argument}` is {text!r}; pass a path in UTF-8, of which no part ends in '.__lock': TensorStore "
            "cannot open others."
        )
    return found
