"""What a compiled program needs of a device's memory, and what is free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FLIGHT = 3
"""Results that are held at once while batches are in flight: computed, waiting, being fetched."""


def needed_bytes(compiled: Any) -> int:
    """Memory of one device that a program needs while batches are in flight."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    moving = analysis.output_size_in_bytes
    return int(analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + FLIGHT * moving)


def free_bytes(device: Any, sharing: int = 1) -> int:
    """Memory that one device may use: most of what is free of its own, or its part of a quarter of the host's."""
    statistics = device.memory_stats() or {} if device.platform != "cpu" else {}
    if "bytes_limit" in statistics:
        return int(0.85 * (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)))
    return host_bytes() // 4 // sharing


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
