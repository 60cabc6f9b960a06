"""The linear layer and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.reference import _activations as activations

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["linear", "linear_backward"]


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str | None = None,
) -> Array:
    """Return ``activation(x W^T + b)``; x may be sparse, as the first layer of a network reads it."""
    y: Array = _dense(x) @ weight.T
    if bias is not None:
        y = y + bias
    return y if activation is None else getattr(activations, activation)(y)


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, W and b; x may be sparse."""
    x = _dense(x)
    if activation is not None:
        dy = getattr(activations, f"{activation}_backward")(dy, linear(x, weight, bias))
    axes = (tuple(range(dy.ndim - 1)),) * 2  # all but the last
    return dy @ weight, np.tensordot(dy, x, axes), dy.sum(axes[0])


def _dense(x: Any) -> Any:
    """Return compressed rows as an array: elements of the same place are added up."""
    if not hasattr(x, "indptr"):
        return x
    array = np.zeros(x.shape, x.data.dtype)
    rows = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    some = slice(x.indptr[0], x.indptr[-1])
    np.add.at(array, (rows, x.indices[some]), x.data[some])
    return array
