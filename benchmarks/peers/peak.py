"""No peer, but the limit: multiply-adds in registers, on as many threads. Needs a compiler."""

import ctypes
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np

library = np
THREADS = int(os.environ["OMP_NUM_THREADS"])
POOL = ThreadPoolExecutor(THREADS)
ROUNDS = 300_000  # a millisecond: short beside a slice of the scheduler
TRIES = 30


def built():
    """Compile for this processor, and load."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        raise ImportError("there is no C++ compiler to measure the peak with")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "peak.so"
        options = ["-O2", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC"]
        source = Path(__file__).with_name("peak.cpp")
        try:
            subprocess.run([compiler, *options, "-o", target, source], check=True)
        except subprocess.CalledProcessError as error:
            raise ImportError("the peak cannot be compiled") from error
        return ctypes.CDLL(str(target))


NATIVE = built()


def product(case, *_):
    return train(case)


def train(case):
    """Return a call whose result is no loss, but the operations a second, the most of many tries.

    Each thread counts for itself: they need not begin together.
    """
    bits = case.dtype.removeprefix("float")
    run, flops = getattr(NATIVE, f"run{bits}"), getattr(NATIVE, f"flops{bits}")
    run.argtypes, flops.restype = [ctypes.c_long], ctypes.c_long

    def fastest():
        seconds = []
        for _ in range(TRIES):
            start = perf_counter()
            run(ROUNDS)
            seconds.append(perf_counter() - start)
        return flops() * ROUNDS / min(seconds)

    def call():
        running = [POOL.submit(fastest) for _ in range(THREADS)]
        return sum(future.result() for future in running)

    return call
