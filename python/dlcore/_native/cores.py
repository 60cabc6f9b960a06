"""The cores that this process may use: its affinity, and the quotas of its control groups."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where the system says what it mounted, and which control groups this process is in.
_PROC = Path("/proc/self")
# Where the control groups of version 2 and 1 lie unless the system says otherwise.
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the number of cores that this process was given.

    OpenMP may have bound the thread that asks to one of them when it was loaded (``OMP_PROC_BIND``,
    ``OMP_PLACES``), but knows how many there were.
    """
    known: int = dispatch.core.num_processors()
    if known:
        return known
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota() -> int | None:
    """Return the cores' worth of time that the control groups grant, None without a limit.

    A service has its limit in a group of its own, below one that may be limited as well: the
    smallest counts.
    """
    granted = [cores for cores in map(_quota_of, _groups()) if cores is not None]
    return max(1, math.ceil(min(granted))) if granted else None


class _Mount(NamedTuple):
    """A hierarchy of control groups: version 2, or version 1 of the processor's time."""

    version: int
    root: str  # the group that is seen at the top
    point: Path


def _mounts() -> Iterator[_Mount]:
    """Give the hierarchies that are mounted, or those of the usual places."""
    yield _Mount(2, "/", _CGROUPS)
    for name in ("cpu", "cpu,cpuacct"):
        yield _Mount(1, "/", _CGROUPS / name)
    for line in _lines(_PROC / "mountinfo"):
        # id, parent, device, root, point, options, ... - type, source, options
        before, _, after = line.partition(" - ")
        mount, (kind, *options) = before.split(), after.split() or [""]
        if len(mount) < 5:
            continue
        if kind == "cgroup2":
            yield _Mount(2, mount[3], Path(mount[4]))
        elif kind == "cgroup" and "cpu" in ",".join(options).split(","):
            yield _Mount(1, mount[3], Path(mount[4]))


def _groups() -> Iterator[tuple[int, Path]]:
    """Give the version and the folder of each group of this process, and of those above it."""
    paths = {1: "/", 2: "/"}
    for line in _lines(_PROC / "cgroup"):
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    for mount in _mounts():
        path = paths[mount.version]
        if mount.root != "/":  # as in a container that sees its own group at the top
            path = path.removeprefix(mount.root)
        folder = mount.point / path.strip("/")
        yield mount.version, folder
        for above in folder.parents:
            if not above.is_relative_to(mount.point):
                break
            yield mount.version, above


def _quota_of(group: tuple[int, Path]) -> float | None:
    """Return the cores that a group grants, if it sets a limit."""
    version, folder = group
    if version == 2:
        words = " ".join(_lines(folder / "cpu.max")).split()
    else:
        files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [word for name in files for line in _lines(folder / name) for word in line.split()]
    try:
        time, period = map(int, words)  # "max" is no number, and means that there is no limit
    except ValueError:
        return None
    return time / period if time > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of the system, none if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
