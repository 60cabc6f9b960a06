"""`TableEncoder`: a table's columns as numbers and codes of categories."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_is_fitted,
    validate_data,
)

from dlcore._common.checks import check_several
from dlcore.sklearn._checks import ParametersMixin
from dlcore.sklearn._frames import Column, Table, check_no_infinity, label_of

if TYPE_CHECKING:
    from dlcore._common.typing import Array

_DAY = 86_400_000_000  # microseconds
_PARTS = ("days", "day_of_year", "weekday", "hour")


class TableEncoder(ParametersMixin, TransformerMixin, BaseEstimator):
    """Encodes the columns of a table as numbers and codes of categories.

    Frames of pandas, polars and Arrow, and arrays, with numbers, texts, categories, booleans, dates
    and missing values. The same table has the same codes in each.

    ==========================================  ====================================================
    a column of                                 becomes
    ==========================================  ====================================================
    numbers, also nullable and in objects       itself, NaN where one is missing
    times of day, durations                     seconds
    dates, with or without a time (UTC)         the days since 1970, and those of day of the year,
                                                weekday (Monday is 0) and hour that vary
    texts, booleans, categories, other objects  codes
    nothing but missing values                  no column
    ==========================================  ====================================================

    Code 0 is a category that was not in `fit`. The categories of `fit` follow in the order of their
    texts, from 1 on; where values were missing in `fit`, the last code is that of a missing value,
    else 0 is. A category is its text: 1, 1.0 and "1" are one, whether a column is of integers or, for
    a missing value, of floats. What a column holds is decided in `fit`; text where numbers were is an
    error.

    Parameters
    ----------
    categorical_features : array-like of int, of str or of bool, default=None
        Columns of numbers that are categories: their places, their names, or a mask. Texts,
        booleans and columns of a categorical dtype always are.
    max_categories : int, default=None
        At most so many categories of a column have a code of their own, the most frequent ones; the
        rest share code 0 with unknown ones.
    dtype : {"float32", "float64"}, default="float32"
        Of what `transform` returns. Numbers with large offsets, such as identifiers and dates, keep
        more digits in float64.

    Attributes
    ----------
    kinds_ : list of str
        What each column is: "number", "date", "category" or "empty".
    categories_ : list of list of str
        Those of each column of categories, in the order of their codes; the last is None where values
        were missing.
    cardinalities_ : list of int
        Number of codes of each column of categories.
    n_numbers_ : int
        Columns of the result that are numbers: the first ones. Codes follow.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Where the names of all columns are texts.

    Examples
    --------
    >>> import pandas as pd
    >>> from dlcore.sklearn import TableEncoder
    >>> frame = pd.DataFrame({"color": ["red", "blue", None], "size": [1.5, None, 3.0]})
    >>> encoder = TableEncoder().fit(frame)
    >>> encoder.transform(frame)
    array([[1.5, 2. ],
           [nan, 1. ],
           [3. , 3. ]], dtype=float32)
    >>> encoder.transform(pd.DataFrame({"color": ["green"], "size": [2.0]}))
    array([[2., 0.]], dtype=float32)
    >>> encoder.categories_
    [['blue', 'red', None]]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "categorical_features": ["array-like", None],
        "max_categories": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"float32", "float64"})],
    }

    def __init__(
        self,
        *,
        categorical_features: Any = None,
        max_categories: int | None = None,
        dtype: str = "float32",
    ) -> None:
        self.categorical_features = categorical_features
        self.max_categories = max_categories
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Learn what each column holds, and its categories.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        self._learn(Table(X, self))
        return self

    def transform(self, X: Any) -> Array:
        """Encode a table.

        Parameters
        ----------
        X : frame or array-like of shape (n_samples, n_features)
            With the columns of `fit`, in their order.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Numbers, NaN where they are missing, then codes.

        Raises
        ------
        TypeError, ValueError
            A column holds what it did not in `fit`, an infinity, or a number that is too large for
            the dtype; the message names it.
        """
        check_is_fitted(self, "kinds_")
        table = Table(X, self)
        validate_data(self, table.native, reset=False, skip_check_array=True)
        return self._encode(table)

    def fit_transform(self, X: Any, y: Any = None) -> Array:  # noqa: ARG002
        """Fit to a table and encode it, reading it once where that takes no more memory."""
        self._validate_params()
        table = Table(X, self)
        self._learn(table)
        return self._encode(table)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the columns of the result.

        Those of dates have their part appended, such as "sold_days".
        """
        check_is_fitted(self, "kinds_")
        names = _check_feature_names_in(self, input_features)
        numbers, codes = [], []
        for name, kind, parts in zip(names, self.kinds_, self._parts, strict=True):
            if kind == "category":
                codes.append(name)
            else:
                numbers += [f"{name}_{part}" for part in parts] if kind == "date" else []
                numbers += [name] if kind == "number" else []
        return np.array(numbers + codes, dtype=object)

    def output_places(self) -> list[list[int]]:
        """Return which columns of the result each column of X becomes."""
        check_is_fitted(self, "kinds_")
        number, code = 0, self.n_numbers_
        places = []
        for kind, parts in zip(self.kinds_, self._parts, strict=True):
            count = 1 if kind == "number" else len(parts)
            places.append([code] if kind == "category" else [*range(number, number + count)])
            number, code = number + count, code + (kind == "category")
        return places

    def _learn(self, table: Table) -> None:
        validate_data(self, table.native, skip_check_array=True)
        chosen = self._chosen(table)
        self.kinds_: list[str] = []
        self.categories_: list[list[str | None]] = []
        self._parts: list[list[str]] = []
        for i in range(table.n_columns):
            column = table.column(i)
            if column.kind == "number" and i in chosen:
                column = _as_categories(column)
            self.kinds_.append(column.kind)
            self._parts.append(_varying_parts(column) if column.kind == "date" else [])
            if column.kind == "category":
                self.categories_.append(_categories(column, self.max_categories))
        self.cardinalities_ = [1 + len(own) for own in self.categories_]
        self.n_numbers_ = self.kinds_.count("number") + sum(map(len, self._parts))
        self._n_features_out = self.n_numbers_ + len(self.categories_)

    def _chosen(self, table: Table) -> set[int]:
        """Return the places of the columns that are said to be categories."""
        given = self.categorical_features
        if given is None:
            return set()
        several = check_several("categorical_features", given, "several columns")
        if not several:
            return set()
        try:
            columns = np.asarray(several)
        except ValueError:  # lists of different lengths are nothing that follows
            columns = np.empty(0)
        count = table.n_columns
        if columns.dtype.kind == "b" and columns.shape == (count,):
            return set(np.flatnonzero(columns).tolist())
        if columns.dtype.kind in "iu" and ((columns >= -count) & (columns < count)).all():
            return set((columns % count).tolist())
        if columns.dtype.kind in "UO" and table.names is not None:
            missing = [name for name in columns.tolist() if name not in table.names]
            if not missing:
                return {table.names.index(name) for name in columns.tolist()}
            raise ValueError(f"categorical_features: X has no column {missing[0]!r}")
        raise ValueError(
            f"categorical_features must be places of the {count} columns, a mask of them, or names "
            f"of the columns of a frame, not {given!r:.100}"
        )

    def _encode(self, table: Table) -> Array:
        if table.matrix is not None and set(self.kinds_) == {"number"}:
            for i in range(table.n_columns):
                check_no_infinity(table.matrix[:, i], table.name(i))
            encoded = np.empty(table.matrix.shape, self.dtype)
            with np.errstate(over="ignore"):
                encoded[...] = table.matrix
        else:
            encoded = self._encode_columns(table)
        if self.dtype == "float32":
            _check_range(encoded[:, : self.n_numbers_])
        return encoded

    def _encode_columns(self, table: Table) -> Array:
        encoded = np.empty((table.n_rows, self._n_features_out), self.dtype)
        number, code = 0, self.n_numbers_
        for i, (kind, parts) in enumerate(zip(self.kinds_, self._parts, strict=True)):
            if kind == "empty":
                continue
            column = table.column(i)
            if kind == "category":
                own = self.categories_[code - self.n_numbers_]
                encoded[:, code] = _codes(column, table.name(i), own)
                code += 1
            elif kind == "number":
                with np.errstate(over="ignore"):
                    encoded[:, number] = _numbers(column, table.name(i))
                number += 1
            else:
                dates = _dates(column, table.name(i))
                for part in parts:
                    encoded[:, number] = _part(dates, part)
                    number += 1
        return encoded

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_range(numbers: Array) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row, column = np.argwhere(infinite)[0].tolist()
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float32'), in row {row} of "
            f"the {column + 1}. number: take dtype='float64'"
        )


def _as_categories(column: Column) -> Column:
    """Take numbers for categories."""
    if column.kind != "number":
        return column
    found, places = np.unique(column.values, return_inverse=True)
    labels = [label_of(value) for value in found.tolist()]
    codes = places.reshape(-1)
    if column.values.dtype.kind == "f" and np.isnan(found[-1]):
        codes, labels = np.where(np.isnan(column.values), -1, codes), labels[:-1]
    return Column("category", codes, labels)


def _categories(column: Column, most: int | None) -> list[str | None]:
    counts = np.bincount(column.values + 1, minlength=len(column.labels) + 1)
    labels = sorted(column.labels)
    if most is not None and len(labels) > most:
        by_label = dict(zip(column.labels, counts[1:].tolist(), strict=True))
        frequent = sorted(column.labels, key=lambda label: (-by_label[label], label))[:most]
        labels = sorted(frequent)
    return [*labels, None] if counts[0] else [*labels]


def _codes(column: Column, name: str, categories: list[str | None]) -> Array:
    codes = {label: code for code, label in enumerate(categories, 1)}
    missing = codes.get(None, 0)
    if column.kind == "empty":
        return np.full(len(column.values), missing)
    if column.kind == "date":
        raise ValueError(f"X: column {name!r} held categories in fit, and holds dates now")
    column = _as_categories(column)
    # The last place is that of -1.
    table = np.array([*(codes.get(label, 0) for label in column.labels), missing])
    return table[column.values]


def _numbers(column: Column, name: str) -> Array:
    """Return numbers, also those that are written as texts or as categories."""
    if column.kind == "number":
        return column.values
    if column.kind == "empty":
        return np.full(len(column.values), np.nan)
    if column.kind == "category":
        table = np.array([*(_number_of(label, name) for label in column.labels), np.nan])
        check_no_infinity(table, name)
        return table[column.values]
    raise ValueError(f"X: column {name!r} held numbers in fit, and holds dates now")


def _number_of(label: str, name: str) -> float:
    if label in ("True", "False"):
        return float(label == "True")
    try:
        return float(label)
    except ValueError:
        raise ValueError(
            f"X: column {name!r} held numbers in fit, and holds {label!r} now"
        ) from None


def _dates(column: Column, name: str) -> Array:
    if column.kind == "date":
        return column.values
    if column.kind == "empty":
        return np.full(len(column.values), "NaT", "datetime64[us]")
    raise ValueError(
        f"X: column {name!r} held dates in fit, and holds "
        f"{'numbers' if column.kind == 'number' else 'texts'} now"
    )


def _part(dates: Array, part: str) -> Array:
    """Return a part of dates as float64, NaN for NaT."""
    since = dates.astype(np.int64)
    days = since // _DAY
    values: Array
    if part == "days":
        values = since / _DAY
    elif part == "weekday":
        values = (days + 3) % 7  # 1970-01-01 was a Thursday
    elif part == "hour":
        values = (since - days * _DAY) / (_DAY / 24)
    else:
        day = dates.astype("datetime64[D]")
        values = (day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    return np.where(np.isnat(dates), np.nan, values)


def _varying_parts(column: Column) -> list[str]:
    """Return the parts that tell dates apart; the days are always one."""
    dates = column.values[~np.isnat(column.values)]
    parts = {part: _part(dates, part) for part in _PARTS[1:]}
    return ["days", *(name for name, own in parts.items() if (own != own[0]).any())]
