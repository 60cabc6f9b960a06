"""Time every kernel over six decades of sizes, and look for sizes that take too long.

Every way to call a kernel is timed on one thread and on two, in interleaved rounds of one process;
times are medians. From the root of a checkout, with dlcore and Matplotlib installed:

    python benchmarks/sweep --json sweep.json --chart sweep.png
    python benchmarks/sweep --read sweep.json --chart sweep.png
    python benchmarks/sweep --by-classes
    python benchmarks/sweep --busy
    python benchmarks/sweep --subnormals
"""

import argparse
import json
import re
import sys
from pathlib import Path

import busy
import findings
import subnormals
from kernels import BY_CLASSES, KERNELS
from timing import measure

import dlcore

DTYPES = ("float32", "float64")
THREADS = (1, 2)
SIZES = (10, 32, 100, 316, 1000, 3162, 10**4, 31_623, 10**5, 316_228, 10**6, 3_162_278, 10**7)
# One element more than a register, a tile, a chunk holds.
PAIRS = [n + more for n in (16, 64, 512, 8192, 16_384, 65_536) for more in (0, 1)]


def sweep(kernel, n, dtype, rounds):
    """Measure a kernel at one size; return records."""
    calls = kernel.calls(n, dtype)
    variants = {(way, threads): call for way, call in calls.items() for threads in THREADS}
    times = measure(variants, rounds)
    # A surprise is measured again, for longer.
    doubtful = [way for way in calls if times[way, 2] > findings.SLOWER * times[way, 1]]
    again = {(way, threads): calls[way] for way in doubtful for threads in THREADS}
    times |= measure(again, 3 * rounds)
    for (way, threads), seconds in times.items():
        yield {
            "kernel": kernel.name,
            "n": kernel.size(n),
            "dtype": dtype,
            "way": way,
            "threads": threads,
            "seconds": seconds,
        }


def sweep_all(kernels, options):
    """Measure all; return the report."""
    report = {
        "isa": dlcore.isa(),
        "rounds": options.rounds,
        "moved": {kernel.name: kernel.moved for kernel in kernels},
        "records": [],
    }
    for kernel in kernels:
        sizes = {kernel.size(n): n for n in options.sizes}
        for dtype in options.dtypes:
            for n in sizes.values():
                report["records"] += sweep(kernel, n, dtype, options.rounds)
        print(kernel.name, file=sys.stderr, flush=True)
        if options.json:  # after each kernel: an interrupted run is not lost
            options.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


def by_classes(options):
    """Print nanoseconds an element over the number of columns."""
    report = sweep_all(BY_CLASSES, options)
    table = findings.series(report["records"])
    names = dict.fromkeys(kernel.name.rpartition(" x")[0] for kernel in BY_CLASSES)
    for dtype in options.dtypes:
        for threads in THREADS:
            print(f"\n{dtype}, {threads} threads: ns an element, with out= / strided\n")
            print(f"| columns | {' | '.join(names)} |\n|--:{'|--:' * len(names)}|")
            for c in dict.fromkeys(kernel.columns for kernel in BY_CLASSES):
                cells = []
                for name in names:
                    ways = [
                        table[f"{name} x{c}", dtype, way, threads] for way in ("out", "strided")
                    ]
                    cells.append(
                        " / ".join(f"{1e9 * s / n:.3f}" for way in ways for n, s in way.items())
                    )
                print(f"| {c} | {' | '.join(cells)} |")


def join(reports):
    """Make one report out of several, parts of one sweep."""
    first, *others = reports
    for other in others:
        first["moved"] |= other["moved"]
        first["records"] += other["records"]
    return first


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/sweep", description=__doc__.splitlines()[0]
    )

    def numbers(text):
        return [int(float(part)) for part in text.split(",")]

    parser.add_argument("--only", metavar="PATTERN", default="", help="kernels whose name has it")
    parser.add_argument("--sizes", type=numbers, help="elements; six decades and a few edges")
    parser.add_argument("--dtypes", type=lambda text: text.split(","), default=DTYPES)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (%(default)s)")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write all figures")
    parser.add_argument("--chart", metavar="PATH", type=Path, help="draw them")
    parser.add_argument(
        "--read", metavar="PATH", type=Path, nargs="+", help="figures to start from"
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--by-classes", action="store_true", help="sweep the length of rows instead")
    modes.add_argument("--busy", action="store_true", help="with one core taken by another process")
    modes.add_argument("--subnormals", action="store_true", help="where numbers become subnormal")
    options = parser.parse_args()
    options.kernels = [k for name, k in KERNELS.items() if re.search(options.only, name)]
    if not options.kernels:
        parser.error(f"no kernel is called {options.only}: there are {', '.join(KERNELS)}")
    if options.sizes is None:
        options.sizes = [100_000] if options.by_classes else sorted({*SIZES, *PAIRS})
    return options


def main():
    """Measure, and print, write and draw."""
    options = arguments()
    if options.busy:
        return busy.show(options.rounds, options.only)
    if options.subnormals:
        return subnormals.show(options.rounds)
    if options.by_classes:
        return by_classes(options)
    if options.chart:
        from chart import draw
    if options.read:
        report = join(json.loads(path.read_text()) for path in options.read)
    else:
        report = sweep_all(options.kernels, options)
    findings.show(report)
    if options.chart:
        draw(report, options.chart)
    return None


if __name__ == "__main__":
    main()
