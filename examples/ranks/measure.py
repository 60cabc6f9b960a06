"""What cost.py needs to know of a machine, measured between two ranks; JSON goes to stdout.

    mpiexec -n 2 python examples/ranks/measure.py > mine.json

Both ranks take their steps at the same time, each on one thread, as they would in a fit.
"""

import argparse
import json
import statistics
import sys
import time
from itertools import pairwise

import numpy as np
from mpi4py import MPI

import dlcore as dl

NETWORKS = [
    ((20, 64, 64, 2), 32),
    ((54, 256, 256, 7), 256),
    ((784, 256, 128, 10), 128),
    ((784, 1024, 1024, 10), 512),
]
STEPS = 8  # of an epoch
RUN = 0.02  # seconds of a run, at least
FLOATS = (5_600, 94_000, 600_000)  # about the parameters of three of them


def steps(widths, batch, seconds):
    """Return the time of a step in each of many runs, which take so many seconds together."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((STEPS * batch, widths[0]), np.float32)
    y = rng.integers(0, widths[-1], len(x))
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [dl.Linear(inputs, outputs), dl.ReLU()]
    trainer = dl.Trainer(dl.Sequential(*layers[:-1], seed=0), loss="cross_entropy", seed=0)

    def run(epochs):
        began = time.perf_counter()
        trainer.fit(x, y, epochs=epochs, batch_size=batch, verbose=0)
        return (time.perf_counter() - began) / (STEPS * epochs)

    run(1)
    epochs = max(1, round(RUN / (STEPS * run(1))))
    runs = max(4, round(seconds / (STEPS * epochs * run(epochs))))
    return [run(epochs) for _ in range(runs)]


def of_sum(comm, floats, rounds=300):
    """Return the median time of a sum of so many float32 over all ranks."""
    array, out = np.ones(floats, np.float32), np.empty(floats, np.float32)
    times = []
    for _ in range(rounds):
        comm.Barrier()
        began = time.perf_counter()
        comm.Allreduce(array, out)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def line_through(floats, seconds):
    """Return (latency, bandwidth) of messages, of which a sum over two ranks takes two."""
    sent = 4 * np.asarray(floats) / 2  # in each of them
    table = np.stack([np.full(len(sent), 2.0), 2 * sent], axis=1) / np.asarray(seconds)[:, None]
    (latency, per_byte), *_ = np.linalg.lstsq(table, np.ones(len(sent)))  # errors by their share
    return max(latency, 0.0), 1 / per_byte


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each network")
    arguments = parser.parse_args()

    comm = MPI.COMM_WORLD
    if comm.size != 2:
        sys.exit(f"measure.py wants two ranks, mpiexec -n 2, and has {comm.size}")
    dl.set_num_threads(1)
    networks = []
    for widths, batch in NETWORKS:
        comm.Barrier()
        times = steps(widths, batch, arguments.seconds)
        median = float(np.median(times))
        spread = float(np.diff(np.quantile(np.log(times), (0.25, 0.75)))[0] / 1.35)  # as of a bell
        both = comm.allgather((median, spread))
        step, spread = np.mean(both, axis=0)
        networks.append({"widths": widths, "batch": batch, "step": step, "spread": spread})
    sums = {str(floats): of_sum(comm, floats) for floats in FLOATS}
    latency, bandwidth = line_through(FLOATS, list(sums.values()))
    measured = {"latency": latency, "bandwidth": bandwidth, "sums": sums, "networks": networks}
    if comm.rank == 0:
        print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
