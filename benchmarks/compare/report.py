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
    return next((target for target in ("aim", "must") if row["ratio"] >= row[target]), "no")


def processor():
    """Name the processor."""
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()
