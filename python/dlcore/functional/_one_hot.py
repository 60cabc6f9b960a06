"""Class indices as rows of class probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_floating, check_positive_int

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["one_hot"]


def one_hot(labels: Any, classes: int, dtype: Any = np.float32) -> Array:
    """Class indices as rows of class probabilities, 1 for the class and 0 elsewhere.

    Parameters
    ----------
    labels : ndarray of shape (n,), any integer dtype
        From 0 to ``classes`` - 1.
    classes : int
        How many there are.
    dtype : float32 or float64
        Of the result: the model's.

    Returns
    -------
    ndarray of shape (n, classes)
        Of this dtype.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described.
    IndexError
        A label is out of range.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.one_hot(np.array([2, 0]), 3)
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    check_positive_int("classes", classes)
    labels = as_array(labels, "labels")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be of an integer dtype, not {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape (n,), not {labels.shape}")
    dtype = check_floating("dtype", dtype)
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        row = int(outside.argmax())
        raise IndexError(f"labels[{row}] is {labels[row]}, but the classes are 0 to {classes - 1}")
    probabilities = np.zeros((len(labels), classes), dtype)
    probabilities[np.arange(len(labels)), labels] = 1
    return probabilities
