"""Column statistics and the normalizers made of them in plain NumPy."""

from typing import NamedTuple, Self

import numpy as np

from dlcore.reference._activations import Array, quiet


class ColumnStats(NamedTuple):
    """Statistics of the columns of a 2-D array, NaN skipped."""

    count: Array
    mean: Array
    var: Array
    min: Array
    max: Array

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
        squares = a.count * a.var + b.count * b.var + a.count * (b.count / n) * shift * shift
        return ColumnStats(
            n, mean, squares / n, np.fmin(self.min, other.min), np.fmax(self.max, other.max)
        )

    def _zero_if_empty(self) -> "ColumnStats":
        empty = self.count == 0
        return self._replace(mean=np.where(empty, 0, self.mean), var=np.where(empty, 0, self.var))


@quiet
def column_stats(x: Array) -> ColumnStats:
    """Count, mean, population variance, minimum and maximum of each column, NaN skipped.

    Two passes in the widest floating type: ``mean = sum(x) / n``, then
    ``var = sum((x - mean)^2) / n``. A column without a number has count 0 and NaN elsewhere.
    """
    present = ~np.isnan(x)
    wide = x.astype(np.longdouble)
    count = present.sum(0)
    mean = np.where(present, wide, 0).sum(0) / count
    var = np.where(present, (wide - mean) ** 2, 0).sum(0) / count
    empty = count == 0
    low = np.where(present, x, np.inf).min(0, initial=np.inf)
    high = np.where(present, x, -np.inf).max(0, initial=-np.inf)
    return ColumnStats(
        count.astype(np.int64),
        mean.astype(np.float64),
        var.astype(np.float64),
        np.where(empty, np.nan, low).astype(np.float64),
        np.where(empty, np.nan, high).astype(np.float64),
    )


class _Normalizer:
    stats_: ColumnStats
    n_samples_seen_: int

    def fit(self, x: Array) -> Self:
        """Learn the columns of ``x``."""
        return self._learn(column_stats(x), len(x))

    def partial_fit(self, x: Array) -> Self:
        """Learn the columns of ``x`` beside those seen before."""
        if not hasattr(self, "stats_"):
            return self.fit(x)
        return self._learn(self.stats_.merge(column_stats(x)), self.n_samples_seen_ + len(x))

    def _learn(self, stats: ColumnStats, rows: int) -> Self:
        raise NotImplementedError


class MinMaxNormalizer(_Normalizer):
    """``x * scale_ + min_`` maps each column onto ``feature_range`` (scikit-learn's MinMaxScaler).

    ``scale_ = (high - low) / (data_max_ - data_min_)``, the range of a constant column taken for 1;
    ``min_ = low - data_min_ * scale_``.
    """

    def __init__(self, feature_range: tuple[float, float] = (0, 1), clip: bool = False) -> None:
        self.feature_range = feature_range
        self.clip = clip

    def _learn(self, stats: ColumnStats, rows: int) -> Self:
        low, high = self.feature_range
        self.stats_ = stats
        self.n_samples_seen_ = rows
        self.data_min_, self.data_max_ = stats.min, stats.max
        self.data_range_ = stats.max - stats.min
        # A range without a finite reciprocal is constant too.
        constant = self.data_range_ < np.finfo(np.float64).tiny
        self.scale_ = (high - low) / np.where(constant, 1, self.data_range_)
        self.min_ = low - self.data_min_ * self.scale_
        return self

    def transform(self, x: Array) -> Array:
        """``x * scale_ + min_`` in float64, rounded once; NaN stays NaN."""
        low, high = self.feature_range
        y = (x - self.data_min_) * self.scale_ + low
        return (np.clip(y, low, high) if self.clip else y).astype(x.dtype)

    def inverse_transform(self, x: Array) -> Array:
        """``(x - min_) / scale_``."""
        return ((x - self.feature_range[0]) / self.scale_ + self.data_min_).astype(x.dtype)


class ZScoreNormalizer(_Normalizer):
    """``(x - mean_) / scale_`` with ``scale_ = sqrt(var_)`` (scikit-learn's StandardScaler).

    A column whose deviation is within the rounding of its mean counts as constant: scale 1.
    """

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def _learn(self, stats: ColumnStats, rows: int) -> Self:
        self.stats_ = stats
        self.n_samples_seen_ = rows
        self.mean_ = stats.mean
        self.var_ = stats.var if self.with_std else None
        constant = stats.var <= (np.finfo(np.float64).eps * stats.mean) ** 2
        self.scale_ = np.where(constant, 1, np.sqrt(stats.var)) if self.with_std else None
        return self

    def transform(self, x: Array) -> Array:
        """``(x - mean_) / scale_`` in float64, rounded once; NaN stays NaN."""
        y = x - self.mean_ if self.with_mean else x
        return (y / self.scale_ if self.with_std else y).astype(x.dtype)

    def inverse_transform(self, x: Array) -> Array:
        """``x * scale_ + mean_``."""
        y = x * self.scale_ if self.with_std else x
        return (y + self.mean_ if self.with_mean else y).astype(x.dtype)
