"""Ranks: processes, maybe on several machines, that work on one thing and exchange what they made.

What moves arrays between them is a communicator of MPI, such as ``mpi4py.MPI.COMM_WORLD``, or any
object with ``rank``, ``size``, ``Allreduce``, ``Bcast`` and ``Allgather`` that take arrays as those
of mpi4py do. All ranks make the same calls in the same order.
"""

from __future__ import annotations

import pickle
import sys
import time
import traceback
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dlcore._common.shared_memory import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array

E = TypeVar("E", bound=BaseException)

_NEEDED = ("rank", "size", "Allreduce", "Bcast", "Allgather")
# Bytes of a message, which MPI before its version 4 counts in an int.
_MESSAGE = 1 << 30
# What is said right before the end of a job was lost by MPICH's launcher once in 20 times.
_SECONDS_TO_TELL = 0.3


class RankError(RuntimeError):
    """Something failed on another rank; the message says where and what."""


class Alone:
    """The communicator of a process that there is no other of."""

    rank, size = 0, 1

    def Allreduce(self, array: Array, out: Array) -> None:
        out[...] = array

    def Bcast(self, array: Array, root: int = 0) -> None:
        pass

    def Allgather(self, array: Array, out: Array) -> None:
        out[...] = array


class Ranks:
    """The ranks of a communicator.

    Parameters
    ----------
    comm : communicator
        Such as ``mpi4py.MPI.COMM_WORLD``.

    Attributes
    ----------
    rank, size : int
        This rank, counted from 0, and how many there are.

    Raises
    ------
    TypeError
        If ``comm`` is no communicator.
    """

    def __init__(self, comm: Any) -> None:
        missing = [name for name in _NEEDED if not hasattr(comm, name)]
        if missing:
            raise TypeError(
                f"comm must be a communicator such as mpi4py.MPI.COMM_WORLD, with "
                f"{', '.join(_NEEDED)}; {comm!r} has no {', '.join(missing)}"
            )
        self._comm = comm
        self.rank, self.size = int(comm.rank), int(comm.size)

    @property
    def others(self) -> Ranks | None:
        """These ranks; None where there is one."""
        return self if self.size > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which reports and writes files."""
        return self.rank == 0

    def all_gather(self, array: Array) -> Array:
        """Return the arrays of all ranks, which have the same shape and dtype, stacked."""
        array = np.ascontiguousarray(array)
        out = np.empty((self.size, *array.shape), array.dtype)
        self._comm.Allgather(_bytes(array), _bytes(out))
        return out

    def gather_bytes(self, own: Any, out: Any) -> None:
        """Give ``out`` the bytes of all ranks, one after the other."""
        self._comm.Allgather(np.frombuffer(own, np.uint8), np.frombuffer(out, np.uint8))

    def shared_memory(self) -> SharedMemory | None:
        """Return memory through which ranks of one machine exchange; None where MPI has none."""
        return SharedMemory.of(self._comm)

    def sum(self, array: Array) -> Array:
        """Return the sum over all ranks of arrays of the same shape and dtype."""
        array = np.ascontiguousarray(array)
        out = np.empty_like(array)
        self._comm.Allreduce(array, out)
        return out

    def of_first(self, value: Any) -> Any:
        """Return what rank 0 gave."""
        return self._exchange(value, sends=self.is_first)[0]

    def of_each(self, value: Any) -> list[Any]:
        """Return what each rank gave."""
        return self._exchange(value, sends=True)

    def _exchange(self, value: Any, *, sends: bool) -> list[Any]:
        """Return what the ranks that send gave, in their order."""
        own = np.frombuffer(pickle.dumps(value) if sends else b"", np.uint8)
        sizes = self.all_gather(np.array([own.size], np.int64)).ravel().tolist()
        padded = np.zeros(max(sizes), np.uint8)
        padded[: own.size] = own
        if sizes.count(0) == self.size - 1 and sizes[0]:
            self._comm.Bcast(padded, root=0)
            return [pickle.loads(padded.data)]
        parts = self.all_gather(padded)
        return [
            pickle.loads(part[:size].data) for part, size in zip(parts, sizes, strict=True) if size
        ]

    def merged(self, part: Any, merge: Callable[[Any, Any], Any]) -> Any:
        """Return what the parts of all ranks merge to, neighbors first: the same bits on each."""
        parts = self.of_each(part)
        while len(parts) > 1:
            parts = [reduce(merge, parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]

    def stacked(self, rows: Array) -> Array:
        """Return the rows of all ranks, in their order; they have the same dtype and width."""
        ends = np.cumsum(self.all_gather(np.array([len(rows)], np.int64))).tolist()
        out = np.empty((ends[-1], *rows.shape[1:]), rows.dtype)
        out[ends[self.rank] - len(rows) : ends[self.rank]] = rows
        self.share(out, [0, *ends])
        return out

    def share(self, rows: Array, starts: Sequence[int]) -> None:
        """Give all ranks the rows of an array that rank r has: those from starts[r] to starts[r + 1]."""
        for root in range(self.size):
            part = rows[starts[root] : starts[root + 1]]
            whole = np.ascontiguousarray(part)
            sent = _bytes(whole)
            for begin in range(0, len(sent), _MESSAGE):
                self._comm.Bcast(sent[begin : begin + _MESSAGE], root=root)
            if not part.flags.c_contiguous:
                part[...] = whole

    def check_same(self, what: str, value: Any) -> None:
        """Raise a ValueError on all ranks where they have several values; None counts for none."""
        given = {rank: own for rank, own in enumerate(self.of_each(value)) if own is not None}
        first = next(iter(given), 0)
        for rank, own in given.items():
            if own != given[first]:
                raise on_all(
                    ValueError(
                        f"{what} must be the same on all ranks: {given[first]} on rank {first}, "
                        f"{own} on rank {rank}"
                    )
                )

    def end_job(self, error: BaseException) -> None:
        """Say what failed on this rank, and end all others, which wait for it."""
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(
            f"{text}dlcore: rank {self.rank} of {self.size} failed and ends the job: "
            f"{described(error)}\n"
        )
        sys.stderr.flush()
        if abort := getattr(self._comm, "Abort", None):
            time.sleep(_SECONDS_TO_TELL)
            abort(1)


def on_all(error: E) -> E:
    """Mark an error as one that all ranks raise, and return it."""
    error._is_on_all_ranks = True  # type: ignore[attr-defined]
    return error


def is_on_all(error: BaseException) -> bool:
    """Whether all ranks raise an error, so that none of them waits for this one."""
    return getattr(error, "_is_on_all_ranks", False)


def described(error: BaseException) -> str:
    """Return an error as the last line of a traceback has it."""
    return "".join(traceback.format_exception_only(error)).strip()


def _bytes(array: Array) -> Array:
    """Return an array as bytes, which communicators move whatever its dtype is."""
    return array.reshape(-1).view(np.uint8)
