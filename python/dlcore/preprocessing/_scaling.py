"""Normalizers: maps of columns made of their statistics.

Largest errors in units in the last place, against a wider reference (where a result is a difference
of terms, in units of the terms); the tests hold them.

================  =======  =======
kernel            float32  float64
================  =======  =======
MinMaxNormalizer        1        4
ZScoreNormalizer        1       64
================  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dlcore._common.checks import check_flag, check_real
from dlcore._common.ranks import Ranks
from dlcore._native import dispatch
from dlcore.functional._column_stats import as_stats, extremes_of, far_stats_of
from dlcore.preprocessing._column_map import ColumnMap, UnitRange, far_exponent
from dlcore.preprocessing._normalizer import InvertibleNormalizer, known_of_ranks

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.functional._column_stats import ColumnExtremes, ColumnStats

__all__ = ["MinMaxNormalizer", "ZScoreNormalizer"]


class _StreamingNormalizer(InvertibleNormalizer):
    """A normalizer whose statistics of parts of the rows can be merged."""

    @property
    def stats_(self) -> Any:
        """What is known of the columns."""
        stats = self._stats = self._unpacked(self._stats)
        return stats

    def _unpacked(self, stats: Any) -> Any:
        return stats

    def partial_fit(self, x: Any) -> Self:
        """Add the rows of `x` to the statistics, as if all had been given to `fit` at once.

        Parameters and errors are those of `fit`; the number of columns must stay.
        """
        name = self._names["partial_fit"]
        new = self._statistics(name, x)
        if not hasattr(self, "stats_"):
            return self._take(new, len(x))
        seen, new = self.stats_, self._unpacked(new)
        if len(new.min) != len(seen.min):
            raise ValueError(f"{name}: x must have {len(seen.min)} columns, got {len(new.min)}")
        return self._take(seen.merge(new), self.n_samples_seen_ + len(x))

    def merge(self, comm: Any) -> Self:
        """Take the statistics of all ranks together, each of which has had `partial_fit` of its rows.

        The ranks may have had any number of rows, some of them none. Statistics that were merged are
        those of all ranks: a second call would count them once for each rank.

        Parameters
        ----------
        comm : communicator
            The ranks, such as ``mpi4py.MPI.COMM_WORLD``.

        Returns
        -------
        self
            With the same bits on all ranks.

        Raises
        ------
        ValueError
            If no rank has fitted anything, or the numbers of columns differ.
        """
        name, ranks = self._names["merge"], Ranks(comm)
        own = self.stats_ if hasattr(self, "_stats") else None
        rows = sum(ranks.of_each(0 if own is None else self.n_samples_seen_))
        if not rows:
            raise ValueError(f"{name}: no rank has fitted anything yet; call partial_fit first")
        return self._take(_merged(name, ranks, own), rows)

    def _statistics_of_ranks(self, function: str, x: Any, ranks: Ranks) -> tuple[Any, int]:
        own, rows = known_of_ranks(function, x, ranks, self._statistics)
        return _merged(function, ranks, None if own is None else self._unpacked(own)), rows


def _merged(function: str, ranks: Ranks, own: Any) -> Any:
    """Merge the statistics of ranks, None of one without rows."""
    columns = None if own is None else len(own.min)
    ranks.check_same(f"{function}: the number of columns", columns)
    return ranks.merged(own, lambda a, b: b if a is None else a if b is None else a.merge(b))


class MinMaxNormalizer(_StreamingNormalizer):
    """Maps each column to a range: its minimum to the lower end, its maximum to the upper one.

    ``(x - min) / (max - min) * (high - low) + low``. A constant column maps to `low`. Whatever the
    unit of a column is, nothing that `fit` has seen leaves the range.

    Parameters
    ----------
    feature_range : (float, float), default (0, 1)
        Lower and upper end, finite.
    clip : bool, default False
        Keep transformed values within `feature_range`, where `x` is beyond what `fit` has seen.

    Attributes
    ----------
    data_min_, data_max_, data_range_, scale_, min_ : ndarray of float64, shape (columns,)
        As in scikit-learn's MinMaxScaler: the transform is ``x * scale_ + min_``, computed as
        ``(x - data_min_) * scale_ + feature_range[0]``, which keeps the digits of large values,
        with `scale_` to the last digits such that the maximum does not become more than the upper
        end. `data_range_` and `scale_` are infinite where they are beyond float64; the transform
        does not depend on that.
    n_samples_seen_ : int

    Raises
    ------
    ValueError
        If the lower end is not below the upper one, or they are not finite.
    """

    _stats: ColumnExtremes

    def __init__(self, feature_range: tuple[float, float] = (0, 1), clip: bool = False) -> None:
        try:
            low, high = (check_real("feature_range", end) for end in feature_range)
        except (TypeError, ValueError):  # no two numbers
            low = high = 0.0
        if not 0 < high - low < np.inf:
            raise ValueError(
                f"MinMaxNormalizer: feature_range must be (low, high), finite, with low < high, "
                f"got {feature_range}"
            )
        self.feature_range = (low, high)
        self.clip = check_flag("MinMaxNormalizer: clip", clip)

    def _statistics(self, function: str, x: Any) -> ColumnExtremes:
        return extremes_of(function, x)

    @property
    def data_min_(self) -> Array:
        """Minimum of each column."""
        return self._stats.min

    @property
    def data_max_(self) -> Array:
        """Maximum of each column."""
        return self._stats.max

    @property
    def data_range_(self) -> Array:
        """Maximum less minimum of each column."""
        with np.errstate(over="ignore"):
            return self.data_max_ - self.data_min_

    @property
    def scale_(self) -> Array:
        """Factor of each column."""
        low, high = self.feature_range
        span = self.data_range_
        with np.errstate(over="ignore"):
            # scikit-learn's convention: a constant column is not divided. (Not its absolute bound of
            # 10 eps, which would leave a column of 1e-16s as it is.)
            return (high - low) / np.where(span == 0, 1.0, span)

    @property
    def min_(self) -> Array:
        """What is added after the multiplication by `scale_`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.feature_range[0] - self.data_min_ * self.scale_

    def _maps(self) -> tuple[ColumnMap, ColumnMap]:
        unit = UnitRange.of(self.data_min_, self.data_max_, *self.feature_range)
        bounds = self.feature_range if self.clip else (-np.inf, np.inf)
        return unit.forward(*bounds), unit.backward()


class ZScoreNormalizer(_StreamingNormalizer):
    """Maps each column to mean 0 and variance 1: ``(x - mean) / std``.

    A constant column, one whose values are all the same, is centered and not divided.

    Parameters
    ----------
    with_mean : bool, default True
        Subtract the mean.
    with_std : bool, default True
        Divide by the (population) standard deviation.

    Attributes
    ----------
    mean_, var_, scale_ : ndarray of float64, shape (columns,)
        As in scikit-learn's StandardScaler; `scale_` is the standard deviation, 1 for a constant
        column. Without `with_std`, `var_` and `scale_` are None. `var_` is infinite or 0 where
        float64 has no number for it; `scale_` does not depend on that.
    n_samples_seen_ : int
    stats_ : ColumnStats
    """

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = check_flag("ZScoreNormalizer: with_mean", with_mean)
        self.with_std = check_flag("ZScoreNormalizer: with_std", with_std)

    # A fit keeps what the native function has found, since most of it is not asked for.
    def _statistics(self, function: str, x: Any) -> tuple[Any, ...] | ColumnStats:
        found = dispatch.core.column_stats(function, x)
        return found if found[-1] else far_stats_of(function, x, found, finite=True)

    def _unpacked(self, stats: tuple[Any, ...] | ColumnStats) -> ColumnStats:
        return as_stats(stats) if isinstance(stats, tuple) else stats

    @property
    def mean_(self) -> Array:
        """Mean of each column."""
        stats = self._stats
        mean: Array = stats[0] if type(stats) is tuple else stats.mean
        return mean

    @property
    def var_(self) -> Array | None:
        """Population variance of each column; None without `with_std`."""
        if not self.with_std:
            return None
        stats = self._stats
        var: Array = stats[1] if type(stats) is tuple else stats.var
        return var

    @property
    def scale_(self) -> Array | None:
        """Standard deviation of each column, 1 for a constant one; None without `with_std`."""
        if not self.with_std:
            return None
        return np.where(self._constant(), 1.0, self.stats_.std)

    def _constant(self) -> Array:
        # scikit-learn takes columns for constant whose variance may be what rounding left of one.
        # column_stats leaves exactly 0 of that, so that 1e16 + {0, 2, 4} need not be.
        equal: Array = self.stats_.min == self.stats_.max
        return equal

    def _maps(self) -> tuple[ColumnMap, ColumnMap]:
        moments = self.stats_.moments()
        zeros = np.zeros_like(moments.mean)
        exponent = far_exponent(moments.exponent) if self.with_std else None
        scale = np.zeros_like(moments.exponent) if exponent is None else exponent
        with np.errstate(all="ignore"):
            mean, low, *_ = moments.scaled_by(scale)
            if not self.with_mean:
                mean = low = zeros
            std = np.where(self._constant() | (not self.with_std), 1.0, moments.std(scale))
            # What the mean lost by rounding counts where it is not little beside the deviation.
            rest = np.where(np.abs(low) > 1e-8 * std, -low / std, 0.0)
            return (
                ColumnMap(np.stack((mean, 1.0 / std, rest)), exponent=exponent),
                ColumnMap(np.stack((rest, std, mean)), exponent=exponent, inverse=True),
            )
