"""The piecewise-linear encoding of numbers: the bins that they have passed, and how far in theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from dlcore._common.checks import check_flag, check_int
from dlcore._common.optional import require
from dlcore._common.ranks import Ranks
from dlcore.functional._column_stats import extremes_of
from dlcore.preprocessing._column_map import far_exponent
from dlcore.preprocessing._normalizer import (
    Map,
    Normalizer,
    copied,
    known_of_ranks,
    less_nan,
    quantiles_of,
    size_of,
    whole_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array

__all__ = ["PiecewiseLinearEncoding", "compute_bins"]

# Rows that are encoded at once: their shares stay in the caches until they are where they belong.
_ROWS = 256


class Bins(NamedTuple):
    """Edges of the bins of the columns of a 2-D array, one column after the other, and their numbers."""

    edges: Array
    counts: Array

    @classmethod
    def of(cls, bins: list[Array]) -> Bins:
        """Return the bins of columns."""
        return cls(
            np.concatenate([np.empty(0), *bins]), np.array([len(own) for own in bins], np.int64)
        )

    def columns(self) -> list[Array]:
        """Return the edges of each column."""
        return np.split(self.edges, np.cumsum(self.counts)[:-1]) if len(self.counts) else []


def compute_bins(
    x: Any,
    n_bins: int = 48,
    *,
    tree_kwargs: Mapping[str, Any] | None = None,
    y: Any = None,
    regression: bool | None = None,
) -> list[Array]:
    """Return the edges of bins for the piecewise-linear encoding of each column.

    The bins have the same number of rows each, less what is equal; or they are the leaves of a decision
    tree that is fitted to the targets on this column alone.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, columns)
        Numbers to train on. NaN is left out.
    n_bins : int, default 48
        The most bins of a column, at least 2.
    tree_kwargs : dict, optional
        What scikit-learn's DecisionTreeRegressor or DecisionTreeClassifier is given, such as
        ``{"min_samples_leaf": 64, "min_impurity_decrease": 1e-4}``; ``{}`` for its defaults. None takes
        quantiles.
    y : ndarray of shape (rows,)
        The targets, for trees.
    regression : bool
        Whether the targets are numbers or classes, for trees.

    Returns
    -------
    list of ndarray of float64
        Increasing edges of each column, from its minimum to its maximum: at most n_bins + 1. A constant
        column has this one edge, one of NaN alone 0.

    Raises
    ------
    ImportError
        If scikit-learn is not installed, for trees.
    TypeError, ValueError
        If x is not as described (no rows, infinities), or the options do not go together.

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022, section 3.2; the names are those of the package rtdl_num_embeddings.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.array([[0.0, 3.0], [1.0, 3.0], [2.0, 3.0], [30.0, 3.0], [40.0, 3.0]])
    >>> [own.tolist() for own in dl.compute_bins(x, 2)]
    [[0.0, 2.0, 40.0], [3.0]]
    >>> target = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    >>> [own.tolist() for own in dl.compute_bins(x, 2, tree_kwargs={}, y=target, regression=True)]
    [[0.0, 16.0, 40.0], [3.0]]
    """
    return _bins("compute_bins", x, n_bins, tree_kwargs, y, regression)[0]


def _bins(
    function: str,
    x: Any,
    n_bins: int,
    tree_kwargs: Mapping[str, Any] | None,
    y: Any,
    regression: bool | None,
    ranks: Ranks | None = None,
) -> tuple[list[Array], int]:
    """Return `compute_bins` of the rows, or of those of all ranks, and their number."""
    n_bins = check_int(f"{function}: n_bins", n_bins, 2)

    def target_of(function: str, x: Any) -> Array | None:
        return _checked_target(function, x, tree_kwargs, y, regression)

    if ranks is None:
        target, rows = target_of(function, x), len(x)
    else:
        target, rows = known_of_ranks(function, x, ranks, target_of)
    columns = whole_columns(function, x, ranks)
    if tree_kwargs is None:
        levels = np.linspace(0, 1, n_bins + 1)
        return [np.unique(quantiles_of(less_nan(column), levels)) for column in columns], rows
    if ranks is not None:
        target = np.concatenate([own for own in ranks.of_each(target) if own is not None])
    tree = require("sklearn.tree", function, "bins by trees")
    kind = tree.DecisionTreeRegressor if regression else tree.DecisionTreeClassifier
    own = {"random_state": 0} | dict(tree_kwargs) | {"max_leaf_nodes": n_bins}
    return [_leaves(kind(**own), column, target) for column in columns], rows


def _checked_target(
    function: str, x: Any, tree_kwargs: Mapping[str, Any] | None, y: Any, regression: bool | None
) -> Array | None:
    """Check x, and return the target for trees, None for quantiles."""
    if tree_kwargs is None:
        if y is not None or regression is not None:
            raise ValueError(f"{function}: y and regression are for trees: tree_kwargs is None")
        extremes_of(function, x)
        return None
    if y is None or regression is None:
        raise ValueError(f"{function}: with tree_kwargs, y and regression must be given")
    check_flag(f"{function}: regression", regression)
    if "max_leaf_nodes" in tree_kwargs:
        raise ValueError(f"{function}: tree_kwargs must not hold 'max_leaf_nodes': it is n_bins")
    extremes_of(function, x)
    target = np.asarray(y)
    if target.shape != (len(x),):
        raise ValueError(f"{function}: y must have shape ({len(x)},), got {target.shape}")
    return target


def _leaves(tree: Any, values: Array, target: Any) -> Array:
    known = ~np.isnan(values)
    values = values[known]
    if not len(values):
        return np.zeros(1)
    least, largest = values.min(), values.max()
    if least == largest:
        return np.array([least])
    nodes = tree.fit(values[:, np.newaxis], target[known]).tree_
    thresholds = nodes.threshold[nodes.children_left != nodes.children_right]
    inside = thresholds[(least < thresholds) & (thresholds < largest)]
    edges: Array = np.unique([least, *inside, largest])
    return edges


class PiecewiseLinearEncoding(Normalizer):
    """Encodes each column by its bins: 1 for those passed, 0 for those to come, in between the share.

    Of a column with edges ``b[0] < ... < b[t]`` the encoding has t columns ``(x - b[i]) / (b[i + 1] -
    b[i])``, kept between 0 and 1; the first one goes on below, and the last one above, the range of the
    edges. A network takes from it any piecewise-linear function of the column by its first layer.

    Parameters
    ----------
    n_bins : int, default 48
        The most bins of a column, at least 2.
    tree_kwargs : dict, optional
        Take the leaves of decision trees on the target for bins, with these options of scikit-learn's;
        None takes quantiles.
    regression : bool, optional
        Whether the target is a number or a class, for trees.

    Attributes
    ----------
    bins_ : list of ndarray of float64
        Edges of each column, by `compute_bins`.
    n_features_out_ : int
        Columns of the encoding. A constant column has none.
    n_samples_seen_ : int

    Raises
    ------
    ValueError
        If an option is not as described.

    Notes
    -----
    `transform` gives NaN in all columns of a NaN. There is no ``inverse_transform``, and no
    ``partial_fit``: quantiles of parts do not give those of all rows. A `fit` of the rows of several ranks
    gathers them, one column at a time, which must fit the memory of each, and has the bits of one of all
    rows, in the order of the ranks.

    References
    ----------
    Gorishniy, Rubachev, Babenko: On embeddings for numerical features in tabular deep learning, NeurIPS
    2022, section 3.2.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.array([[0.0], [1.0], [2.0], [30.0], [40.0]])
    >>> dl.PiecewiseLinearEncoding(2).fit(x).transform(np.array([[1.0], [21.0], [59.0]]))
    array([[0.5, 0. ],
           [1. , 0.5],
           [1. , 1.5]])
    """

    _stats: Bins

    def __init__(
        self,
        n_bins: int = 48,
        *,
        tree_kwargs: Mapping[str, Any] | None = None,
        regression: bool | None = None,
    ) -> None:
        name = "PiecewiseLinearEncoding"
        self.n_bins = check_int(f"{name}: n_bins", n_bins, 2)
        if (tree_kwargs is None) != (regression is None):
            raise ValueError(
                f"{name}: tree_kwargs and regression are for trees on the target, and go together"
            )
        self.tree_kwargs = None if tree_kwargs is None else dict(tree_kwargs)
        self.regression = (
            None if regression is None else check_flag(f"{name}: regression", regression)
        )

    def fit(self, x: Any, y: Any = None, *, comm: Any = None) -> Self:
        """Find the bins of `x`, forgetting earlier ones.

        Parameters
        ----------
        x : ndarray of float32 or float64, shape (rows, columns)
            At least one row. NaN is left out.
        y : ndarray of shape (rows,), optional
            The target, for trees.
        comm : communicator, optional
            Ranks, such as ``mpi4py.MPI.COMM_WORLD``, each of which gives rows of its own, some of them
            maybe none. All find the bins of the rows of all, to the same bits.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If scikit-learn is not installed, for trees.
        TypeError
            If `x` is not a float32 or float64 array.
        ValueError
            If `x` has not two dimensions, no rows, or an infinity, or `y` does not go with it. If
            another rank has other columns.
        RuntimeError
            If there is an error on another rank.
        """
        ranks = None if comm is None else Ranks(comm)
        found, rows = _bins(
            self._names["fit"], x, self.n_bins, self.tree_kwargs, y, self.regression, ranks
        )
        return self._take(Bins.of(found), rows)

    @property
    def bins_(self) -> list[Array]:
        """Edges of the bins of each column."""
        return self._stats.columns()

    @property
    def n_features_out_(self) -> int:
        """Columns of the encoding."""
        return int((self._stats.counts - 1).sum())

    def transform(self, x: Any, *, out: Array | None = None) -> Array:
        """Encode the columns of `x`.

        Parameters
        ----------
        x : ndarray of float32 or float64, shape (rows, columns)
            NaN gives NaN in all columns of its encoding.
        out : ndarray, optional
            Where the result goes, of its shape and the dtype of `x`.

        Returns
        -------
        ndarray
            Of shape (rows, ``n_features_out_``) and the dtype of `x`; `out` where it was given. Computed in
            float64 and rounded once.

        Raises
        ------
        TypeError
            If `x` or `out` has a wrong dtype.
        ValueError
            If nothing was fitted, the number of columns differs, or `out` does not fit.
        """
        return self._apply("transform", 0, x, out)

    def _maps(self) -> tuple[Map, ...]:
        return (_Encode(self._stats.columns()),)


class _Encode(NamedTuple):
    """Columns to their encodings."""

    bins: list[Array]

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        rows = copied(function, x, len(self.bins))
        ends = np.cumsum([0, *(len(own) - 1 for own in self.bins)])
        encoding = np.empty((len(rows), ends[-1]), rows.dtype)
        for first in range(0, len(rows), _ROWS):
            block, to = rows[first : first + _ROWS], encoding[first : first + _ROWS]
            for j, edges in enumerate(self.bins):
                to[:, ends[j] : ends[j + 1]] = _encoded(block[:, j], edges).T
        if out is not None:
            copied(function, encoding, ends[-1], out)
        return encoding if out is None else out


def _encoded(column: Array, edges: Array) -> Array:
    """Return how far a column is in each bin; a row a bin, since the loops of NumPy are long then."""
    values = column.astype(np.float64)
    far = far_exponent(size_of(edges[0], edges[-1]))
    if far is not None:
        values, edges = np.ldexp(values, -far), np.ldexp(edges, -far)
    lower, width = edges[:-1, np.newaxis], np.diff(edges)[:, np.newaxis]
    with np.errstate(over="ignore"):
        shares: Array = (values - lower) / width
    if len(shares) > 1:
        np.minimum(shares[:-1], 1, out=shares[:-1])
        np.maximum(shares[1:], 0, out=shares[1:])
    return shares
