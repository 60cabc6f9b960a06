"""Normalizers in plain NumPy."""

from typing import Self

import numpy as np

from dlcore.reference._activations import Array
from dlcore.reference._column_stats import ColumnStats, wide_stats

__all__ = ["MinMaxNormalizer", "ZScoreNormalizer"]


# The statistics are kept in the widest floating type, in which no difference, square or inverse of
# a float64 over- or underflows.


class _Normalizer:
    stats_: ColumnStats
    n_samples_seen_: int

    def fit(self, x: Array) -> Self:
        """Learn the columns of ``x``."""
        return self._learn(wide_stats(x), len(x))

    def partial_fit(self, x: Array) -> Self:
        """Learn the columns of ``x`` beside those seen before."""
        if not hasattr(self, "stats_"):
            return self.fit(x)
        return self._learn(self.stats_.merge(wide_stats(x)), self.n_samples_seen_ + len(x))

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
        self.scale_ = (high - low) / np.where(self.data_range_ == 0, 1, self.data_range_)
        self.min_ = low - self.data_min_ * self.scale_
        return self

    def transform(self, x: Array) -> Array:
        """``x * scale_ + min_``, rounded once; NaN stays NaN."""
        low, high = self.feature_range
        y = (x - self.data_min_) * self.scale_ + low
        return (np.clip(y, low, high) if self.clip else y).astype(x.dtype)

    def inverse_transform(self, x: Array) -> Array:
        """``(x - min_) / scale_``."""
        return ((x - self.feature_range[0]) / self.scale_ + self.data_min_).astype(x.dtype)


class ZScoreNormalizer(_Normalizer):
    """``(x - mean_) / scale_`` with ``scale_ = sqrt(var_)`` (scikit-learn's StandardScaler).

    A column of equal values is constant: scale 1.
    """

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def _learn(self, stats: ColumnStats, rows: int) -> Self:
        self.stats_ = stats
        self.n_samples_seen_ = rows
        self.mean_ = stats.mean
        self.var_ = stats.var if self.with_std else None
        self.scale_ = np.where(stats.min == stats.max, 1, stats.std) if self.with_std else None
        return self

    def transform(self, x: Array) -> Array:
        """``(x - mean_) / scale_``, rounded once; NaN stays NaN."""
        y = x - self.mean_ if self.with_mean else x
        return (y / self.scale_ if self.with_std else y).astype(x.dtype)

    def inverse_transform(self, x: Array) -> Array:
        """``x * scale_ + mean_``."""
        y = x * self.scale_ if self.with_std else x
        return (y + self.mean_ if self.with_mean else y).astype(x.dtype)
