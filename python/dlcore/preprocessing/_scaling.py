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

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from dlcore._native import dispatch
from dlcore.functional._column_stats import stats_of

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.functional._column_stats import ColumnStats

__all__ = ["MinMaxNormalizer", "ZScoreNormalizer"]


# A map of columns: (x - subtract) * multiply + add (the three of them in one array), kept between
# two bounds.
_Map = tuple["Array", float, float]


class _Normalizer:
    """Fits column statistics and maps columns; what follows from the statistics is made when asked.

    Attributes
    ----------
    stats_ : ColumnStats
    n_samples_seen_ : int
    """

    stats_: ColumnStats
    n_samples_seen_: int
    _made: tuple[_Map, _Map] | None = None

    def _maps(self) -> tuple[_Map, _Map]:
        """Return the map of transform and that of inverse_transform."""
        raise NotImplementedError

    def fit(self, x: Any) -> Self:
        """Take the statistics of `x`, forgetting earlier ones.

        Parameters
        ----------
        x : ndarray of float32 or float64, shape (rows, columns)
            At least one row. NaN is left out.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `x` is not a float32 or float64 array.
        ValueError
            If `x` has not two dimensions, or no rows.
        """
        return self._take(self._stats_of("fit", x), len(x))

    def partial_fit(self, x: Any) -> Self:
        """Add the rows of `x` to the statistics, as if all had been given to `fit` at once.

        Parameters and errors are those of `fit`; the number of columns must stay.
        """
        new = self._stats_of("partial_fit", x)
        if not hasattr(self, "stats_"):
            return self._take(new, len(x))
        if len(new.count) != len(self.stats_.count):
            raise ValueError(
                f"{type(self).__name__}.partial_fit: x must have {len(self.stats_.count)} columns, "
                f"got {len(new.count)}"
            )
        return self._take(self.stats_.merge(new), self.n_samples_seen_ + len(x))

    def _stats_of(self, method: str, x: Any) -> ColumnStats:
        stats = stats_of(self._names[method], x)
        if len(x) == 0:
            raise ValueError(
                f"{self._names[method]}: x must have at least one row, got the shape {np.shape(x)}"
            )
        return stats

    def _take(self, stats: ColumnStats, rows: int) -> Self:
        self.stats_ = stats
        self.n_samples_seen_ = rows
        self._made = None
        return self

    def transform(self, x: Any, *, out: Array | None = None) -> Array:
        """Normalize the columns of `x`.

        Parameters
        ----------
        x : ndarray of float32 or float64, shape (rows, columns)
            NaN stays NaN.
        out : ndarray, optional
            Where the result goes, of the shape and dtype of `x`; it may be `x`.

        Returns
        -------
        ndarray
            Of the shape and dtype of `x`; `out` where it was given. Computed in float64 and rounded
            once.

        Raises
        ------
        TypeError
            If `x` or `out` has a wrong dtype.
        ValueError
            If nothing was fitted, the number of columns differs, or `out` does not fit.
        """
        return self._apply("transform", 0, x, out)

    def inverse_transform(self, x: Any, *, out: Array | None = None) -> Array:
        """Map normalized columns back. Parameters, result and errors are those of `transform`."""
        return self._apply("inverse_transform", 1, x, out)

    def _apply(self, method: str, which: int, x: Any, out: Array | None) -> Array:
        if self._made is None:
            if not hasattr(self, "stats_"):
                raise ValueError(f"{self._names[method]}: nothing fitted yet; call fit first")
            self._made = self._maps()
        mapped: Array = dispatch.core.affine_columns(
            self._names[method], x, *self._made[which], out
        )
        return mapped

    # What each method is called in messages.
    _names: ClassVar[dict[str, str]]

    def __init_subclass__(cls) -> None:
        methods = ("fit", "partial_fit", "transform", "inverse_transform")
        cls._names = {method: f"{cls.__name__}.{method}" for method in methods}


class MinMaxNormalizer(_Normalizer):
    """Maps each column to a range: its minimum to the lower end, its maximum to the upper one.

    ``(x - min) / (max - min) * (high - low) + low``. A constant column maps to `low`.

    Parameters
    ----------
    feature_range : (float, float), default (0, 1)
        Lower and upper end.
    clip : bool, default False
        Keep transformed values within `feature_range`, where `x` is beyond what `fit` has seen.

    Attributes
    ----------
    data_min_, data_max_, data_range_, scale_, min_ : ndarray of float64, shape (columns,)
        As in scikit-learn's MinMaxScaler: the transform is ``x * scale_ + min_``, computed as
        ``(x - data_min_) * scale_ + feature_range[0]``, which keeps the digits of large values.
    n_samples_seen_ : int
    stats_ : ColumnStats

    Raises
    ------
    ValueError
        If the lower end is not below the upper one.
    """

    def __init__(self, feature_range: tuple[float, float] = (0, 1), clip: bool = False) -> None:
        low, high = feature_range
        if not low < high:
            raise ValueError(
                f"MinMaxNormalizer: feature_range must be (low, high) with low < high, "
                f"got {feature_range}"
            )
        self.feature_range = (float(low), float(high))
        self.clip = bool(clip)

    @property
    def data_min_(self) -> Array:
        """Minimum of each column."""
        return self.stats_.min

    @property
    def data_max_(self) -> Array:
        """Maximum of each column."""
        return self.stats_.max

    @property
    def data_range_(self) -> Array:
        """Maximum less minimum of each column."""
        return self.data_max_ - self.data_min_

    @property
    def scale_(self) -> Array:
        """Factor of each column."""
        low, high = self.feature_range
        return (high - low) / self._divisor()

    @property
    def min_(self) -> Array:
        """What is added after the multiplication by `scale_`."""
        return self.feature_range[0] - self.data_min_ * self.scale_

    def _divisor(self) -> Array:
        # scikit-learn's convention: a constant column is not divided. (Not its absolute bound of
        # 10 eps, which would leave a column of 1e-16s as it is.) A subnormal range has no inverse.
        span = self.data_range_
        return np.where(span < np.finfo(np.float64).tiny, 1.0, span)

    def _maps(self) -> tuple[_Map, _Map]:
        low, high = self.feature_range
        bounds = (low, high) if self.clip else (-np.inf, np.inf)
        lows = np.full_like(self.data_min_, low)
        return (
            (np.stack((self.data_min_, self.scale_, lows)), *bounds),
            (
                np.stack((lows, self._divisor() / (high - low), self.data_min_)),
                -np.inf,
                np.inf,
            ),
        )


class ZScoreNormalizer(_Normalizer):
    """Maps each column to mean 0 and variance 1: ``(x - mean) / std``.

    A constant column is centered and not divided.

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
        column. Without `with_std`, `var_` and `scale_` are None.
    n_samples_seen_ : int
    stats_ : ColumnStats
    """

    def __init__(self, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = bool(with_mean)
        self.with_std = bool(with_std)

    @property
    def mean_(self) -> Array:
        """Mean of each column."""
        return self.stats_.mean

    @property
    def var_(self) -> Array | None:
        """Population variance of each column; None without `with_std`."""
        return self.stats_.var if self.with_std else None

    @property
    def scale_(self) -> Array | None:
        """Standard deviation of each column, 1 for a constant one; None without `with_std`."""
        if not self.with_std:
            return None
        # scikit-learn's convention: a constant column is not divided. Its bound on the variance
        # that rounding leaves grows with the rows; column_stats leaves such a column exactly 0, so
        # that the rounding of the values themselves is bound enough.
        bound = (np.finfo(np.float64).eps * self.stats_.mean) ** 2
        return np.where(self.stats_.var <= bound, 1.0, np.sqrt(self.stats_.var))

    def _maps(self) -> tuple[_Map, _Map]:
        zeros = np.zeros_like(self.mean_)
        mean = self.mean_ if self.with_mean else zeros
        scale = np.ones_like(self.mean_) if self.scale_ is None else self.scale_
        return (
            (np.stack((mean, 1.0 / scale, zeros)), -np.inf, np.inf),
            (np.stack((zeros, scale, mean)), -np.inf, np.inf),
        )
