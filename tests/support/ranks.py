"""Ranks that are threads of this process, so that many cases of several ranks run quickly."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dlcore._common.ranks import Ranks

# Seconds after which ranks that wait for each other are taken for stuck.
_PATIENCE = 60


class Together:
    """What the ranks of one communicator share."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=_PATIENCE)
        self.sent = [None] * size


class ThreadComm:
    """A communicator as those of mpi4py, for one of several threads.

    Ranks that do not make the same call of arrays of the same kind are an error on all of them.
    """

    def __init__(self, together, rank):
        self._together, self.rank, self.size = together, rank, together.size
        self.calls = 0

    def _exchange(self, call, array):
        assert array.flags.c_contiguous
        together = self._together
        self.calls += 1
        together.sent[self.rank] = (call, array.dtype, array.shape, array.copy())
        together.barrier.wait()
        of_each = list(together.sent)
        together.barrier.wait()
        kinds = {kind[:3] for kind in of_each}
        assert len(kinds) == 1, f"the ranks make different calls: {kinds}"
        return [array for *_, array in of_each]

    def Allreduce(self, sent, received):
        arrays = self._exchange("Allreduce", sent)
        received[...] = sum(arrays[1:], arrays[0])

    def Allgather(self, sent, received):
        received[...] = np.concatenate([a.reshape(-1) for a in self._exchange("Allgather", sent)])

    def Bcast(self, array, root=0):
        array[...] = self._exchange("Bcast", array)[root]

    def Abort(self, code=1):  # noqa: ARG002
        self._together.barrier.abort()


def outcomes_on_ranks(size, function):
    """Return what ``function(comm)`` returns or raises on each rank.

    All ranks end where one has failed and the others wait for it.
    """
    together = Together(size)

    def run(rank):
        try:
            return function(ThreadComm(together, rank))
        except Exception as error:  # noqa: BLE001 - it is returned
            together.barrier.abort()
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


def on_ranks(size, function):
    """Return what ``function(comm)`` returns on each rank, which must not fail on any."""
    outcomes = outcomes_on_ranks(size, function)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    waited = threading.BrokenBarrierError
    for error in sorted(errors, key=lambda error: isinstance(error, waited)):
        raise error
    return outcomes


def each_of(size, function):
    """As `on_ranks`, of ``function(ranks)``."""
    return on_ranks(size, lambda comm: function(Ranks(comm)))
