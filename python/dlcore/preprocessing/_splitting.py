"""Rows for training, for validation and for the test, drawn by scikit-learn's splitters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.arrays import as_array
from dlcore._common.checks import check_int
from dlcore._common.optional import require
from dlcore._common.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["Split", "train_val_test_split"]

# Draws of groups for each of up to 9 numbers of groups about the expected one.
_DRAWS = 20
# How near folds must come to the shares of the rows.
_TOLERANCE = 0.02


class Split(NamedTuple):
    """The three parts of a data set, in the order of `sklearn.model_selection.train_test_split`."""

    x_train: Array
    x_val: Array
    x_test: Array
    y_train: Array
    y_val: Array
    y_test: Array


def train_val_test_split(
    x: Any,
    y: Any,
    sizes: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    stratify: Any = None,
    groups: Any = None,
    seed: int = 0,
    comm: Any = None,
) -> Split:
    """Split rows at random into those to train on, to validate on and to test with.

    Parameters
    ----------
    x, y : ndarray of shape (N, ...), data frame, series or sparse matrix
        Rows and what they should give; of any dtype. The parts of a data frame or a series, which
        may hold text, are such again.
    sizes : (train, validation, test)
        Shares of the rows, which add up to 1; or numbers of rows, which add up to N. The latter two
        may be 0, for empty parts.
    stratify : True or ndarray of shape (N,), optional
        Classes, True for y: each part has them in the same shares as the whole, to within a row.
    groups : ndarray of shape (N,), optional
        Which rows belong together, such as those of one patient: no group comes into two parts. The
        sizes are then met as nearly as the groups allow.
    seed : int
        The same seed gives the same parts.
    comm : communicator, optional
        Ranks, such as ``mpi4py.MPI.COMM_WORLD``, each of which gives rows of its own, maybe none. The
        rows of all are split, and each gets those of its rows that are in the parts: sizes, classes
        and groups are those of all ranks together.

    Returns
    -------
    Split
        Named tuple ``(x_train, x_val, x_test, y_train, y_val, y_test)`` of copies; every row is in
        exactly one part, a row of a frame with its index.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError
        If x, y, stratify or groups cannot be read without a copy.
    ValueError
        If the lengths differ, the sizes are not as described, or there are too few rows of a class
        or too few groups. If ranks have other sizes or another seed.
    RuntimeError
        If there is an error on another rank.

    Notes
    -----
    Together the parts of the ranks are those that one process gets of all rows, in the order of the
    ranks. Each rank is sent the classes and groups of all, and draws a number for each row.

    By `train_test_split`, twice, for shares of the rows; by `GroupShuffleSplit` for groups, of up
    to 180 draws the one that comes nearest to the sizes; by `StratifiedGroupKFold` for both, as few
    folds as can be given to the parts within 0.02 of the shares.

    References
    ----------
    Ripley: Pattern recognition and neural networks, 1996, p. 354 (the three sets).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2
    >>> parts = dl.train_val_test_split(x, y, (0.6, 0.2, 0.2), stratify=True)
    >>> [len(part) for part in parts], parts.y_val.tolist()
    ([6, 2, 2, 6, 2, 2], [1, 0])
    """
    require("sklearn.model_selection", "train_val_test_split()")
    if comm is None:
        x, y, classes, groups = _checked(x, y, stratify, groups)
        parts = _parts(_length(x), sizes, classes, groups, seed)
    else:
        ranks = Ranks(comm)
        with raised_on_all(ranks):
            x, y, classes, groups = _checked(x, y, stratify, groups)
        parts = _parts_of_rank(ranks, _length(x), sizes, classes, groups, seed)
    return Split(*(_taken(x, part) for part in parts), *(_taken(y, part) for part in parts))


def _checked(
    x: Any, y: Any, stratify: Any, groups: Any
) -> tuple[Any, Any, Array | None, Array | None]:
    """Return the rows, their classes and their groups."""
    x, y = _rows(x, "x"), _rows(y, "y")
    n = _length(x)
    if _length(y) != n:
        raise ValueError(f"train_val_test_split: x has {n} rows, y {_length(y)}")
    classes = None
    if stratify is True:
        classes = _column(y, "y, with stratify=True,", n)
    elif stratify is not None:
        classes = _column(stratify, "stratify", n)
    return x, y, classes, None if groups is None else _column(groups, "groups", n)


def _parts_of_rank(
    ranks: Ranks,
    n: int,
    sizes: Sequence[float],
    classes: Array | None,
    groups: Array | None,
    seed: int,
) -> list[Array]:
    """Draw the parts of the rows of all ranks; return which of the own rows are in them."""
    settings = tuple(sizes), seed, classes is not None, groups is not None
    ranks.check_same(
        "train_val_test_split: (sizes, seed, whether there is stratify, and groups)", settings
    )
    of_each = ranks.of_each((n, classes, groups))
    counts, *columns = zip(*of_each, strict=True)
    classes, groups = (
        None if own is None else np.concatenate(column)
        for own, column in zip((classes, groups), columns, strict=True)
    )
    start = sum(counts[: ranks.rank])
    parts = _parts(sum(counts), sizes, classes, groups, seed)
    return [part[(part >= start) & (part < start + n)] - start for part in parts]


def _parts(
    n: int, sizes: Sequence[float], classes: Array | None, groups: Array | None, seed: int
) -> list[Array]:
    """Draw which of n rows are in the three parts."""
    counts = _counts(sizes, n)
    seed = check_int("train_val_test_split: seed", seed, least=0)
    if counts[0] == n:
        return [np.random.default_rng(seed).permutation(n), *np.empty((2, 0), np.int64)]
    if groups is None:
        return _of_rows(counts, classes, seed)
    if classes is None:
        return _of_groups(counts, groups, seed)
    return _of_folds(counts, classes, groups, seed)


def _rows(array: Any, name: str) -> Any:
    """Return an array, or a frame, a series or a sparse matrix as it is."""
    if hasattr(array, "iloc") or hasattr(array, "to_pandas"):  # of pandas; of polars and pyarrow
        return array
    if hasattr(array, "tocsr"):
        return array.tocsr()
    rows = as_array(array, f"train_val_test_split: {name}")
    if rows.ndim == 0:
        raise ValueError(f"train_val_test_split: {name} must have rows, not be a single number")
    return rows


def _taken(rows: Any, part: Array) -> Any:
    """Return some of the rows."""
    if hasattr(rows, "iloc"):
        return rows.iloc[part]
    # Those of pyarrow take rows by no other way, those of polars by no such one.
    return rows.take(part) if hasattr(rows, "to_pandas") and hasattr(rows, "take") else rows[part]


def _length(rows: Any) -> int:
    return int(rows.shape[0]) if hasattr(rows, "shape") else len(rows)


def _column(array: Any, name: str, n: int) -> Array:
    rows = _rows(array, name)
    column: Array = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.shape != (n,):
        raise ValueError(
            f"train_val_test_split: {name} must have shape ({n},), a value a row of x, "
            f"not {column.shape}"
        )
    return column


def _counts(sizes: Any, n: int) -> list[int]:
    """Return the numbers of rows of the three parts."""
    given: list[Any] = list(sizes) if np.iterable(sizes) else []
    number = int, float, np.integer, np.floating
    if len(given) != 3 or not all(isinstance(size, number) and size >= 0 for size in given):
        raise ValueError(
            f"train_val_test_split: sizes must be three numbers of at least 0, not {sizes}"
        )
    if all(isinstance(size, int | np.integer) for size in given):
        if sum(given) != n:
            raise ValueError(
                f"train_val_test_split: sizes {sizes} add up to {sum(given)} rows, x has {n}"
            )
        counts = [int(size) for size in given]
    else:
        if not abs(sum(given) - 1) <= 1e-6:
            raise ValueError(
                f"train_val_test_split: sizes must add up to 1, or be numbers of rows, not {sizes}"
            )
        held = [max(1, round(size * n)) if size else 0 for size in given[1:]]
        counts = [n - sum(held), *held]
    if counts[0] < 1:
        raise ValueError(f"train_val_test_split: sizes {sizes} leave none of {n} rows to train on")
    return counts


def _of_rows(counts: list[int], classes: Array | None, seed: int) -> list[Array]:
    """Draw rows: first those of the test, then those of the validation."""
    from sklearn.model_selection import train_test_split

    rest, parts = np.arange(sum(counts)), []
    for draw, count in enumerate((counts[2], counts[1])):
        drawn = rest[:0]
        if count:
            try:
                rest, drawn = train_test_split(
                    rest,
                    test_size=count,
                    random_state=_state(seed, draw),
                    stratify=None if classes is None else classes[rest],
                )
            except ValueError as error:
                raise ValueError(
                    f"train_val_test_split: {counts} rows cannot be stratified: {error}"
                ) from error
        parts.append(drawn)
    return [rest, parts[1], parts[0]]


def _of_groups(counts: list[int], groups: Array, seed: int) -> list[Array]:
    """Draw groups: of many draws the one that comes nearest to the numbers of rows."""
    from sklearn.model_selection import GroupShuffleSplit

    names, of_row, rows = np.unique(groups, return_inverse=True, return_counts=True)
    _check_groups(len(names), sum(count > 0 for count in counts), counts)
    rest, part_of = np.arange(len(names)), np.zeros(len(names), np.int64)
    for part, count in ((2, counts[2]), (1, counts[1])):
        if not count:
            continue
        most = len(rest) - (2 if part == 2 and counts[1] else 1)
        expected = len(rest) * count / rows[rest].sum()
        best = np.inf
        tried = np.linspace(0.6 * expected, 1.6 * expected, 9).round().astype(int)
        for size in np.unique(tried.clip(1, most)).tolist():
            splitter = GroupShuffleSplit(_DRAWS, test_size=size, random_state=_state(seed, part))
            for _, draw in splitter.split(rest, groups=rest):
                distance = abs(rows[rest[draw]].sum() - count)
                if distance < best:
                    best, drawn = distance, draw
        part_of[rest[drawn]] = part
        rest = np.delete(rest, drawn)
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.flatnonzero(part_of[of_row] == part)) for part in range(3)]


def _of_folds(counts: list[int], classes: Array, groups: Array, seed: int) -> list[Array]:
    """Give stratified folds of groups to the parts."""
    from sklearn.model_selection import StratifiedGroupKFold

    shares = np.array(counts) / sum(counts)
    folds, folds_of = _folds(shares)
    _check_groups(len(np.unique(groups)), folds, counts)
    labels, rows = np.unique(classes, return_counts=True)
    if rows.min() < folds:
        raise ValueError(
            f"train_val_test_split: stratify with groups makes {folds} folds for these sizes, but "
            f"class {labels[rows.argmin()]} has only {rows.min()} rows"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=_state(seed, 0))
    try:
        own = [part for _, part in splitter.split(classes, classes, groups)]
    except ValueError as error:
        raise ValueError(f"train_val_test_split: stratify: {error}") from error
    ends = np.cumsum(folds_of[::-1])
    test, val, train = np.split(np.arange(folds), ends[:2])
    none = np.empty(0, np.int64)
    return [np.concatenate([none, *(own[fold] for fold in part)]) for part in (train, val, test)]


def _folds(shares: Array) -> tuple[int, Array]:
    """Return the fewest folds that can be given nearly in these shares, and how many to each."""
    for folds in range(int(np.count_nonzero(shares)), 101):
        folds_of = np.where(shares > 0, np.maximum(1, np.round(shares * folds)), 0).astype(int)
        folds_of[0] = folds - folds_of[1:].sum()
        if folds_of[0] > 0 and abs(folds_of / folds - shares).max() <= _TOLERANCE:
            return folds, folds_of
    raise AssertionError("100 folds come nearer than 0.02 to any shares")


def _check_groups(there: int, needed: int, counts: list[int]) -> None:
    if there < needed:
        raise ValueError(
            f"train_val_test_split: parts of about {counts} rows need at least {needed} groups, "
            f"there are {there}"
        )


def _state(seed: int, draw: int) -> int:
    """Draw what scikit-learn takes for a seed."""
    return int(np.random.SeedSequence((seed, draw)).generate_state(1)[0])
