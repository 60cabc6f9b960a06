"""Batch, layer and RMS normalization of arrays, and their gradients.

Squares are those of x times a power of 2 that brings it near 1, and eps with it: then they neither
overflow nor underflow.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
) -> Array:
    """Return ``(x - mean) / sqrt(var + eps) * weight + bias``, mean and var along the last axes."""
    normal, _ = _standardized(x, _last_axes(normalized_shape, weight, bias), eps)
    return normal * (1 if weight is None else weight) + (0 if bias is None else bias)


def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, the weight and the bias."""
    axes = _last_axes(normalized_shape, weight)
    normal, slope = _standardized(x, axes, eps)
    g = dy * (1 if weight is None else weight)
    dx = slope(g - _mean(g, axes) - normal * _mean(g * normal, axes))
    rows = tuple(range(x.ndim - len(axes)))
    return dx, (dy * normal).sum(rows), dy.sum(rows)


def rms_norm(
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float | None = None,
) -> Array:
    """Return ``x / sqrt(mean(x^2) + eps) * weight``, the mean along the last axes."""
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    normal, _ = _standardized(x, _last_axes(normalized_shape, weight), eps, is_centered=False)
    return normal * (1 if weight is None else weight)


def rms_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float | None = None,
) -> tuple[Array, Array]:
    """Return the gradients with respect to x and the weight."""
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    axes = _last_axes(normalized_shape, weight)
    normal, slope = _standardized(x, axes, eps, is_centered=False)
    g = dy * (1 if weight is None else weight)
    rows = tuple(range(x.ndim - len(axes)))
    return slope(g - normal * _mean(g * normal, axes)), (dy * normal).sum(rows)


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
    if training:
        axes = _all_but_features(x)
        y, _ = _standardized(x, axes, eps)
        if running_mean is not None and running_var is not None:
            _update(running_mean, running_var, x, axes, momentum)
    else:
        assert running_mean is not None
        assert running_var is not None
        # Of halves, since the difference may overflow.
        half = x / 2 - _along(running_mean, x) / 2
        y = half / (np.sqrt(_along(running_var, x) + eps) / 2)
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
    axes = _all_but_features(x)
    if training:
        normal, slope = _standardized(x, axes, eps)
        dx = slope(dy - _mean(dy, axes) - normal * _mean(dy * normal, axes))
    else:
        assert running_var is not None
        normal = batch_norm(x, running_mean, running_var, eps=eps)
        dx = dy / np.sqrt(_along(running_var, x) + eps)
    dx = dx if weight is None else dx * _along(weight, x)
    return dx, (dy * normal).sum(axes), dy.sum(axes)


def _standardized(
    x: Array, axes: tuple[int, ...], eps: float, *, is_centered: bool = True
) -> tuple[Array, Callable[[Array], Array]]:
    """Return ``(x - mean) / sqrt(var + eps)``, and what multiplies by ``1 / sqrt(var + eps)``."""
    exponent = _exponent(x, axes, eps)
    x = np.ldexp(x, -exponent)
    eps_there = np.ldexp(np.asarray(eps, x.dtype), -2 * exponent)
    d = x - _mean(x, axes) if is_centered else x
    root = np.sqrt(_mean(np.square(d), axes) + eps_there)
    return d / root, lambda g: np.ldexp(g / root, -exponent)


def _update(
    running_mean: Array, running_var: Array, x: Array, axes: tuple[int, ...], momentum: float
) -> None:
    """Move the running statistics toward those of the batch, the variance without bias."""
    n = x.size // max(1, x.shape[1])
    if n < 2:
        return
    exponent = _exponent(x, axes, 0.0)
    x = np.ldexp(x, -exponent)
    mean = _mean(x, axes)
    var = _mean(np.square(x - mean), axes) * n / (n - 1)
    running_mean += momentum * (np.ldexp(mean, exponent).reshape(-1) - running_mean)
    with np.errstate(over="ignore"):
        var = np.fmin(np.ldexp(var, 2 * exponent).reshape(-1), np.finfo(x.dtype).max)
    running_var += momentum * (var - running_var)


def _exponent(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """Return the exponent of the largest number along axes, or of sqrt(eps); 0 where there is none."""
    largest = np.abs(x).max(axes, keepdims=True, initial=math.sqrt(eps))
    exponent: Array = np.where(np.isfinite(largest), np.frexp(largest)[1], 0)
    return exponent


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    n = math.prod(x.shape[axis] for axis in axes)
    mean: Array = x.sum(axes, keepdims=True) / max(1, n)
    return mean


def _last_axes(shape: int | tuple[int, ...] | None, *vectors: Array | None) -> tuple[int, ...]:
    if shape is not None:
        n = len(shape) if isinstance(shape, tuple) else 1
    else:
        n = next((v.ndim for v in vectors if v is not None), 1)
    return tuple(range(-n, 0))


def _all_but_features(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _along(features: Array, x: Array) -> Array:
    return features.reshape(-1, *(1,) * (x.ndim - 2))
