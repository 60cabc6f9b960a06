"""A suite's cases, one after the other, measured in turns and told as they come."""

from contextlib import ExitStack

import dlcore
from benchmarks.harness import machine, report
from benchmarks.harness.process import AGAINST, Spinner, processes
from benchmarks.harness.rounds import measure


def measure_all(suite, options, table, note):
    """Measure, print and write; return the report."""
    with ExitStack() as stack:
        names = [*suite.libraries(options), *([AGAINST] if options.against else [])]
        there, versions = stack.enter_context(processes(names, options.suite, options, note))
        versions = {name: version for name, version in versions.items() if name not in suite.limits}
        spinner = None
        if getattr(options, "busy", False):
            spinner = Spinner()
            stack.callback(spinner.close)
        full = {
            "suite": options.suite,
            "machine": machine.describe(versions),
            "unit": suite.unit,
            **{key: value for key, value in vars(options).items() if key not in ("suite", "cases")},
            "rows": [],
        }
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{listed}; {options.threads} threads, {dlcore.isa()}.\n", flush=True)
        for case in options.cases:
            rows = list(
                report.rows_of(
                    suite, case, measure(suite, case, there, options, spinner, note), options
                )
            )
            full["rows"] += rows
            if suite.prints_rows or options.against:
                report.show(suite, rows, versions, table)
            else:
                note(case)
            if options.json:  # after each case: an interrupted run is not lost
                report.write(full, options.json)
    return full
