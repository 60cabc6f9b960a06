"""Ranks with rows of their own: each maps its part of a file, and reads no other.

    mpiexec -n 2 python examples/ranks/sharded.py

The batch size is that of all ranks together. All of them make the same update, from the mean of
their gradients.
"""

import argparse
import tempfile
import zlib
from pathlib import Path

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits

import dlcore as dl

TEST = 400  # rows at the end of the files


def write_files(folder):
    """Write what would be there already: x.npy and y.npy."""
    x, y = load_digits(return_X_y=True)
    np.save(folder / "x.npy", (x / 16).astype(np.float32))
    np.save(folder / "y.npy", y)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()

    comm = MPI.COMM_WORLD
    with tempfile.TemporaryDirectory() as name:
        folder = Path(comm.bcast(name))  # of rank 0, on a disk that all ranks see
        if comm.rank == 0:
            write_files(folder)
        comm.Barrier()
        x, y = (np.load(folder / file, mmap_mode="r") for file in ("x.npy", "y.npy"))
        begin, end = (r * (len(x) - TEST) // comm.size for r in (comm.rank, comm.rank + 1))

        model = dl.Sequential(dl.Linear(64, 64), dl.ReLU(), dl.Linear(64, 10), seed=0)
        trainer = dl.Trainer(
            model,
            loss="cross_entropy",
            optimizer=dl.AdamW(model.parameters(), lr=2e-3),
            seed=0,
            comm=comm,
            sharded=True,
        )
        trainer.fit(x[begin:end], y[begin:end], epochs=arguments.epochs, batch_size=64, verbose=2)
        accuracy = np.mean(model(x[-TEST:]).argmax(axis=1) == y[-TEST:])
        checksums = comm.gather(f"{zlib.crc32(model.flat):08x}")
        comm.Barrier()  # before the folder goes
    if comm.rank == 0:
        print(f"{comm.size} ranks, test accuracy {100 * accuracy:.1f} %", end="")
        print(f", checksums of the weights {' '.join(checksums)}")


if __name__ == "__main__":
    main()
