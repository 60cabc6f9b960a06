"""Rows of x as a fit reads them: an array, or a sparse matrix of which some rows are dense at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_matrix, check_matrix_shape

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# Values of a sparse matrix that are dense at once: 32 MiB of float32.
_DENSE_VALUES = 2**23


def is_sparse(x: object) -> bool:
    """Whether x is a matrix or an array of scipy.sparse, which nobody imports for this."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(x))


def as_rows(
    x: Any, name: str, dtype: np.dtype[Any], features: int | None, *, any_dtype: bool = False
) -> Any:
    """Make sure that x has shape (N, features) and the model's dtype.

    Parameters
    ----------
    x : array or sparse matrix
        As `dlcore._common.arrays.as_array` reads it, or any of scipy.sparse, which is read in
        compressed rows.
    name : str
        What to call it in messages.
    dtype : dtype
    features : int or None
        None for any number.
    any_dtype : bool
        Whether numbers of any dtype will do, since something makes the model's of them.
    """
    if is_sparse(x):
        return _compressed(x, name, dtype, features)
    if not any_dtype:
        return as_matrix(x, name, dtype, features)
    array = as_array(x, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, not {array.dtype}")
    check_matrix_shape(array.shape, name, features)
    return array


def dense(x: Any) -> Array:
    """Return rows as an array."""
    array: Array = x.toarray() if is_sparse(x) else x
    return array


def rows_at_once(x: Any, most: int) -> int:
    """Return how many rows to go through at once: at most so many, fewer of a wide sparse matrix."""
    return max(1, min(most, _DENSE_VALUES // max(1, x.shape[1]))) if is_sparse(x) else most


def _compressed(x: Any, name: str, dtype: np.dtype[Any], features: int | None) -> Any:
    if x.dtype != dtype:
        raise TypeError(
            f"{name} is {x.dtype}, the model {dtype}: pass {name}.astype(np.{dtype}), "
            f"or make the model with Sequential(..., dtype=...)"
        )
    check_matrix_shape(x.shape, name, features)
    rows = x.tocsr()
    # Native steps read these as they are: indices beyond the columns would be beyond the memory.
    rows.check_format(full_check=True)
    parts = [np.ascontiguousarray(part) for part in (rows.data, rows.indices, rows.indptr)]
    if any(
        given is not part
        for given, part in zip((rows.data, rows.indices, rows.indptr), parts, strict=True)
    ):
        rows = type(rows)(tuple(parts), shape=rows.shape)
    return rows
