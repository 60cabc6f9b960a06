"""The number of threads that kernels use."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator


def set_num_threads(n: int) -> None:
    """Set the number of threads that large kernels use.

    It holds for the whole process. Small arrays are always worked on by the calling thread alone,
    and results have the same bits whatever the number.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1 or more than 1024.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: n must be an integer, got {type(n).__name__}")
    if not 1 <= n <= 1024:
        raise ValueError(f"set_num_threads: n must be between 1 and 1024, got {n}")
    dispatch.core.set_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that large kernels use.

    Without OpenMP and in the child of a fork kernels run on one thread all the same.
    """
    return dispatch.core.get_num_threads()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads within a ``with`` block, and restore it after.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import dlcore as dl
    >>> with dl.num_threads(1):
    ...     dl.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def _cgroup_quota() -> int | None:
    """Return the cores' worth of time that the control group grants, if it sets a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        try:
            v1 = Path("/sys/fs/cgroup/cpu")
            quota = (v1 / "cpu.cfs_quota_us").read_text("ascii")
            period = (v1 / "cpu.cfs_period_us").read_text("ascii")
        except (OSError, ValueError):
            return None
    if quota.strip() == "max" or int(quota) <= 0:
        return None
    return max(1, math.ceil(int(quota) / int(period)))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    # OMP_NUM_THREADS may be a list, one number for each level of nesting.
    first = text.split(",")[0] if name == "OMP_NUM_THREADS" else text
    if not first.strip().isdecimal() or not 1 <= int(first) <= 1024:
        if name == "OMP_NUM_THREADS":
            return None  # OpenMP's own variable: its runtime complains
        raise ImportError(f"{name}={text!r} must be an integer between 1 and 1024")
    return int(first)


def default_num_threads() -> tuple[int, str]:
    """Return the number of threads at import, and in words where it comes from.

    ``DLCORE_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the cores that this process may use: its
    CPU affinity, and no more than the quota of its control group (containers).
    """
    for name in ("DLCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        n = _from_environment(name)
        if n is not None:
            return n, name
    cores, quota = _usable_cores(), _cgroup_quota()
    if quota is not None and quota < cores:
        return quota, f"CPU quota of the control group, of {cores} cores"
    return min(cores, 1024), "cores that this process may use"


set_num_threads(default_num_threads()[0])
