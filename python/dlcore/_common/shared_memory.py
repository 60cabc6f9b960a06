"""Memory that the ranks of one machine share, by a window of MPI."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import Self

    from dlcore._common.typing import Array

# Two pieces of a message: while the others read one, a rank writes the next. The caches hold them.
_SIZE = 1 << 20

# What a communicator keeps its window by, once there is one.
_KEYS: list[int] = []


class SharedMemory:
    """Bytes of each rank that all ranks read: a message is copied twice, in and out.

    Attributes
    ----------
    parts : list of ndarray
        Of each rank, all of one size. A rank writes its own.
    """

    def __init__(self, comm: Any, window: Any) -> None:
        self._comm = comm
        self._window = window  # the memory is there as long as it is
        window.Lock_all()  # MPI wants it around Sync; locks of all exclude nobody
        self.parts: list[Array] = [
            np.frombuffer(window.Shared_query(rank)[0], np.uint8) for rank in range(comm.size)
        ]

    def meet(self) -> None:
        """Wait for all ranks; what each wrote before can be read after."""
        self._window.Sync()
        self._comm.Barrier()
        self._window.Sync()

    def gather_bytes(self, own: Array, out: Array) -> None:
        """Give ``out`` the bytes of all ranks, one after the other."""
        self.parts[self._comm.rank][: own.size] = own
        self.meet()
        for part, to in zip(self.parts, out.reshape(len(self.parts), -1), strict=True):
            to[...] = part[: own.size]
        self.meet()

    @classmethod
    def of(cls, comm: Any) -> Self | None:
        """Return the memory that the ranks of a communicator share; None unless all of them can.

        All ranks make this call. The communicator keeps the memory.
        """
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is None or not isinstance(comm, mpi.Intracomm):
            return None
        if not _KEYS:
            _KEYS.append(mpi.Comm.Create_keyval())
        own: Self | None = comm.Get_attr(_KEYS[0])
        if own is None and _is_one_machine(comm, mpi):
            own = cls(comm, mpi.Win.Allocate_shared(_SIZE, 1, comm=comm))
            comm.Set_attr(_KEYS[0], own)
        return own


def _is_one_machine(comm: Any, mpi: Any) -> bool:
    here = comm.Split_type(mpi.COMM_TYPE_SHARED)
    is_whole: bool = here.size == comm.size
    here.Free()
    return is_whole
