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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.arrays import as_array
from dlcore._common.ranks import Ranks
from dlcore._native import dispatch

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["ColumnStats", "column_stats"]

# Squares of numbers up to 2 to this power, and down to its inverse, neither overflow nor underflow,
# however many of them are added.
_SQUARED = 480


class Moments(NamedTuple):
    """Mean, what it lost by rounding, and variance, of columns times ``2 ** -exponent``."""

    mean: Array
    low: Array
    var: Array
    exponent: Array

    def std(self, exponent: Array | int) -> Array:
        """Return the standard deviation of the columns times ``2 ** -exponent``."""
        root: Array = np.ldexp(np.sqrt(self.var), self.exponent - exponent)
        return root

    def scaled_by(self, exponent: Array) -> Moments:
        """Return those of the columns times ``2 ** -exponent``."""
        by = self.exponent - exponent
        mean, low, var = np.ldexp(self.mean, by), np.ldexp(self.low, by), np.ldexp(self.var, 2 * by)
        return Moments(mean, low, var, exponent)


@dataclass(eq=False, slots=True)
class ColumnStats:
    """Statistics of the columns of a 2-D array, NaN left out.

    Attributes
    ----------
    count : ndarray of int64, shape (columns,)
        Values that are not NaN.
    mean, var, min, max : ndarray of float64, shape (columns,)
        `var` is the population variance; of values beyond 1e154 it is infinite and of values below
        1e-162 it is 0, as squares of them are. A column without values has NaN.
    std : ndarray of float64, shape (columns,)
        Its square root, which is right also where `var` is not a number that float64 has.
    """

    count: Array
    mean: Array
    var: Array
    min: Array
    max: Array
    # What the mean lost when it was rounded to one double: keeps merging exact for 1e8 +- 1.
    _mean_low: Array = field(default_factory=lambda: np.zeros(()), repr=False)
    # The moments where squares over- or underflow; None where no column is so large or small.
    _scaled: Moments | None = field(default=None, repr=False)

    @property
    def std(self) -> Array:
        """Population standard deviation of each column."""
        return np.sqrt(self.var) if self._scaled is None else self._scaled.std(0)

    def moments(self) -> Moments:
        """Return the moments, those of large and small columns at a scale that keeps their digits."""
        if self._scaled is not None:
            return self._scaled
        low = np.broadcast_to(self._mean_low, self.mean.shape)
        return Moments(self.mean, low, self.var, np.zeros(self.mean.shape, np.int32))

    @property
    def has_scaled_columns(self) -> bool:
        """Whether there are columns whose squares over- or underflow."""
        return self._scaled is not None

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
        first, second = self.moments(), other.moments()
        count = self.count + other.count
        with np.errstate(all="ignore"):
            exponent = _exponent_of_both(first, second)
            a, b = first.scaled_by(exponent), second.scaled_by(exponent)
            share = other.count / count
            delta = (b.mean - a.mean) + (b.low - a.low)
            low = a.low + delta * share
            mean = a.mean + low
            low = low - (mean - a.mean)
            squares = a.var * self.count + b.var * other.count
            var = (squares + delta * delta * (self.count * share)) / count
        # Columns that one side has no values of are the other's.
        merged = Moments(
            *(
                np.where(other.count == 0, own, np.where(self.count == 0, others, both))
                for own, others, both in zip(
                    first, second, Moments(mean, low, var, exponent), strict=True
                )
            )
        )
        return _stats(count, np.fmin(self.min, other.min), np.fmax(self.max, other.max), merged)


def _stats(count: Array, least: Array, largest: Array, moments: Moments) -> ColumnStats:
    if not moments.exponent.any():
        return ColumnStats(count, moments.mean, moments.var, least, largest, moments.low)
    with np.errstate(all="ignore"):
        plain = moments.scaled_by(np.zeros_like(moments.exponent))
    return ColumnStats(count, plain.mean, plain.var, least, largest, plain.low, moments)


def _exponent_of_both(a: Moments, b: Moments) -> Array:
    """Return the scale at which no square of a merge over- or underflows: 0 for most columns."""
    mean, other = np.ldexp(a.mean, a.exponent), np.ldexp(b.mean, b.exponent)
    delta = other - mean
    too_wide = np.isinf(delta) & np.isfinite(mean) & np.isfinite(other)
    sizes = (
        np.where(too_wide, 1025, _exponent(delta)),
        _exponent(a.var) // 2 + a.exponent,
        _exponent(b.var) // 2 + b.exponent,
    )
    largest = np.maximum.reduce(sizes)
    ordinary = (abs(largest) <= _SQUARED) | (largest < -1200)
    return np.where(ordinary, 0, largest)


def _exponent(size: Array) -> Array:
    """Return the exponent of each number, far below all others that of 0."""
    return np.where(size == 0, np.int32(-3000), np.frexp(size)[1])


def column_stats(x: Array, *, comm: Any = None) -> ColumnStats:
    """Count, mean, variance, minimum and maximum of each column, in one pass over memory.

    Sums are float64 and relative to an element of the column, so that values of 1e8 +- 1 keep their
    variance. NaN is left out; infinities give what arithmetic gives.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
    comm : communicator, optional
        Ranks, such as ``mpi4py.MPI.COMM_WORLD``, each of which gives rows of its own, maybe none. All
        get the statistics of the rows of all, to the same bits: neighbors are merged first.

    Returns
    -------
    ColumnStats

    Raises
    ------
    TypeError
        If `x` is not a float32 or float64 array.
    ValueError
        If `x` has not two dimensions, or other columns on another rank.
    RuntimeError
        If there is an error on another rank.

    References
    ----------
    Chan, Golub, LeVeque: Algorithms for computing the sample variance, Am. Stat. 37, 1983.
    """
    name = column_stats.__name__
    if comm is None:
        return stats_of(name, x)
    ranks = Ranks(comm)
    with raised_on_all(ranks):
        stats = stats_of(name, x)
    ranks.check_same(f"{name}: the number of columns of x", len(stats.count))
    merged: ColumnStats = ranks.merged(stats, ColumnStats.merge)
    return merged


def stats_of(function: str, x: Any, *, finite: bool = False) -> ColumnStats:
    """Compute `column_stats` for a function of this name, which errors are to say.

    With ``finite`` no rows are a ValueError, and an infinity one that names its column and row.
    """
    found = dispatch.core.column_stats(function, x)
    return as_stats(found) if found[-1] else far_stats_of(function, x, found, finite=finite)


def as_stats(found: tuple[Any, ...]) -> ColumnStats:
    """Return what the native function has found, where it is `plain`, as it nearly always is."""
    mean, var, (count, least, largest, low), _ = found
    return ColumnStats(count.astype(np.int64), mean, var, least, largest, low)


def far_stats_of(
    function: str, x: Any, found: tuple[Any, ...], *, finite: bool = False
) -> ColumnStats:
    """Return the statistics where there are no rows or infinities, or squares over- or underflow."""
    stats = as_stats(found)
    array = as_array(x, f"{function}: x")
    infinite = np.isinf(stats.min) | np.isinf(stats.max)
    if finite:
        _require_finite_rows(function, array, infinite)
    return _rescaled(function, array, stats, ~infinite)


class ColumnExtremes(NamedTuple):
    """Minimum and maximum of the columns of a 2-D array, NaN left out."""

    min: Array
    max: Array

    def merge(self, other: ColumnExtremes) -> ColumnExtremes:
        """Return the extremes of both arrays stacked."""
        return ColumnExtremes(np.fmin(self.min, other.min), np.fmax(self.max, other.max))


def extremes_of(function: str, x: Any) -> ColumnExtremes:
    """Return the extremes of the columns of rows without infinities; errors are those of `stats_of`."""
    least, largest, finite = dispatch.core.column_extremes(function, x)
    if not finite:
        infinite = np.isinf(least) | np.isinf(largest)
        _require_finite_rows(function, as_array(x, f"{function}: x"), infinite)
    return ColumnExtremes(least, largest)


def _require_finite_rows(function: str, x: Array, infinite: Array) -> None:
    if len(x) == 0:
        raise ValueError(f"{function}: x must have at least one row, got the shape {x.shape}")
    if infinite.any():
        column = int(infinite.argmax())
        row = int(np.isinf(x[:, column]).argmax())
        raise ValueError(
            f"{function}: x must be finite or NaN, which is left out, got {x[row, column]} in "
            f"column {column} (first in row {row})"
        )


def _rescaled(function: str, x: Array, stats: ColumnStats, finite: Array) -> ColumnStats:
    """Compute the moments of columns whose squares over- or underflow again, at another scale."""
    with np.errstate(all="ignore"):
        span = stats.max - stats.min
        size = np.where(np.isinf(span), 1025, _exponent(span))
        in_range = (stats.var >= 4.0**-_SQUARED) & (stats.var <= 4.0**_SQUARED)
        (columns,) = np.nonzero(finite & (span > 0) & ~in_range)
        if not len(columns):
            return stats
        moments = Moments(*map(np.array, stats.moments()))
        scale = size[columns]
        again = as_stats(dispatch.core.column_stats(function, np.ldexp(x[:, columns], -scale)))
        values = again.mean, again._mean_low, again.var, scale
        for own, new in zip(moments, values, strict=True):
            own[columns] = new
    return _stats(stats.count, stats.min, stats.max, moments)
