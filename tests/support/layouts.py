"""The same array in other memory layouts."""

from collections.abc import Callable

import numpy as np


def strided(x):
    """Every second element of every axis of a larger array."""
    larger = np.zeros([2 * n for n in x.shape], x.dtype)
    view = larger[(..., *(slice(None, None, 2),) * x.ndim)]  # of a 0-d array a view too
    view[...] = x
    return view


def reversed_(x):
    """Negative strides along every axis."""
    flip = (..., *(slice(None, None, -1),) * x.ndim)
    return np.array(x[flip])[flip]


def offset(x, by=None):
    """Contiguous, but starting one element (or some bytes) into its buffer."""
    by = x.itemsize if by is None else by
    buffer = np.zeros(x.nbytes + by, np.uint8)
    view = np.ndarray(x.shape, x.dtype, buffer.data, by)
    view[...] = x
    return view


def read_only(x):
    """Not writeable."""
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": lambda x: np.array(x, order="F"),
    "strided": strided,
    "reversed": reversed_,
    "offset": offset,
    "misaligned": lambda x: offset(x, 1),
    "read_only": read_only,
}


def broadcast(x):
    """Return the first entry of the first axis in place of the others, stride 0."""
    return np.broadcast_to(x[:1], x.shape) if x.ndim else x
