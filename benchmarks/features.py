"""What the options of a fit cost: epochs with each of them beside plain ones, interleaved.

    python benchmarks/features.py [--rounds 9]

Prints medians, and for accumulated batches the peak of the memory beside that of one large batch.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

import dlcore as dl

ROWS, FEATURES, CLASSES, BATCH = 12_800, 784, 10, 128


def make_model(max_norm=None, norm=False):
    """Return the network of the second widest case of `benchmarks/training`."""
    layers = [dl.Linear(FEATURES, 256, max_norm=max_norm), dl.ReLU()]
    layers += [dl.BatchNorm1d(256)] if norm else []
    layers += [dl.Linear(256, 128), dl.ReLU(), dl.Linear(128, CLASSES)]
    return dl.Sequential(*layers, seed=0)


def make_fit(x, y, *, freeze=(), optimizer=None, trainer=None, fit=None, **model):
    """Return a function that trains one epoch."""
    net = make_model(**model)
    for name in freeze:
        net.freeze(name)
    own = dl.Adam(net.parameters(), **(optimizer or {}))
    made = dl.Trainer(net, loss="cross_entropy", optimizer=own, seed=0, **(trainer or {}))
    return lambda: made.fit(x, y, epochs=1, batch_size=BATCH, verbose=0, **(fit or {}))


def noise(batch, rng):
    """Change a batch about as much as one that is read from elsewhere."""
    batch += rng.standard_normal(batch.shape, np.float32) * np.float32(0.01)
    return batch


def cases(x, y):
    """Return a function that trains one epoch, by what it does beside."""
    images = dl.ImageTransform((28, 28), rotation=10, shift=0.1)
    cosine = dl.CosineAnnealingLR(10_000, per="iteration")
    return {
        "plain": make_fit(x, y),
        "schedule of iterations": make_fit(x, y, trainer={"schedule": cosine}),
        "log_every=10": make_fit(x, y, fit={"log_every": 10}),
        "l1": make_fit(x, y, optimizer={"l1": 1e-4}),
        "moving average": make_fit(x, y, fit={"callbacks": [dl.ExponentialMovingAverage()]}),
        "max_norm": make_fit(x, y, max_norm=3.0),
        "clip_grad_value": make_fit(x, y, trainer={"clip_grad_value": 1.0}),
        "clip_grad_norm": make_fit(x, y, trainer={"clip_grad_norm": 1.0}),
        "accumulate=4": make_fit(x, y, trainer={"accumulate": 4}),
        "batch norm": make_fit(x, y, norm=True),
        "first layer frozen": make_fit(x, y, freeze=["0"]),
        "all but the last frozen": make_fit(x, y, freeze=["0", "2"]),
        "transform, nothing": make_fit(x, y, fit={"transform": lambda batch, _: batch}),
        "transform, noise": make_fit(x, y, fit={"transform": noise}),
        "transform, images": make_fit(x, y, fit={"transform": images}),
    }


def peak_of(batch_size, accumulate):
    """Measure the growth of a process's peak memory in a fit, in MB."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import features; "
        f"print(features.grow({batch_size}, {accumulate}))"
    )
    # By way of a shell: a child's peak begins at that of the process that it was split from.
    command = ["sh", "-c", f'"{sys.executable}" -c "{code}"']
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grow(batch_size, accumulate):
    """Train one update, and return by how much the peak of this process grew, in MB."""
    x, y = data()
    trainer = dl.Trainer(make_model(), loss="cross_entropy", accumulate=accumulate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def data():
    """Draw rows and classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, FEATURES), np.float32)
    return x, rng.integers(0, CLASSES, ROWS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    fits = cases(*data())
    seconds = {name: [] for name in fits}
    for _ in range(rounds + 1):
        for name, fit in fits.items():
            start = time.perf_counter()
            fit()
            seconds[name].append(time.perf_counter() - start)
    plain = statistics.median(seconds["plain"][1:])
    steps = ROWS // BATCH
    print(f"{'':26}{'µs a step':>10}{'of plain':>10}")
    for name, all_of_them in seconds.items():
        median = statistics.median(all_of_them[1:])
        print(f"{name:26}{median / steps * 1e6:10.0f}{median / plain:10.2f}")
    small, large = peak_of(BATCH, ROWS // BATCH), peak_of(ROWS, 1)
    print(
        f"one update from {ROWS} rows: {ROWS // BATCH} batches grow the memory by {small:.1f} MB, "
    )
    print(f"one batch by {large:.1f} MB")


if __name__ == "__main__":
    main()
