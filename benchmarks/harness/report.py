"""Reports: a row for each case and library, in JSON and as a table.

A report has ``suite``, ``machine``, ``unit`` and ``rows``. A row has ``name``, ``library``, the
``median`` and the ``quartiles`` in that unit, ``ratio``, how many times as long as dlcore the
library takes (the median over the rounds of the ratio in one round), and the quartiles of that
ratio; what more there is, is the suite's own.
"""

import json
import math

import numpy as np

from benchmarks.harness.process import AGAINST

LEFT = ("case", "best peer", "met", "verdict", "of stream")  # aligned so


def number(value):
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    digits = 2 - math.floor(math.log10(abs(value))) if value else 2
    return f"{value:.{max(0, digits)}f}"


def verdict(ratio, must, aim):
    """Which of the two targets was met."""
    if ratio is None or must is None:
        return ""
    return "aim" if aim is not None and ratio >= aim else "must" if ratio >= must else "no"


def rows_of(suite, case, measured, options):
    """Yield the rows of a case, from {variant: {library: Times}}."""
    must, aim = suite.targets(case, options)
    for variant, times in measured.items():
        values = {
            library: np.array(suite.values(case, own))
            for library, own in times.items()
            if library not in suite.limits
        }
        for library, own in values.items():
            ratios = own / values["dlcore"]
            yield {
                "name": f"{case} {variant}".strip(),
                "library": library,
                "median": float(np.median(own)),
                "quartiles": np.percentile(own, (25, 75)).tolist(),
                "ratio": float(np.median(ratios)),
                "ratio_quartiles": np.percentile(ratios, (25, 75)).tolist(),
                "ratio_of_least": float(own.min() / values["dlcore"].min()),
                "rounds": own.tolist(),
                "must": must,
                "aim": aim,
                "case": case,
                "variant": variant,
                **suite.fields(case, variant, times, library),
            }


def best_peer(rows):
    """Name the fastest library beside dlcore, from its rows."""
    others = rows.keys() - {"dlcore", AGAINST}
    return min(sorted(others), key=lambda name: rows[name]["median"], default=None)


def cells(suite, rows, libraries):
    """Return a line of the table, by title, from the rows by library."""
    ours, best = rows["dlcore"], best_peer(rows)
    line = {"case": f"`{ours['name']}`"}
    for name in libraries:
        line[f"{name}{suite.shown}"] = (
            number(suite.scale * rows[name]["median"]) if name in rows else ""
        )
    if any(name not in ("dlcore", AGAINST) for name in libraries):
        ratio = best and rows[best]["ratio"]
        line["best peer"] = best or ""
        line["ratio"] = number(ratio)
        line["quartiles"] = " to ".join(map(number, rows[best]["ratio_quartiles"])) if best else ""
        if suite.has_targets:
            line |= {key: f"{ours[key]:g}" if ours[key] else "" for key in ("must", "aim")}
            line["met"] = verdict(ratio, ours["must"], ours["aim"])
    if AGAINST in libraries:
        line[f"{AGAINST} / dlcore"] = number(rows[AGAINST]["ratio"]) if AGAINST in rows else ""
        line["its quartiles"] = (
            " to ".join(map(number, rows[AGAINST]["ratio_quartiles"])) if AGAINST in rows else ""
        )
    return line | suite.cells(rows)


class Table:
    """A Markdown table, printed line by line."""

    def __init__(self):
        self._titles = None

    def add(self, line):
        if self._titles is None:
            self._titles = list(line)
            rule = "|".join("---" if title in LEFT else "--:" for title in line)
            print(f"| {' | '.join(line)} |\n|{rule}|")
        print(f"| {' | '.join(line.get(title, '') for title in self._titles)} |", flush=True)


def show(suite, rows, libraries, table):
    """Print the lines of some rows, all of their names complete."""
    names = {}
    for row in rows:
        names.setdefault(row["name"], {})[row["library"]] = row
    for own in names.values():
        table.add(cells(suite, own, libraries))


def write(report, path):
    """Write a report."""
    path.write_text(json.dumps(report, indent=1, default=str) + "\n")


def read(paths):
    """Read a report, or several that are parts of one."""
    first, *others = (json.loads(path.read_text()) for path in paths)
    for other in others:
        if other["suite"] != first["suite"]:
            raise ValueError(f"reports of {first['suite']} and of {other['suite']} are not one")
        first["rows"] += other["rows"]
        first["machine"]["versions"] |= other["machine"]["versions"]
    return first
