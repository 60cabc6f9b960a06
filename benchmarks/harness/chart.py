"""Pictures of reports."""

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

WON, LOST = "tab:blue", "tab:red"
MARKERS = "osDv^<>"


def save(figure, path, dpi):
    """Write a figure, and drop it."""
    figure.savefig(path, dpi=dpi)
    plt.close(figure)


def draw_ratios(report, path):
    """Draw a bar for each case, best peer's time over dlcore's, and a mark for each peer."""
    ratios, versions = {}, report["machine"]["versions"]
    for row in report["rows"]:
        if row["library"] != "dlcore" and row["ratio"] is not None:
            ratios.setdefault(row["name"], {})[row["library"]] = row["ratio"]
    best = [min(own.values()) for own in ratios.values()]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.24 * len(ratios)), layout="constrained")
    axes.barh(
        range(len(best)),
        [ratio - 1 for ratio in best],
        left=1,
        height=0.7,
        color=[WON if ratio >= 1 else LOST for ratio in best],
    )
    libraries = [name for name in versions if any(name in own for own in ratios.values())]
    for name, marker in zip(libraries, MARKERS, strict=False):
        marks = [(own[name], i) for i, own in enumerate(ratios.values()) if name in own]
        label = f"{name} {versions[name]}"
        axes.scatter(*zip(*marks, strict=True), s=12, marker=marker, label=label, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(ratios)), list(ratios), fontsize=8)
    axes.set_ylim(len(ratios) - 0.5, -0.5)
    axes.set_xlabel("times as long as dlcore takes (bar: the fastest; red: faster than dlcore)")
    title = f"{report['suite']}, {report['threads']} threads, {report['machine']['isa']}"
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", which="both", linewidth=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=len(libraries))
    save(figure, path, 150)
