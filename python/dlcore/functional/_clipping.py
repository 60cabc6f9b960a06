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

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_flag, check_real
from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    grads: Sequence[Array | None] | Array,
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale gradients in place so that their common norm is at most `max_norm`.

    The factor is ``max_norm / (norm + 1e-6)`` where that is less than 1, as in PyTorch's
    ``clip_grad_norm_``. The norm of finite gradients neither overflows nor vanishes on its way.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64, or one of them
        None is passed over. One array that is there twice, as of tied parameters, counts once.
    max_norm : float
        At least 0; infinity changes nothing.
    norm_type : float, default 2.0
        p of ``sum(|x| ** p) ** (1 / p)``, greater than 0; infinity, or "inf", is the largest ``|x|``.
    error_if_nonfinite : bool, default False
        Raise where the norm is NaN or infinite, instead of making the gradients NaN or 0.

    Returns
    -------
    float
        The norm before, of all elements together, accumulated in float64.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only or shares a part of its memory with another, `max_norm` is negative or
        NaN, or `norm_type` is not positive. Nothing is changed then.
    RuntimeError
        If `error_if_nonfinite` and the norm is not finite. Nothing is changed.
    """
    limit = check_real("clip_grad_norm: max_norm", max_norm)
    if not limit >= 0:
        raise ValueError(f"clip_grad_norm: max_norm must be at least 0, got {max_norm}")
    p = math.inf if norm_type == "inf" else check_real("clip_grad_norm: norm_type", norm_type)
    if not p > 0:
        raise ValueError(f"clip_grad_norm: norm_type must be greater than 0, got {norm_type}")
    fails = check_flag("clip_grad_norm: error_if_nonfinite", error_if_nonfinite)
    return dispatch.core.clip_grad_norm(_listed(grads), limit, p, fails)


def clip_grad_value(grads: Sequence[Array | None] | Array, clip_value: float) -> None:
    """Limit each element of gradients to ``±clip_value``, in place, as PyTorch's ``clip_grad_value_``.

    Parameters
    ----------
    grads : sequence of ndarray of float32 or float64, or one of them
        None is passed over.
    clip_value : float
        At least 0. NaN stays NaN.

    Raises
    ------
    TypeError
        If an array is not float32 or float64.
    ValueError
        If one is read-only, or `clip_value` is negative or NaN. Nothing is changed then.
    """
    limit = check_real("clip_grad_value: clip_value", clip_value)
    if not limit >= 0:
        raise ValueError(f"clip_grad_value: clip_value must be at least 0, got {clip_value}")
    arrays = []
    for i, given in enumerate(_listed(grads)):
        if given is None:
            continue
        name = f"clip_grad_value: grads[{i}]"
        g = as_array(given, name)
        if g.dtype not in (np.float32, np.float64) or not g.dtype.isnative:
            raise TypeError(f"{name} must be a float32 or float64 array, got {g.dtype}")
        if not g.flags.writeable:
            raise ValueError(f"{name} is read-only")
        arrays.append(g)
    for g in arrays:
        most = g.dtype.type(min(limit, float(np.finfo(g.dtype).max)))
        if limit < math.inf:
            np.clip(g, -most, most, out=g)


def _listed(grads: Any) -> list[Any]:
    return [grads] if isinstance(grads, np.ndarray) else list(grads)
