"""What the tables of comparisons share."""

import platform
import re
from pathlib import Path


def number(value):
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def verdict(row):
    """Which of the two targets was met."""
    if row["ratio"] is None or row["must"] is None:
        return ""
    met = (name for name in ("aim", "must") if row[name] is not None and row["ratio"] >= row[name])
    return next(met, "no")


def processor():
    """Name the processor."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def show(rows, cells, left=("case", "best peer", "met")):
    """Print a table line by line, as rows come, and yield them again.

    ``cells(row)`` is its line, by title; those of ``left`` are aligned left.
    """
    for i, row in enumerate(rows):
        line = cells(row)
        if i == 0:
            rule = "|".join("---" if title in left else "--:" for title in line)
            print(f"| {' | '.join(line)} |\n|{rule}|")
        print(f"| {' | '.join(line.values())} |", flush=True)
        yield row
