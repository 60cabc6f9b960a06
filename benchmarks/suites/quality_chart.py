"""The picture of quality."""

import numpy as np
from matplotlib.lines import Line2D

from benchmarks.harness.chart import plt, save

RUNS = {  # library and variant: its tick and its color
    ("sklearn", "float64"): ("scikit-learn\nfloat64", "tab:orange"),
    ("dlcore", "float64"): ("dlcore\nfloat64", "tab:blue"),
    ("dlcore", "float32"): ("dlcore\nfloat32", "tab:cyan"),
}
COLUMNS = 3
WIDTH = 0.6  # over which the dots of a run are spread, so that equal scores stay apart


def draw(report, path):
    """Draw a panel for each data set: the score of each seed, joined over the runs, and means."""
    rows = {}
    for row in report["rows"]:
        rows.setdefault(row["case"], {})[row["library"], row["variant"]] = row
    rows = [{run: own[run] for run in RUNS if run in own} for own in rows.values()]
    lines = -(-(len(rows) + 1) // COLUMNS)
    columns = min(COLUMNS, len(rows) + 1)
    figure = plt.figure(figsize=(3.1 * columns, 0.4 + 2.9 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, row in zip(grid, rows, strict=False):
        panel(axes, row)
    for axes in grid[len(rows) :]:
        axes.set_axis_off()
    legend(grid[len(rows)], seeds=len(report["rows"][0]["rounds"]))
    save(figure, path, 150)


def legend(axes, seeds):
    """Say what the panels show."""
    dot = {"color": "gray", "marker": "o", "markersize": 4, "linestyle": ""}
    axes.legend(
        handles=[
            Line2D([], [], **dot, label="test score of a seed"),
            Line2D([], [], color="gray", linewidth=0.6, label="same split and first weights"),
            Line2D([], [], color="black", linewidth=1.5, label=f"mean of {seeds} seeds"),
        ],
        loc="center",
        frameon=False,
        fontsize=9,
        title="Higher is better; no axis starts at 0.\n",
        title_fontsize=9,
    )


def panel(axes, rows):
    """Draw the scores on one data set, of rows by run."""
    scores = np.array([row["rounds"] for row in rows.values()])  # (runs, seeds)
    runs, seeds = scores.shape
    places = np.arange(runs)[:, None] + WIDTH * (np.arange(seeds) / max(seeds - 1, 1) - 0.5)
    axes.plot(places, scores, color="gray", linewidth=0.4, alpha=0.7, zorder=1)
    ticks = []
    for own, x, run in zip(scores, places, rows, strict=True):
        label, color = RUNS[run]
        axes.hlines(own.mean(), x[0] - 0.08, x[-1] + 0.08, color="black", linewidth=1.5, zorder=2)
        axes.scatter(x, own, s=10, color=color, zorder=3)
        ticks.append(f"{label}\n{own.mean():.4f}")
    axes.set_xticks(range(runs), ticks, fontsize=8)
    axes.set_xlim(-0.5, runs - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_ylabel(rows[run]["metric"], fontsize=9)
    axes.set_title(rows[run]["case"], fontsize=10)
    axes.grid(axis="y", alpha=0.3)
