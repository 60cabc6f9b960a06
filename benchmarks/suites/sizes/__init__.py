"""Every kernel over six decades of sizes, and the sizes that take too long.

Every way to call a kernel is timed on one thread and on two; other cases are rows of many lengths
(``--by-classes``), a busy core (``--busy``) and inputs that make numbers subnormal
(``--subnormals``).
"""

import statistics

import dlcore
from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.sizes import findings, subnormals
from benchmarks.suites.sizes.kernels import BY_CLASSES, KERNELS

DTYPES = ("float32", "float64")
THREADS = (1, 2)
SIZES = (10, 32, 100, 316, 1000, 3162, 10**4, 31_623, 10**5, 316_228, 10**6, 3_162_278, 10**7)
# One element more than a register, a tile, a chunk holds.
PAIRS = [n + more for n in (16, 64, 512, 8192, 16_384, 65_536) for more in (0, 1)]
BUSY = ("relu", "gelu", "bce_with_logits", "cross_entropy x10", "Adam", "z-score transform x32")
BUSY_SIZES = (10**5, 10**6, 10**7)
BATCH_SECONDS = 0.004
BUSY_SECONDS = 0.05  # several of the scheduler's slices


def numbers(text):
    return [int(float(part)) for part in text.split(",")]


class Sizes(Suite):
    title = "Time kernels over six decades of sizes, and look for sizes that take too long."
    rounds = 5
    prints_rows = False

    def add_arguments(self, parser):
        parser.add_argument("--sizes", type=numbers, help="elements; six decades and a few edges")
        parser.add_argument("--dtypes", type=lambda text: text.split(","), default=DTYPES)
        modes = parser.add_mutually_exclusive_group()
        modes.add_argument("--by-classes", action="store_true", help="the length of rows instead")
        modes.add_argument("--busy", action="store_true", help="also with one core taken")
        modes.add_argument("--subnormals", action="store_true", help="subnormal numbers instead")

    def complete(self, options, parser):
        if options.sizes is None:
            every = [100_000] if options.by_classes else sorted({*SIZES, *PAIRS})
            options.sizes = BUSY_SIZES if options.busy else every

    def cases(self, options):
        if options.subnormals:
            return list(subnormals.NAMES)
        kernels = BY_CLASSES if options.by_classes else KERNELS
        wanted = BUSY if options.busy else kernels
        dtypes = DTYPES[:1] if options.busy else options.dtypes
        return [
            f"{name} {n} {dtype}"
            for name in wanted
            for dtype in dtypes
            for n in dict.fromkeys(kernels[name].size(n) for n in options.sizes)
        ]

    def prepare(self, peer, case, options):
        if options.subnormals:
            calls = subnormals.calls_of(case)
            one_thread = lambda _: dlcore.num_threads(1)
            return Prepared(calls, BATCH_SECONDS, around=one_thread)
        name, n, dtype = case.rsplit(" ", 2)
        calls = (BY_CLASSES if options.by_classes else KERNELS)[name].calls(int(n), dtype)
        if options.busy:
            calls = {"out": calls["out"]}
        variants = {label(way, t): (t, call) for way, call in calls.items() for t in THREADS}
        return Prepared(
            {variant: call for variant, (_, call) in variants.items()},
            BUSY_SECONDS if options.busy else BATCH_SECONDS,
            around=lambda variant: dlcore.num_threads(variants[variant][0]),
        )

    def doubtful(self, times, options):
        doubtful = super().doubtful(times, options)
        for one, two in ((label(way, 1), label(way, 2)) for way in ("out", "new", "strided")):
            if two in times and not options.busy:
                slower = times[two]["dlcore"].median / times[one]["dlcore"].median
                doubtful |= {one, two} if slower > findings.SLOWER else set()
        return doubtful

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        if variant in subnormals.INPUTS:
            return fields
        name, n, dtype = case.rsplit(" ", 2)
        way, threads = variant.split(", ")
        own = times[library]
        if own.busy:
            fields["busy"] = statistics.median(own.busy)
        return fields | {
            "kernel": name,
            "n": int(n),
            "dtype": dtype,
            "way": way,
            "threads": int(threads.split()[0]),
            "moved": {**BY_CLASSES, **KERNELS}[name].moved,
        }

    def finish(self, report, options):
        records = [row for row in report["rows"] if row["library"] == "dlcore"]
        if report["subnormals"]:
            subnormals.show(records)
        elif report["busy"]:
            show_busy(records)
        elif report["by_classes"]:
            show_by_classes(records)
        else:
            findings.show(records)

    def draw(self, report, path):
        from benchmarks.suites.sizes.chart import draw

        draw([row for row in report["rows"] if row["library"] == "dlcore"], path)


def label(way, threads):
    """Name a variant."""
    return f"{way}, {threads} thread{'s' if threads > 1 else ''}"


def show_busy(records):
    """Print the times of each kernel beside a process that takes a core, and without it."""
    print("| kernel | elements | idle, 1 | idle, 2 | busy, 1 | busy, 2 | to idle, 2 | to idle, 1 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    by_threads = {}
    for row in records:
        by_threads.setdefault((row["kernel"], row["n"]), {})[row["threads"]] = row
    for (kernel, n), rows in by_threads.items():
        times = [rows[t][key] for key in ("median", "busy") for t in THREADS]
        cells = [f"{1e6 * time:.0f}" for time in times]
        cells += [f"{rows[2]['busy'] / rows[t]['median']:.2f}" for t in (2, 1)]
        print(f"| {kernel} | {n} | {' | '.join(cells)} |", flush=True)
    print(
        "\nMicroseconds a call, float32, with 1 and 2 threads. The last columns: two threads beside"
        "\na busy process, to two and to one without it."
    )


def show_by_classes(records):
    """Print nanoseconds an element over the number of columns."""
    table = findings.series(records)
    names = dict.fromkeys(row["kernel"].rpartition(" x")[0] for row in records)
    columns = dict.fromkeys(row["kernel"].rpartition(" x")[2] for row in records)
    for dtype in dict.fromkeys(row["dtype"] for row in records):
        for threads in THREADS:
            print(f"\n{dtype}, {threads} threads: ns an element, with out= / strided\n")
            print(f"| columns | {' | '.join(names)} |\n|--:{'|--:' * len(names)}|")
            for c in columns:
                cells = []
                for name in names:
                    ways = [
                        table.get((f"{name} x{c}", dtype, way, threads), {})
                        for way in ("out", "strided")
                    ]
                    cells.append(
                        " / ".join(f"{1e9 * s / n:.3f}" for way in ways for n, s in way.items())
                    )
                print(f"| {c} | {' | '.join(cells)} |")


SUITE = Sizes()
