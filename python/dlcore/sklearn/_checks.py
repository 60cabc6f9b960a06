"""What estimators check of rows, targets and weights, beside scikit-learn's own checks."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from dlcore._common.arrays import first_true, without_mask
from dlcore._common.checks import check_real
from dlcore.sklearn._frames import is_missing

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# Up to so many values a product with themselves tells sooner whether they are finite than looking at
# each; of more, BLAS would wake threads.
_FEW_VALUES = 8192


class ParametersMixin:
    """Checks the numbers among an estimator's parameters before scikit-learn does.

    Its own checks raise an error of NumPy for a fraction, and take an integer that is too large for
    the first arithmetic with a float.
    """

    def _validate_params(self: Any) -> None:
        for name, value in self.get_params(deep=False).items():
            is_known = isinstance(value, int | float | np.number)
            is_too_large = isinstance(value, Integral) and math.isinf(check_real(name, value))
            if isinstance(value, Real) and (is_too_large or not is_known):
                raise InvalidParameterError(
                    f"The {name!r} parameter of {type(self).__name__} must be a number that float64 "
                    f"has, an int or a float. Got {value!r} instead."
                )
        super()._validate_params()  # type: ignore[misc]


def is_plain(X: Any, dtype: np.dtype[Any], width: int) -> bool:
    """Whether no check has anything to say about X: an array as the network takes it, finite."""
    return (
        type(X) is np.ndarray
        and X.dtype == dtype
        and X.ndim == 2
        and X.shape[1] == width
        and X.shape[0] > 0
        and X.flags.c_contiguous
        and X.flags.aligned
        and are_finite(X)
    )


def are_finite(values: Array) -> bool:
    """Whether values are finite for sure; numbers whose squares overflow may be as well."""
    if values.size <= _FEW_VALUES:
        return math.isfinite(np.vdot(values, values))
    return bool(np.isfinite(values).all())


def check_data(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """Return X, and y if it is given, as scikit-learn's ``validate_data`` does.

    The error of a value that is not finite names its place as well. A masked array is a TypeError.
    """
    without_mask(X, "X"), without_mask(y, "y")
    try:
        return validate_data(estimator, X, y, accept_sparse=["csr", "csc"], **options)
    except ValueError as error:
        message = str(error)
        for name, values in (("X", X), ("y", y)):
            if message.startswith((f"Input {name} contains NaN", f"Input {name} contains inf")):
                place = _first_not_finite(name, values, options.get("dtype"))
                if place:
                    raise ValueError(f"{message}\n{place}") from None
        raise


def check_target(
    estimator: Any, X: Any, y: Any, *, has_columns: bool = False, **options: Any
) -> tuple[Any, Array]:
    """Return X and y, which may have several columns; unless it must, one has the shape (N,)."""
    X, y = check_data(estimator, X, y, multi_output=True, **options)
    if y.ndim == 2 and y.shape[1] == 1 and not has_columns:
        y = column_or_1d(y, warn=True)
    return X, y


def plain_targets(y: Any) -> Any:
    """Return y as an array; of one of objects, what they are: numbers, booleans or texts.

    Raises
    ------
    ValueError
        A value is missing.
    TypeError
        Some are texts and some are not.
    """
    if not hasattr(y, "__array__") and not isinstance(y, list | tuple):
        return y
    try:
        values = np.asarray(y)
    except ValueError:  # lists that are not all as long, of which scikit-learn says so
        return y
    if isinstance(y, list | tuple) and values.dtype.kind in "US":
        values = np.asarray(y, dtype=object)
    if values.dtype.kind not in "Of" or values.ndim not in (1, 2):
        return values
    if values.dtype.kind == "f":
        _check_complete(values, np.isnan(values))
        return values
    kinds = set(map(type, values.ravel()))
    if not kinds <= {str, np.str_}:
        missing = [is_missing(value) for value in values.ravel()]
        _check_complete(values, np.reshape(missing, values.shape))
    if kinds <= {bool, np.bool_} and kinds:
        return values.astype(bool)
    if kinds and all(issubclass(kind, Integral) for kind in kinds):
        return np.array(values.tolist())
    texts = {kind for kind in kinds if issubclass(kind, str)}
    if texts and kinds != texts:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(
            f"y holds values of several types ({names}): make all of them texts, or none"
        )
    return np.asarray(y) if isinstance(y, list | tuple) else values


def _check_complete(y: Array, missing: Array) -> None:
    """Raise a ValueError, in scikit-learn's words, that names the first missing target."""
    place = first_true(missing)
    if place is not None:
        what = "NaN" if y.dtype.kind == "f" else y[place]
        where = ", ".join(map(str, place))
        raise ValueError(f"Input y contains {what}, at y[{where}]: leave out rows without a target")


def finite_targets(y: Any) -> Array:
    """Return y in float64; dates, durations and text are no numbers."""
    y = np.asarray(y)
    if y.dtype.kind not in "biufO":
        raise TypeError(
            f"y must hold numbers, not {y.dtype}: convert it, such as by y.astype(float)"
        )
    values = y.astype(np.float64)
    place = first_true(~np.isfinite(values))
    if place is not None:  # None among objects
        raise ValueError(f"Input y contains {values[place]}, at y[{', '.join(map(str, place))}].")
    return values


def check_weights(weight: Any, X: Any) -> Array | None:
    """Return the weights of rows: finite, none negative, some above 0."""
    if weight is None:
        return None
    without_mask(weight, "sample_weight")
    check_numbers("sample_weight", weight)
    try:
        weights: Array = _check_sample_weight(weight, X, ensure_non_negative=True)
    except ValueError as error:
        message = str(error)
        place = _first_not_finite("sample_weight", weight, None)
        if "Negative" in message:
            negative = np.flatnonzero(_as_numbers(weight) < 0)[0]
            place = f"The first is {_as_numbers(weight)[negative]} at sample_weight[{negative}]."
        raise ValueError(f"{message}\n{place}".rstrip()) from None
    return check_sum(weights)


def check_sum(weights: Array) -> Array:
    """Make sure that some rows count, and that their weight is a number.

    A training step takes subnormal numbers for 0.
    """
    with np.errstate(over="ignore"):
        total = weights[weights >= np.finfo(np.float64).tiny].sum(dtype=np.float64)
    if not total > 0:
        raise ValueError("no row counts: the weights of all of them are 0")
    if total == np.inf:
        raise ValueError("sample_weight adds up to infinity")
    return weights


def _first_not_finite(name: str, values: Any, dtype: Any) -> str:
    """Say where the first value is that is not finite in the dtype that is computed in."""
    dtype = np.dtype(dtype if isinstance(dtype, type | np.dtype) else np.float64)
    if scipy.sparse.issparse(values):
        rows = values.tocoo()
        order = np.lexsort((rows.col, rows.row))
        entries, places = rows.data[order], (rows.row[order], rows.col[order])
    else:
        try:
            entries, places = _as_numbers(values), None
        except (TypeError, ValueError):
            return ""
    with np.errstate(over="ignore"):
        found = first_true(~np.isfinite(entries.astype(dtype)))
    if found is None:
        return ""
    place = found if places is None else tuple(int(axis[found]) for axis in places)
    where = ", ".join(map(str, place))
    column = ""
    names = getattr(values, "columns", None)
    if names is not None and len(place) == 2 and not callable(names):
        column = f", in the column {names[place[1]]!r}"
    elif len(place) == 2 and hasattr(values, "column_names"):
        column = f", in the column {values.column_names[place[1]]!r}"
    return f"The first is {entries[found]} at {name}[{where}]{column}."


def check_numbers(name: str, values: Any) -> None:
    """Raise a TypeError that names what holds texts or the like; others say what else is wrong."""
    try:
        _as_numbers(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers: {error}") from None


def _as_numbers(values: Any) -> Array:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        if not hasattr(values, "to_numpy"):
            raise
    # Such as a frame with pandas.NA.
    dense: Array = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return dense
