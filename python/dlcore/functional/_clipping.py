"""Clipping of gradients, in place: by their common norm, or element by element.

Largest errors in units in the last place, against a wider reference; the tests hold them.

===============  =======  =======
kernel           float32  float64
===============  =======  =======
clip_grad_norm         4        6
clip_grad_value        0        0
===============  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(grads: Sequence[Array], max_norm: float) -> float:
    """Scale gradients in place so that their common 2-norm is at most `max_norm`.

    The factor is ``max_norm / (norm + 1e-6)`` where that is less than 1, as in PyTorch's
    ``clip_grad_norm_``.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64
    max_norm : float
        At least 0.

    Returns
    -------
    float
        The norm before, of all elements together, accumulated in float64.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only, or `max_norm` is negative or NaN. Nothing is changed then.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm: max_norm must be at least 0, got {max_norm}")
    return dispatch.core.clip_grad_norm(list(grads), max_norm)


def clip_grad_value(grads: Sequence[Array], clip_value: float) -> None:
    """Limit each element of gradients to ``±clip_value``, in place, as PyTorch's ``clip_grad_value_``.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64
    clip_value : float
        At least 0. NaN stays NaN.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only, or `clip_value` is negative or NaN. Nothing is changed then.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value: clip_value must be at least 0, got {clip_value}")
    arrays: list[Any] = list(grads)
    for i, g in enumerate(arrays):
        if not isinstance(g, np.ndarray) or g.dtype not in (np.float32, np.float64):
            got = getattr(g, "dtype", type(g).__name__)
            raise TypeError(
                f"clip_grad_value: grads[{i}] must be a float32 or float64 array, got {got}"
            )
        if not g.flags.writeable:
            raise ValueError(f"clip_grad_value: grads[{i}] is read-only")
    for g in arrays:
        np.clip(g, -clip_value, clip_value, out=g)
