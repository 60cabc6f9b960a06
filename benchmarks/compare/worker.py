"""The process of one library: carries out commands, JSON lines on stdin, and replies on stdout.

python worker.py PEER DTYPE CORES
"""

import gc
import sys
from importlib import import_module
from itertools import repeat
from pathlib import Path
from time import perf_counter

import numpy as np
from cases import CASES, STEPS
from serving import serve

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from support.ulp import ulp_distance

BATCH_SECONDS = 0.03


def seconds(call, calls):
    """Time a batch: the mean of its calls."""
    call()  # threads awake, caches own
    gc.disable()
    start = perf_counter()
    for _ in repeat(None, calls):
        call()
    elapsed = perf_counter() - start
    gc.enable()
    return elapsed / calls


def calibrate(call):
    """Return the time of a call, the best of three short batches, and how many fill a batch."""
    call()  # whatever is compiled or allocated once
    calls = 1
    while seconds(call, calls) * calls < BATCH_SECONDS / 4:
        calls *= 2
    time = min(seconds(call, calls) for _ in range(3))
    return time, max(1, round(BATCH_SECONDS / time))


def as_tuple(results):
    return tuple(results) if isinstance(results, tuple | list) else (results,)


class Worker:
    """The commands; each returns its reply."""

    def __init__(self, peer, dtype):
        self.peer, self.dtype = import_module(f"peers.{peer}"), dtype
        self.case = self.call = self.prepare_call = None
        self.calls = 0

    def prepare(self, case):
        """Get ready to time a case, in the fastest of the library's ways."""
        self.case, self.call = CASES[case], None
        inputs = self.case.inputs(self.dtype)
        best, way = None, None
        for name, prepare_call in self.peer.CALLS.get(self.case.kernel.name, {}).items():
            call = prepare_call(*inputs)
            time, calls = calibrate(call)
            if best is None or time < best:
                best, way = time, name
                self.call, self.calls, self.prepare_call = call, calls, prepare_call
        return {"way": way}

    def time(self):
        """Time one batch."""
        return {"seconds": seconds(self.call, self.calls)}

    def error(self):
        """Return the largest error of all results, in ULP, and forget the case."""
        self.call = None
        inputs = self.case.inputs(self.dtype)
        call = self.prepare_call(*inputs)
        for _ in range(STEPS):
            results = call()
        errors = [
            np.max(ulp_distance(self.peer.to_numpy(result).astype(self.dtype), truth, size))
            for result, (truth, size) in zip(
                as_tuple(results), self.case.truth(inputs), strict=True
            )
        ]
        return {"ulp": float(max(errors))}

    def forget(self):
        """Drop the case and its memory."""
        self.call = self.prepare_call = None
        return {}


if __name__ == "__main__":
    peer, dtype, cores = sys.argv[1:]
    serve(lambda: Worker(peer, dtype), cores)
