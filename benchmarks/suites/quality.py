"""How well the estimators' networks do on rows that they have not seen, beside scikit-learn's.

Data sets that come with scikit-learn, and the networks for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.harness.report import number
from benchmarks.harness.suite import Prepared, Suite

SAME = 1e-6  # of scores: what rounding may do to an R² from the same network
DTYPES = ("float64", "float32")  # of dlcore's input; scikit-learn's is float64


@dataclass(frozen=True)
class Dataset:
    """Rows, and the parameters of the network that learns them, the same for all libraries."""

    name: str
    load: Callable[[], tuple[Any, Any]]
    options: dict[str, Any]
    is_regression: bool = False

    @property
    def metric(self):
        return "R²" if self.is_regression else "accuracy"

    def split(self, dtype, seed):
        """Return x and y to train on and to test on, in turn; a quarter is to test on."""
        from sklearn.model_selection import train_test_split

        x, y = rows(self.load)
        strata = None if self.is_regression else y
        return train_test_split(x.astype(dtype), y, stratify=strata, random_state=seed)[:4]

    def pipeline(self, library, seed):
        from sklearn.pipeline import make_pipeline

        network = library.MLPRegressor if self.is_regression else library.MLPClassifier
        return make_pipeline(library.StandardScaler(), network(random_state=seed, **self.options))


@cache
def rows(load):
    return load()


def bundled(name):
    return lambda: getattr(import_module("sklearn.datasets"), f"load_{name}")(return_X_y=True)


def generated():
    return import_module("sklearn.datasets").make_classification(
        20_000,
        30,
        n_informative=15,
        n_redundant=5,
        n_classes=5,
        flip_y=0.05,
        random_state=0,
    )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("digits", bundled("digits"), {"hidden_layer_sizes": (64,), "max_iter": 60}),
        Dataset("wine", bundled("wine"), {"hidden_layer_sizes": (32,), "max_iter": 200}),
        Dataset(
            "breast cancer",
            bundled("breast_cancer"),
            {"hidden_layer_sizes": (32,), "max_iter": 100},
        ),
        Dataset(
            "diabetes",
            bundled("diabetes"),
            {
                "hidden_layer_sizes": (16,),
                "learning_rate_init": 0.01,
                "alpha": 10,
                "batch_size": 32,
                "max_iter": 100,
            },
            is_regression=True,
        ),
        Dataset("generated", generated, {"hidden_layer_sizes": (128, 64), "max_iter": 15}),
    )
}


def score(dataset, estimators, dtype, seed):
    """Fit a pipeline to a part of the rows, and return its score on the others, and the time."""
    x_train, x_test, y_train, y_test = dataset.split(dtype, seed)
    pipeline = dataset.pipeline(estimators, seed)
    start = perf_counter()
    pipeline.fit(x_train, y_train)
    elapsed = perf_counter() - start
    return {"result": float(pipeline.score(x_test, y_test)), "seconds": elapsed}


def paired(ours, theirs):
    """Return mean, its standard error and what it says, of the differences of paired scores."""
    differences = np.subtract(ours, theirs)
    mean = differences.mean()
    error = differences.std(ddof=1) / len(differences) ** 0.5
    if np.abs(differences).max() < SAME:
        verdict = "the same"
    elif mean >= -error:
        verdict = "no lower"
    else:
        many = "more than 9" if -mean > 9 * error else f"{-mean / error:.1f}"
        verdict = f"lower by {many} errors"
    return {"difference": float(mean), "standard_error": float(error), "verdict": verdict}


class Quality(Suite):
    title = "Score the estimators beside scikit-learn's, from the same seeds."
    peers = ("sklearn",)
    rounds = 10
    unit, scale, shown = "score", 1, ""
    command = "once"

    def add_arguments(self, parser):
        parser.add_argument("--seeds", dest="rounds", type=int, help=f"as --rounds ({self.rounds})")

    def complete(self, options, parser):
        if options.rounds < 2:
            parser.error("at least 2 seeds: a standard error needs them")

    def cases(self, options):
        return list(DATASETS)

    def prepare(self, peer, case, options):
        dataset, estimators = DATASETS[case], peer.estimators()
        dtypes = DTYPES[:1] if peer.library.__name__ == "sklearn" else DTYPES

        def call_of(dtype):
            seeds = iter(range(options.rounds))
            return lambda: score(dataset, estimators, dtype, next(seeds))

        for dtype in dtypes:
            score(dataset, estimators, dtype, 0)  # warms
        return Prepared({dtype: call_of(dtype) for dtype in dtypes}, batch_seconds=0)

    def doubtful(self, times, options):
        return set()  # the scores of the same seeds would be the same

    def shared(self, measured):
        if "sklearn" in measured["float64"]:
            measured["float32"]["sklearn"] = measured["float64"]["sklearn"]
        return measured

    def values(self, case, times):
        return times.results

    def fields(self, case, variant, times, library):
        fields = {"metric": DATASETS[case].metric, "seconds": times[library].seconds}
        if library == "dlcore" and "sklearn" in times:
            fields["compared"] = paired(times[library].results, times["sklearn"].results)
        return fields

    def cells(self, rows):
        ours, theirs = rows["dlcore"], rows.get("sklearn")
        cells = {"score": ours["metric"]}
        for name in ("dlcore", "sklearn"):
            if name in rows:
                cells[f"{name}, mean"] = f"{np.mean(rows[name]['rounds']):.4f}"
                cells[f"{name}'s fit, ms"] = number(1e3 * np.median(rows[name]["seconds"]))
        if theirs:
            compared = ours["compared"]
            difference = round(compared["difference"], 4) + 0.0
            cells |= {
                "difference": f"{difference:+.4f} ± {compared['standard_error']:.4f}",
                "verdict": compared["verdict"],
            }
        return cells

    def finish(self, report, options):
        print(
            f"\nMedians of {len(report['rows'][0]['rounds'])} seeds, each with a split, first "
            "weights and batches of its own, and\nthe mean of the paired differences with its "
            "standard error; medians of the times of fits.\nscikit-learn's input is float64."
        )

    def draw(self, report, path):
        from benchmarks.suites.quality_chart import draw

        draw(report, path)


SUITE = Quality()
