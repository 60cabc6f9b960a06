"""A file larger than the memory on several ranks, and the memory that its fit takes.

    mpiexec -n 2 python examples/ranks/memory_map.py --gigabytes 40

The file is sparse: it takes no room on the disk, and all its numbers are 0. What reads it is none
the wiser.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI

import dlcore as dl

WIDTH, CLASSES = 8192, 4


def peak_megabytes():
    """The most memory that this process has held, pages of mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=40)
    parser.add_argument("--folder", help="where to put the file")
    parser.add_argument("--iterations", type=int, help="updates; otherwise all rows once")
    parser.add_argument("--sharded", action="store_true", help="each rank reads rows of its own")
    arguments = parser.parse_args()

    comm = MPI.COMM_WORLD
    rows = int(arguments.gigabytes * 1e9 / (4 * WIDTH))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        file = Path(comm.bcast(name)) / "x.npy"
        if comm.rank == 0:
            np.lib.format.open_memmap(file, "w+", np.float32, (rows, WIDTH))
        comm.Barrier()
        x = np.load(file, mmap_mode="r")
        y = np.arange(rows, dtype=np.uint8) % CLASSES
        if arguments.sharded:
            begin, end = (r * rows // comm.size for r in (comm.rank, comm.rank + 1))
            x, y = x[begin:end], y[begin:end]

        model = dl.Sequential(dl.Linear(WIDTH, 16), dl.ReLU(), dl.Linear(16, CLASSES), seed=0)
        trainer = dl.Trainer(
            model, loss="cross_entropy", seed=0, comm=comm, sharded=arguments.sharded
        )
        warm = {"epochs": 1, "batch_size": 256, "verbose": 0}
        trainer.fit(x[:256], y[:256], **warm)  # buffers and threads are there
        before, began = peak_megabytes(), time.perf_counter()
        history = trainer.fit(x, y, max_iterations=arguments.iterations, **warm)
        seconds, after = time.perf_counter() - began, peak_megabytes()
        peaks = comm.gather((before, after))
        comm.Barrier()  # before the file goes
    if comm.rank == 0:
        print(f"{rows * WIDTH * 4 / 1e9:.1f} GB, {rows} rows, {comm.size} ranks, ", end="")
        print(f"{history.batches[-1]} batches of 256 rows in {seconds:.1f} s")
        for rank, (before, after) in enumerate(peaks):
            print(f"rank {rank}: {before:.0f} MB before the fit, {after:.0f} MB at most in it")


if __name__ == "__main__":
    main()
