"""Batch, layer and RMS normalization of arrays, and their gradients: PyTorch's functions of those names.

All raise

- TypeError if an array is not float32 or float64, cannot be read without a copy, or has another
  dtype than x;
- ValueError if shapes do not fit, or an option is out of range; nothing is changed then.

Arrays that are not contiguous are copied first. Means and variances are summed blockwise, in two
passes, so that values far from 0 lose no digits; where their squares would over- or underflow, of
values times a power of 2. Running variances beyond the dtype are its largest number.

Largest errors in units in the last place of the sizes of the terms, against a wider reference; the
tests hold them.

===================  =======  =======
kernel               float32  float64
===================  =======  =======
layer_norm                 6        6
layer_norm_backward       12       12
rms_norm                   6        6
rms_norm_backward         12       12
batch_norm                 6        6
batch_norm_backward       12       12
===================  =======  =======
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import (
    check_flag,
    check_floating,
    check_in,
    check_int,
    check_not_negative,
    check_real,
)
from dlcore._native import dispatch
from dlcore._native.specs import BatchNormSpec, LayerNormSpec

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

_Shape = int | tuple[int, ...]


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    normalized_shape: _Shape | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalize along the last axes: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (...) + normalized_shape
    weight, bias : ndarray, shape normalized_shape, optional
        Scale and shift of each feature, of the dtype of `x`.
    normalized_shape : int or tuple of int, optional
        Shape of the axes that are normalized together, as in PyTorch. By default that of `weight`,
        of `bias`, or of the last axis.
    eps : float, default 1e-5
        Added to the (population) variance.

    Returns
    -------
    ndarray
        Of the shape of `x`.

    References
    ----------
    Ba, Kiros, Hinton: Layer normalization, 2016.
    """
    function = "layer_norm"
    x = _floating(function, x, 1)
    shape = _normalized_shape(function, x, normalized_shape, weight, bias)
    spec = _layer_spec(function, x, shape, weight, bias, eps)
    return _normalized(spec, _rows(x, len(shape))).reshape(x.shape)


def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: _Shape | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm`.

    Parameters
    ----------
    dy : ndarray
        The upstream gradient, of the shape and dtype of `x`.
    x, weight, normalized_shape, eps
        What `layer_norm` was given.

    Returns
    -------
    dx : ndarray
        Of the shape of `x`.
    dweight, dbias : ndarray, shape normalized_shape
        Summed over the rows.
    """
    function = "layer_norm_backward"
    x = _floating(function, x, 1)
    shape = _normalized_shape(function, x, normalized_shape, weight)
    return _row_gradients(function, dy, x, shape, weight, eps)


def rms_norm(
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: _Shape | None = None,
    eps: float | None = None,
) -> Array:
    """Divide by the root of the mean square along the last axes: ``x / sqrt(mean(x^2) + eps) * weight``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (...) + normalized_shape
    weight : ndarray, shape normalized_shape, optional
        Scale of each feature, of the dtype of `x`.
    normalized_shape : int or tuple of int, optional
        Shape of the axes that are normalized together, as in PyTorch. By default that of `weight`,
        or of the last axis.
    eps : float, optional
        Added to the mean square; by default the machine epsilon of the dtype of `x`, as in PyTorch.

    Returns
    -------
    ndarray
        Of the shape of `x`.

    References
    ----------
    Zhang, Sennrich: Root mean square layer normalization, NeurIPS 2019.
    """
    function = "rms_norm"
    x = _floating(function, x, 1)
    shape = _normalized_shape(function, x, normalized_shape, weight)
    spec = _layer_spec(function, x, shape, weight, None, eps, is_centered=False)
    return _normalized(spec, _rows(x, len(shape))).reshape(x.shape)


def rms_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    *,
    normalized_shape: _Shape | None = None,
    eps: float | None = None,
) -> tuple[Array, Array]:
    """Gradients of `rms_norm`.

    Parameters
    ----------
    dy : ndarray
        The upstream gradient, of the shape and dtype of `x`.
    x, weight, normalized_shape, eps
        What `rms_norm` was given.

    Returns
    -------
    dx : ndarray
        Of the shape of `x`.
    dweight : ndarray, shape normalized_shape
        Summed over the rows.
    """
    function = "rms_norm_backward"
    x = _floating(function, x, 1)
    shape = _normalized_shape(function, x, normalized_shape, weight)
    dx, dweight, _ = _row_gradients(function, dy, x, shape, weight, eps, is_centered=False)
    return dx, dweight


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
    """Normalize each feature over the batch: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, C) or (N, C, d1, ...)
    running_mean, running_var : ndarray, shape (C,), optional
        Running mean and (unbiased) variance, of the dtype of `x`. In training they are updated in
        place, ``running += momentum * (batch - running)``, unless there is one value alone of each
        feature; otherwise they take the place of the batch's.
    weight, bias : ndarray, shape (C,), optional
        Scale and shift of each feature, of the dtype of `x`.
    training : bool, default False
        Whether to normalize by the mean and the (population) variance of the batch.
    momentum : float, default 0.1
        Weight of this batch in the running mean and variance, in [0, 1].
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    ndarray
        Of the shape of `x`.

    References
    ----------
    Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal
    covariate shift, ICML 2015; in the form of ``torch.nn.functional.batch_norm``.
    """
    function = "batch_norm"
    x = _floating(function, x, 2)
    momentum = check_real(f"{function}: momentum", momentum)
    check_in(f"{function}: momentum", momentum, "[0, 1]", word="got")
    training = check_flag(f"{function}: training", training)
    spec = _batch_spec(
        function, x, running_mean, running_var, weight, bias, training, momentum, eps
    )
    running = (running_mean, running_var) if training else ()
    for name, given in zip(("running_mean", "running_var"), running, strict=False):
        if given is not None and not getattr(getattr(given, "flags", None), "writeable", False):
            raise ValueError(f"{function}: {name} must be a writeable array in training")
    y = _normalized(spec, _features_last(x))
    for given, now in zip(running, (spec.running_mean, spec.running_var), strict=False):
        if given is not None and now is not None and given is not now:  # it had to be copied
            np.copyto(given, now)
    return _features_back(y, x)


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
    """Gradients of `batch_norm`.

    Parameters
    ----------
    dy : ndarray
        The upstream gradient, of the shape and dtype of `x`.
    x, running_mean, running_var, weight, training, eps
        What `batch_norm` was given; in training the running mean and variance do not count.

    Returns
    -------
    dx : ndarray
        Of the shape of `x`.
    dweight, dbias : ndarray, shape (C,)
        Summed over all but the features.
    """
    function = "batch_norm_backward"
    x = _floating(function, x, 2)
    dy = _alike(function, "dy", dy, x, x.shape)
    ones, zeros = np.ones(x.shape[1], x.dtype), np.zeros(x.shape[1], x.dtype)
    if check_flag(f"{function}: training", training):
        running_mean = running_var = None
    scale = ones if weight is None else weight
    spec = _batch_spec(function, x, running_mean, running_var, scale, zeros, training, 0.0, eps)
    dx, dweight, dbias = _gradients(spec, _features_last(dy), _features_last(x))
    return _features_back(dx, x), dweight, dbias


def _floating(function: str, x: Any, ndim: int) -> Array:
    array = as_array(x, f"{function}: x")
    check_floating(f"{function}: x", array.dtype, word="got")
    if array.ndim < ndim:
        raise ValueError(f"{function}: x must have at least {ndim} dimensions, got {array.shape}")
    return array


def _alike(function: str, name: str, given: Any, x: Array, shape: tuple[int, ...]) -> Array:
    array = as_array(given, f"{function}: {name}")
    if array.dtype != x.dtype:
        raise TypeError(f"{function}: {name} must be {x.dtype}, like x, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{function}: {name} must have the shape {shape}, got {array.shape}")
    return np.require(array, requirements=("C", "A"))


def _vectors(function: str, x: Array, shape: tuple[int, ...], **given: Any) -> list[Array | None]:
    return [
        None if value is None else _alike(function, name, value, x, shape)
        for name, value in given.items()
    ]


def _check_eps(function: str, eps: object) -> float:
    return check_not_negative(f"{function}: eps", check_real(f"{function}: eps", eps), word="got")


def _normalized_shape(
    function: str, x: Array, shape: _Shape | None, *vectors: Any
) -> tuple[int, ...]:
    """Return the shape of the last axes that are normalized: the one given, or that of a vector."""
    if shape is None:
        axes = next((max(1, np.ndim(v)) for v in vectors if v is not None), 1)
        return x.shape[-min(axes, x.ndim) :]
    sizes = shape if isinstance(shape, tuple | list) else (shape,)
    found = tuple(check_int(f"{function}: normalized_shape", size, 0) for size in sizes)
    if not found or x.shape[-len(found) :] != found:
        raise ValueError(
            f"{function}: normalized_shape must be the shape of the last axes of x, {x.shape}, "
            f"got {shape}"
        )
    return found


def _layer_spec(
    function: str,
    x: Array,
    shape: tuple[int, ...],
    weight: Any,
    bias: Any,
    eps: float | None,
    *,
    is_centered: bool = True,
) -> LayerNormSpec:
    if eps is not None or is_centered:
        eps = _check_eps(function, eps)
    weight, bias = _vectors(function, x, shape, weight=weight, bias=bias)
    return LayerNormSpec(math.prod(shape), weight, bias, eps, is_centered)


def _row_gradients(
    function: str,
    dy: Any,
    x: Array,
    shape: tuple[int, ...],
    weight: Any,
    eps: float | None,
    *,
    is_centered: bool = True,
) -> tuple[Array, Array, Array]:
    dy = _alike(function, "dy", dy, x, x.shape)
    # The gradients of weight and bias are wanted where there is none, too: 1 and 0 stand for them.
    ones, zeros = np.ones(shape, x.dtype), np.zeros(shape, x.dtype)
    scale = ones if weight is None else weight
    spec = _layer_spec(function, x, shape, scale, zeros, eps, is_centered=is_centered)
    dx, dweight, dbias = _gradients(spec, _rows(dy, len(shape)), _rows(x, len(shape)))
    return dx.reshape(x.shape), dweight.reshape(shape), dbias.reshape(shape)


def _batch_spec(
    function: str,
    x: Array,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> BatchNormSpec:
    _check_eps(function, eps)
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{function}: running_mean and running_var go together")
    if not training and running_mean is None:
        raise ValueError(f"{function}: running_mean and running_var are needed unless training")
    features = x.shape[1]
    weight, bias = _vectors(function, x, (features,), weight=weight, bias=bias)
    running_mean, running_var = _vectors(
        function, x, (features,), running_mean=running_mean, running_var=running_var
    )
    return BatchNormSpec(
        features,
        weight,
        bias,
        eps=float(eps),
        momentum=float(momentum),
        running_mean=running_mean,
        running_var=running_var,
        num_batches_tracked=np.zeros((), np.int64),
        is_frozen=not training,
    )


def _rows(x: Array, axes: int = 1) -> Array:
    """Return x as a matrix without gaps, the features of the last axes last."""
    shape = (math.prod(x.shape[:-axes]), math.prod(x.shape[-axes:]))
    return np.require(x, requirements=("C", "A")).reshape(shape)


def _features_last(x: Array) -> Array:
    return _rows(np.moveaxis(x, 1, -1))


def _features_back(y: Array, x: Array) -> Array:
    """Undo `_features_last` for an array like x."""
    shape = (x.shape[0], *x.shape[2:], x.shape[1])
    return np.ascontiguousarray(np.moveaxis(y.reshape(shape), -1, 1))


def _normalized(spec: BatchNormSpec | LayerNormSpec, rows: Array) -> Array:
    y = np.empty_like(rows)
    if y.size:
        dispatch.core.normalize(spec, rows, y)
    return y


def _gradients(
    spec: BatchNormSpec | LayerNormSpec, dy: Array, rows: Array
) -> tuple[Array, Array, Array]:
    dx = np.empty_like(rows)
    dweight, dbias = np.zeros((2, rows.shape[1]), rows.dtype)
    if dx.size:
        spec = spec._replace(weight_grad=dweight, bias_grad=dbias)
        dispatch.core.normalize_backward(spec, dy, rows, dx)
    return dx, dweight, dbias
