"""What a suite says of itself; the suites differ from this."""

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.process import AGAINST
from benchmarks.harness.report import number


@dataclass
class Prepared:
    """A case of a library, ready to be timed."""

    calls: dict[str, Callable[[], Any]]  # by variant; "" where there is but one
    batch_seconds: float = 0.03  # 0: a call is a batch
    info: dict[str, Any] = field(default_factory=dict)
    check: Callable[[], dict[str, Any]] | None = None  # after the times
    is_number: bool = False  # what a call returns
    around: Callable[[str], AbstractContextManager] = lambda _: nullcontext()  # each variant


class Suite:
    """Cases by name, how a library's process makes them ready, and what is said of their times."""

    title = ""  # one line of help
    peers: tuple[str, ...] = ()  # libraries beside dlcore
    limits: tuple[str, ...] = ()  # what is measured with them, but is no library
    rounds = 7
    unit = "s"
    scale, shown = 1e6, ", µs"  # of times in tables, and what titles say of it
    has_targets = False
    prints_rows = True  # those of another build are always printed
    command = "turn"  # of the worker, for a round

    def add_arguments(self, parser):
        """Add options of its own."""

    def complete(self, options, parser):
        """Check the options, and set what depends on others."""

    def cases(self, options):
        """Return the names of all cases that the options allow."""
        raise NotImplementedError

    def libraries(self, options):
        """Return the processes to start."""
        return dict.fromkeys(["dlcore", *options.peers, *self.limits])

    def takes(self, library, case, options):
        """Return whether a process has a part in a case."""
        return True

    def prepare(self, peer, case, options):
        """Make a case ready, in the process of a library; None where it cannot be done."""
        raise NotImplementedError

    def agree(self, case, infos):
        """Raise where the libraries' results differ, so that times would mean nothing."""

    def doubtful(self, times, options):
        """Return the variants that are measured again, for longer."""
        if not options.against:
            return set()
        return {
            variant
            for variant, own in times.items()
            if AGAINST in own
            and own["dlcore"].median > (1 + options.tolerance) * own[AGAINST].median
        }

    def targets(self, case, options):
        """Return how many times as fast dlcore must and should be, or None."""
        return None, None

    def values(self, case, times):
        """Return what the medians are of, round by round."""
        return times.seconds

    def shared(self, measured):
        """Return {variant: {library: Times}} with times that stand in more than one variant."""
        return measured

    def fields(self, case, variant, times, library):
        """Return more figures for the row of a library, from the times of all in this variant."""
        info = dict(times[library].info)
        if times[library].busy:  # beside a process that takes a core
            info["slowdown"] = statistics.median(times[library].busy) / times[library].median
        return info

    def cells(self, rows):
        """Return more cells of a line, by title, from its rows by library."""
        if "slowdown" not in rows["dlcore"]:
            return {}
        return {"busy / idle": number(rows["dlcore"]["slowdown"])}

    def run(self, options, table, note):
        """Measure all cases; return the report."""
        from benchmarks.harness.run import measure_all

        return measure_all(self, options, table, note)

    def finish(self, report, options):
        """Print what follows the table."""

    def draw(self, report, path):
        """Draw the chart."""
        from benchmarks.harness.chart import draw_ratios

        draw_ratios(report, path)
