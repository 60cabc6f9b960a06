"""Scores of classes and of yes-or-no labels: of the truth, the outputs and the weights of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array


class Counts(NamedTuple):
    """Weights of the rows by class, each of shape (classes,), and of all rows.

    ``among`` says over which classes a score is averaged.
    """

    hits: Array  # true positives
    predicted: Array
    true: Array
    total: float
    among: Array


def count_classes(true: Array, outputs: Array, weight: Array) -> Counts:
    """Count one of several classes; of two, class 1 is the positive one."""
    classes, predicted = outputs.shape[1], outputs.argmax(1)
    right = predicted == true
    occurs = np.zeros(classes, np.bool_)
    occurs[true] = occurs[predicted] = True
    return Counts(
        np.bincount(true[right], weight[right], classes),
        np.bincount(predicted, weight, classes),
        np.bincount(true, weight, classes),
        float(weight.sum()),
        np.array([False, True]) if classes == 2 else occurs,
    )


def count_labels(true: Array, logits: Array, weight: Array) -> Counts:
    """Count the yes of each output: a logit above 0."""
    predicted = logits > 0
    return Counts(
        weight @ (predicted & true),
        weight @ predicted,
        weight @ true,
        float(weight.sum()),
        np.ones(logits.shape[1], np.bool_),
    )


def precision(counts: Counts) -> Array:
    """Share of the rows predicted as a class that are of it."""
    return quotient(counts.hits, counts.predicted)


def recall(counts: Counts) -> Array:
    """Share of the rows of a class that are predicted as it."""
    return quotient(counts.hits, counts.true)


def f1(counts: Counts) -> Array:
    """Harmonic mean of precision and recall."""
    return quotient(2 * counts.hits, counts.predicted + counts.true)


def class_accuracy(true: Array, outputs: Array, weight: Array) -> float:
    """Share of the rows whose largest output is that of their class."""
    return float(weight @ (outputs.argmax(1) == true) / weight.sum())


def label_accuracy(true: Array, logits: Array, weight: Array) -> float:
    """Share of right signs: a logit above 0 stands for yes."""
    return float(weight @ ((logits > 0) == true).mean(1) / weight.sum())


def top_k_accuracy(true: Array, outputs: Array, weight: Array, k: int) -> float:
    """Share of the rows whose class is among the k largest outputs."""
    own = np.take_along_axis(outputs, true[:, np.newaxis], 1)
    later = np.arange(outputs.shape[1]) > true[:, np.newaxis]
    larger = ((outputs > own) | ((outputs == own) & later)).sum(1)
    return float(weight @ (larger < k) / weight.sum())


def balanced_accuracy_of_classes(true: Array, outputs: Array, weight: Array) -> float:
    """Mean recall of the classes that occur."""
    counts = count_classes(true, outputs, weight)
    return float(recall(counts)[counts.true > 0].mean())


def balanced_accuracy_of_labels(true: Array, logits: Array, weight: Array) -> float:
    """Mean over the outputs of the mean recall of yes and no, as far as they occur."""
    counts = count_labels(true, logits, weight)
    rows = np.stack([counts.true, counts.total - counts.true])
    hits = np.stack([counts.hits, rows[1] - counts.predicted + counts.hits])
    return float((quotient(hits, rows).sum(0) / (rows > 0).sum(0)).mean())


def quotient(a: Array, b: Array) -> Array:
    """Divide, 0 / 0 being 0."""
    result: Array = np.divide(a, b, out=np.zeros(np.shape(a)), where=b > 0)
    return result
