"""Ranks without MPI: threads of one process, with a communicator as `mpi4py` has."""

import threading

import numpy as np


class Meeting:
    """Where so many threads exchange arrays."""

    def __init__(self, size):
        self.size = size
        self._changed = threading.Condition()
        self._exchanges = {}  # by number: arrays by rank
        self._ended = set()  # ranks that come to no exchange any more

    def exchange(self, number, rank, array):
        """Return copies of the arrays of all ranks."""
        with self._changed:
            arrays = self._exchanges.setdefault(number, {})
            arrays[rank] = np.array(array)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: len(arrays) == self.size or self._ended - arrays.keys(), timeout=60
            )
        if len(arrays) < self.size:
            raise RuntimeError(f"rank {rank} waits for others in vain, of whom {self._ended} ended")
        of_each = [arrays[own] for own in range(self.size)]
        kinds = {(own.dtype, own.shape) for own in of_each}
        if len(kinds) > 1:
            raise RuntimeError(f"the ranks exchange different arrays: {kinds}")
        return of_each

    def end(self, rank):
        with self._changed:
            self._ended.add(rank)
            self._changed.notify_all()


class ThreadCommunicator:
    """The communicator of one of them."""

    def __init__(self, rank, meeting):
        self.rank, self.size = rank, meeting.size
        self._meeting, self._number = meeting, 0

    def Allgather(self, array, out):
        parts = [own.reshape(-1) for own in self._exchange(array)]
        out[...] = np.concatenate(parts).reshape(out.shape)

    def Allreduce(self, array, out):
        out[...] = sum(self._exchange(array))

    def Bcast(self, array, root=0):
        array[...] = self._exchange(array)[root]

    def _exchange(self, array):
        self._number += 1
        return self._meeting.exchange(self._number, self.rank, array)


def on_ranks(size, function):
    """Call ``function(comm)`` on so many ranks; return what each gave, or the exception it raised."""
    meeting = Meeting(size)
    results = [None] * size

    def run(rank):
        try:
            results[rank] = function(ThreadCommunicator(rank, meeting))
        except Exception as error:  # noqa: BLE001 - for the test to look at
            results[rank] = error
        finally:
            meeting.end(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
