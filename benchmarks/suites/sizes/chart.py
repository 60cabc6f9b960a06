"""The picture of a sweep: a panel for each kernel."""

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.harness.chart import plt, save
from benchmarks.harness.machine import caches
from benchmarks.suites.sizes.findings import series

STYLES = {  # (dtype, way): color
    ("float32", "out"): "tab:blue",
    ("float32", "new"): "tab:orange",
    ("float32", "strided"): "tab:green",
    ("float64", "out"): "tab:red",
}
LINES = {1: "--", 2: "-"}  # threads
COLUMNS = 4


def draw(records, path):
    """Draw nanoseconds an element over elements."""
    table = series(records)
    moved = {record["kernel"]: record["moved"] for record in records}
    kernels = list(dict.fromkeys(r["kernel"] for r in records))
    rows = -(-len(kernels) // COLUMNS)
    figure, grid = plt.subplots(
        rows,
        COLUMNS,
        figsize=(4 * COLUMNS, 0.8 + 2.7 * rows),
        layout="constrained",
        sharex=True,
        squeeze=False,
    )
    for axes, kernel in zip(grid.flat, kernels, strict=False):
        for (dtype, way), color in STYLES.items():
            for threads, line in LINES.items():
                times = table.get((kernel, dtype, way, threads), {})
                axes.plot(
                    list(times),
                    [1e9 * time / n for n, time in times.items()],
                    line,
                    color=color,
                    linewidth=1.1,
                    marker=".",
                    markersize=3,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(kernel, fontsize=10)
        axes.grid(which="major", linewidth=0.4)
        for size in caches():
            n = size / moved[kernel] / 4
            if 10 <= n <= 10**7:
                axes.axvline(n, color="gray", linewidth=0.8, linestyle=":")
    for axes in grid.flat[len(kernels) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("ns an element")
    for column in range(COLUMNS):
        lowest = max(
            row for row in range(rows) if row * COLUMNS + column < max(len(kernels), COLUMNS)
        )
        grid[lowest, column].set_xlabel("elements")
        grid[lowest, column].tick_params(labelbottom=True)
    names = {"out": "with out=", "new": "without out=", "strided": "strided input, with out="}
    handles = [
        Line2D([], [], color=color, label=f"{dtype}, {names[way]}")
        for (dtype, way), color in STYLES.items()
    ]
    handles += [
        Line2D(
            [], [], color="black", linestyle=line, label=f"{threads} thread{'s' * (threads > 1)}"
        )
        for threads, line in LINES.items()
    ]
    handles.append(
        Line2D([], [], color="gray", linestyle=":", label="the float32 data fill a cache")
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=7, fontsize=9)
    save(figure, path, 110)
