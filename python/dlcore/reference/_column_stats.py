"""Column statistics in plain NumPy."""

from typing import Any, NamedTuple

import numpy as np

from dlcore.reference._activations import Array, quiet

__all__ = ["ColumnStats", "column_stats"]


class ColumnStats(NamedTuple):
    """Statistics of the columns of a 2-D array, NaN skipped."""

    count: Array
    mean: Array
    var: Array
    min: Array
    max: Array
    std: Array

    @quiet
    def merge(self, other: "ColumnStats") -> "ColumnStats":
        """Statistics of both parts together (Chan, Golub & LeVeque, 1979).

        ``n = n_a + n_b``; ``mean = (n_a mean_a + n_b mean_b) / n``;
        ``var = (n_a var_a + n_b var_b + n_a n_b / n (mean_b - mean_a)^2) / n``.
        """
        a, b = self._zero_if_empty(), other._zero_if_empty()
        n = a.count + b.count
        shift = b.mean - a.mean
        mean = a.mean + shift * (b.count / n)
        squares = a.count * a.std**2 + b.count * b.std**2 + a.count * (b.count / n) * shift * shift
        var = squares / n
        least, largest = np.fmin(self.min, other.min), np.fmax(self.max, other.max)
        return ColumnStats(n, mean, var, least, largest, np.sqrt(var))._rounded(self.mean.dtype)

    def _zero_if_empty(self) -> "ColumnStats":
        empty = self.count == 0
        mean, std = (np.where(empty, 0, v).astype(np.longdouble) for v in (self.mean, self.std))
        return self._replace(mean=mean, std=std)

    def _rounded(self, dtype: np.dtype[Any]) -> "ColumnStats":
        return ColumnStats(self.count, *(value.astype(dtype) for value in self[1:]))


@quiet
def column_stats(x: Array) -> ColumnStats:
    """Count, mean, population variance, minimum and maximum of each column, NaN skipped.

    Two passes in the widest floating type: ``mean = sum(x) / n``, then
    ``var = sum((x - mean)^2) / n``. A column without a number has count 0 and NaN elsewhere.
    """
    return wide_stats(x)._rounded(np.dtype(np.float64))


@quiet
def wide_stats(x: Array) -> ColumnStats:
    """Return the same in the widest floating type, which has the squares of all float64."""
    present = ~np.isnan(x)
    wide = x.astype(np.longdouble)
    count = present.sum(0)
    mean = np.where(present, wide, 0).sum(0) / count
    var = np.where(present, (wide - mean) ** 2, 0).sum(0) / count
    empty = count == 0
    low = np.where(empty, np.nan, np.where(present, wide, np.inf).min(0, initial=np.inf))
    high = np.where(empty, np.nan, np.where(present, wide, -np.inf).max(0, initial=-np.inf))
    return ColumnStats(count.astype(np.int64), mean, var, low, high, np.sqrt(var))
