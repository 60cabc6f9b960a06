"""Scores of values: of the truth, the predictions and the weights of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlcore.metrics._classification import quotient

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def absolute_errors(true: Array, values: Array) -> Array:
    """Absolute error of each value."""
    return np.abs(_errors(true, values))


def squared_errors(true: Array, values: Array) -> Array:
    """Squared error of each value."""
    squares: Array = _errors(true, values) ** 2
    return squares


class Squares(NamedTuple):
    """Sums of squares over rows, each of shape (outputs,).

    The targets are taken less those of the first row, so that all equal ones differ by 0 exactly.
    """

    rows: int
    weight: float
    first: Array  # targets
    mean: Array  # of the targets less the first ones
    whole: Array  # squared deviations of the targets from their mean
    left: Array  # squared errors


def sum_squares(true: Array, values: Array, weight: Array) -> Squares | None:
    """Sum over some rows."""
    if len(true) == 0:
        return None
    first = true[0].astype(np.float64)
    shifted = np.subtract(true, first, dtype=np.float64)
    mean = np.average(shifted, 0, weight)
    return Squares(
        len(true),
        float(weight.sum()),
        first,
        mean,
        weight @ (shifted - mean) ** 2,
        weight @ squared_errors(true, values),
    )


def add_squares(a: Squares, b: Squares) -> Squares:
    """Sum over the rows of both (Chan, Golub, LeVeque: Updating formulae, 1979)."""
    weight = a.weight + b.weight
    apart = (b.first - a.first) + (b.mean - a.mean)
    share = b.weight / weight
    return Squares(
        a.rows + b.rows,
        weight,
        a.first,
        a.mean + apart * share,
        a.whole + b.whole + apart**2 * a.weight * share,
        a.left + b.left,
    )


def r2(sums: Squares) -> float:
    """Share of the variance that is explained, averaged over the outputs.

    Where the targets are all equal it is 1 for exact outputs and 0 for others; of fewer than two
    rows it is nan.
    """
    if sums.rows < 2:
        return float("nan")
    constant = np.where(sums.left == 0, 1.0, 0.0)
    explained = 1 - quotient(sums.left, sums.whole)
    return float(np.where(sums.whole == 0, constant, explained).mean())


def _errors(true: Array, values: Array) -> Array:
    return np.subtract(true, values, dtype=np.float64)
