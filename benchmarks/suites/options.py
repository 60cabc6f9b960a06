"""What the options of a fit cost: epochs with each of them beside plain ones.

For accumulated batches also the peak of the memory beside that of one large batch.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

import dlcore as dl
from benchmarks import ROOT
from benchmarks.harness.report import number
from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import DIGITS, SMALL, Case


@dataclass(frozen=True)
class Table(Case):
    """Numbers beside columns of categories, which have tables of this width."""

    categories: tuple[int, ...] = (100_000,)
    embedding_dim: int = 16

    @cached_property
    def name(self):
        """The categories, the network, the batch."""
        tables = f"{len(self.categories)} x {self.categories[0]:,} categories"
        return f"{tables}, {super().name}"

    def data(self):
        """Draw x, whose last columns are codes, and y."""
        rng = np.random.default_rng(0)
        numbers = self.widths[0] - len(self.categories) * self.embedding_dim
        codes = [rng.integers(n, size=self.rows) for n in self.categories]
        x = np.column_stack([rng.standard_normal((self.rows, numbers)), *codes])
        return x.astype(self.dtype), rng.integers(self.widths[-1], size=self.rows)

    def network(self):
        """Return embeddings and the layers after them."""
        first = self.widths[0] - len(self.categories) * self.embedding_dim
        columns = range(first, first + len(self.categories))
        embeddings = dl.CategoricalEmbeddings(
            self.categories, self.embedding_dim, columns=[*columns]
        )
        return dl.Sequential(embeddings, make_model(self), seed=0)


CASES = {
    case.name: case
    for case in (
        Case(SMALL, 32, 40_000),
        Case((54, 256, 256, 256, 7), 256, 25_600),
        Case(DIGITS, 128, 12_800),
        Table((26, 64, 2), 256, 51_200),
        Table((90, 64, 2), 64, 12_800, categories=(10_000,) * 10, embedding_dim=8),
    )
}
NETWORK = Case(DIGITS, 128, 12_800)  # of the options that are timed on one network alone


def make_model(case, between=(), *, after=(), max_norm=None):
    """Return a network with layers `between` each hidden one and its ReLU, and `after` this."""
    layers = []
    for i, (features, outputs) in enumerate(pairwise(case.widths)):
        layers.append(dl.Linear(features, outputs, max_norm=None if i else max_norm))
        if i < len(case.widths) - 2:
            layers += [*(make(outputs) for make in between), dl.ReLU()]
            layers += [make(outputs) for make in after]
    return dl.Sequential(*layers, seed=0)


def make_fit(
    case,
    x,
    y,
    *,
    model=None,
    freeze=(),
    optimizer=None,
    trainer=None,
    fit=None,
    loss="cross_entropy",
):
    """Return a function that trains one epoch."""
    net = model or make_model(case)
    for name in freeze:
        net.freeze(name)
    own = dl.Adam(net.parameters(), **(optimizer or {}))
    made = dl.Trainer(net, loss=loss, optimizer=own, seed=0, **(trainer or {}))
    return lambda: made.fit(x, y, epochs=1, batch_size=case.batch, verbose=0, **(fit or {}))


def table_fits(case, x, y):
    """Return the same for large tables: a penalty has all of their rows updated, not those of a batch."""
    made = {"plain": {}, "weight_decay": {"optimizer": {"weight_decay": 1e-4}}}
    return {name: make_fit(case, x, y, model=case.network(), **how) for name, how in made.items()}


def noise(batch, rng):
    """Change a batch about as much as one that is read from elsewhere."""
    batch += rng.standard_normal(batch.shape, np.float32) * np.float32(0.01)
    return batch


def fits(case, x, y):
    """Return a function that trains one epoch, by what it does beside."""
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(x))
    smooth = dl.CrossEntropyLoss(label_smoothing=0.1)
    average = dl.ExponentialMovingAverage()
    made = {
        "plain": {},
        "dropout": {"model": make_model(case, after=[lambda _: dl.Dropout(0.2)])},
        "batch norm": {"model": make_model(case, [dl.BatchNorm1d])},
        "layer norm": {"model": make_model(case, [dl.LayerNorm])},
        "clip_grad_norm": {"trainer": {"clip_grad_norm": 1.0}},
        "moving average": {"fit": {"callbacks": [average]}},
        "label smoothing": {"loss": smooth},
        "sample weights": {"fit": {"sample_weight": weight}},
    }
    return {name: make_fit(case, x, y, **how) for name, how in made.items()}


def more_fits(case, x, y):
    """Return the same for the options that are timed on one network alone."""
    images = dl.ImageTransform((28, 28), rotation=10, shift=0.1)
    cosine = dl.CosineAnnealingLR(10_000, per="iteration")
    upper = dl.Linear(256, 128), dl.ReLU(), dl.Linear(128, 10)
    checkpoint = dl.ModelCheckpoint(Path(tempfile.gettempdir()) / "dlcore-benchmark.safetensors")
    one_norm = dl.Sequential(dl.Linear(784, 256), dl.ReLU(), dl.BatchNorm1d(256), *upper, seed=0)
    made = {
        "schedule of iterations": {"trainer": {"schedule": cosine}},
        "log_every=10": {"fit": {"log_every": 10}},
        "l1": {"optimizer": {"l1": 1e-4}},
        "max_norm": {"model": make_model(case, max_norm=3.0)},
        "clip_grad_value": {"trainer": {"clip_grad_value": 1.0}},
        "accumulate=4": {"trainer": {"accumulate": 4}},
        "a batch norm": {"model": one_norm},
        "first layer frozen": {"freeze": ["0"]},
        "all but the last frozen": {"freeze": ["0", "2"]},
        "checkpoint": {"fit": {"callbacks": [checkpoint]}},
        "transform, nothing": {"fit": {"transform": lambda batch, _: batch}},
        "transform, noise": {"fit": {"transform": noise}},
        "transform, images": {"fit": {"transform": images}},
    }
    return {name: make_fit(case, x, y, **how) for name, how in made.items()}


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
    x, y = NETWORK.data()
    trainer = dl.Trainer(make_model(NETWORK), loss="cross_entropy", accumulate=accumulate)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.fit(x, y, epochs=1, batch_size=batch_size, verbose=0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def case_of(name, options):
    """Return the network of that name and its data."""
    case = CASES[name]
    return replace(case, rows=case.rows // 10) if options.quick else case


class Options(Suite):
    title = "Time epochs with each option of a fit, in microseconds a step."
    rounds = 9

    def add_arguments(self, parser):
        parser.add_argument("--more", action="store_true", help="options on one network alone, too")

    def complete(self, options, parser):
        self.steps = {name: case_of(name, options).steps for name in CASES}

    def cases(self, options):
        return list(CASES)

    def prepare(self, peer, case, options):
        own = case_of(case, options)
        x, y = own.data()
        calls = (table_fits if isinstance(own, Table) else fits)(own, x, y)
        if options.more and case == NETWORK.name:
            calls |= more_fits(own, x, y)
        for call in calls.values():
            call()
        return Prepared(calls, batch_seconds=0)

    def values(self, case, times):
        return [seconds / self.steps[case] for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        # Of each round by itself: the machine's speed drifts from one to the next.
        plain = self.measured["plain"][library].seconds
        ratios = [own / beside for own, beside in zip(times[library].seconds, plain, strict=False)]
        return super().fields(case, variant, times, library) | {
            "of_plain": statistics.median(ratios)
        }

    def shared(self, measured):
        self.measured = measured
        return measured

    def cells(self, rows):
        return {"of plain": number(rows["dlcore"]["of_plain"])}

    def finish(self, report, options):
        if not options.more:
            return
        batches = NETWORK.steps
        small, large = peak_of(NETWORK.batch, batches), peak_of(NETWORK.rows, 1)
        print(
            f"\nOne update from {NETWORK.rows} rows: {batches} batches grow the memory by {small:.1f} "
            f"MB, one batch by {large:.1f} MB."
        )


SUITE = Options()
