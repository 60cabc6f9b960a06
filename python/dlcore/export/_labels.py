"""The labels of classes as other languages have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def as_labels(function: str, classes: Any) -> Array:
    """Return labels as an array of int64, float64, bool or str, in their order.

    Raises
    ------
    TypeError
        The labels are neither numbers nor text.
    ValueError
        They are not in one dimension.
    """
    labels = np.asarray(classes)
    if labels.ndim != 1:
        raise ValueError(
            f"{function}: classes must have one dimension, got the shape {labels.shape}"
        )
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(np.str_)
    if labels.dtype.kind in "iu" and labels.dtype != np.uint64:
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)
    if labels.dtype.kind not in "bifU":
        raise TypeError(
            f"{function}: labels of {labels.dtype} have no export: fit with numbers or text, such as "
            f"y.astype(str)"
        )
    return labels
