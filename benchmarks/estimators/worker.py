"""The process of one library: carries out commands, JSON lines on stdin, and replies on stdout.

python worker.py LIBRARY DTYPE CORES, where DTYPE is left to the cases
"""

import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
from libraries import load

BENCHMARKS = Path(__file__).parents[1]
sys.path += [str(BENCHMARKS / "compare"), str(BENCHMARKS / "sweep")]

from cases import CASES
from datasets import DATASETS
from serving import serve
from timing import calls_of_a_batch, seconds

BATCH_SECONDS = 0.03


class Worker:
    """The commands; each returns its reply."""

    def __init__(self, library):
        self.peer = load(library)
        self.run = None
        self.calls = 0

    def prepare(self, case):
        """Get ready to time a case, and return figures of its result."""
        case = CASES[case]
        self.run = case.call(self.peer)
        # Before the other calls: in place, they change what they are given.
        figures = np.asarray(case.figures(self.run()), np.float64).tolist()
        self.calls = calls_of_a_batch(self.run, BATCH_SECONDS)
        return {"figures": figures}

    def call(self):
        """Time a batch of calls: their mean."""
        return {"seconds": seconds(self.run, self.calls)}

    def score(self, dataset, dtype, seed):
        """Fit a pipeline to a part of the rows, and return its score on the others."""
        dataset = DATASETS[dataset]
        x_train, x_test, y_train, y_test = dataset.split(dtype, seed)
        pipeline = dataset.pipeline(self.peer, seed)
        start = perf_counter()
        pipeline.fit(x_train, y_train)
        elapsed = perf_counter() - start
        return {"score": float(pipeline.score(x_test, y_test)), "seconds": elapsed}

    def forget(self):
        """Drop the case and its memory."""
        self.run = None
        return {}


if __name__ == "__main__":
    library, _, cores = sys.argv[1:]
    warnings.simplefilter("ignore")  # of convergence: the epochs are what they are
    serve(lambda: Worker(library), cores)
