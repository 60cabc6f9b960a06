"""Plain streams through memory, as in STREAM: no peer, but the limit of the large cases.

Each moves as many bytes as the case does. NumPy's loops do it, in as many threads as the kernels
have: they release the GIL.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from benchmarks.suites.kernels import KERNELS as CASES

library = np
THREADS = int(os.environ["DLCORE_NUM_THREADS"])
POOL = ThreadPoolExecutor(THREADS)
# A loop over (source, target), and how often it moves the bytes of its source.
STREAMS = {
    "copy": (lambda source, target: np.copyto(target, source), 2),
    "scale": (lambda source, _: np.multiply(source, source.dtype.type(1), out=source), 2),
    "read": (lambda source, _: source.max(), 1),
}


def stream(kernel, x, *_):
    loop, moves = STREAMS[kernel.stream]
    source = np.ones(x.size * kernel.moved // moves, x.dtype)
    target = np.zeros_like(source) if kernel.stream == "copy" else source
    target[:] = source  # every page exists before the clock starts
    first, *others = zip(
        np.array_split(source, THREADS), np.array_split(target, THREADS), strict=True
    )

    def run():
        running = [POOL.submit(loop, *chunk) for chunk in others]
        loop(*first)
        for chunk in running:
            chunk.result()

    return run


KERNELS = {kernel.name: {kernel.stream: partial(stream, kernel)} for kernel in CASES}
