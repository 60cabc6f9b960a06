"""scikit-learn's StandardScaler and MinMaxScaler with dlcore's kernels.

The classes are scikit-learn's own but for dense input that scikit-learn makes a float32 or float64
NumPy array of. Of such an array `fit` and `transform` make one pass; `transform` in place makes
another one before, which looks for infinities, left out under
``sklearn.config_context(assume_finite=True)``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn import get_config, preprocessing
from sklearn.base import _fit_context
from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils._array_api import _is_numpy_namespace, get_namespace
from sklearn.utils.validation import check_is_fitted, validate_data

from dlcore._common.arrays import without_mask
from dlcore._native import dispatch
from dlcore.functional._column_stats import ColumnStats, column_stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array

__all__ = ["MinMaxScaler", "StandardScaler"]

# The map (x - subtract) * multiply + add; each one number, or one a column, or None if not fitted.
_Map = tuple[Any, Any, Any]


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


def _finite_stats(x: Array, input_name: str) -> ColumnStats:
    """Return the statistics of `x`; raise scikit-learn's error if it has infinities."""
    stats = column_stats(x)
    if np.isinf(stats.min).any() or np.isinf(stats.max).any():
        assert_all_finite(x, allow_nan=True, input_name=input_name)
    return stats


def _inverse(scale: Any) -> Any:
    with np.errstate(divide="ignore", over="ignore"):
        return None if scale is None else np.divide(1.0, scale, dtype=np.float64)


def _table(parts: _Map, columns: int) -> Array | None:
    """Return the map as the kernel takes it, or None if it is not one that keeps the digits."""
    if any(part is None or np.shape(part) not in ((), (1,), (columns,)) for part in parts):
        return None
    table = np.empty((3, columns))
    for row, part in zip(table, parts, strict=True):
        row[:] = part
    size = np.abs(table[1])
    # The inverse of a very large or small scale has lost digits; scikit-learn divides.
    lost = (size < np.finfo(np.float64).tiny) | np.isinf(size)
    return None if lost.any() else table


def _mapped(
    scaler: Any,
    x: Any,
    parts: Callable[[], _Map],
    copy: bool,
    *,
    inverse: bool = False,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Array | None:
    """Return `x` mapped, in place if not `copy`; None, and `x` as it was, where scikit-learn has to."""
    validate = check_array if inverse else partial(validate_data, scaler, reset=False)
    array = _dense(validate, x, force_writeable=not copy)
    if array is None or (table := _table(parts(), array.shape[1])) is None:
        return None
    name = "" if inverse else "X"
    checks = not get_config()["assume_finite"]
    converted = array.flags.writeable and not np.may_share_memory(array, x)
    in_place = converted or not copy
    if checks and in_place and not converted:
        _finite_stats(array, name)  # before anything is written
    out = array if in_place else None
    mapped = dispatch.core.affine_columns("transform", array, table, *bounds, out, checks)
    if mapped is None:
        assert_all_finite(x if converted else array, allow_nan=True, input_name=name)
    return mapped


class StandardScaler(preprocessing.StandardScaler):
    """scikit-learn's `StandardScaler`, of which this is a subclass, with dlcore's kernels.

    Parameters, attributes, methods and errors are those of
    :class:`sklearn.preprocessing.StandardScaler`. With dense input this is different:

    - `mean_` and `var_` keep the digits of values such as 1e8 +- 1, over any number of calls of
      `partial_fit` too.
    - `transform` and `inverse_transform` compute in float64, with `mean_` and `scale_` as they
      are, and round the result once; scikit-learn rounds them and every step to the dtype of `X`.
    - `n_samples_seen_` is of integers, as scikit-learn documents it.
    - A column of which `partial_fit` has seen but NaN starts with its first number.
    """

    n_samples_seen_: Any
    mean_: Any
    var_: Any
    scale_: Any
    # mean_ as it was fitted, and what it lost when it was rounded.
    _exact_mean: tuple[Array, Array] | None = None

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Add the rows of `X` to the statistics; see scikit-learn's method."""
        validate = partial(check_array, input_name="X", estimator=self)
        array = _dense(validate, X) if sample_weight is None else None
        if array is None:
            return super().partial_fit(X, y, sample_weight)
        first_call = not hasattr(self, "n_samples_seen_")
        stats = new = _finite_stats(array, "X")
        if not np.isfinite(new.var[new.count > 0]).all():  # values whose squares overflow
            return super().partial_fit(X, y)
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
            constant = _is_constant_feature(var, mean, count)
            scale = _handle_zeros_in_scale(np.sqrt(var), copy=False, constant_mask=constant)

        # Attributes change here, where nothing fails any more.
        context = self._init_callback_context()
        task = {"estimator": self, "X": array, "y": y, "metadata": {"sample_weight": None}}
        context.call_on_fit_task_begin(**task)
        self.n_samples_seen_, self.mean_, self.var_, self.scale_ = count, mean, var, scale
        self._exact_mean = (stats.mean.copy(), stats._mean_low)
        context.call_on_fit_task_end(**task, reconstruction_attributes={})
        return self

    def _seen(self, columns: int) -> ColumnStats:
        """Return the statistics that the attributes tell, whoever has set them."""
        none = np.zeros(columns)
        count = np.broadcast_to(self.n_samples_seen_, columns)
        mean = self.mean_ if self.with_mean or self.with_std else none
        var = self.var_ if self.with_std else none
        fitted, low = self._exact_mean or (none, none)
        if not np.array_equal(mean, fitted, equal_nan=True):
            low = none
        return ColumnStats(count, mean, var, none, none, low)

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Center and scale `X`; see scikit-learn's method."""
        check_is_fitted(self)

        def parts() -> _Map:
            mean, scale = self._mean_and_scale()
            return mean, _inverse(scale), 0.0

        result = _mapped(self, X, parts, self.copy if copy is None else copy)
        return super().transform(X, copy) if result is None else result

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Scale and shift `X` back; see scikit-learn's method."""
        check_is_fitted(self)

        def parts() -> _Map:
            mean, scale = self._mean_and_scale()
            return 0.0, scale, mean

        result = _mapped(self, X, parts, self.copy if copy is None else copy, inverse=True)
        return super().inverse_transform(X, copy) if result is None else result

    def _mean_and_scale(self) -> tuple[Any, Any]:
        return self.mean_ if self.with_mean else 0.0, self.scale_ if self.with_std else 1.0


class MinMaxScaler(preprocessing.MinMaxScaler):
    """scikit-learn's `MinMaxScaler`, of which this is a subclass, with dlcore's kernels.

    Parameters, attributes, methods and errors are those of
    :class:`sklearn.preprocessing.MinMaxScaler`. With dense input this is different:

    - `transform` and `inverse_transform` compute in float64 and round the result once, and from
      `data_min_` and `data_max_`, which keeps the digits of values such as 1e8 +- 1. Where
      `scale_` or `min_` was set to what does not follow from these, it is what counts.
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
        low, high = self.feature_range[:2]
        array = _dense(validate, X) if low < high else None
        if array is None:
            return super().partial_fit(X, y)
        first_call = not hasattr(self, "n_samples_seen_")
        stats = _finite_stats(array, "X")
        validate_data(self, X, reset=first_call, skip_check_array=True)
        count = len(array)
        # Of one row: this warns of columns of NaN, as scikit-learn does.
        least = np.nanmin(stats.min[np.newaxis], axis=0).astype(array.dtype)
        largest = np.nanmax(stats.max[np.newaxis], axis=0).astype(array.dtype)
        if not first_call:
            count += self.n_samples_seen_
            least = np.fmin(self.data_min_, least)
            largest = np.fmax(self.data_max_, largest)
        span = largest - least
        scale, shift = self._scale_and_min(least, _handle_zeros_in_scale(span, copy=True))
        self.n_samples_seen_, self.scale_, self.min_ = count, scale, shift
        self.data_min_, self.data_max_, self.data_range_ = least, largest, span
        return self

    def _scale_and_min(self, least: Array, divisor: Array) -> tuple[Array, Array]:
        low, high = np.asarray(self.feature_range[:2], least.dtype)
        scale = (high - low) / divisor
        return scale, low - least * scale

    def transform(self, X: Any) -> Any:
        """Scale `X` to `feature_range`; see scikit-learn's method."""
        check_is_fitted(self)
        bounds = self.feature_range[:2] if self.clip else (-np.inf, np.inf)
        result = _mapped(self, X, self._map, self.copy, bounds=bounds)
        return super().transform(X) if result is None else result

    def inverse_transform(self, X: Any) -> Any:
        """Scale `X` back; see scikit-learn's method."""
        check_is_fitted(self)

        def parts() -> _Map:
            subtract, multiply, add = self._map()
            return add, _inverse(multiply), subtract

        result = _mapped(self, X, parts, self.copy, inverse=True)
        return super().inverse_transform(X) if result is None else result

    def _map(self) -> _Map:
        with np.errstate(all="ignore"):
            divisor = _handle_zeros_in_scale(self.data_range_, copy=True)
            scale, shift = self._scale_and_min(self.data_min_, divisor)
            same = partial(np.array_equal, equal_nan=True)
            if not (same(self.scale_, scale) and same(self.min_, shift)):
                return 0.0, self.scale_, self.min_
            low, high = self.feature_range[:2]
            span = np.subtract(self.data_max_, self.data_min_, dtype=np.float64)
            divisor = np.where(divisor == self.data_range_, span, divisor)
            return self.data_min_, (high - low) / divisor, low
