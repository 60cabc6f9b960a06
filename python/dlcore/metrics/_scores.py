"""The built-in scores by name: each as sums over rows, and what follows from these."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore.metrics import _classification as classification
from dlcore.metrics import _regression as regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array


class Score(NamedTuple):
    """A score of the truth, the outputs and the weights of the rows.

    ``begin(true, outputs, weight) -> state`` sums over some rows, ``merge`` adds two states, and
    ``compute(state)`` is the score.
    """

    begin: Callable[[Array, Array, Array], Any]
    merge: Callable[[Any, Any], Any]
    compute: Callable[[Any], float]


def _mean_of(
    of_rows: Callable[[Array, Array], Array],
    compute: Callable[[Array], Array] = lambda means: means,
) -> Score:
    """Average values of rows, of shape (N,) or (N, outputs), and what is made of the means."""

    def begin(true: Array, outputs: Array, weight: Array) -> tuple[Array, float]:
        return weight @ of_rows(true, outputs), float(weight.sum())

    def merge(a: tuple[Array, float], b: tuple[Array, float]) -> tuple[Array, float]:
        return a[0] + b[0], a[1] + b[1]

    def value(state: tuple[Array, float]) -> float:
        means = compute(state[0] / state[1])
        return float(means if means.ndim == 0 else means.mean())

    return Score(begin, merge, value)


def _of_counts(compute: Callable[[classification.Counts], Array]) -> dict[str, Score]:
    counts = {
        "classes": classification.count_classes,
        "labels": classification.count_labels,
    }
    return {
        kind: Score(count, classification.add_counts, lambda state: float(compute(state).mean()))
        for kind, count in counts.items()
    }


# By name and kind of outputs.
SCORES: dict[str, dict[str, Score]] = {
    "accuracy": {
        "classes": _mean_of(classification.hits),
        "labels": _mean_of(classification.label_hits),
    },
    "balanced_accuracy": _of_counts(classification.balanced_recall),
    "precision": _of_counts(classification.precision),
    "recall": _of_counts(classification.recall),
    "f1": _of_counts(classification.f1),
    "mae": {"values": _mean_of(regression.absolute_errors)},
    "mse": {"values": _mean_of(regression.squared_errors)},
    "rmse": {"values": _mean_of(regression.squared_errors, np.sqrt)},
    "r2": {
        "values": Score(regression.sum_squares, regression.add_squares, regression.r2),
    },
}
NAMES = (*SCORES, "top_k_accuracy", "top_3_accuracy")


def scores_named(name: str) -> dict[str, Score] | None:
    """Return the score of this name by kind of outputs; None if it is none of these."""
    top = re.fullmatch(r"top_(k|\d+)_accuracy", name)
    if top is None:
        return SCORES.get(name)
    k = 5 if top[1] == "k" else int(top[1])
    if k < 1:
        raise ValueError(f"metrics: k must be at least 1 in {name!r}")
    return {"classes": _mean_of(partial(classification.top_k_hits, k=k))}
