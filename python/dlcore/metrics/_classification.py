"""Scores of classes and of yes-or-no labels: of the truth, the outputs and the weights of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array


class Counts(NamedTuple):
    """Weights of the rows by class or output, each of shape (classes,).

    ``among`` says over which of them a score is averaged, ``of_labels`` that these are yes-or-no
    outputs.
    """

    hits: Array  # true positives
    predicted: Array
    true: Array
    false: Array  # summed by itself: exactly 0 where all rows are of the class
    among: Array
    of_labels: bool


def count_classes(true: Array, outputs: Array, weight: Array) -> Counts:
    """Count one of several classes; of two, class 1 is the positive one."""
    classes, predicted = outputs.shape[1], outputs.argmax(1)
    by_class = np.bincount(true, weight, classes)
    right = predicted == true
    occurs = np.zeros(classes, np.bool_)
    occurs[true] = occurs[predicted] = True
    return Counts(
        np.bincount(true[right], weight[right], classes),
        np.bincount(predicted, weight, classes),
        by_class,
        weight.sum() - by_class,
        np.array([False, True]) if classes == 2 else occurs,
        False,
    )


def count_labels(true: Array, logits: Array, weight: Array) -> Counts:
    """Count the yes of each output: a logit above 0."""
    predicted = logits > 0
    return Counts(
        weight @ (predicted & true),
        weight @ predicted,
        weight @ true,
        weight @ ~true,
        np.ones(logits.shape[1], np.bool_),
        True,
    )


def add_counts(a: Counts, b: Counts) -> Counts:
    """Count the rows of both."""
    return Counts(
        a.hits + b.hits,
        a.predicted + b.predicted,
        a.true + b.true,
        a.false + b.false,
        a.among | b.among,
        a.of_labels,
    )


def precision(counts: Counts) -> Array:
    """Share of the rows predicted as a class that are of it."""
    return quotient(counts.hits, counts.predicted)[counts.among]


def recall(counts: Counts) -> Array:
    """Share of the rows of a class that are predicted as it."""
    return quotient(counts.hits, counts.true)[counts.among]


def f1(counts: Counts) -> Array:
    """Harmonic mean of precision and recall."""
    return quotient(2 * counts.hits, counts.predicted + counts.true)[counts.among]


def balanced_recall(counts: Counts) -> Array:
    """Recall of the classes that occur, or of yes and no, as far as they do, of each output."""
    if not counts.of_labels:
        return quotient(counts.hits, counts.true)[counts.true > 0]
    rows = np.stack([counts.true, counts.false])
    hits = np.stack([counts.hits, rows[1] - counts.predicted + counts.hits])
    mean: Array = quotient(hits, rows).sum(0) / (rows > 0).sum(0)
    return mean


def hits(true: Array, outputs: Array) -> Array:
    """Which rows have their largest output at their class."""
    right: Array = outputs.argmax(1) == true
    return right


def label_hits(true: Array, logits: Array) -> Array:
    """Share of right signs of each row: a logit above 0 stands for yes."""
    share: Array = ((logits > 0) == true).mean(1)
    return share


def top_k_hits(true: Array, outputs: Array, k: int) -> Array:
    """Which rows have their class among the k largest outputs."""
    own = np.take_along_axis(outputs, true[:, np.newaxis], 1)
    later = np.arange(outputs.shape[1]) > true[:, np.newaxis]
    larger = ((outputs > own) | ((outputs == own) & later)).sum(1)
    among: Array = larger < k
    return among


def quotient(a: Array, b: Array) -> Array:
    """Divide, 0 / 0 being 0."""
    result: Array = np.divide(a, b, out=np.zeros(np.shape(a)), where=b > 0)
    return result
