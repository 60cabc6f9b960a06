"""The picture of a campaign: error beside the time of a fit, and the errors on each set."""

import numpy as np

from benchmarks.harness.chart import LOST, WON, plt, save
from benchmarks.suites.tabular.statistics import differences, shifted_geometric_mean, t_interval

# Logarithm of the ratio of times below which names would cover each other.
NEAR = 1.3


def draw(summary, path):
    """Draw methods by time and error, and for each set how much larger the others' errors are."""
    ours = summary.first()
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(12, 1.8 + 0.33 * max(10, len(summary.sets))),
        width_ratios=(1, 1.4),
        layout="constrained",
    )
    by_time(left, summary)
    by_set(right, summary, ours)
    save(figure, path, 150)


def by_time(axes, summary):
    rows = 1000 / summary.costs["train"]
    # Of the processor: those of the clock are also those of whatever else the machine did.
    seconds = np.exp(np.log(summary.costs["fit_cpu"] * rows).mean(axis=(1, 2)))
    means = [shifted_geometric_mean(own) for own in summary.errors]
    for method, *place in zip(summary.methods, seconds, means, strict=True):
        axes.scatter(*place, color=WON if method in summary.ours() else "gray", zorder=3)
        # Of neighbors the name of the upper one goes above, that of the lower one below.
        near = np.array(means)[np.abs(np.log(seconds / place[0])) < NEAR]
        above, below = (near > place[1]).sum(), (near < place[1]).sum()
        beside = (6, -3) if above and below else (-4, -12) if above else (-4, 6)
        axes.annotate(method, place, beside, textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.margins(x=0.3)
    axes.set_xlabel("seconds of the processor for a fit, per 1000 rows")
    axes.set_ylabel("shifted geometric mean of errors")
    axes.set_title(f"{len(summary.sets)} sets, seeds: {len(summary.seeds)}", fontsize=10)
    axes.grid(linewidth=0.3)


def by_set(axes, summary, ours):
    """Draw the ratio of the others' errors to ours, with the interval over the seeds."""
    others = [method for method in summary.methods if method not in summary.ours()]
    places, means = np.arange(len(summary.sets)), [0.0]
    for j, method in enumerate(others):
        logs = differences(summary.of(method), summary.of(ours))
        y = places + 0.7 * ((j + 0.5) / len(others) - 0.5)
        for place, own in zip(y, logs, strict=True):
            low, high = t_interval(own)
            means.append(100 * (np.exp(own.mean()) - 1))
            axes.plot([means[-1]], [place], ".", color=f"C{j}", zorder=3)
            if np.isfinite(low):
                ends = 100 * (np.exp([low, high]) - 1)
                axes.plot(ends, [place, place], color=f"C{j}", linewidth=0.8)
        axes.plot([], [], ".-", color=f"C{j}", linewidth=0.8, label=method)
    axes.axvline(0, color="black", linewidth=1)
    low, high = min(means), max(means)
    beside = 0.1 * (high - low) or 1.0
    axes.axvspan(low - beside, 0, color=LOST, alpha=0.06, linewidth=0)
    axes.set_xlim(low - beside, high + beside)  # of few seeds the intervals are wider
    axes.set_yticks(places, summary.sets, fontsize=8)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.set_xlabel(f"error beside {ours}, % (left of 0: lower than ours)")
    axes.grid(axis="x", linewidth=0.3)
    axes.legend(fontsize=8, ncols=len(others), loc="lower center", bbox_to_anchor=(0.5, 1.0))
