"""Compare dlcore.sklearn with scikit-learn, each in a process of its own.

The code is the same but for the import. ``speed`` times calls in rounds that are interleaved over
the libraries, and ``quality`` scores fitted networks on rows they have not seen. From the root of a
checkout, with dlcore and scikit-learn installed:

    python benchmarks/estimators speed --json estimators.json
    python benchmarks/estimators speed --dtype float64
    python benchmarks/estimators quality --json quality.json --plot docs/quality.png
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "training"), str(HERE.parent / "compare")]

import contest
import quality
import speed
from cases import CASES, DTYPES, QUICK
from report import processor
from rounds import contestants

import dlcore

ASKED = ("mode", "threads", "rounds", "dtype", "seeds")  # what the report repeats
contest.WORKER = HERE / "worker.py"  # what its processes run, here


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/estimators", description=__doc__.splitlines()[0]
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    times = modes.add_parser("speed", help="how long calls take")
    times.add_argument("--rounds", type=int, default=9, help="turns of each library (%(default)s)")
    times.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    times.add_argument("--quick", action="store_true", help="few rows: whether it runs")
    scores = modes.add_parser("quality", help="how well networks do")
    scores.add_argument("--seeds", type=int, default=10, help="fits of each library (%(default)s)")
    scores.add_argument("--plot", metavar="PATH", type=Path, help="draw the scores")
    cores = dlcore.get_num_threads()
    for mode in (times, scores):
        mode.add_argument("--only", metavar="NAME", default="", help="cases whose name has it")
        mode.add_argument(
            "--threads", type=int, default=min(2, cores), help="of each library (%(default)s)"
        )
        mode.add_argument("--json", metavar="PATH", type=Path, help="write all figures")
    options = parser.parse_args()
    if not 1 <= options.threads <= cores:
        parser.error(f"1 to {cores} threads")
    if options.mode == "speed" and options.rounds < 1:
        parser.error("at least 1 round")
    if options.mode == "quality" and options.seeds < 2:
        parser.error("at least 2 seeds: a standard error needs them")
    if options.mode == "quality":
        of_mode = quality.names
    else:
        of_mode = partial(speed.names, options.dtype, QUICK if options.quick else 1)
    options.cases = of_mode(options.only)
    if not options.cases:
        parser.error(f"no case is called so: there are {', '.join(of_mode(''))}")
    return options


def main():
    """Measure, and print, write and draw."""
    options = arguments()
    needed = {"dlcore": None, "sklearn": None}
    if options.mode == "speed":
        needed = dict.fromkeys(["dlcore", *(CASES[name].peer for name in options.cases)])
    with contestants(needed, options.threads) as (there, versions):
        versions.pop("trainer", None)  # dlcore's own
        report = {
            "processor": processor(),
            "isa": dlcore.isa(),
            **{name: value for name, value in vars(options).items() if name in ASKED},
            "versions": versions,
            "cases": [],
        }
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{names}; {options.threads} threads, {dlcore.isa()}.\n", flush=True)
        run = quality.run if options.mode == "quality" else speed.run
        for row in run(options, there):
            report["cases"].append(row)
            if options.json:  # after each case: an interrupted run is not lost
                options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.mode == "quality" and options.plot:
        from chart import draw

        draw(report, options.plot)


if __name__ == "__main__":
    main()
