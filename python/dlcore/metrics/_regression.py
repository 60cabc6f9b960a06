"""Scores of values: of the truth, the predictions and the weights of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlcore.metrics._classification import quotient

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def mae(true: Array, values: Array, weight: Array) -> float:
    """Mean absolute error."""
    return float((weight @ np.abs(_errors(true, values)) / weight.sum()).mean())


def mse(true: Array, values: Array, weight: Array) -> float:
    """Mean squared error."""
    return float((weight @ _errors(true, values) ** 2 / weight.sum()).mean())


def rmse(true: Array, values: Array, weight: Array) -> float:
    """Root mean squared error of each output, averaged."""
    return float(np.sqrt(weight @ _errors(true, values) ** 2 / weight.sum()).mean())


def r2(true: Array, values: Array, weight: Array) -> float:
    """Share of the variance that is explained, averaged over the outputs.

    Where the targets are all equal it is 1 for exact outputs and 0 for others; of fewer than two
    rows it is nan.
    """
    if len(true) < 2:
        return float("nan")
    mean = np.average(true.astype(np.float64), 0, weight)
    left, whole = weight @ _errors(true, values) ** 2, weight @ (true - mean) ** 2
    constant = np.where(left == 0, 1.0, 0.0)
    return float(np.where(whole == 0, constant, 1 - quotient(left, whole)).mean())


def _errors(true: Array, values: Array) -> Array:
    return np.subtract(true, values, dtype=np.float64)
