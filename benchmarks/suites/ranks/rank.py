"""A rank: trains an epoch for each line that comes from its pipe. Rank 0 tells seconds and loss."""

import sys
import time
from pathlib import Path

from mpi4py import MPI

from benchmarks.harness.worker import import_peer
from benchmarks.suites.ranks import CASES


def main(folder, package, case, way):
    peer, comm = import_peer("dlcore", package), MPI.COMM_WORLD
    every = int(way.partition("=")[2] or 0) or None
    epoch = peer.train(CASES[case], comm=None if way == "alone" else comm, average_every=every)
    epoch()  # buffers are there, and the ranks know each other
    if comm.rank == 0:
        print("ready", flush=True)
    with (Path(folder) / str(comm.rank)).open() as commands:
        for _ in commands:
            comm.Barrier()
            began = time.perf_counter()
            loss = epoch()
            comm.Barrier()
            if comm.rank == 0:
                print(time.perf_counter() - began, loss, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
