"""The affine maps of columns that the scalers are, over the whole range of float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._native import dispatch

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# Columns of a size from 2 ** -LIMIT to 2 ** LIMIT are mapped as they are: neither differences of
# them nor the factors over- or underflow.
_LIMIT = 900


def far_exponent(exponent: Array) -> Array | None:
    """Return the exponents of the sizes of columns, 0 for those that are mapped as they are.

    None if all are.
    """
    far = np.where(np.abs(exponent) > _LIMIT, exponent, 0)
    return far if far.any() else None


class ColumnMap(NamedTuple):
    """``(x - subtract) * multiply + add`` of each column, kept between two bounds.

    ``table`` has a row of each of the three. Where there is an ``exponent`` and it is not 0, they are for the
    column times ``2 ** -exponent`` (or, ``inverse``, give the result times that), since they or
    x - subtract could over- or underflow.
    """

    table: Array
    low: float = -np.inf
    high: float = np.inf
    exponent: Array | None = None
    inverse: bool = False

    def __call__(self, function: str, x: Any, out: Any = None, *, finite: bool = False) -> Any:
        """Map `x` for a function of this name, which errors are to say.

        With ``finite`` return None where x has an infinity.
        """
        if self.exponent is None:
            return dispatch.core.affine_columns(
                function, x, self.table, self.low, self.high, out, finite
            )
        columns = np.flatnonzero(self.exponent)
        given = as_array(x, f"{function}: x")
        fits = given.ndim == 2 and given.shape[1] == self.table.shape[1]
        part = given[:, columns].astype(np.float64) if fits else None  # x may be out
        mapped = dispatch.core.affine_columns(
            function, x, self.table, self.low, self.high, out, finite
        )
        if part is not None and mapped is not None:
            with np.errstate(over="ignore", under="ignore"):
                as_array(mapped, function)[:, columns] = self._extreme(function, part, columns)
        return mapped

    def _extreme(self, function: str, x: Array, columns: Array) -> Array:
        assert self.exponent is not None
        exponent = self.exponent[columns]
        table = np.ascontiguousarray(self.table[:, columns])
        with np.errstate(all="ignore"):
            if not self.inverse:
                x = np.ldexp(x, -exponent)
            y = dispatch.core.affine_columns(function, x, table, -np.inf, np.inf, None, False)
            if self.inverse:
                # What is beyond the largest number by rounding alone is this number.
                beyond = np.abs(y) <= np.ldexp(1 + 2.0**-50, np.minimum(1024 - exponent, 1023))
                most = np.finfo(np.float64).max
                back = np.ldexp(y, exponent)
                y = np.where(np.isinf(back) & beyond, np.copysign(most, y), back)
            kept: Array = np.clip(y, self.low, self.high)
            return kept


class UnitRange(NamedTuple):
    """Minimum, range and ``(high - low) / range`` of columns times ``2 ** -exponent``.

    The range of a constant column is taken for 1, scikit-learn's convention.
    """

    least: Array
    span: Array
    factor: Array
    exponent: Array | None
    low: float
    high: float

    @classmethod
    def of(cls, least: Array, largest: Array, low: float, high: float) -> UnitRange:
        """Return what maps columns from ``[least, largest]`` to ``[low, high]``."""
        width = high - low
        with np.errstate(all="ignore"):
            least, largest = np.asarray(least, np.float64), np.asarray(largest, np.float64)
            span = largest - least
            factor = width / np.where(span == 0, 1.0, span)
            most = 2.0**_LIMIT
            extreme = (factor > most) | (factor < 1 / most)
            extreme |= (np.abs(least) > most) | (np.abs(largest) > most)
            extreme &= span > 0
            exponent = None
            if extreme.any():
                size = np.where(np.isinf(span), np.int32(1025), np.frexp(span)[1])
                exponent = np.where(extreme & np.isfinite(least) & np.isfinite(largest), size, 0)
                least = np.ldexp(least, -exponent)
                largest = np.ldexp(largest, -exponent)
                span = largest - least
                factor = width / np.where(span == 0, 1.0, span)
        span = np.where(span == 0, 1.0, span)
        return cls(least, span, _within(factor, least, largest, low, high), exponent, low, high)

    def forward(self, low: float = -np.inf, high: float = np.inf) -> ColumnMap:
        """Return the map to the range, kept between two bounds."""
        add = np.full_like(self.least, self.low)
        return ColumnMap(np.stack((self.least, self.factor, add)), low, high, self.exponent)

    def backward(self) -> ColumnMap:
        """Return the map back."""
        add = np.full_like(self.least, self.low)
        factor = self.span / (self.high - self.low)
        table = np.stack((add, factor, self.least))
        return ColumnMap(table, exponent=self.exponent, inverse=True)


def _within(factor: Array, least: Array, largest: Array, low: float, high: float) -> Array:
    """Return the factor changed by a few ULP, so that a column's maximum is not mapped beyond `high`.

    Of the factors that are near, it is one that maps the maximum to `high`, or as close below it as
    products with the range come. A map that rounds is monotonic: what lies below the maximum stays
    below it, too.
    """
    lows = np.full_like(factor, low)

    def ends(candidate: Array) -> Array:
        table = np.stack((least, candidate, lows))
        mapped: Array = dispatch.core.affine_columns(
            "fit", largest[np.newaxis].copy(), table, -np.inf, np.inf, None, False
        )
        end: Array = mapped[0]
        return end

    with np.errstate(all="ignore"):
        end = ends(factor)
        off = (end != high) & (largest > least)
        if not off.any():
            return factor
        best, best_end = factor, np.where(end > high, -np.inf, end)
        for step in (-1, 1, -2, -3):
            if not off.any():
                break
            candidate = factor + step * np.spacing(factor)
            end = ends(candidate)
            better = off & (end <= high) & (end > best_end)
            best, best_end = np.where(better, candidate, best), np.where(better, end, best_end)
            off &= best_end < high - np.spacing(abs(high))
    return best
