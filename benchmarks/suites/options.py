"""What the options of a fit cost: epochs with each of them beside plain ones.

For accumulated batches also the peak of the memory beside that of one large batch.
"""

import resource
import subprocess
import sys

import numpy as np

import dlcore as dl
from benchmarks import ROOT
from benchmarks.harness.report import number
from benchmarks.harness.suite import Prepared, Suite

NETWORK = "784-256-128-10 batch 128"
ROWS, FEATURES, CLASSES, BATCH = 12_800, 784, 10, 128


def make_model(max_norm=None, norm=False):
    """Return the network of the second widest case of the suite `training`."""
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


def fits(x, y):
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
    code = f"from benchmarks.suites import options; print(options.grow({batch_size}, {accumulate}))"
    # By way of a shell: a child's peak begins at that of the process that it was split from.
    command = ["sh", "-c", f'"{sys.executable}" -c "{code}"']
    return float(
        subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    )


def grow(batch_size, accumulate):
    """Train one update, and return by how much the peak of this process grew, in MB."""
    x, y = data()
    trainer = dl.Trainer(make_model(), loss="cross_entropy", accumulate=accumulate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def data(rows=ROWS):
    """Draw rows and classes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, FEATURES), np.float32)
    return x, rng.integers(0, CLASSES, rows)


def rows_of(options):
    """Return the rows of an epoch."""
    return ROWS // 10 if options.quick else ROWS


class Options(Suite):
    title = "Time epochs with each option of a fit, in microseconds a step."
    rounds = 9

    def complete(self, options, parser):
        self.steps = rows_of(options) // BATCH

    def cases(self, options):
        return [NETWORK]

    def prepare(self, peer, case, options):
        calls = fits(*data(rows_of(options)))
        for call in calls.values():
            call()
        return Prepared(calls, batch_seconds=0)

    def values(self, case, times):
        return [seconds / self.steps for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        plain = self.measured["plain"][library].median
        return super().fields(case, variant, times, library) | {
            "of_plain": times[library].median / plain
        }

    def shared(self, measured):
        self.measured = measured
        return measured

    def cells(self, rows):
        return {"of plain": number(rows["dlcore"]["of_plain"])}

    def finish(self, report, options):
        small, large = peak_of(BATCH, ROWS // BATCH), peak_of(ROWS, 1)
        print(
            f"\nOne update from {ROWS} rows: {ROWS // BATCH} batches grow the memory by {small:.1f} "
            f"MB, one batch by {large:.1f} MB."
        )


SUITE = Options()
