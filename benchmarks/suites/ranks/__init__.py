"""Training on ranks: processes of one thread each, started by ``mpiexec``, beside one of them alone."""

from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import DIGITS, Case
from benchmarks.suites.ranks.job import MPIEXEC, Job

CASES = {
    case.name: case for case in (Case((784, 1024, 1024, 10), 512, 8_192), Case(DIGITS, 512, 16_384))
}
# Of a fit, so that what it begins with does not count for more than in one of many epochs.
EPOCHS = 4
# The ways to train by their number of ranks, and how many times as many rows a second as one
# process two ranks are to have.
WAYS = {"alone": 1, "exact": 2, "average_every=16": 2}
MUST = {
    "784-1024-1024-10 batch 512": {"exact": 1.8, "average_every=16": 1.9},
    "784-256-128-10 batch 512": {"exact": 1.6, "average_every=16": 1.9},
}


class Ranks(Suite):
    """The processes of the ways stay, wait without work for their turns, and take them in rounds."""

    title = "Time training on two ranks of one thread each beside one process, in rows a second."
    prints_rows = False
    command = "once"  # a rank tells the time of its fit itself

    def complete(self, options, parser):
        if MPIEXEC is None:
            parser.error("there is no mpiexec: pip install '.[mpi]'")

    def cases(self, options):
        return list(CASES)

    def prepare(self, peer, case, options):
        return Prepared({way: Job(case, way, ranks, peer).fit for way, ranks in WAYS.items()})

    def values(self, case, times):
        return [seconds / EPOCHS / CASES[case].steps for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        own = times[library]
        return {
            "ranks": WAYS[variant],
            "loss": own.results[-1],
            "rows_a_second": EPOCHS * CASES[case].rows / own.median,
        }

    def finish(self, report, options):
        print(
            "| network | way | ranks | rows/s | of one process | must |\n|---|---|--:|--:|--:|--:|"
        )
        rows = {(row["case"], row["variant"]): row for row in report["rows"]}
        for (case, way), row in rows.items():
            ratio = rows[case, "alone"]["median"] / row["median"]
            must = MUST[case].get(way, "")
            print(
                f"| `{case}` | {way} | {row['ranks']} | {row['rows_a_second']:.0f} | "
                f"{ratio:.2f} | {must} |"
            )


SUITE = Ranks()
