"""Compare dlcore with what would be used in its place, each library in a process of its own.

Rounds are interleaved over the libraries; times are medians of rounds of batches. From the root of
a checkout, with dlcore installed and any of NumPy's rivals beside it:

    python benchmarks/compare --json compare.json --chart compare.png
"""

import argparse
import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from cases import CASES, DTYPES
from contest import Contestant, Failure, measure
from peers import PEERS
from report import number, processor, verdict

import dlcore

TITLES = {
    "case": "---",
    "dlcore, µs": "--:",
    "best peer, µs": "--:",
    "ratio": "--:",
    "must": "--:",
    "aim": "--:",
    "met": "---",
    "dlcore, ULP": "--:",
    "peer, ULP": "--:",
    "GB/s": "--:",
    "of stream": "--:",
}


def note(message):
    """Tell beside the table."""
    print(message, file=sys.stderr, flush=True)


def line(row):
    """One line of the table."""
    peer, large = row["best_peer"], row["share_of_stream"] is not None
    cells = (
        f"`{row['case']}`",
        number(1e6 * row["seconds"]["dlcore"]),
        f"{peer} {number(1e6 * row['seconds'][peer])}" if peer else "",
        number(row["ratio"]),
        *(f"{row[target]:g}" if row[target] else "" for target in ("must", "aim")),
        verdict(row),
        f"{row['ulp']['dlcore']:.1f}",
        f"{row['ulp'][peer]:.1f}" if peer else "",
        f"{row['bytes_per_second'] / 1e9:.1f}" if large else "",
        f"{row['share_of_stream']:.0%} of {row['stream']}" if large else "",
    )
    return f"| {' | '.join(cells)} |"


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", metavar="PATTERN", default="", help="cases whose name has it")
    parser.add_argument("--peers", metavar="LIST", default=",".join(PEERS), help="%(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    cores = dlcore.get_num_threads()
    parser.add_argument("--threads", type=int, default=cores, help="of each library (%(default)s)")
    parser.add_argument("--json", metavar="PATH", type=Path, help="write all figures")
    parser.add_argument("--chart", metavar="PATH", type=Path, help="draw the ratios")
    options = parser.parse_args()
    options.peers = [name for name in options.peers.split(",") if name and name != "dlcore"]
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}: there are {', '.join(PEERS)}")
    if options.rounds < 1 or not 1 <= options.threads <= cores:
        parser.error(f"at least 1 round, and 1 to {cores} threads")
    options.cases = [case for name, case in CASES.items() if re.search(options.only, name)]
    if not options.cases:
        parser.error(f"no case is called {options.only}: there are {', '.join(CASES)}")
    return options


def main():
    """Measure, and print, write and draw."""
    options = arguments()
    if options.chart:
        from chart import draw
    with ExitStack() as stack:
        contestants, versions = [], {}
        for name in ("dlcore", *options.peers, "stream"):
            contestant = Contestant(name, options.dtype, options.threads)
            stack.callback(contestant.close)
            try:
                versions[name] = contestant.greeting()
                contestants.append(contestant)
            except Failure as failure:
                if name == "dlcore":
                    raise
                note(f"{name} is left out: {failure}")
        versions.pop("stream")
        report = {
            "processor": processor(),
            "isa": dlcore.isa(),
            "threads": options.threads,
            "dtype": options.dtype,
            "rounds": options.rounds,
            "versions": versions,
            "cases": [],
        }
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{names}; {options.dtype}, {options.threads} threads, {dlcore.isa()}.\n")
        print(f"| {' | '.join(TITLES)} |\n|{'|'.join(TITLES.values())}|", flush=True)
        for case in options.cases:
            row = measure(case, options.dtype, contestants, options.rounds, note)
            report["cases"].append(row)
            print(line(row), flush=True)
            if options.json:  # after each case: an interrupted run is not lost
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.chart:
        draw(report, options.chart)


if __name__ == "__main__":
    main()
