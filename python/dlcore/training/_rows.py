"""Rows of x as a fit reads them: an array, or a sparse matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore._common.arrays import as_array, as_matrix, check_matrix_shape
from dlcore._native.compressed_rows import CompressedRows, as_compressed_rows, is_sparse

if TYPE_CHECKING:
    import numpy as np

    from dlcore._common.typing import Array

# Values of a sparse matrix that are dense at once: 32 MiB of float32.
_DENSE_VALUES = 2**23


def as_rows(
    x: Any, name: str, dtype: np.dtype[Any], features: int | None, *, any_dtype: bool = False
) -> Any:
    """Make sure that x has shape (N, features) and the model's dtype.

    Parameters
    ----------
    x : array or sparse matrix
        As `dlcore._common.arrays.as_array` reads it, or what becomes `CompressedRows`.
    name : str
        What to call it in messages.
    dtype : dtype
    features : int or None
        None for any number.
    any_dtype : bool
        Whether numbers of any dtype will do, since something makes the model's of them.
    """
    if is_sparse(x):
        return as_compressed_rows(x, name, dtype, features)
    if not any_dtype:
        return as_matrix(x, name, dtype, features)
    array = as_array(x, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, not {array.dtype}")
    check_matrix_shape(array.shape, name, features)
    return array


def dense(x: Any) -> Array:
    """Return rows as an array."""
    return x.toarray() if isinstance(x, CompressedRows) else x


def rows_at_once(x: Any, most: int) -> int:
    """Return how many rows to make dense at once: at most so many, fewer of a wide sparse matrix."""
    if not isinstance(x, CompressedRows):
        return most
    return max(1, min(most, _DENSE_VALUES // max(1, x.shape[1])))
