"""The robust normalizer: columns by their quartiles, outliers squeezed smoothly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_positive
from dlcore.preprocessing._column_map import ColumnMap, far_exponent
from dlcore.preprocessing._normalizer import (
    ColumnwiseNormalizer,
    InvertibleNormalizer,
    Map,
    quantiles_of,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array

__all__ = ["RobustNormalizer"]

# Elements that are squeezed at once: what they take besides stays in the caches.
_BLOCK = 1 << 15

# A squeezed value is the bound from here on, in units of the bound.
_FAR = 1e100


class Quartiles(NamedTuple):
    """Minimum, quartiles and maximum of the columns of a 2-D array, NaN left out."""

    min: Array
    q25: Array
    median: Array
    q75: Array
    max: Array


class RobustNormalizer(ColumnwiseNormalizer, InvertibleNormalizer):
    """Maps each column by its median and the distance of its quartiles, and squeezes outliers.

    ``z = (x - median) / (q75 - q25)``, and then ``z / sqrt(1 + (z / bound)**2)``, which is near z for
    a small z and stays within ±bound. This is how RealMLP takes numbers. Where the quartiles are the
    same, half of the distance of minimum and maximum takes the place of theirs; a constant column, or one
    of NaN alone, becomes 0.

    Parameters
    ----------
    smooth_clip : bool or float, default True
        The bound; True is 3. False squeezes nothing.

    Attributes
    ----------
    median_, scale_ : ndarray of float64, shape (columns,)
        z is ``(x - median_) * scale_``; `scale_` is 0 for a constant column, and not beyond 2**1023.
    stats_ : Quartiles
        ``min``, ``q25``, ``median``, ``q75`` and ``max`` of each column.
    n_samples_seen_ : int

    Raises
    ------
    ValueError
        If `smooth_clip` is no flag and no positive number.

    Notes
    -----
    There is no ``partial_fit``: quantiles of parts do not give those of all rows. A `fit` of the rows of
    several ranks gathers them, one column at a time, which must fit the memory of each, and has the bits
    of one of all rows, in the order of the ranks. An infinity, which
    `transform` may be given, becomes ±bound. `inverse_transform` gives what is at the bound or beyond
    as an infinity, and constant columns their value.

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024, section 3.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.array([[1.0], [2.0], [3.0], [4.0], [1000.0]])
    >>> dl.RobustNormalizer().fit(x).transform(x).round(2).ravel().tolist()
    [-0.95, -0.49, 0.0, 0.49, 3.0]
    >>> dl.RobustNormalizer(smooth_clip=False).fit(x).transform(x).ravel().tolist()
    [-1.0, -0.5, 0.0, 0.5, 498.5]
    """

    _stats: Quartiles

    def __init__(self, smooth_clip: bool | float = True) -> None:
        is_flag = isinstance(smooth_clip, bool | np.bool_)
        self.smooth_clip: bool | float = (
            bool(smooth_clip)
            if is_flag
            else check_positive("RobustNormalizer: smooth_clip", smooth_clip)
        )

    def _of_columns(self, rows: int, columns: Iterator[Array]) -> Quartiles:  # noqa: ARG002
        levels = np.array([0, 0.25, 0.5, 0.75, 1])
        found = [quantiles_of(column, levels) for column in columns]
        return Quartiles(*np.reshape(found, (-1, 5)).T.copy())

    @property
    def median_(self) -> Array:
        """Median of each column."""
        return self._stats.median

    @property
    def scale_(self) -> Array:
        """Factor of each column, 0 for a constant one."""
        return self._scaled(np.zeros(len(self.median_), np.int32))[1]

    def _scaled(self, exponent: Array) -> tuple[Array, Array]:
        """Return medians and factors of columns times ``2 ** -exponent``."""
        with np.errstate(all="ignore"):
            least, low, median, high, largest = (np.ldexp(q, -exponent) for q in self._stats)
            span = high - low
            span = np.where(span == 0, 0.5 * (largest - least), span)
            factor = np.where(span == 0, 0.0, np.minimum(1 / span, 2.0**1023))
        return median, factor

    def _maps(self) -> tuple[Map, ...]:
        exponent = far_exponent(size_of(self._stats.min, self._stats.max))
        scale = np.zeros(len(self.median_), np.int32) if exponent is None else exponent
        median, factor = self._scaled(scale)
        zeros = np.zeros_like(median)
        with np.errstate(divide="ignore"):
            span = np.where(factor == 0, 0.0, 1 / factor)
        there = ColumnMap(np.stack((median, factor, zeros)), exponent=exponent)
        back = ColumnMap(np.stack((zeros, span, median)), exponent=exponent, inverse=True)
        bound = 3.0 if self.smooth_clip is True else float(self.smooth_clip)
        constant = np.flatnonzero(factor == 0)
        return _Squeezed(there, bound, constant), _Spread(back, bound, constant)


class _Squeezed(NamedTuple):
    """Columns mapped, then brought smoothly between two bounds, if they are not 0."""

    columns: ColumnMap
    bound: float
    constant: Array

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        missing = _missing(function, x, self)
        y = self.columns(function, x, out)
        array = as_array(y, function)
        for rows in _blocks(array) if self.bound else ():
            z = np.clip(rows.astype(np.float64) / self.bound, -_FAR, _FAR)
            rows[...] = self.bound * (z / np.sqrt(1 + z * z))
        array[:, self.constant] = np.where(missing, np.nan, 0)
        return y


class _Spread(NamedTuple):
    """The inverse of `_Squeezed`."""

    columns: ColumnMap
    bound: float
    constant: Array

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        missing = _missing(function, x, self)
        y = self.columns(function, self._spread(x, function) if self.bound else x, out)
        value = self.columns.table[2, self.constant]
        if self.columns.exponent is not None:
            value = np.ldexp(value, self.columns.exponent[self.constant])
        as_array(y, function)[:, self.constant] = np.where(missing, np.nan, value)
        return y

    def _spread(self, x: Any, function: str) -> Array:
        squeezed = as_array(x, f"{function}: x")
        if squeezed.dtype.kind != "f" or squeezed.ndim != 2:
            return squeezed  # the map of columns says what is wrong
        z = np.empty_like(squeezed)
        for rows, own in zip(_blocks(z), _blocks(squeezed), strict=True):
            part = np.clip(own.astype(np.float64) / self.bound, -1, 1)
            with np.errstate(divide="ignore", over="ignore"):
                rows[...] = self.bound * (part / np.sqrt((1 - part) * (1 + part)))
        return z


def _missing(function: str, x: Any, own: _Squeezed | _Spread) -> Array:
    """Return where x is NaN in constant columns: 0 times an infinity is NaN, too."""
    given = as_array(x, f"{function}: x")
    if not len(own.constant) or given.ndim != 2 or given.shape[1] != own.columns.table.shape[1]:
        return np.zeros((1, len(own.constant)), bool)
    return np.isnan(given[:, own.constant])


def _blocks(array: Array) -> list[Array]:
    """Cut rows into blocks of some elements."""
    size = max(1, _BLOCK // max(1, array.shape[1]))
    return [array[begin : begin + size] for begin in range(0, len(array), size)]
