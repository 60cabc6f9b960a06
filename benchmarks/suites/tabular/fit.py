"""The process of one fit: a job as JSON on stdin, and what became of it, a line on stdout.

``python -m benchmarks.suites.tabular.fit``. A job without a set only asks for the version.
"""

import importlib
import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.suites.tabular.methods import METHODS
from benchmarks.suites.tabular.scores import errors_of_classes, errors_of_numbers
from benchmarks.suites.tabular.sets import DATASETS
from benchmarks.suites.tabular.splits import fingerprint, split

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MB = 2**20


def forget_peak():
    """Have the peak of the memory begin anew; return the bytes there are now, None if unknown."""
    try:
        CLEAR.write_text("5")
        return memory("VmRSS")
    except OSError:
        return None


def memory(key):
    """Return a figure of the process's memory in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def peak(before):
    """Return the most bytes of the process, since the peak began anew where that can be."""
    if before is None:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return memory("VmHWM")


def measure(job):
    """Fit, predict and score; return the figures."""
    library, method = METHODS[job["method"]]
    peer = importlib.import_module(f"benchmarks.peers.{library}")
    version = {"version": str(peer.library.__version__)}
    if job["set"] is None:
        peer.tables(method, False, 0, job["threads"])  # where the library is too old, it says so
        return version
    table = DATASETS[job["set"]].load(Path(job["data"]))
    train, test = split(table, job["set"], job["seed"], job["rows"])
    (x, y), (x_test, y_test) = table.rows(train), table.rows(test)
    regression, size = table.classes is None, table.frame.shape
    classes = None if regression else len(table.classes)
    del table
    model = peer.tables(method, regression, job["seed"], job["threads"])
    before = forget_peak()
    start, start_cpu = perf_counter(), process_time()
    model.fit(x, y)
    fitted, fitted_cpu = perf_counter(), process_time()
    predicted = model.predict(x_test) if regression else model.predict_proba(x_test)
    end = perf_counter()
    most = peak(before)
    errors = (
        errors_of_numbers(y_test, predicted)
        if regression
        else errors_of_classes(y_test, all_classes(predicted, y, classes))
    )
    return version | {
        "errors": errors,
        "fit": fitted - start,
        "fit_cpu": fitted_cpu - start_cpu,
        "predict": end - fitted,
        "peak": most / MB,
        "rise": None if before is None else max(0, most - before) / MB,
        "train": len(train),
        "test": len(test),
        "columns": size[1],
        "regression": regression,
        "split": fingerprint(train, test),
    }


def all_classes(probabilities, y, classes):
    """Return probabilities with a column for each class, also one that was not trained on."""
    import numpy as np

    probabilities = np.asarray(probabilities, np.float64)
    seen = np.unique(y)
    if probabilities.shape[1] == classes:
        return probabilities
    full = np.zeros((len(probabilities), classes))
    full[:, seen] = probabilities
    return full


def main():
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply
    warnings.simplefilter("ignore")
    job = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):  # not all libraries can be told by a variable
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    try:
        reply = measure(job)
    except ImportError as error:
        reply = {"missing": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a library may raise
        traceback.print_exc()
        reply = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
