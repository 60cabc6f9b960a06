"""Handwritten digits on several ranks: processes, on one machine or many, that train one network.

    mpiexec -n 2 python examples/ranks/train.py
    mpiexec -n 2 python examples/ranks/train.py --average-every 8

Every rank makes the same calls with the same rows. Each computes its share of every batch, and the
weights have the bits of one process in the end: the checksum is the same for any number of ranks.
With --average-every each rank learns by itself from its share of the batches, and after so many
updates they take the mean of their weights.
"""

import argparse
import zlib

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import dlcore as dl


def load_data():
    """Rows to train on and to test on: x of 64 pixels, y from 0 to 9."""
    x, y = load_digits(return_X_y=True)
    return train_test_split((x / 16).astype(np.float32), y, stratify=y, random_state=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--average-every", type=int, help="updates between two means")
    arguments = parser.parse_args()

    comm = MPI.COMM_WORLD
    x, x_test, y, y_test = load_data()
    model = dl.Sequential(dl.Linear(64, 64), dl.ReLU(), dl.Dropout(0.1), dl.Linear(64, 10), seed=0)
    trainer = dl.Trainer(
        model,
        loss="cross_entropy",
        optimizer=dl.AdamW(model.parameters(), lr=2e-3),
        seed=0,
        comm=comm,
        average_every=arguments.average_every,
    )
    trainer.fit(x, y, epochs=arguments.epochs, batch_size=64, verbose=2)
    if comm.rank == 0:
        accuracy = np.mean(model(x_test).argmax(axis=1) == y_test)
        print(f"{comm.size} ranks, test accuracy {100 * accuracy:.1f} %", end="")
        print(f", checksum of the weights {zlib.crc32(model.flat):08x}")


if __name__ == "__main__":
    main()
