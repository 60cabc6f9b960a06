"""How well the estimators' networks do on rows they have not seen, beside scikit-learn's."""

from time import sleep

import numpy as np
from contest import PAUSE
from datasets import DATASETS
from judgement import compare
from report import number, show

# Who is compared, by the names in the table: a library, and the dtype of its input.
RUNS = {
    "scikit-learn": ("sklearn", "float64"),
    "dlcore": ("dlcore", "float64"),
    "dlcore, float32": ("dlcore", "float32"),
}
BASE = "scikit-learn"


def measure(dataset, contestants, seeds):
    """Score all runs for each seed, in turns, and return their figures."""
    by_name = {contestant.name: contestant for contestant in contestants}
    turns = list(RUNS)
    replies = {run: [] for run in turns}
    for seed in (0, *range(seeds)):
        for run in turns:
            library, dtype = RUNS[run]
            sleep(PAUSE)
            replies[run].append(by_name[library].ask("score", dataset.name, dtype, seed))
        turns.append(turns.pop(0))
    scores, seconds = (
        {run: [reply[key] for reply in own[1:]] for run, own in replies.items()}  # the first warms
        for key in ("score", "seconds")
    )
    return {
        "dataset": dataset.name,
        "metric": dataset.metric,
        "scores": scores,
        "seconds": seconds,
        "compared": {run: compare(scores[run], scores[BASE]) for run in RUNS if run != BASE},
    }


def lines(rows):
    """Yield a line of the table for each run of dlcore's, with the row it is of."""
    for row in rows:
        for run in row["compared"]:
            yield row, run


def cells(line):
    """Return a line of the table, by title."""
    row, run = line
    compared = row["compared"][run]
    seconds = {name: float(np.median(row["seconds"][name])) for name in (BASE, run)}
    return {
        "data set": row["dataset"],
        "score": row["metric"],
        "dlcore's input": RUNS[run][1],
        "dlcore": f"{np.mean(row['scores'][run]):.4f}",
        BASE: f"{np.mean(row['scores'][BASE]):.4f}",
        "difference": f"{round(compared['difference'], 4) + 0.0:+.4f} ± {compared['standard_error']:.4f}",
        "verdict": compared["verdict"],
        "dlcore's fit, ms": number(1e3 * seconds[run]),
        f"{BASE}'s, ms": number(1e3 * seconds[BASE]),
        "ratio": number(seconds[BASE] / seconds[run]),
    }


def names(part):
    """Return the names of the data sets that have a part."""
    return [name for name in DATASETS if part in name]


def run(options, contestants):
    """Yield the rows of all data sets, printed as a table."""
    rows = (measure(DATASETS[name], contestants, options.seeds) for name in options.cases)
    left = ("data set", "score", "dlcore's input", "verdict")
    for row, which in show(lines(rows), cells, left):
        if which == list(row["compared"])[-1]:  # its last line
            yield row
    print(
        f"\nMeans of {options.seeds} seeds, each with a split, first weights and batches of its "
        "own, and of the\npaired differences with their standard error; medians of the times of "
        "fits. scikit-learn's\ninput is float64."
    )
