"""scikit-learn's StandardScaler and MinMaxScaler with dlcore's kernels.

The classes are scikit-learn's own but for dense input that scikit-learn makes a float32 or float64
NumPy array of. Of such an array `fit` and `transform` make one pass; `transform` in place makes
another one before, which looks for infinities, left out under
``sklearn.config_context(assume_finite=True)``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn import get_config, preprocessing
from sklearn.base import _fit_context
from sklearn.preprocessing._data import _is_constant_feature
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace
from sklearn.utils.validation import check_is_fitted, validate_data

from dlcore._common.arrays import without_mask
from dlcore._common.checks import check_real
from dlcore._native import dispatch
from dlcore.functional._column_stats import ColumnExtremes, ColumnStats, column_stats
from dlcore.preprocessing._column_map import ColumnMap, UnitRange, far_exponent
from dlcore.preprocessing._state import describe_stats, stats_of_state
from dlcore.sklearn._versions import telling_callbacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array

__all__ = ["MinMaxScaler", "StandardScaler"]


def _dense(validate: Callable[..., Any], x: Any, **options: Any) -> Array | None:
    """Return `x` as scikit-learn's checks leave it, or None if the kernels cannot take that.

    Infinities are not looked for, since that would be a pass of its own.
    """
    x = without_mask(x, "X")
    if not _is_numpy_namespace(get_namespace(x)[0]):
        return None
    options |= {"accept_sparse": True, "ensure_all_finite": False}
    array = validate(x, dtype=(np.float64, np.float32, np.float16), **options)
    return array if isinstance(array, np.ndarray) and array.dtype != np.float16 else None


def _finite_extremes(x: Array, input_name: str) -> ColumnExtremes:
    """Return the extremes of the columns of `x`; raise scikit-learn's error if it has infinities."""
    least, largest, finite = dispatch.core.column_extremes("column_stats", x)
    if not finite:
        _raise_for_infinity(x, x, input_name)
    return ColumnExtremes(least, largest)


def _raise_for_infinity(x: Any, array: Array, input_name: str) -> None:
    """Raise scikit-learn's error for an infinity, with a note of where the first one is."""
    try:
        assert_all_finite(x, allow_nan=True, input_name=input_name)
    except ValueError as error:
        infinite = np.isinf(array)
        if infinite.any():
            column = int(infinite.any(axis=0).argmax())
            row = int(infinite[:, column].argmax())
            error.add_note(f"There is an infinity in column {column}, first in row {row}.")
        raise


def _column_map(
    subtract: Any,
    multiply: Any,
    add: Any,
    columns: int,
    *,
    low: float = -np.inf,
    high: float = np.inf,
) -> ColumnMap | None:
    """Return ``(x - subtract) * multiply + add``, or None if it is not a map that keeps the digits."""
    parts = (subtract, multiply, add)
    if any(part is None or np.shape(part) not in ((), (1,), (columns,)) for part in parts):
        return None
    table = np.empty((3, columns))
    for row, part in zip(table, parts, strict=True):
        row[:] = part
    size = np.abs(table[1])
    # The inverse of a very large or small scale has lost digits; scikit-learn divides.
    lost = (size < np.finfo(np.float64).tiny) | np.isinf(size)
    return None if lost.any() else ColumnMap(table, low, high)


def _inverse(scale: Any) -> Any:
    with np.errstate(divide="ignore", over="ignore"):
        return None if scale is None else np.divide(1.0, scale, dtype=np.float64)


def _mapped(
    scaler: Any,
    x: Any,
    make_map: Callable[[int], ColumnMap | None],
    copy: bool,
    *,
    inverse: bool = False,
) -> Array | None:
    """Return `x` mapped, in place if not `copy`; None, and `x` as it was, where scikit-learn has to."""
    validate = check_array if inverse else partial(validate_data, scaler, reset=False)
    array = _dense(validate, x, force_writeable=not copy)
    if array is None or (column_map := make_map(array.shape[1])) is None:
        return None
    name = "" if inverse else "X"
    checks = not get_config()["assume_finite"]
    converted = array.flags.writeable and not np.may_share_memory(array, x)
    in_place = converted or not copy
    if checks and in_place and not converted:
        _finite_extremes(array, name)  # before anything is written
    out = array if in_place else None
    mapped: Array | None = column_map("transform", array, out, finite=checks)
    if mapped is None:
        _raise_for_infinity(x if converted else array, array, name)
    return mapped


class StandardScaler(preprocessing.StandardScaler):
    """scikit-learn's `StandardScaler`, of which this is a subclass, with dlcore's kernels.

    Parameters, attributes, methods and errors are those of
    :class:`sklearn.preprocessing.StandardScaler`. With dense input this is different:

    - `mean_` and `var_` keep the digits of values such as 1e8 +- 1, over any number of calls of
      `partial_fit` too.
    - `transform` and `inverse_transform` compute in float64, with `mean_` and `scale_` as they
      are, and round the result once; scikit-learn rounds them and every step to the dtype of `X`.
    - `scale_` is the standard deviation also of columns whose variance float64 does not have, such
      as those of 1e-170 or 1e200. What scikit-learn calls constant stays so: a deviation within the
      rounding of the mean, times the number of rows.
    - `n_samples_seen_` is of integers, as scikit-learn documents it.
    - A column of which `partial_fit` has seen but NaN starts with its first number.
    """

    n_samples_seen_: Any
    mean_: Any
    var_: Any
    scale_: Any
    # The statistics that mean_ and var_ are of.
    _stats: ColumnStats | None = None

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Add the rows of `X` to the statistics; see scikit-learn's method."""
        validate = partial(check_array, input_name="X", estimator=self)
        first_call = not hasattr(self, "n_samples_seen_")
        array = _dense(validate, X) if sample_weight is None else None
        if array is None:
            super().partial_fit(X, y, sample_weight)
            return self._fit_far_columns(X, sample_weight) if first_call else self
        stats = new = column_stats(array)
        if np.isinf(new.min).any() or np.isinf(new.max).any():
            _raise_for_infinity(array, array, "X")
        validate_data(self, X, reset=first_call, skip_check_array=True)
        if not first_call:
            stats = self._seen(array.shape[1]).merge(new)
        count, mean, var, scale = stats.count, None, None, None
        if (count == count[0]).all():
            count = count[0]
        if self.with_mean or self.with_std:
            mean = stats.mean
            np.divide(0, new.count)  # warns of columns of NaN, as scikit-learn does
        if self.with_std:
            var = stats.var
            moments = stats.moments()
            with np.errstate(over="ignore"):
                constant = _is_constant_feature(moments.var, moments.mean, count)
            scale = np.where(constant, 1.0, stats.std)

        # Attributes change here, where nothing fails any more.
        with telling_callbacks(self, array, y):
            self.n_samples_seen_, self.mean_, self.var_, self.scale_ = count, mean, var, scale
            self._stats = replace(stats, mean=stats.mean.copy(), var=stats.var.copy())
        return self

    def _fit_far_columns(self, X: Any, sample_weight: Any) -> Self:
        """Fit weighted columns again, at another scale, whose squares over- or underflowed."""
        if not isinstance(self.var_, np.ndarray):  # none, or another library's
            return self
        with np.errstate(invalid="ignore"):
            far = ~((self.var_ > 4.0**-480) & (self.var_ < 4.0**480))
        if not far.any() or (array := _dense(check_array, X)) is None:
            return self
        stats = column_stats(array)
        moments = stats.moments()
        (columns,) = np.nonzero(far & (moments.exponent != 0))
        if not len(columns):
            return self
        exponent = moments.exponent[columns]
        scaled = np.ldexp(array[:, columns], -exponent)
        near = preprocessing.StandardScaler().fit(scaled, sample_weight=sample_weight)
        with np.errstate(over="ignore", under="ignore"):
            self.mean_[columns] = np.ldexp(near.mean_, exponent)
            self.var_[columns] = np.ldexp(near.var_, 2 * exponent)
            self.scale_[columns] = np.ldexp(near.scale_, exponent)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        own = state.get("_stats")
        return state if own is None else {**state, "_stats": describe_stats(own)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = state.get("_stats")
        super().__setstate__({**state, "_stats": stats_of_state(own)} if own else state)

    def _seen(self, columns: int) -> ColumnStats:
        """Return the statistics that the attributes tell, whoever has set them."""
        none = np.zeros(columns)
        count = np.broadcast_to(self.n_samples_seen_, columns)
        if (own := self._unedited()) is not None:
            return replace(own, count=count)
        mean = self.mean_ if self.with_mean or self.with_std else none
        var = self.var_ if self.with_std else none
        return ColumnStats(count, mean, var, none, none)

    def _unedited(self) -> ColumnStats | None:
        """Return the statistics that were fitted, if the attributes are still theirs."""
        own = self._stats
        if own is None:
            return None
        pairs = ((self.mean_, own.mean), (self.var_, own.var))
        same = all(
            mine is None or np.array_equal(mine, fitted, equal_nan=True) for mine, fitted in pairs
        )
        return own if same else None

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale `X`; see scikit-learn's method."""
        check_is_fitted(self)

        result = _mapped(self, X, self._forward, self.copy if copy is None else copy)
        return super().transform(X, copy) if result is None else result

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Scale and shift `X` back; see scikit-learn's method."""
        check_is_fitted(self)

        result = _mapped(self, X, self._backward, self.copy if copy is None else copy, inverse=True)
        return super().inverse_transform(X, copy) if result is None else result

    def _forward(self, columns: int) -> ColumnMap | None:
        mean, scale, exponent = self._mean_and_scale()
        found = _column_map(mean, _inverse(scale), 0.0, columns)
        return found and found._replace(exponent=exponent)

    def _backward(self, columns: int) -> ColumnMap | None:
        mean, scale, exponent = self._mean_and_scale()
        found = _column_map(0.0, scale, mean, columns)
        return found and found._replace(exponent=exponent, inverse=True)

    def _mean_and_scale(self) -> tuple[Any, Any, Array | None]:
        """Return what is subtracted and divided by, of columns times ``2 ** -exponent``."""
        mean, scale = self.mean_ if self.with_mean else 0.0, self.scale_ if self.with_std else 1.0
        if not (self.with_std and self._stats is not None and self._stats.has_scaled_columns):
            return mean, scale, None
        own = self._unedited()
        moments = self._stats.moments()
        exponent = far_exponent(moments.exponent)
        if own is None or exponent is None:
            return mean, scale, None
        # A scale that was set to something else counts, and so does the 1 of a constant column.
        exponent = np.where(np.equal(scale, own.std), exponent, 0)
        with np.errstate(all="ignore"):
            there = moments.scaled_by(exponent).mean if self.with_mean else 0.0
            scale = np.where(exponent, moments.std(exponent), scale)
        return np.where(exponent, there, mean), scale, exponent


class MinMaxScaler(preprocessing.MinMaxScaler):
    """scikit-learn's `MinMaxScaler`, of which this is a subclass, with dlcore's kernels.

    Parameters, attributes, methods and errors are those of
    :class:`sklearn.preprocessing.MinMaxScaler`. With dense input this is different:

    - `transform` and `inverse_transform` compute in float64 and round the result once, and from
      `data_min_` and `data_max_`, which keeps the digits of values such as 1e8 +- 1. Where
      `scale_` or `min_` was set to what does not follow from these, it is what counts.
    - A column is constant if all its values are the same: the 4e-7 to 7e-7 of wavelengths in meters
      are scaled. (scikit-learn takes a range below 10 eps, 1.2e-6 in float32, for 0.) Nothing that
      `fit` has seen leaves the range.
    - `data_range_`, `scale_` and `min_` are float64 where float32 does not have them.
    - A column of which `partial_fit` has seen but NaN starts with its first number.
    """

    n_samples_seen_: Any
    data_min_: Any
    data_max_: Any
    data_range_: Any
    scale_: Any
    min_: Any

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add the rows of `X` to the minima and maxima; see scikit-learn's method."""
        validate = partial(check_array, input_name="X", estimator=self)
        ends = [check_real("feature_range", end) for end in self.feature_range[:2]]
        if len(ends) < 2:
            raise ValueError(f"feature_range must be (low, high), got {self.feature_range}")
        low, high = ends
        array = _dense(validate, X) if low < high else None
        if array is None:
            return super().partial_fit(X, y)
        first_call = not hasattr(self, "n_samples_seen_")
        stats = _finite_extremes(array, "X")
        validate_data(self, X, reset=first_call, skip_check_array=True)
        count = len(array)
        # Of one row: this warns of columns of NaN, as scikit-learn does.
        least = np.nanmin(stats.min[np.newaxis], axis=0).astype(array.dtype)
        largest = np.nanmax(stats.max[np.newaxis], axis=0).astype(array.dtype)
        if not first_call:
            count += self.n_samples_seen_
            least = np.fmin(self.data_min_, least)
            largest = np.fmax(self.data_max_, largest)
        span, scale, shift = self._derived(least, largest)
        self.n_samples_seen_, self.scale_, self.min_ = count, scale, shift
        self.data_min_, self.data_max_, self.data_range_ = least, largest, span
        return self

    def _derived(self, least: Array, largest: Array) -> tuple[Array, Array, Array]:
        """Return the range, `scale_` and `min_`."""
        with np.errstate(all="ignore"):
            low, high = np.asarray(self.feature_range[:2], least.dtype)
            span = largest - least
            scale = (high - low) / np.where(span == 0, span.dtype.type(1), span)
            found = (span, scale, low - least * scale)
            if least.dtype == np.float32 and any(np.isinf(part).any() for part in found):
                found = self._derived(least.astype(np.float64), largest.astype(np.float64))
        return found

    def transform(self, X: Any) -> Any:
        """Scale `X` to `feature_range`; see scikit-learn's method."""
        check_is_fitted(self)
        result = _mapped(self, X, self._forward, self.copy)
        return super().transform(X) if result is None else result

    def inverse_transform(self, X: Any) -> Any:
        """Scale `X` back; see scikit-learn's method."""
        check_is_fitted(self)
        result = _mapped(self, X, self._backward, self.copy, inverse=True)
        return super().inverse_transform(X) if result is None else result

    def _forward(self, columns: int) -> ColumnMap | None:
        low, high = self.feature_range[:2] if self.clip else (-np.inf, np.inf)
        if (unit := self._unit_range(columns)) is not None:
            return unit.forward(low, high)
        return _column_map(0.0, self.scale_, self.min_, columns, low=low, high=high)

    def _backward(self, columns: int) -> ColumnMap | None:
        if (unit := self._unit_range(columns)) is not None:
            return unit.backward()
        return _column_map(self.min_, _inverse(self.scale_), 0.0, columns)

    def _unit_range(self, columns: int) -> UnitRange | None:
        """Return what the attributes follow from; None if some were set to something else."""
        if np.shape(self.data_min_) != (columns,):
            return None
        _, scale, shift = self._derived(self.data_min_, self.data_max_)
        same = partial(np.array_equal, equal_nan=True)
        if not (same(self.scale_, scale) and same(self.min_, shift)):
            return None
        ends = (np.asarray(end, np.float64).tobytes() for end in (self.data_min_, self.data_max_))
        return _unit_range(*ends, *self.feature_range[:2])


# Small tables are transformed one after the other by the same scaler.
@lru_cache(maxsize=16)
def _unit_range(least: bytes, largest: bytes, low: float, high: float) -> UnitRange:
    return UnitRange.of(np.frombuffer(least), np.frombuffer(largest), low, high)
