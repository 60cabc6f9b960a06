"""What a report says of the machine."""

import os
import platform
import re
from pathlib import Path


def processor():
    """Name the processor."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def caches():
    """Return the sizes of the data caches in bytes."""
    indices = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    sizes = [
        1024 * int((index / "size").read_text().strip().rstrip("K"))
        for index in indices
        if (index / "type").read_text().strip() != "Instruction"
    ]
    return sizes or [2**15, 2**20, 2**25]


def describe(versions):
    """Return processor, cores and the versions of the libraries by name."""
    import dlcore

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "isa": dlcore.isa(),
        "python": platform.python_version(),
        "versions": versions,
    }
