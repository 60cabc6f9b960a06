"""Benchmarks of dlcore. From the root of a checkout, with dlcore installed:

    python -m benchmarks kernels --json kernels.json --chart kernels.png
    python -m benchmarks training --peers numpy,torch
    python -m benchmarks kernels --peers dlcore --against FOLDER  # which holds another dlcore
    python -m benchmarks compare old.json new.json

Each library runs in a process of its own; they take turns in interleaved rounds, and times are
medians. Libraries that are not installed are left out.
"""

import argparse
import re
import sys
from importlib import import_module
from pathlib import Path

import dlcore
from benchmarks import suites
from benchmarks.harness import report
from benchmarks.harness.compare import compare, summarize_against

QUICK_ROUNDS = 5


def note(message):
    """Tell beside the table."""
    print(message, file=sys.stderr, flush=True)


def add_common(parser, suite):
    """Add the options that all suites have."""
    cores = dlcore.get_num_threads()
    add = parser.add_argument
    add("--only", metavar="PATTERN", default="", help="cases whose name has it")
    add("--peers", metavar="LIST", help=f"libraries; {','.join(suite.peers)}")
    add("--against", metavar="FOLDER", type=Path, help="which holds another dlcore, to time too")
    add("--tolerance", type=float, default=0.03, help="of --against (%(default)s)")
    add("--rounds", type=int, help=f"turns of each library ({suite.rounds})")
    add("--threads", type=int, default=min(2, cores), help="of each library (%(default)s)")
    add("--quick", action="store_true", help="fewer rounds, shorter batches, no check of errors")
    add("--json", metavar="FILE", type=Path, help="write all figures")
    add("--chart", metavar="FILE", type=Path, help="draw them")
    add("--read", metavar="FILE", type=Path, nargs="+", help="figures to show instead of new ones")


def arguments(argv):
    """Read the command line; return the suite, too."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    known = {}
    for name in suites.NAMES:
        known[name] = import_module(f"benchmarks.suites.{name}").SUITE
        command = commands.add_parser(name, help=known[name].title, description=known[name].title)
        add_common(command, known[name])
        known[name].add_arguments(command)
    command = commands.add_parser("compare", help="two files of --json: what became slower")
    command.add_argument("old", type=Path)
    command.add_argument("new", type=Path)
    command.add_argument("--tolerance", type=float, default=0.03, help="(%(default)s)")
    command.add_argument("--library", default="dlcore", help="whose rows (%(default)s)")
    options = parser.parse_args(argv)
    if options.suite == "compare":
        return options, None
    suite = known[options.suite]
    check(options, suite, parser)
    return options, suite


def check(options, suite, parser):
    """Complete the options of a suite, or end with what is wrong with them."""
    cores = dlcore.get_num_threads()
    if options.rounds is None:
        options.rounds = min(QUICK_ROUNDS, suite.rounds) if options.quick else suite.rounds
    if options.rounds < 1 or not 1 <= options.threads <= cores:
        parser.error(f"at least 1 round, and 1 to {cores} threads")
    suite.complete(options, parser)
    wanted = suite.peers if options.peers is None else options.peers.split(",")
    options.peers = [name for name in wanted if name and name != "dlcore"]
    if unknown := set(options.peers) - set(suite.peers):
        parser.error(
            f"unknown peers {', '.join(sorted(unknown))}: there are {', '.join(suite.peers)}"
        )
    if options.against and not (options.against / "dlcore" / "__init__.py").exists():
        parser.error(f"--against {options.against}: there is no package dlcore in that folder")
    if options.chart:
        import_module("matplotlib")  # if it is not there, that is known before the measurements
    names = suite.cases(options)
    options.cases = [name for name in names if re.search(options.only, name)]
    if not options.cases:
        parser.error(f"no case is called {options.only}: there are {', '.join(names)}")


def main(argv=None):
    """Measure, and print, write and draw; return the exit status."""
    options, suite = arguments(argv)
    if options.suite == "compare":
        return compare(options.old, options.new, options.tolerance, options.library)
    table = report.Table()
    if options.read:
        full = report.read(options.read)
        if suite.prints_rows:
            report.show(suite, full["rows"], full["machine"]["versions"], table)
    else:
        full = suite.run(options, table, note)
    suite.finish(full, options)
    if options.chart:
        suite.draw(full, options.chart)
    return summarize_against(full, options.tolerance)


if __name__ == "__main__":
    sys.exit(main())
