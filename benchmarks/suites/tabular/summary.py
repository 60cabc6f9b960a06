"""What a campaign says: a table of methods, one of sets, and the sets that are lost."""

from dataclasses import dataclass, field

import numpy as np

from benchmarks.suites.tabular.scores import ERRORS
from benchmarks.suites.tabular.sets import DATASETS
from benchmarks.suites.tabular.statistics import (
    differences,
    mean_ranks,
    paired,
    shifted_geometric_mean,
    t_interval,
)


@dataclass
class Summary:
    """Errors and costs of methods on the sets and seeds that all of them have."""

    methods: list[str]
    sets: list[str]
    seeds: list[int]
    errors: np.ndarray  # (methods, sets, seeds)
    costs: dict[str, np.ndarray]  # of the same shape, by the names of records
    metrics: dict[str, str]  # of each set
    left_out: list[str] = field(default_factory=list)  # what failed, a line each

    def of(self, method):
        return self.errors[self.methods.index(method)]

    def ours(self):
        return [method for method in self.methods if method.startswith("dlcore")]

    def first(self):
        """Return the method of ours that was named first: it is not chosen by its errors."""
        return self.ours()[0]

    def ratio(self, ours, theirs, cost):
        """Return how many times as much `theirs` takes, the geometric mean over sets and seeds."""
        values = [self.costs[cost][self.methods.index(m)] for m in (theirs, ours)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.exp(np.mean(np.log(values[0]) - np.log(values[1]))))


def summarize(records, which="error"):
    """Return the summary of records by one of the errors that ``scores.ERRORS`` names.

    A set counts with the seeds that all methods have. A method that has no result is dropped, a set
    on which a method failed is left out for all, and both are said.
    """
    records = [record for record in records if record is not None]
    found = {(r["method"], r["set"], r["seed"]): r for r in records if "errors" in r}
    lines = [
        f"{r['method']} on {r['set']}, seed {r['seed']}: {r['failed']}"
        for r in records
        if "failed" in r
    ]
    order = dict.fromkeys(r["method"] for r in records)
    methods = [m for m in order if any(m == key[0] for key in found)]
    lines += [f"{m} has no result" for m in order if m not in methods]
    seeds = sorted({key[2] for key in found})
    every = dict.fromkeys(r["set"] for r in records)
    sets = [s for s in every if all((m, s, i) in found for m in methods for i in seeds)]
    lines += [f"{s} is left out: not all methods have all seeds" for s in every if s not in sets]
    if not (methods and sets):
        told = "; ".join(lines)
        raise ValueError(f"there is no set of which all methods have all seeds: {told}")
    metrics = {s: ERRORS[which][int(found[methods[0], s, seeds[0]]["regression"])] for s in sets}

    def array(value):
        return np.array(
            [[[value(found[m, s, i]) for i in seeds] for s in sets] for m in methods], np.float64
        )

    return Summary(
        methods=methods,
        sets=sets,
        seeds=seeds,
        errors=array(lambda r: r["errors"][metrics[r["set"]]]),
        costs={
            name: array(lambda r, name=name: np.nan if r[name] is None else r[name])
            for name in ("fit", "fit_cpu", "predict", "peak", "rise", "train", "test")
        },
        metrics=metrics,
        left_out=lines,
    )


def interval(low, high):
    """Write an interval of a ratio as percents of more or less."""
    if not np.isfinite([low, high]).all():
        return "needs 2 or more"
    return f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %"


def table_of_methods(summary, ours):
    """Yield the cells of a line for each method, {title: text}, the best first."""
    means = {m: shifted_geometric_mean(summary.of(m)) for m in summary.methods}
    ranks = dict(zip(summary.methods, mean_ranks(summary.errors.mean(-1)), strict=True))
    for method in sorted(summary.methods, key=means.get):
        of = summary.methods.index(method)
        rows = {name: summary.costs[name][of] for name in summary.costs}
        line = {
            "method": f"`{method}`",
            "mean error": f"{means[method]:.4f}",
            "mean rank": f"{ranks[method]:.2f}",
            "error beside ours": "",
            "other splits, 95 %": "",
            "other sets, 95 %": "",
            "verdict": "",
        }
        if method != ours:
            compared = paired(summary.of(method), summary.of(ours))
            line |= {
                "error beside ours": f"{100 * (compared.ratio - 1):+.1f} %",
                "other splits, 95 %": interval(*compared.by_seeds),
                "other sets, 95 %": interval(*compared.by_sets),
                "verdict": compared.verdict(),
            }
        line |= {
            "fit, s per 1000 rows": f"{geometric(1000 * rows['fit'] / rows['train']):.3g}",
            "of CPU": f"{geometric(1000 * rows['fit_cpu'] / rows['train']):.3g}",
            "predict, ms per 1000 rows": f"{geometric(1e6 * rows['predict'] / rows['test']):.3g}",
            "peak, MB": f"{rows['peak'].max():.0f}",
            "fit beside ours": f"{summary.ratio(ours, method, 'fit'):.3g}",
        }
        yield line


def geometric(values):
    return float(np.exp(np.log(values).mean()))


def table_of_sets(summary):
    """Yield the cells of a line for each set: the mean error of each method, the least in bold."""
    means = summary.errors.mean(-1)
    for i, name in enumerate(summary.sets):
        line = {
            "set": f"`{name}`",
            "to be told": DATASETS[name].says,
            "rows": f"{summary.costs['train'][0, i, 0]:.0f}",
            "error": summary.metrics[name],
        }
        for method, mean in zip(summary.methods, means[:, i], strict=True):
            text = f"{mean:.4f}"
            line[method] = f"**{text}**" if mean == means[:, i].min() else text
        yield line


def lost(summary, ours):
    """Yield for each set on which another's error is lower, by the mean ratio, a line that says so."""
    own = summary.of(ours)
    for i, name in enumerate(summary.sets):
        losses = []
        for method in summary.methods:
            logs = differences(own[i], summary.of(method)[i])[0]
            if method in summary.ours() or logs.mean() <= 0:
                continue
            more = 100 * (np.exp(logs.mean()) - 1)
            sure = ", surely" if t_interval(logs)[0] > 0 else ""
            losses.append((more, f"{method} by {more:.1f} %{sure}"))
        if losses:
            told = "; ".join(text for _, text in sorted(losses, reverse=True))
            yield f"`{name}` ({summary.metrics[name]} {own[i].mean():.4f}): {told}"


def markdown(lines):
    """Return a Markdown table of lines, {title: text}."""
    lines = list(lines)
    titles = list(lines[0])
    left = ("method", "set", "to be told", "error", "verdict")
    rule = "|".join("---" if title in left else "--:" for title in titles)
    rows = [" | ".join(line[title] for title in titles) for line in lines]
    return "\n".join([f"| {' | '.join(titles)} |", f"|{rule}|", *(f"| {row} |" for row in rows)])


def text(summary):
    """Return all that is to be read of a summary, as Markdown."""
    ours = summary.first()
    many = f"{len(summary.sets)} sets with {len(summary.seeds)} seeds"
    lines = [
        f"Shifted geometric mean of the errors on {many}; ours is `{ours}`.",
        "",
        markdown(table_of_methods(summary, ours)),
        "",
        markdown(table_of_sets(summary)),
        "",
    ]
    losses = list(lost(summary, ours))
    lines += [f"Sets on which `{ours}` loses ({len(losses)} of {len(summary.sets)}):", ""]
    lines += [f"- {line}" for line in losses] or ["None."]
    if summary.left_out:
        lines += ["", "Left out:", "", *(f"- {line}" for line in summary.left_out)]
    return "\n".join(lines)
