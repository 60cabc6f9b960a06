"""Rows of a sparse matrix, as native networks read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import check_rows
from dlcore._native import dispatch
from dlcore._native.specs import CompressedRowsSpec

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["CompressedRows", "as_compressed_rows", "is_sparse"]


def is_sparse(x: object) -> bool:
    """Whether x is a sparse matrix: one in compressed rows, or one that becomes such.

    That are those of scipy.sparse, which nobody imports for this, and whatever has their attributes.
    """
    if isinstance(x, np.ndarray):
        return False
    return hasattr(x, "tocsr") or (
        getattr(x, "format", None) == "csr"
        and all(hasattr(x, name) for name in ("data", "indices", "indptr", "shape"))
    )


class CompressedRows:
    """A sparse matrix in compressed rows: each has ascending columns, and none of them twice.

    Parameters
    ----------
    data, indices, indptr : ndarray
        Row i is ``data[indptr[i] : indptr[i + 1]]`` in the columns ``indices[...]``. Taken as they
        are; `as_compressed_rows` checks.
    shape : tuple of int
    """

    format = "csr"
    ndim = 2

    def __init__(self, data: Array, indices: Array, indptr: Array, shape: tuple[int, int]) -> None:
        self.data, self.indices, self.indptr, self.shape = data, indices, indptr, shape

    @classmethod
    def of(cls, array: Array) -> CompressedRows:
        """Return the elements of an array that are not 0."""
        rows, columns = np.nonzero(array)
        indptr = np.zeros(len(array) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(array)), out=indptr[1:])
        return cls(array[rows, columns], columns.astype(np.int64), indptr, array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements."""
        dtype: np.dtype[Any] = self.data.dtype
        return dtype

    @property
    def spec(self) -> CompressedRowsSpec:
        """What crosses to the native network."""
        return CompressedRowsSpec(self.data, self.indices, self.indptr, self.shape[1])

    def __getitem__(self, rows: slice | Array) -> CompressedRows:
        """Return some rows; those of a slice share the memory of all."""
        count, width = self.shape
        if isinstance(rows, slice) and rows.indices(count)[2] == 1:
            start, stop, _ = rows.indices(count)
            stop = max(start, stop)
            return CompressedRows(
                self.data, self.indices, self.indptr[start : stop + 1], (stop - start, width)
            )
        index = np.arange(count)[rows]
        starts = self.indptr[index]
        sizes = self.indptr[index + 1] - starts
        indptr = np.zeros(len(index) + 1, self.indptr.dtype)
        np.cumsum(sizes, out=indptr[1:])
        places = np.repeat(starts - indptr[:-1], sizes) + np.arange(indptr[-1])
        return CompressedRows(self.data[places], self.indices[places], indptr, (len(index), width))

    def toarray(self) -> Array:
        """Return all of it as an array."""
        array = np.zeros(self.shape, self.dtype)
        some = slice(self.indptr[0], self.indptr[-1])
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))
        array[rows, self.indices[some]] = self.data[some]
        return array


def as_compressed_rows(
    x: Any, name: str, dtype: np.dtype[Any], features: int | None
) -> CompressedRows:
    """Make sure that a sparse x has shape (N, features) and the model's dtype, and can be read.

    Elements of the same place are added up, as scipy does; x stays as it is. Raises TypeError for
    another dtype, and ValueError for another shape or places that are none.
    """
    check_rows(x, x, name, dtype, features)
    if isinstance(x, CompressedRows):
        return x
    rows = x if getattr(x, "format", None) == "csr" else x.tocsr()
    indices, indptr = np.asarray(rows.indices), np.asarray(rows.indptr)
    narrow = indices.dtype == indptr.dtype == np.int32
    for part, what in ((indices, "indices"), (indptr, "indptr")):
        if part.dtype.kind not in "iu":
            raise TypeError(f"{name}: {what} must be integers, not {part.dtype}")
    index = np.dtype(np.int32 if narrow else np.int64)
    data = np.ascontiguousarray(rows.data, dtype)
    indices, indptr = (np.ascontiguousarray(part, index) for part in (indices, indptr))
    count, width = (int(size) for size in x.shape)
    if data.ndim != 1 or data.shape != indices.shape or indptr.shape != (count + 1,):
        raise ValueError(
            f"{name}: for {count} rows indptr must have the shape ({count + 1},), and data that of "
            f"indices, not {indptr.shape}, {data.shape} and {indices.shape}"
        )
    core = dispatch.core
    if not core.rows_ascend(name, indices, indptr, len(data), width):
        data, indices, indptr = core.sort_rows(data, indices, indptr)
    return CompressedRows(data, indices, indptr, (count, width))
