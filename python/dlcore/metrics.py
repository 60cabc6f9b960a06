"""Metrics by name or as functions: how good the outputs are, beside the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._typing import Array
from .objectives import BCEWithLogitsLoss, CrossEntropyLoss, Loss

# What a metric becomes: (y_true, outputs, weights of the rows) -> value.
Metric = Callable[[Array, Array, Array | None], float]


def class_hits(y_true: Array, outputs: Array) -> Array:
    """1 for each row whose largest output is that of its class, else 0."""
    true = y_true if y_true.ndim == 1 else y_true.argmax(1)
    hits: Array = outputs.argmax(1) == true
    return hits


def binary_hits(y_true: Array, logits: Array) -> Array:
    """Share of right signs in each row: a logit above 0 stands for 1."""
    share: Array = ((logits > 0) == (y_true > 0.5)).mean(1)
    return share


def absolute_error(y_true: Array, outputs: Array) -> Array:
    """Mean absolute error of each row."""
    error: Array = np.abs(outputs - y_true).mean(1, dtype=np.float64)
    return error


def squared_error(y_true: Array, outputs: Array) -> Array:
    """Mean squared error of each row."""
    error: Array = np.square(outputs - y_true).mean(1, dtype=np.float64)
    return error


def as_metrics(metrics: Sequence[Any] | None, loss: Loss) -> dict[str, Metric]:
    """Metrics by the name under which they are logged.

    "accuracy", "mae" and "mse" are means over the rows, weighted by ``sample_weight``; a function
    ``metric(y_true, outputs) -> float`` is called once for all rows of an epoch, without weights.
    """
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a list such as [{metrics!r}], not a string")
    result: dict[str, Metric] = {}
    for metric in metrics or ():
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", None)
        if name is None or not (isinstance(metric, str) or callable(metric)):
            raise TypeError(f"a metric is a name or a function with a __name__, not {metric!r}")
        if name == "loss" or name in result or name.startswith("val_"):
            raise ValueError(f"metrics: the name {name!r} is taken")
        result[name] = _by_name(name, loss) if isinstance(metric, str) else _unweighted(metric)
    return result


def _by_name(name: str, loss: Loss) -> Metric:
    if name == "accuracy":
        if isinstance(loss, CrossEntropyLoss):
            return _mean_over_rows(class_hits, loss)
        if isinstance(loss, BCEWithLogitsLoss):
            return _mean_over_rows(binary_hits, loss)
        raise ValueError(f"metrics: 'accuracy' needs a loss for classes, not {type(loss).__name__}")
    errors = {"mae": absolute_error, "mse": squared_error}
    if name not in errors:
        raise ValueError(f"metrics: {name!r} is not one of 'accuracy', 'mae', 'mse' or a function")
    for_classes = isinstance(loss, CrossEntropyLoss)
    if for_classes:
        raise ValueError(f"metrics: {name!r} needs a loss for values, not {type(loss).__name__}")
    return _mean_over_rows(errors[name], loss)


def _mean_over_rows(rows: Callable[[Array, Array], Array], loss: Loss) -> Metric:
    def metric(y_true: Array, outputs: Array, weight: Array | None) -> float:
        counted = loss.counted(y_true)
        weight = counted.astype(np.float64) if weight is None else counted * weight
        return float(rows(y_true, outputs) @ weight / weight.sum())

    return metric


def _unweighted(function: Callable[[Array, Array], float]) -> Metric:
    def metric(y_true: Array, outputs: Array, weight: Array | None) -> float:  # noqa: ARG001
        return float(function(y_true, outputs))

    return metric
