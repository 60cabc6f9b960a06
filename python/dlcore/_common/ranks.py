"""Ranks: processes, maybe on several machines, that work on one thing and exchange what they made.

What moves arrays between them is a communicator of MPI, such as ``mpi4py.MPI.COMM_WORLD``, or any
object with ``rank``, ``size``, ``Allreduce``, ``Bcast`` and ``Allgather`` that take arrays as those
of mpi4py do. All ranks make the same calls in the same order.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array

E = TypeVar("E", bound=BaseException)

_NEEDED = ("rank", "size", "Allreduce", "Bcast", "Allgather")


class RankError(RuntimeError):
    """Something failed on another rank; the message says where and what."""


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
            return [pickle.loads(padded.tobytes())]
        parts = self.all_gather(padded)
        return [pickle.loads(part[:size].tobytes()) for part, size in zip(parts, sizes, strict=True) if size]

    def end_job(self, error: BaseException) -> None:
        """Say what failed on this rank, and end all others, which wait for it."""
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(
            f"{text}dlcore: rank {self.rank} of {self.size} failed and ends the job: "
            f"{described(error)}\n"
        )
        sys.stderr.flush()
        if abort := getattr(self._comm, "Abort", None):
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
