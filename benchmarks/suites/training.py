"""Training: whole epochs of rows shuffled and gathered, forward, loss, backward, update."""

from benchmarks.harness.report import best_peer, number
from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import MORE, TARGETS

WARM = 2  # epochs before the first one that is timed: compiling, allocating
CASES = {case.name: case for case in TARGETS + MORE}


class Training(Suite):
    title = "Time epochs of training beside other libraries, in microseconds a step."
    peers = ("jax", "torch", "torch_compile", "sklearn", "numpy")
    limits = ("peak",)
    has_targets = True

    def add_arguments(self, parser):
        parser.add_argument("--more", action="store_true", help="cases without targets as well")
        parser.add_argument("--busy", action="store_true", help="also with one core taken")

    def cases(self, options):
        return [case.name for case in (TARGETS + MORE if options.more else TARGETS)]

    def targets(self, case, options):
        return CASES[case].must, CASES[case].aim

    def prepare(self, peer, case, options):
        if not hasattr(peer, "train"):
            return None
        epoch = peer.train(CASES[case])
        for _ in range(WARM):
            epoch()
        return Prepared({"": epoch}, batch_seconds=0, is_number=True)

    def values(self, case, times):
        return [seconds / CASES[case].steps for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        fields |= peak_fields(CASES[case].flops, times, library)
        return fields | {
            "rows": CASES[case].rows,
            "steps": CASES[case].steps,
            "loss": times[library].results[-1],
        }

    def cells(self, rows):
        ours, best = rows["dlcore"], best_peer(rows)
        cells = peak_cells(ours)
        if "slowdown" in ours:
            cells["busy / idle"] = number(ours["slowdown"])
            cells["peer's"] = number(rows[best]["slowdown"]) if best else ""
        return cells


def peak_fields(flops, times, library):
    """Return the operations a second of a library that takes so many, beside the peak."""
    flops /= times[library].median
    peak = max(times["peak"].results) if "peak" in times else None
    return {"flops": flops, "peak": peak, "share_of_peak": flops / peak if peak else None}


def peak_cells(row):
    """Return the cells of operations a second."""
    share = row["share_of_peak"]
    return {
        "GFLOP/s": number(row["flops"] / 1e9),
        "of peak": "" if share is None else f"{share:.0%}",
    }


SUITE = Training()
