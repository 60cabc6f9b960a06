"""The linear layer and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """Return ``activation(x W^T + b)``."""
    y = x @ weight.T
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
    """Return the gradients with respect to x, W and b."""
    if activation is not None:
        dy = getattr(activations, f"{activation}_backward")(dy, linear(x, weight, bias))
    axes = (tuple(range(dy.ndim - 1)),) * 2  # all but the last
    return dy @ weight, np.tensordot(dy, x, axes), dy.sum(axes[0])
