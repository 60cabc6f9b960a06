"""The columns of a table, whatever library made it: numbers, dates, labels, or nothing.

Narwhals reads the frames of pandas, polars, Arrow and others by
the library that they are of, and imports none itself. Columns are read one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import narwhals.stable.v2 as nw
import numpy as np
import scipy.sparse
from sklearn.utils import check_array

from dlcore._common.arrays import without_mask
from dlcore._common.optional import find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

# Counted from 1970 in UTC: 290,000 years of them fit an int64.
_MICROSECONDS = np.dtype("datetime64[us]")
_NUMBERS = (Real, Decimal, np.number)
_FLAGS = {bool, np.bool_}


@dataclass(frozen=True)
class Column:
    """A column as it was read.

    Parameters
    ----------
    kind : {"number", "date", "category", "empty"}
        "empty" is a column that has no value in any row.
    values : ndarray of shape (n_rows,)
        Numbers with NaN where one is missing; dates, datetime64 in microseconds, with NaT; the
        places of categories in ``labels``, with -1.
    labels : list of str
        The categories that there are, in no order.
    """

    kind: str
    values: Array
    labels: Sequence[str] = ()


class Table:
    """Rows in columns, which are read when they are asked for.

    Parameters
    ----------
    X : frame of pandas, polars, Arrow, ..., object with an Arrow C stream, or array-like
        Of two dimensions.
    estimator : object
        Whose name the errors have.

    Attributes
    ----------
    native : object
        X as scikit-learn can look at its names and its width.
    names : list of str, or None
        Names of the columns, where all are texts.
    n_rows, n_columns : int
    matrix : ndarray of shape (n_rows, n_columns), or None
        All of it, where X is an array of numbers.
    """

    def __init__(self, X: Any, estimator: Any) -> None:
        without_mask(X, "X")
        self.matrix: Array | None = None
        self._frame: Any = _as_frame(X)
        self.names: list[str] | None = None
        if self._frame is not None:
            self.native = self._frame.to_native()
            shape, names = self._frame.shape, list(self._frame.columns)
            if all(isinstance(name, str) for name in names):
                self.names = names
        else:
            self.native = self._values = _as_values(X, estimator)
            shape = self._values.shape
            if self._values.dtype.kind in "iuf":
                self.matrix = self._values
        self.n_rows, self.n_columns = shape
        for count, what in zip(shape, ("sample", "feature"), strict=True):
            if not count:  # in scikit-learn's words
                raise ValueError(
                    f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is "
                    f"required by {type(estimator).__name__}."
                )

    def name(self, i: int) -> str:
        """Return how messages call a column."""
        return f"x{i}" if self.names is None else self.names[i]

    def column(self, i: int) -> Column:
        """Read a column.

        Raises
        ------
        TypeError
            It holds something else than numbers, texts, booleans and dates.
        ValueError
            It holds an infinity.
        """
        try:
            if self._frame is None:
                column = _of_array(self._values[:, i])
            else:
                column = _of_series(self._frame[:, i])
        except (TypeError, ValueError) as error:
            raise type(error)(f"X: column {self.name(i)!r}: {error}") from None
        if column.kind == "number":
            check_no_infinity(column.values, self.name(i))
        return column


def check_no_infinity(values: Array, name: str) -> None:
    """Raise a ValueError, in scikit-learn's words, for numbers that are infinite."""
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(f"Input X contains infinity: {values[row]} in column {name!r}, row {row}.")


def _as_frame(X: Any) -> Any:
    """Return a frame of Narwhals, or None for what is no frame."""
    if nw.dependencies.is_into_dataframe(X) or isinstance(X, nw.DataFrame):
        _check_names(X)
        return nw.from_native(X, eager_only=True)
    if isinstance(nw.from_native(X, pass_through=True), nw.LazyFrame):
        raise TypeError(f"X is a {type(X).__name__}, which is not read yet: give X.collect()")
    if hasattr(X, "__arrow_c_stream__") and not hasattr(X, "__array__"):
        for library in ("pyarrow", "polars"):
            if find(library) is not None:
                return nw.from_arrow(X, backend=library)
        raise TypeError(
            f"X is a {type(X).__name__} with an Arrow stream, which pyarrow or polars reads: "
            f"install one of them"
        )
    return None


def _check_names(X: Any) -> None:
    """Raise a ValueError for two columns of one name, by which a frame could not be read."""
    given = getattr(X, "column_names", X.columns)  # of Arrow
    counts = Counter(given)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(
            f"X has {counts[twice[0]]} columns with the name {twice[0]!r}: rename them"
        )


def _as_values(X: Any, estimator: Any) -> Array:
    """Return what is no frame as an array of two dimensions; of objects where columns may differ."""
    if not scipy.sparse.issparse(X) and not hasattr(X, "dtype"):
        if isinstance(X, list | tuple) and X and isinstance(X[0], dict):
            raise TypeError(
                "X is a list of dicts: a frame of them, such as pandas.DataFrame(X), is read"
            )
        if isinstance(X, str | bytes | dict):
            raise TypeError(f"X must be a frame or an array of two dimensions, not {X!r:.50}")
        plain = np.asarray(X) if _is_of_numbers(X) else None
        # NumPy would make texts of numbers beside texts.
        X = plain if plain is not None else np.array(X, dtype=object)
    values: Array = check_array(
        X,
        dtype=None,
        ensure_all_finite=False,
        ensure_min_samples=0,
        ensure_min_features=0,
        estimator=estimator,
        input_name="X",
    )
    return values


def _is_of_numbers(X: Any) -> bool:
    try:
        return np.asarray(X).dtype.kind in "iuf"
    except ValueError:  # lists that are not all as long
        return False


def _of_series(series: Any) -> Column:
    dtype = series.dtype
    if dtype in (nw.Categorical, nw.Enum):
        return of_values(series.to_list(), is_category=True)
    if dtype == nw.Date or isinstance(dtype, nw.Datetime | nw.Duration) or dtype.is_numeric():
        return _of_array(series.to_numpy())
    return of_values(series.to_list())


def _of_array(values: Array) -> Column:
    kind = values.dtype.kind
    if kind == "M":
        dates = values.astype(_MICROSECONDS)
        return Column("date", dates) if not np.isnat(dates).all() else _empty(len(values))
    if kind == "m":
        seconds = values.astype("timedelta64[us]").astype(np.float64) / 1e6
        seconds[np.isnat(values)] = np.nan
        return _of_numbers(seconds)
    if kind in "iuf":
        return _of_numbers(values)
    if kind == "c":
        raise ValueError("Complex data not supported")
    return of_values(values.tolist())


def _of_numbers(values: Array) -> Column:
    if values.dtype.kind == "f" and np.isnan(values).all():
        return _empty(len(values))
    return Column("number", values)


def _empty(rows: int) -> Column:
    return Column("empty", np.full(rows, -1))


def of_values(values: list[Any], *, is_category: bool = False) -> Column:
    """Read a column of Python's objects.

    Numbers and dates are what all values are that are not missing; None, NaN, NaT and NA are
    missing. All else are categories, whose label is their text; ``is_category`` says that numbers
    are.
    """
    kinds = {type(value) for value in values}
    if float in kinds or any(kind.__module__ not in ("builtins", "datetime") for kind in kinds):
        values = [None if is_missing(value) else value for value in values]
        kinds = {type(value) for value in values}
    kinds.discard(type(None))
    if not kinds:
        return _empty(len(values))
    if not is_category and any(map(_is_number, kinds)) and all(map(_is_number, kinds - _FLAGS)):
        return _of_numbers(np.array([np.nan if v is None else float(v) for v in values]))
    if all(issubclass(kind, date | np.datetime64) for kind in kinds):
        return Column("date", np.array([_as_utc(v) for v in values], _MICROSECONDS))
    if all(issubclass(kind, timedelta | time | np.timedelta64) for kind in kinds):
        return _of_numbers(np.array([_seconds(v) for v in values]))
    codes_of: dict[Any, int] = {None: -1}
    labels: dict[str, int] = {}
    codes = np.empty(len(values), np.intp)
    for i, value in enumerate(values):
        try:
            code = codes_of.get((type(value), value) if value is not None else None)
        except TypeError:  # such as a list, which cannot be hashed
            code = None
        if code is None:
            code = labels.setdefault(label_of(value), len(labels))
            codes_of[type(value), value] = code
        codes[i] = code
    return Column("category", codes, list(labels))


def label_of(value: Any) -> str:
    """Return the text that stands for a category: 1, 1.0 and "1" are one."""
    if isinstance(value, str):
        return str(value)
    if _is_complex(type(value)):
        raise ValueError("Complex data not supported")
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, _NUMBERS):
        number: Any = value
        return str(int(number)) if float(number).is_integer() else repr(float(number))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, dict | list | tuple | set | np.ndarray):
        raise TypeError(
            f"argument must be a string or a number (or a boolean or a date), not a "
            f"{type(value).__name__}"
        )
    return str(value)  # such as a period of pandas


def _is_number(kind: type) -> bool:
    return issubclass(kind, _NUMBERS) and kind not in _FLAGS and not _is_complex(kind)


def _is_complex(kind: type) -> bool:
    return issubclass(kind, complex | np.complexfloating)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT or NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real | Decimal | np.generic) and not value == value  # noqa: PLR0124, SIM201


def _as_utc(value: Any) -> Any:
    """Return a date as NumPy takes it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    return value


def _seconds(value: Any) -> float:
    if value is None:
        return np.nan
    if isinstance(value, time):
        since = timedelta(hours=value.hour, minutes=value.minute, seconds=value.second)
        return (since + timedelta(microseconds=value.microsecond)).total_seconds()
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "us")) / 1e6
    return float(value.total_seconds())
