"""How many examples fit: the largest batch whose compiled program leaves room in the device's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxplain.dataset.devices import Devices, gathered
from jaxplain.program import free_bytes as device_bytes
from jaxplain.program import needed_bytes

LARGEST = 1024
"""More examples than this at once gain nothing and make chunks large."""


def largest_batch(
    compiled: Callable[[int], Any], fits: Callable[[int], bool], devices: Devices, count: Any, waiting: int = 0
) -> int:
    """The largest power of two (times the width of the mesh) of which programs fit.

    Memory is read off compiled programs, of two small batches first: it grows linearly, so the size that fits is known
    from them and proved by compiling it.

    Args:
        compiled: From a batch size to the compiled program.
        fits: Whether a trial run of a size got its memory; asked on devices with a memory of their own.
        devices: Where it will run.
        count: The number of examples, or None.
        waiting: Bytes on one device that each example takes beside the program, waiting for it.

    Returns:
        The batch size, at least the width of the mesh.
    """
    room, width = min(float(np.asarray(free)) for free in gathered(np.float32(free_bytes(devices)))), devices.width
    limit = LARGEST if count is None else min(LARGEST, 1 << max(count - 1, 0).bit_length())
    small, large = width, 8 * width

    def needed(size: int) -> int:
        return needed_bytes(compiled(size)) + waiting * size

    base = needed(small)
    slope = max((needed(large) - base) / (large - small), 1.0)
    size = width
    while 2 * size <= max(limit, width) and base + slope * (2 * size - small) <= room:
        size *= 2
    while size > width and needed(size) > room:
        size //= 2
    while size > width and not all(bool(np.asarray(ok)) for ok in gathered(np.asarray(fits(size)))):
        size //= 2
    return size


def free_bytes(devices: Devices) -> int:
    """Memory that one device may use: most of what is free of its own, or a part of the host's."""
    local = (
        jax.local_devices()
        if devices.mesh is None
        else [d for d in devices.mesh.devices.flat if d.process_index == jax.process_index()]
    )
    return device_bytes(devices.first, 1 if devices.mesh is None else len(local))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of the runtime says that memory ran out."""
    text = str(error).lower()
    return "resource_exhausted" in text or "out of memory" in text
