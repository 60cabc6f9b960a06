"""The number of threads that kernels use."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dlcore._native import cores, dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 1024
_ranks = 1  # processes that use the cores of this machine together


def set_num_threads(n: int) -> None:
    """Set the number of threads that large kernels use.

    It holds for the whole process. Small arrays are always worked on by the calling thread alone,
    and results have the same bits whatever the number. In a block of `num_threads` it changes the
    number of the block as well.

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

    Notes
    -----
    As long as the number is not set, here or by ``DLCORE_NUM_THREADS``, a thread whose OpenMP was
    told another one uses that: ``threadpoolctl.threadpool_limits(1)`` limits dlcore, too. The
    threads of all calls that run at the same time are at most about three times as many as this
    number; calls that find none left run on their own thread.
    """
    _check(n, "set_num_threads")
    dispatch.core.set_num_threads(n)
    if dispatch.core.exchange_own_num_threads(0):
        dispatch.core.exchange_own_num_threads(n)


def get_num_threads() -> int:
    """Return the number of threads that large kernels use when this thread calls them.

    It is 1 without OpenMP, and at most OpenMP's own limit (``OMP_THREAD_LIMIT``).
    """
    return dispatch.core.get_num_threads()


def num_threads_of_process() -> int:
    """Return the number that holds where no thread has one of its own."""
    return dispatch.core.process_num_threads() or default_num_threads()[0]


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads within a ``with`` block, for what this Python thread calls.

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
    _check(n, "num_threads")
    before = dispatch.core.exchange_own_num_threads(n)
    try:
        yield
    finally:
        dispatch.core.exchange_own_num_threads(before)


def adopt_num_threads(n: int) -> None:
    """Let this thread, which works for another one, have the number of that one."""
    dispatch.core.exchange_own_num_threads(n)


def source_of_num_threads() -> str:
    """Say where `get_num_threads` comes from."""
    core, n = dispatch.core, get_num_threads()
    own = core.exchange_own_num_threads(0)
    core.exchange_own_num_threads(own)
    default, source = default_num_threads()
    if n == core.thread_limit() and n < (own or core.process_num_threads() or default):
        return "OMP_THREAD_LIMIT"
    if own:
        return "set_num_threads for this thread, by num_threads"
    process = core.process_num_threads()
    if process:
        return source if source == "DLCORE_NUM_THREADS" and n == default else "set_num_threads"
    if not core.openmp:
        return "there is no OpenMP"
    if n != default:
        return "omp_set_num_threads, as threadpoolctl calls it"
    return source


def _check(n: int, function: str) -> None:
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"{function}: n must be an integer, got {type(n).__name__}")
    if not 1 <= n <= _MOST:
        raise ValueError(f"{function}: n must be between 1 and {_MOST}, got {n}")


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    # OMP_NUM_THREADS may be a list, one number for each level of nesting.
    first = text.split(",")[0] if name == "OMP_NUM_THREADS" else text
    if not first.strip().isdecimal() or not 1 <= int(first) <= _MOST:
        if name == "OMP_NUM_THREADS":
            return None  # OpenMP's own variable: its runtime complains
        raise ImportError(f"{name}={text!r} must be an integer between 1 and {_MOST}")
    return int(first)


def default_num_threads() -> tuple[int, str]:
    """Return the number of threads at import, and in words where it comes from.

    ``DLCORE_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the cores that this process may use: its
    CPU affinity, and no more than the quotas of its control groups (containers, services).
    """
    for name in ("DLCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        n = _from_environment(name)
        if n is not None:
            return n, name
    usable, quota = cores.usable_cores(), cores.quota()
    if quota is not None and quota < usable:
        n, source = quota, f"CPU quota of the control group, of {usable} cores"
    else:
        n, source = min(usable, _MOST), "cores that this process may use"
    if _ranks > 1:
        return max(1, n // _ranks), f"{n} {source}, for {_ranks} ranks"
    return n, source


def divide_default(ranks: int) -> None:
    """Let so many processes use the cores together: each has its share of them by default."""
    global _ranks
    _ranks = ranks
    dispatch.core.set_default_num_threads(default_num_threads()[0])


def _set_default() -> None:
    n, source = default_num_threads()
    dispatch.core.set_default_num_threads(n)
    if source == "DLCORE_NUM_THREADS":
        dispatch.core.set_num_threads(n)


_set_default()
