"""A rank: trains some epochs for each line that comes from its pipe. Rank 0 tells seconds and loss."""

import sys
import time
from pathlib import Path

from mpi4py import MPI

from benchmarks.harness.worker import import_peer
from benchmarks.suites.ranks import CASES, EPOCHS


def main(folder, package, case, way):
    peer, comm = import_peer("dlcore", package), MPI.COMM_WORLD
    every = int(way.partition("=")[2] or 0) or None
    comm_of_fit = None if way == "alone" else comm
    fit = peer.train(CASES[case], EPOCHS, comm=comm_of_fit, average_every=every)
    fit()  # buffers are there, and the ranks know each other
    if comm.rank == 0:
        print("ready", flush=True)
    with (Path(folder) / str(comm.rank)).open() as commands:
        for _ in commands:
            comm.Barrier()
            began = time.perf_counter()
            loss = fit()
            comm.Barrier()
            if comm.rank == 0:
                print(time.perf_counter() - began, loss, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
