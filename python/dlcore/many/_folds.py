"""Folds of rows: what each member learns from, and what it is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, is_array_like
from dlcore._common.checks import check_int, check_several, generator_of
from dlcore.many._fit_many import as_indices

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def folds_of(folds: Any, n: int, groups: Any, seed: int, y: Any) -> list[tuple[Array, Array]]:
    """Return the rows to train on and to test with of each fold.

    ``folds`` is a number, an object with scikit-learn's ``split``, or pairs of indices or masks.
    With a number the rows are drawn into folds of equal sizes, to within a row, and those of each
    class of y as well, if it holds class indices.
    """
    classes = as_array(y, "y") if is_array_like(y) else None
    if classes is not None and (classes.dtype.kind not in "iu" or classes.shape != (n,)):
        classes = None
    if isinstance(folds, int | np.integer):
        if groups is not None:
            raise ValueError("groups need a splitter, such as scikit-learn's GroupKFold(5)")
        count = check_int("folds", folds, 2)
        if count > n:
            raise ValueError(f"folds is {count}, but x has {n} rows")
        return _drawn(count, n, classes, seed)
    if hasattr(folds, "split") and not isinstance(folds, str | bytes | bytearray):
        pairs = list(folds.split(np.empty((n, 1)), y if classes is None else classes, groups))
    else:
        if groups is not None:
            raise ValueError("groups are for a splitter, but folds are indices")
        kinds = "a number, a splitter such as scikit-learn's KFold(5), or pairs of indices or masks"
        pairs = check_several("folds", folds, kinds)
    if not pairs:
        raise ValueError("there is no fold")
    checked = []
    for i, pair in enumerate(pairs):
        train, test = _both(f"folds[{i}]", pair)
        own = as_indices(f"folds[{i}][0]", train, n), as_indices(f"folds[{i}][1]", test, n)
        common = np.intersect1d(*own)
        if common.size:
            raise ValueError(
                f"folds[{i}] would be tested with row {common[0]}, which it is trained on"
            )
        checked.append(own)
    tested, counts = np.unique(np.concatenate([test for _, test in checked]), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"row {tested[counts.argmax()]} is among the rows to test with of {counts.max()} folds; "
            f"a prediction out of fold needs one"
        )
    return checked


def _both(name: str, pair: Any) -> list[Any]:
    what = "the indices or masks of rows to train on and to test"
    both = check_several(name, pair, what)
    if len(both) != 2:
        raise ValueError(f"{name} must be {what}, not {len(both)} values")
    return both


def _drawn(count: int, n: int, classes: Array | None, seed: int) -> list[tuple[Array, Array]]:
    order = generator_of("cross_validate: seed", seed).permutation(n)
    if classes is not None:  # dealt out one after the other, class by class
        order = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % count
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(count)]
