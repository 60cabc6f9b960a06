"""Batch and layer normalization of arrays, and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["batch_norm", "batch_norm_backward", "layer_norm", "layer_norm_backward"]


def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5
) -> Array:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias``, mean and var along the last axis."""
    y = _standardized(x, x.mean(-1, keepdims=True), x.var(-1, keepdims=True), eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, the weight and the bias."""
    var = x.var(-1, keepdims=True)
    normal = _standardized(x, x.mean(-1, keepdims=True), var, eps)
    g = dy * (1 if weight is None else weight)
    dx = g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return dx / np.sqrt(var + eps), (dy * normal).sum(rows), dy.sum(rows)


def batch_norm(
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias``, mean and var of each feature.

    In training they are those of the batch, and the running ones are updated in place.
    """
    mean, var = (running_mean, running_var) if not training else _moments(x)
    assert mean is not None
    assert var is not None
    n = x.size // max(1, x.shape[1])
    if training and running_mean is not None and running_var is not None and n > 1:
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (var * n / (n - 1) - running_var)
    y = _standardized(x, _along(mean, x), _along(var, x), eps)
    y = y if weight is None else y * _along(weight, x)
    return y if bias is None else y + _along(bias, x)


def batch_norm_backward(
    dy: Array,
    x: Array,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    *,
    training: bool = False,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, the weight and the bias."""
    mean, var = (running_mean, running_var) if not training else _moments(x)
    assert mean is not None
    assert var is not None
    normal = _standardized(x, _along(mean, x), _along(var, x), eps)
    axes = _all_but_features(x)
    dx = dy
    if training:
        n = max(1, x.size // max(1, x.shape[1]))
        dx = (
            dx - (dy.sum(axes, keepdims=True) + normal * (dy * normal).sum(axes, keepdims=True)) / n
        )
    dx = dx / np.sqrt(_along(var, x) + eps)
    dx = dx if weight is None else dx * _along(weight, x)
    return dx, (dy * normal).sum(axes), dy.sum(axes)


def _standardized(x: Array, mean: Array, var: Array, eps: float) -> Array:
    return (x - mean) / np.sqrt(var + eps)


def _all_but_features(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _moments(x: Array) -> tuple[Array, Array]:
    axes, n = _all_but_features(x), max(1, x.size // max(1, x.shape[1]))
    mean = x.sum(axes) / n
    return mean, np.square(x - _along(mean, x)).sum(axes) / n


def _along(features: Array, x: Array) -> Array:
    return features.reshape(-1, *(1,) * (x.ndim - 2))
