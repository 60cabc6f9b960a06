"""The process of one library: carries out commands, JSON lines on stdin, and replies on stdout.

python worker.py PEER DTYPE CORES, where DTYPE is left to the cases
"""

import gc
import sys
import warnings
from importlib import import_module
from itertools import repeat
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "compare"))

from cases import CASES, INFERENCE, PRODUCTS
from serving import serve

WARM = 2  # epochs before the first one that is timed: compiling, allocating
BATCH_SECONDS = 0.03  # of inferences


class Worker:
    """The commands; each returns its reply."""

    def __init__(self, peer):
        self.peer = import_module(f"peers.{peer}")
        self.run = None
        self.calls = 0

    def train(self, case):
        """Get ready to train: the data, the network, and what is done once."""
        self.run = self.peer.train(CASES[case])
        for _ in range(WARM):
            self.run()
        return {}

    def epoch(self):
        """Time an epoch; its result is the mean loss."""
        self.run()  # threads awake, caches own
        gc.disable()
        start = perf_counter()
        result = self.run()
        seconds = perf_counter() - start
        gc.enable()
        return {"seconds": seconds, "result": float(result)}

    def infer(self, case):
        """Get ready to compute outputs, and return their largest error."""
        case = INFERENCE[case]
        x, _ = case.data()
        self.run = self.peer.infer(case, x)
        outputs = np.asarray(self.run())
        self.count_calls()
        *hidden, (weight, bias) = case.parameters()
        for w, b in hidden:
            x = np.maximum(x.astype(np.float64) @ w.T + b, 0)
        return {"error": float(np.abs(outputs - (x @ weight.T + bias)).max())}

    def product(self, case):
        """Get ready to multiply, and return the largest error relative to that of its sums."""
        case = PRODUCTS[case]
        data = case.data()
        self.run = self.peer.product(case, *data)
        result = self.run()
        if isinstance(result, float):  # operations a second: not a product
            self.calls = 1
            return {"error": 0.0}
        wide = [array.astype(np.float64) for array in data]
        if case.form == "forward":
            pairs = [(result, wide[0] @ wide[1].T)]
        else:
            pairs = zip(result, (wide[2] @ wide[1], wide[2].T @ wide[0]), strict=True)
        error = max(np.abs(own - exact).max() / np.abs(exact).max() for own, exact in pairs)
        self.count_calls()
        return {"error": float(error)}

    def count_calls(self):
        """Find out how many calls take the time of a batch."""
        for self.calls in (10, 100):
            self.calls = max(1, round(BATCH_SECONDS / self.call()["seconds"]))

    def call(self):
        """Time a batch of calls: their mean."""
        result = self.run()  # threads awake, caches own
        if isinstance(result, float):
            return {"seconds": 0.0, "result": result}
        gc.disable()
        start = perf_counter()
        for _ in repeat(None, self.calls):
            self.run()
        seconds = perf_counter() - start
        gc.enable()
        return {"seconds": seconds / self.calls}

    def forget(self):
        """Drop the case and its memory."""
        self.run = None
        return {}


if __name__ == "__main__":
    peer, _, cores = sys.argv[1:]
    warnings.simplefilter("ignore")  # of convergence, for one: nothing is to converge here
    serve(lambda: Worker(peer), cores)
