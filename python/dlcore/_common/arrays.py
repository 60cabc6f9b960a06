"""Objects that NumPy reads without a copy, as arrays.

The kernels call `as_array` for what is no ndarray.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# NumPy would make arrays of these, by copying.
_COPIED = (str, bytes, list, tuple, int, float, complex, type(None))


def as_array(obj: Any, name: str) -> Array:
    """Return an ndarray that shares the memory of `obj`.

    Parameters
    ----------
    obj : object
        An ndarray of a subclass, or anything with a buffer, ``__array__`` or ``__dlpack__``.
    name : str
        The function and argument, for the message.

    Raises
    ------
    TypeError
        If `obj` cannot be read without a copy.
    """
    if isinstance(obj, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")
    if isinstance(obj, np.ndarray):
        return obj.view(np.ndarray)
    if isinstance(obj, np.generic):
        # A NumPy scalar, such as an element of an array: its one value.
        return _read_only(np.asarray(obj))
    cause: Exception | None = None
    if not isinstance(obj, _COPIED):
        for read in (_by_numpy, _by_dlpack, _by_old_array):
            try:
                array = read(obj)
            except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
                cause = cause if isinstance(error, AttributeError) else error
            else:
                if array.dtype != object:
                    return array
    raise TypeError(
        f"{name} must be an array that NumPy reads without a copy, got {type(obj).__name__}"
    ) from cause


def as_matrix(x: Any, name: str, dtype: np.dtype[Any], features: int | None) -> Array:
    """Make sure that x has shape (N, features) and the model's dtype."""
    array = as_array(x, name)
    if array.dtype != dtype:
        raise TypeError(
            f"{name} is {array.dtype}, the model {dtype}: pass {name}.astype(np.{dtype}), "
            f"or make the model with Sequential(..., dtype=...)"
        )
    if array.ndim != 2 or features not in (None, array.shape[1]):
        wanted = "features" if features is None else features
        raise ValueError(f"{name} must have shape (N, {wanted}), not {array.shape}")
    return array


def _by_numpy(obj: Any) -> Array:
    with warnings.catch_warnings():
        # An __array__ from before NumPy 2; _by_old_array deals with it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(obj, copy=False)


def _by_dlpack(obj: Any) -> Array:
    return np.from_dlpack(obj)


def _by_old_array(obj: Any) -> Array:
    # Nothing promises that this is no copy: not to be written to.
    return _read_only(np.asarray(obj.__array__()).view())


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def as_writeable(array: Array) -> Array:
    """Return the array, or a copy of one that cannot be written, such as a read-only map of a file."""
    return array if array.flags.writeable else np.array(array, subok=False)
