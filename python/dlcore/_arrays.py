"""Objects that NumPy reads without a copy, as arrays. Called by the kernels for what is no ndarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._typing import Array

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
    array = None if isinstance(obj, _COPIED) else _shared(obj)
    if array is None or array.dtype == object:
        raise TypeError(
            f"{name} must be an array that NumPy reads without a copy, got {type(obj).__name__}"
        )
    return array


def _shared(obj: Any) -> Array | None:
    try:
        return np.asarray(obj, copy=False)
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        if hasattr(obj, "__dlpack__"):
            return np.from_dlpack(obj)
        if hasattr(obj, "__array__"):
            # From before NumPy 2, without a promise that it is no copy: not to be written to.
            array = obj.__array__()
            return _read_only(array.view()) if isinstance(array, np.ndarray) else None
    except (TypeError, ValueError, RuntimeError, BufferError):
        pass
    return None


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
