"""What normalizers have in common: a fit takes what is known of the columns, maps are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.arrays import as_array
from dlcore._common.ranks import Ranks
from dlcore._native import dispatch
from dlcore.functional._column_stats import extremes_of, stats_of
from dlcore.preprocessing._column_map import far_exponent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlcore._common.typing import Array


class Map(Protocol):
    """Maps the columns of x for a function of this name, which errors are to say."""

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        """Return the mapped columns; `out` where it is given."""


class Normalizer:
    """Fits column statistics and maps columns; what follows from the statistics is made when asked.

    Attributes
    ----------
    stats_
        What is known of the columns: it has `min` and `max`.
    n_samples_seen_ : int
    """

    n_samples_seen_: int
    _stats: Any  # since the first fit
    _made: tuple[Map, ...] | None = None

    @property
    def stats_(self) -> Any:
        """What is known of the columns."""
        return self._stats

    def _statistics(self, function: str, x: Any) -> Any:
        """Return what is to be known of the columns of `x`, which may be packed."""
        raise NotImplementedError

    def _statistics_of_ranks(self, function: str, x: Any, ranks: Ranks) -> tuple[Any, int]:
        """Return what is to be known of the columns of all ranks, and how many rows they have."""
        raise NotImplementedError

    def _maps(self) -> tuple[Map, ...]:
        """Return the map of transform, and that of inverse_transform where there is one."""
        raise NotImplementedError

    def fit(self, x: Any, *, comm: Any = None) -> Self:
        """Take the statistics of `x`, forgetting earlier ones.

        Parameters
        ----------
        x : ndarray of float32 or float64, shape (rows, columns)
            At least one row. NaN is left out.
        comm : communicator, optional
            Ranks, such as ``mpi4py.MPI.COMM_WORLD``, each of which gives rows of its own, some of them
            maybe none. All take the statistics of the rows of all, to the same bits.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `x` is not a float32 or float64 array.
        ValueError
            If `x` has not two dimensions, no rows, or an infinity: the message has its column and
            row. If another rank has other columns.
        RuntimeError
            If there is an error on another rank.
        """
        name = self._names["fit"]
        if comm is None:
            return self._take(self._statistics(name, x), len(x))
        return self._take(*self._statistics_of_ranks(name, x, Ranks(comm)))

    def _take(self, stats: Any, rows: int) -> Self:
        self._stats = stats
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

    def _apply(self, method: str, which: int, x: Any, out: Array | None) -> Array:
        if self._made is None:
            if not hasattr(self, "_stats"):
                raise ValueError(f"{self._names[method]}: nothing fitted yet; call fit first")
            self._made = self._maps()
        mapped: Array = self._made[which](self._names[method], x, out)
        return mapped

    # What each method is called in messages.
    _names: ClassVar[dict[str, str]]

    def __init_subclass__(cls) -> None:
        methods = ("fit", "partial_fit", "merge", "transform", "inverse_transform")
        cls._names = {method: f"{cls.__name__}.{method}" for method in methods}


class InvertibleNormalizer(Normalizer):
    """A normalizer whose map has an inverse."""

    def inverse_transform(self, x: Any, *, out: Array | None = None) -> Array:
        """Map normalized columns back. Parameters, result and errors are those of `transform`."""
        return self._apply("inverse_transform", 1, x, out)


class ColumnwiseNormalizer(Normalizer):
    """A normalizer that needs all values of a column at once: parts do not tell their quantiles.

    Where the rows are those of several ranks, each is sent the columns, one after the other.
    """

    def _of_columns(self, rows: int, columns: Iterator[Array]) -> Any:
        """Return what is to be known of columns, of which there are so many rows."""
        raise NotImplementedError

    def _statistics(self, function: str, x: Any) -> Any:
        return self._of_columns(*columns_of(function, x))

    def _statistics_of_ranks(self, function: str, x: Any, ranks: Ranks) -> tuple[Any, int]:
        rows, columns = columns_of(function, x, ranks)
        return self._of_columns(rows, columns), rows


def columns_of(function: str, x: Any, ranks: Ranks | None = None) -> tuple[int, Iterator[Array]]:
    """Return the number of rows, and each column as float64, less what is NaN, those of all ranks.

    Errors are those of `Normalizer.fit`.
    """
    if ranks is None:
        extremes_of(function, x)
        rows = len(x)
    else:
        _, rows = known_of_ranks(function, x, ranks, extremes_of)
    return rows, (less_nan(column) for column in whole_columns(function, x, ranks))


def whole_columns(function: str, x: Any, ranks: Ranks | None) -> Iterator[Array]:
    """Give each column as float64, of the rows of all ranks."""
    for column in as_array(x, f"{function}: x").T:
        own = column.astype(np.float64)
        yield own if ranks is None else ranks.stacked(own)


def less_nan(values: Array) -> Array:
    """Return the values that are not NaN."""
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def known_of_ranks(
    function: str, x: Any, ranks: Ranks, known: Callable[[str, Any], Any]
) -> tuple[Any, int]:
    """Return what is known of the rows of this rank, None of no rows, and how many all ranks have.

    An error of one rank is one of all.
    """
    own = None
    with raised_on_all(ranks):
        array = as_array(x, f"{function}: x")
        if array.shape[:1] == (0,):
            stats_of(function, x)  # which checks it
        else:
            own = known(function, x)
    ranks.check_same(f"{function}: the number of columns of x", array.shape[1])
    rows = sum(ranks.of_each(len(array)))
    if not rows:
        raise ValueError(
            f"{function}: x must have at least one row on some rank, got the shape {array.shape}"
        )
    return own, rows


def quantiles_of(values: Array, levels: Array) -> Array:
    """Return the quantiles of finite values, interpolated linearly; 0 where there are no values.

    They are made where neither a difference of values nor one of quantiles over- or underflows.
    """
    if not len(values):
        return np.zeros(len(levels))
    far = far_exponent(size_of(values.min(), values.max()))
    if far is None:
        found: Array = np.quantile(values, levels)
    else:
        found = np.ldexp(np.quantile(np.ldexp(values, -far), levels), far)
    return found


def size_of(least: Array, largest: Array) -> Array:
    """Return the exponent of the size of columns of these extremes."""
    size: Array = np.frexp(np.maximum(np.abs(least), np.abs(largest)))[1]
    return size


def copied(function: str, x: Any, columns: int, out: Any = None) -> Array:
    """Return the rows of x in `out`, or in a new array: the checks and errors are those of kernels."""
    table = np.repeat([[0.0], [1.0], [0.0]], columns, axis=1)
    rows = dispatch.core.affine_columns(function, x, table, -np.inf, np.inf, out, False)
    return as_array(rows, function)
