"""Compare training with other libraries, each in a process of its own.

Whole epochs are timed, in rounds that are interleaved over the libraries: rows shuffled and
gathered, forward, loss, backward, update. Times are medians, in microseconds a step. From the root
of a checkout, with dlcore installed and any of the others beside it:

    python benchmarks/training --more --json training.json
    python benchmarks/training --busy
    python benchmarks/training --inference
    python benchmarks/training --products
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "compare"))

import peers
from cases import CASES, INFERENCE, MORE, PRODUCTS, TARGETS
from report import number, processor, show, verdict
from rounds import contestants, measure_calls, measure_training

import dlcore


def times(row, seconds, names):
    """The cells that both tables begin with."""
    return {
        "case": f"`{row['case']}`",
        **{f"{name}, µs": number(1e6 * seconds[name]) if name in seconds else "" for name in names},
        "best peer": row["best_peer"] or "",
        "ratio": number(row["ratio"]),
    }


def training_cells(row, names):
    """One line of the table, by title."""
    cells = times(row, row["seconds_per_step"], names)
    cells |= {target: f"{row[target]:g}" if row[target] else "" for target in ("must", "aim")}
    share = row["share_of_peak"]
    cells |= {
        "met": verdict(row),
        "GFLOP/s": number(row["flops"] / 1e9),
        "of peak": "" if share is None else f"{share:.0%}",
    }
    if "slowdown" in row:
        cells["busy / idle"] = number(row["slowdown"]["dlcore"])
        cells["peer's"] = number(row["slowdown"].get(row["best_peer"]))
    return cells


def inference_cells(row, names):
    """One line of the table, by title."""
    return times(row, row["seconds"], names)


def product_cells(row, names):
    """One line of the table, by title."""
    flops = PRODUCTS[row["case"]].flops / row["seconds"]["dlcore"]
    share = "" if row["peak"] is None else f"{flops / row['peak']:.0%}"
    return times(row, row["seconds"], names) | {"GFLOP/s": number(flops / 1e9), "of peak": share}


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--cases", metavar="PART", default="", help="cases whose name has it")
    parser.add_argument("--more", action="store_true", help="cases without targets as well")
    parser.add_argument("--peers", metavar="LIST", help="of " + ",".join(peers.TRAINING))
    parser.add_argument("--rounds", type=int, default=7, help="turns of each library (%(default)s)")
    cores = dlcore.get_num_threads()
    threads = min(2, cores)
    parser.add_argument(
        "--threads", type=int, default=threads, help="of each library (%(default)s)"
    )
    parser.add_argument("--json", metavar="PATH", type=Path, help="write all figures")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--busy", action="store_true", help="also with one core taken by a process")
    modes.add_argument("--inference", action="store_true", help="outputs alone")
    modes.add_argument("--products", action="store_true", help="matrix products alone")
    options = parser.parse_args()
    known = peers.INFERENCE if options.inference else peers.TRAINING
    known = peers.PRODUCTS if options.products else known
    wanted = known if options.peers is None else options.peers.split(",")
    options.peers = [name for name in wanted if name and name != "dlcore"]
    if unknown := set(options.peers) - set(known):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    if options.rounds < 1 or not 1 <= options.threads <= cores:
        parser.error(f"at least 1 round, and 1 to {cores} threads")
    training = {case.name: case for case in (TARGETS + MORE if options.more else TARGETS)}
    names = INFERENCE if options.inference else PRODUCTS if options.products else training
    options.cases = [name for name in names if options.cases in name]
    if not options.cases:
        parser.error(f"no case is called so: there are {', '.join(names)}")
    return options


def rows_of(options, contestants):
    """Measure one case after the other."""
    if options.inference or options.products:
        command = "infer" if options.inference else "product"
        for name in options.cases:
            yield measure_calls(command, name, contestants, options.rounds)
        return
    spinner = None
    if options.busy:
        from busy import Spinner  # the sweep's

        spinner = Spinner()
    try:
        for name in options.cases:
            yield measure_training(CASES[name], contestants, options.rounds, spinner)
    finally:
        if spinner:
            spinner.close()


def main():
    """Measure, and print and write."""
    options = arguments()
    limit = [] if options.inference else ["peak"]
    with contestants(["dlcore", *options.peers, *limit], options.threads) as (there, versions):
        versions.pop("peak", None)
        report = {
            "processor": processor(),
            "isa": dlcore.isa(),
            "threads": options.threads,
            "rounds": options.rounds,
            "versions": versions,
            "cases": [],
        }
        names = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"{names}; {options.threads} threads, {dlcore.isa()}.\n")
        cells = inference_cells if options.inference else training_cells
        cells = product_cells if options.products else cells
        for row in show(rows_of(options, there), partial(cells, names=list(versions))):
            report["cases"].append(row)
            if options.json:  # after each case: an interrupted run is not lost
                options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
