"""What the readers of image files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxplain import check


def scaled(images: np.ndarray) -> np.ndarray:
    """Map uint8 pixels 0 to 255 to float32 in [0, 1], with one copy in memory."""
    pixels = images.astype(np.float32)
    pixels /= np.float32(255)
    return pixels


def check_folder(path: Path, name: str) -> None:
    """Require a folder."""
    if not path.is_dir():
        what = "a file, not a folder" if path.exists() else "not there"
        raise FileNotFoundError(f"{name}: the folder {path} is {what}.")


def checked_size(size: Any, name: str) -> tuple[int, int]:
    """Require (height, width), and return them."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise TypeError(f"{name}: `size` is {size!r}; pass (height, width) in pixels.")
    height, width = (check.count(length, name, "size") for length in size)
    return height, width
