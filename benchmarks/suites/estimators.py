"""Estimators beside scikit-learn's: the same code but for the import.

A case has ``call(library)``, which returns the call that is timed, and ``figures(result)``, some
numbers of its result, which all libraries have to agree on up to ``tolerance``.
"""

import zlib
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.harness.process import AGAINST
from benchmarks.harness.suite import Prepared, Suite

DTYPES = ("float32", "float64")
SCALED = (1_000_000, 32)
MANY = 100_000  # rows to predict
FIGURES = 1000  # numbers to compare
FEW = 40  # times fewer rows
OVERHEAD = 0.05  # the most that the estimator may add to a fit


@dataclass(frozen=True, kw_only=True)
class Case:
    """What all have; ``usual`` is the name but for a dtype and rows that are not the usual ones."""

    dtype: str = DTYPES[0]
    share: int = 1  # of the rows one in so many is there
    must: float | None = None
    aim: float | None = None
    peer: str = "sklearn"
    tolerance: float = 1e-3

    @property
    def name(self):
        name = self.usual if self.dtype == DTYPES[0] else f"{self.usual} {self.dtype}"
        return name if self.share == 1 else f"{name} few rows"

    def normal(self, *shape):
        """Draw an array, the same one in every process."""
        rng = np.random.default_rng(zlib.crc32(self.usual.encode()))
        return rng.standard_normal(shape, np.float32).astype(self.dtype)


@dataclass(frozen=True, kw_only=True)
class Fit(Case):
    """A classifier learns: a fixed number of epochs of rows that have some noise."""

    widths: tuple[int, ...]
    batch: int
    rows: int
    epochs: int
    alpha: float = 1e-4
    label: str = "fit"

    @property
    def usual(self):
        return f"{self.label} {'-'.join(map(str, self.widths))} batch {self.batch}"

    def data(self):
        inputs, classes = self.widths[0], self.widths[-1]
        rows = self.rows // self.share
        drawn = self.normal(rows + inputs + rows, max(inputs, classes))
        x, teacher, noise = np.split(drawn, [rows, rows + inputs])
        x = np.ascontiguousarray(x[:, :inputs])
        scores = x @ teacher[:, :classes] + inputs**0.5 * noise[:, :classes]
        return x, scores.argmax(1)

    def model(self, library):
        return library.MLPClassifier(
            hidden_layer_sizes=self.widths[1:-1],
            batch_size=self.batch,
            max_iter=self.epochs,
            alpha=self.alpha,
            tol=0,
            n_iter_no_change=10**9,
            random_state=0,
        )

    def fitted(self, library):
        """Return a model that has learned little: an epoch of a few rows."""
        few = 4 * self.batch
        model = self.model(library).set_params(max_iter=1)
        return model.fit(*(array[:few] for array in self.data()))

    def call(self, library):
        x, y = self.data()
        model = self.model(library)
        if hasattr(model, "encode"):
            y = model.encode(x, y)
        return partial(model.fit, x, y)

    def figures(self, model):
        return [model.loss_]


@dataclass(frozen=True, kw_only=True)
class Predict(Case):
    """The probabilities of rows, by a network that has learned little: rounding grows by learning."""

    network: Fit
    rows: int

    @property
    def drawn(self):
        return max(1, self.rows // self.share)

    @property
    def usual(self):
        return f"predict_proba {'-'.join(map(str, self.network.widths))} rows {self.drawn}"

    def call(self, library):
        model = self.network.fitted(library)
        return partial(model.predict_proba, self.normal(self.drawn, self.network.widths[0]))

    def figures(self, probabilities):
        return probabilities.ravel()[:FIGURES]


@dataclass(frozen=True, kw_only=True)
class Serve(Case):
    """The probabilities of a single row, taken to be finite: without the checks of scikit-learn."""

    network: Fit

    @property
    def usual(self):
        return f"serve {'-'.join(map(str, self.network.widths))}"

    def call(self, library):
        model = self.network.fitted(library)
        x = self.normal(1, self.network.widths[0])
        if hasattr(model, "snapshot"):
            return partial(model.snapshot("predict_proba"), x)
        from sklearn import config_context

        def predict():
            with config_context(assume_finite=True):
                return model.predict_proba(x)

        return predict

    def figures(self, probabilities):
        return probabilities.ravel()


@dataclass(frozen=True, kw_only=True)
class Stream(Case):
    """A call that learns from the next rows, of a classifier that has seen some before."""

    network: Fit
    rows: int

    @property
    def usual(self):
        return f"partial_fit {'-'.join(map(str, self.network.widths))} rows {self.rows}"

    def call(self, library):
        x, y = (array[: self.rows] for array in self.network.data())
        model = self.network.model(library).set_params(batch_size="auto")
        model.partial_fit(x, y, classes=np.arange(self.network.widths[-1]))
        return partial(model.partial_fit, x, y)

    def figures(self, model):
        return [model.loss_]


@dataclass(frozen=True, kw_only=True)
class Text(Case):
    """Sparse rows like those of a HashingVectorizer: words by Zipf's law, rows of length 1.

    ``method``: "fit" of some epochs, or "predict_proba" after one by 400 rows.
    """

    method: str
    columns: int
    rows: int
    epochs: int = 1
    solver: str = "adam"
    words: int = 100
    batch: int = 200

    @property
    def usual(self):
        what = "lbfgs" if self.solver == "lbfgs" else self.method
        return f"text {what} {self.columns} columns rows {self.rows}"

    def data(self, rows):
        from scipy import sparse

        rng = np.random.default_rng(zlib.crc32(self.usual.encode()))
        drawn = rng.zipf(1.2, rows * self.words) % 1_000_003 * 2_654_435_761 % 2**32
        columns = drawn * self.columns // 2**32
        of_row = np.repeat(np.arange(rows), self.words)
        ones = np.ones(len(columns), self.dtype)
        x = sparse.csr_array((ones, (of_row, columns)), shape=(rows, self.columns))
        x.sum_duplicates()
        lengths = np.sqrt(np.add.reduceat(x.data**2, x.indptr[:-1]))
        x.data /= np.repeat(lengths, np.diff(x.indptr))
        teacher = rng.standard_normal((self.columns, 4)).astype(self.dtype)
        return x, (x @ teacher).argmax(1)

    def call(self, library):
        model = library.MLPClassifier(
            solver=self.solver,
            batch_size=self.batch,
            max_iter=self.epochs,
            tol=0,
            n_iter_no_change=10**9,
            random_state=0,
        )
        rows = max(1, self.rows // self.share)
        x, y = self.data(max(400, rows))
        if self.method == "fit":
            return partial(model.fit, x, y)
        model.set_params(max_iter=1).fit(x[:400], y[:400])
        return partial(model.predict_proba, x[:rows])

    def figures(self, result):
        return [result.loss_] if self.method == "fit" else result.ravel()[:FIGURES]


@dataclass(frozen=True, kw_only=True)
class Scale(Case):
    """A scaler's fit, or its transform of the same rows."""

    scaler: str
    method: str
    copy: bool = True

    @property
    def usual(self):
        return f"{self.scaler}.{self.method}{'' if self.copy else ' copy=False'}"

    def call(self, library):
        rows, columns = SCALED
        x = 2 * self.normal(rows // self.share, columns) + 5
        scaler = getattr(library, self.scaler)(copy=self.copy)
        if self.method == "transform":
            scaler.fit(x)
        return partial(getattr(scaler, self.method), x)

    def figures(self, result):
        if self.method == "transform":
            return result.ravel()[:FIGURES]
        names = ("mean_", "scale_") if self.scaler == "StandardScaler" else ("min_", "scale_")
        return np.concatenate([getattr(result, name) for name in names])


def cases(**common):
    """Return all cases of a dtype and a share. scikit-learn takes some 0.3 to 1 s for a fit."""
    fits = [
        Fit(widths=widths, batch=batch, rows=rows, epochs=epochs, must=must, aim=aim, **common)
        for widths, batch, rows, epochs, must, aim in (
            ((20, 64, 64, 2), 32, 20_000, 4, 20, 40),
            ((54, 256, 256, 7), 256, 30_000, 2, 4, 6),
            ((784, 256, 128, 10), 128, 10_000, 3, 4, 6),
            ((784, 1024, 1024, 10), 512, 5_120, 2, 1.6, 2.5),
        )
    ]
    predictions = [
        Predict(network=fit, rows=rows, must=must, **common)
        for fit in fits
        for rows, must in ((1, 3), (MANY, 2))
    ]
    streams = [Stream(network=fits[0], rows=rows, must=27, **common) for rows in (1, 32)]
    served = [Serve(network=fit, **common) for fit in fits[:3]]
    scalers = [
        Scale(scaler="StandardScaler", method="fit", must=15, aim=40, **common),
        Scale(scaler="StandardScaler", method="transform", must=3, **common),
        Scale(scaler="StandardScaler", method="transform", copy=False, **common),
        Scale(scaler="MinMaxScaler", method="fit", **common),
        Scale(scaler="MinMaxScaler", method="transform", **common),
        Scale(scaler="MinMaxScaler", method="transform", copy=False, **common),
    ]
    layer = Fit(
        label="layer",
        widths=fits[0].widths,
        batch=fits[0].batch,
        rows=10_000,
        epochs=20,
        alpha=0,  # the Trainer has no such penalty
        **common,
        peer="trainer",
        tolerance=0.1,  # parameters and orders of rows are others
    )
    wide = 2**17
    text = [
        Text(method="fit", columns=wide, rows=2000, epochs=2, must=2, **common),
        *(
            Text(method="predict_proba", columns=wide, rows=rows, must=1, **common)
            for rows in (1, 100, 1000, 10_000)
        ),
        Text(method="fit", solver="lbfgs", columns=20_000, rows=2000, epochs=10, must=1, **common),
    ]
    return [*fits, *streams, *predictions, *served, *scalers, *text, layer]


CASES = {
    case.name: case
    for dtype in DTYPES
    for share in (1, FEW)
    for case in cases(dtype=dtype, share=share)
}


def check_same(name, figures, tolerance):
    """Raise where libraries disagree about a case's figures: its times would mean nothing."""
    ours = np.asarray(figures["dlcore"])
    for other, theirs in figures.items():
        error = np.abs(ours - theirs)
        if not (error <= tolerance * (1 + np.abs(theirs))).all():
            raise ValueError(f"{name}: dlcore and {other} differ by {error.max():.2g}")


class Estimators(Suite):
    title = "Time the estimators beside scikit-learn's, in milliseconds a call."
    peers = ("sklearn", "trainer")
    rounds = 9
    scale, shown = 1e3, ", ms"
    has_targets = True

    def add_arguments(self, parser):
        parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
        parser.add_argument("--few-rows", action="store_true", help="whether it runs")

    def cases(self, options):
        wanted = options.dtype, FEW if options.few_rows else 1
        return [case.name for case in CASES.values() if (case.dtype, case.share) == wanted]

    def libraries(self, options):
        needed = {CASES[name].peer for name in options.cases}
        return ["dlcore", *(name for name in options.peers if name in needed)]

    def takes(self, library, case, options):
        return library in ("dlcore", AGAINST, CASES[case].peer)

    def targets(self, case, options):
        return CASES[case].must, CASES[case].aim

    def prepare(self, peer, case, options):
        case = CASES[case]
        call = case.call(peer.estimators())
        # Before the other calls: in place, they change what they are given.
        figures = np.asarray(case.figures(call()), np.float64).tolist()
        return Prepared({"": call}, info={"figures": figures})

    def agree(self, case, infos):
        figures = {name: info["figures"] for name, info in infos.items()}
        check_same(case, figures, CASES[case].tolerance)

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        return {key: value for key, value in fields.items() if key != "figures"}

    def finish(self, report, options):
        for row in report["rows"]:
            if row["library"] == "trainer":
                print(overhead(row), flush=True)


def overhead(row):
    """Say what the estimator adds to a fit by the bare Trainer."""
    most, share, least = (
        1 / ratio - 1
        for ratio in (row["ratio_quartiles"][0], row["ratio"], row["ratio_quartiles"][1])
    )
    met = "met" if share < OVERHEAD else "not met"
    return (
        f"\nOverhead of the estimator, of a fit by the bare Trainer (`{row['name']}`, "
        f"{1e3 * row['median']:.1f} ms): {share:+.1%}, quartiles {least:+.1%} to "
        f"{most:+.1%}; must be under {OVERHEAD:.0%}: {met}."
    )


SUITE = Estimators()
