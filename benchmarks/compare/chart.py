"""The picture of a comparison.

python benchmarks/compare/chart.py compare.json compare.png
"""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

WON, LOST = "tab:blue", "tab:red"
MARKERS = "osDv^<>"


def draw(report, path):
    """Draw a bar for each case, best peer's time over dlcore's, and a mark for each peer."""
    rows = [row for row in report["cases"] if row["ratio"] is not None]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.24 * len(rows)), layout="constrained")
    ratios = [row["ratio"] for row in rows]
    axes.barh(
        range(len(rows)),
        [ratio - 1 for ratio in ratios],
        left=1,
        height=0.7,
        color=[WON if ratio >= 1 else LOST for ratio in ratios],
    )
    for name, marker in zip(list(report["versions"])[1:], MARKERS, strict=False):
        times = {i: row["seconds"].get(name) for i, row in enumerate(rows)}
        marks = [(t / rows[i]["seconds"]["dlcore"], i) for i, t in times.items() if t]
        if marks:
            label = f"{name} {report['versions'][name]}"
            axes.scatter(*zip(*marks, strict=True), s=12, marker=marker, label=label, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("times as long as dlcore takes (bar: the fastest; red: faster than dlcore)")
    axes.set_title(f"{report['dtype']}, {report['threads']} threads, {report['isa']}", fontsize=10)
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
