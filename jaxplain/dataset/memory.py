"""How many examples fit: the largest batch whose compiled program leaves room in the device's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain.dataset.devices import Devices, gathered

LARGEST = 1024
"""More examples than this at once gain nothing and make chunks large."""

FLIGHT = 3
"""Batches whose inputs and results are held at once: computed, waiting, being fetched."""


def largest_batch(compiled: Callable[[int], Any], fits: Callable[[int], bool], devices: Devices, count: Any) -> int:
    """The largest power of two (times the width of the mesh) of which programs fit.

    Memory is read off compiled programs, of two small batches first: it grows linearly, so the size that fits is known
    from them and proved by compiling it.

    Args:
        compiled: From a batch size to the compiled program.
        fits: Whether a trial run of a size got its memory; asked on devices with a memory of their own.
        devices: Where it will run.
        count: The number of examples, or None.

    Returns:
        The batch size, at least the width of the mesh.
    """
    room, width = min(float(np.asarray(free)) for free in gathered(np.float32(free_bytes(devices)))), devices.width
    limit = LARGEST if count is None else min(LARGEST, 1 << max(count - 1, 0).bit_length())
    small, large = width, 8 * width
    base = needed_bytes(compiled(small))
    slope = max((needed_bytes(compiled(large)) - base) / (large - small), 1.0)
    size = width
    while 2 * size <= max(limit, width) and base + slope * (2 * size - small) <= room:
        size *= 2
    while size > width and needed_bytes(compiled(size)) > room:
        size //= 2
    while size > width and not all(bool(np.asarray(ok)) for ok in gathered(np.asarray(fits(size)))):
        size //= 2
    return size


def needed_bytes(compiled: Any) -> int:
    """Memory of one device that a program needs while batches are in flight."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    moving = analysis.output_size_in_bytes
    return int(analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + FLIGHT * moving)


def free_bytes(devices: Devices) -> int:
    """Memory that one device may use: most of what is free of its own, or a part of the host's."""
    local = (
        jax.local_devices()
        if devices.mesh is None
        else [d for d in devices.mesh.devices.flat if d.process_index == jax.process_index()]
    )
    device = local[0]
    statistics = device.memory_stats() or {} if device.platform != "cpu" else {}
    if "bytes_limit" in statistics:
        return int(0.85 * (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)))
    return host_bytes() // 4 // (1 if devices.mesh is None else len(local))


def host_bytes() -> int:
    """Memory of the host that is free, within the limit of a container."""
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")]
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = [1024 * int(lines["MemAvailable"].split()[0])]
    except (OSError, KeyError, ValueError):  # not Linux: what the C library says has to do
        pass
    try:
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit ("max")
        pass
    return max(min(free), 1 << 26)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of the runtime says that memory ran out."""
    text = str(error).lower()
    return "resource_exhausted" in text or "out of memory" in text
