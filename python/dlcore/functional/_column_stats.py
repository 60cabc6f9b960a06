"""Statistics of the columns of an array, in one pass over memory.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

============  =======  =======
kernel        float32  float64
============  =======  =======
column_stats        8        8
============  =======  =======
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dlcore._native import dispatch

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["ColumnStats", "column_stats"]


@dataclass(eq=False, slots=True)
class ColumnStats:
    """Statistics of the columns of a 2-D array, NaN left out.

    Attributes
    ----------
    count : ndarray of int64, shape (columns,)
        Values that are not NaN.
    mean, var, min, max : ndarray of float64, shape (columns,)
        `var` is the population variance. A column without values has NaN.
    """

    count: Array
    mean: Array
    var: Array
    min: Array
    max: Array
    # What the mean lost when it was rounded to one double: keeps merging exact for 1e8 +- 1.
    _mean_low: Array = field(default_factory=lambda: np.zeros(()), repr=False)

    def merge(self, other: ColumnStats) -> ColumnStats:
        """Return the statistics of both arrays stacked.

        Parameters
        ----------
        other : ColumnStats
            Of as many columns.

        Returns
        -------
        ColumnStats

        Raises
        ------
        ValueError
            If the numbers of columns differ.

        References
        ----------
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
        variances, 1979.
        """
        if self.count.shape != other.count.shape:
            raise ValueError(
                f"ColumnStats.merge: other must have {len(self.count)} columns, "
                f"got {len(other.count)}"
            )
        count = self.count + other.count
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            share = other.count / count
            delta = (other.mean - self.mean) + (other._mean_low - self._mean_low)
            low = self._mean_low + delta * share
            mean = self.mean + low
            low = low - (mean - self.mean)
            squares = self.var * self.count + other.var * other.count
            var = (squares + delta * delta * (self.count * share)) / count
        merged = (count, mean, var, np.fmin(self.min, other.min), np.fmax(self.max, other.max), low)
        # Columns that one side has no values of are the other's.
        first, second = self._fields(), other._fields()
        return ColumnStats(
            *(
                np.where(other.count == 0, a, np.where(self.count == 0, b, m))
                for a, b, m in zip(first, second, merged, strict=True)
            )
        )

    def _fields(self) -> tuple[Array, ...]:
        low = np.broadcast_to(self._mean_low, self.mean.shape)
        return (self.count, self.mean, self.var, self.min, self.max, low)


def column_stats(x: Array) -> ColumnStats:
    """Count, mean, variance, minimum and maximum of each column, in one pass over memory.

    Sums are float64 and relative to an element of the column, so that values of 1e8 +- 1 keep their
    variance. NaN is left out; infinities give what arithmetic gives.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)

    Returns
    -------
    ColumnStats

    Raises
    ------
    TypeError
        If `x` is not a float32 or float64 array.
    ValueError
        If `x` has not two dimensions.

    References
    ----------
    Chan, Golub, LeVeque: Algorithms for computing the sample variance, Am. Stat. 37, 1983.
    """
    return stats_of(column_stats.__name__, x)


def stats_of(function: str, x: Array) -> ColumnStats:
    """Compute `column_stats` for a function of this name, which errors are to say."""
    stats = ColumnStats(*dispatch.core.column_stats(function, x))
    if stats.var.max(initial=0.0) < np.inf:  # most of them; of a small table this takes less
        return stats
    with np.errstate(over="ignore", invalid="ignore"):
        too_wide = np.isinf(stats.max - stats.min) & np.isfinite(stats.max) & np.isfinite(stats.min)
        if too_wide.any():  # differences within the column overflow
            quarter = ColumnStats(*dispatch.core.column_stats(function, np.ldexp(x, -2)))
            stats.mean = np.where(too_wide, np.ldexp(quarter.mean, 2), stats.mean)
            stats.var = np.where(too_wide, np.ldexp(quarter.var, 4), stats.var)
            stats._mean_low = np.where(too_wide, 0.0, stats._mean_low)
    return stats
