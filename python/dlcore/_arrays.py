"""Objects that NumPy reads without a copy, as arrays. Called by the kernels for what is no ndarray."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np


def as_array(obj: Any, name: str) -> np.ndarray[Any, Any]:
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
        # A NumPy scalar, such as an element of an array: its one value, not to be written to.
        scalar = np.asarray(obj)
        scalar.flags.writeable = False
        return scalar
    if not (isinstance(obj, (str, bytes, list, tuple, int, float, complex)) or obj is None):
        try:
            with warnings.catch_warnings():
                # Libraries whose __array__ does not know `copy` yet.
                warnings.simplefilter("ignore", DeprecationWarning)
                array = np.asarray(obj, copy=False)
        except (TypeError, ValueError, RuntimeError):
            array = np.empty((), object)
        if array.dtype != object:
            return array
        if hasattr(obj, "__dlpack__"):
            return np.from_dlpack(obj)
    raise TypeError(
        f"{name} must be an array that NumPy reads without a copy, got {type(obj).__name__}"
    )
