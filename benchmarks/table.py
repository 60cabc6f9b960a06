"""Print a Markdown table of speed and error beside the NumPy reference, for every kernel.

Both run in turns, so that a disturbance meets both; times are medians. Errors are the largest
distance from the reference in the next wider dtype, in units in the last place.

    python benchmarks/table.py [part of a kernel's name]
"""

import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import dlcore
from dlcore import reference
from support.cases import CASES, DTYPES, results, sample

ROUND_SECONDS = 0.01
ROUNDS = 9


def seconds(kernel, calls):
    """Time one call, the mean of many."""
    start = perf_counter()
    for _ in range(calls):
        kernel()
    return (perf_counter() - start) / calls


def compare(*kernels):
    """Median time of a call of each kernel, in interleaved rounds."""
    calls = [max(1, int(ROUND_SECONDS / seconds(kernel, 1))) for kernel in kernels]
    rounds = [[seconds(k, n) for k, n in zip(kernels, calls, strict=True)] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def row(case, shape, dtype):
    """One line of the table."""
    inputs, truth = sample(case, shape, dtype)
    kernels = [case.bound(inputs, library) for library in (reference, dlcore)]
    errors = [case.error(results(kernel()), inputs, truth) for kernel in kernels]
    numpy, ours = compare(*kernels)
    cells = (
        f"`{case.name}`",
        " x ".join(map(str, shape)),
        np.dtype(dtype).name,
        f"{1e6 * numpy:.1f}",
        f"{1e6 * ours:.1f}",
        f"{numpy / ours:.1f}",
        *(f"{error:.1f}" for error in errors),
    )
    return f"| {' | '.join(cells)} |"


def main():
    """Print the table."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"Instruction set {dlcore.isa()}, {dlcore.get_num_threads()} threads.\n")
    print("| kernel | size | dtype | NumPy, µs | dlcore, µs | ratio | NumPy, ULP | dlcore, ULP |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for case in CASES:
        for shape in case.benchmarks if wanted in case.name else ():
            for dtype in DTYPES:
                print(row(case, shape, dtype), flush=True)


if __name__ == "__main__":
    main()
