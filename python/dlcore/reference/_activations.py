"""Activation functions and their derivatives in plain NumPy.

A backward takes the upstream gradient ``dy``, then the forward's input ``x`` (for the softmaxes its
output ``y``), then the forward's options, and returns the gradient with respect to ``x``.
"""

import math
from typing import Any

import numpy as np

__all__ = [
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "log_sigmoid",
    "log_sigmoid_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "mish",
    "mish_backward",
    "relu",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
]

Array = Any  # an array, or where NumPy makes one of a 0-d array a scalar, of a floating dtype

# Infinities and NaN follow the formulas without a warning, as they do in the C++ kernels.
quiet = np.errstate(all="ignore")

# Where the sigmoid and the normal distribution are 0 and 1, in every dtype: from here on an argument
# stays the same where it is a factor, so that infinity times 0 is no NaN but the limit.
FAR = 2.0e4


@quiet
def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN and -0 pass unchanged, as in ``torch.relu``."""
    return np.where(x < 0, 0, x)


@quiet
def relu_backward(dy: Array, x: Array) -> Array:
    """``dy`` where ``x > 0``, else 0; ``dy`` where x is NaN, as in ``torch.relu``."""
    return np.where(x <= 0, 0, dy)


@quiet
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """``x`` where ``x > 0``, else ``negative_slope * x`` (Maas et al., 2013).

    With a slope of 0 it is 0 at minus infinity, too.
    """
    negative = np.maximum(x, np.finfo(x.dtype).min) if negative_slope == 0 else x
    return np.where(x > 0, x, negative_slope * negative)


@quiet
def leaky_relu_backward(dy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``dy`` where ``x > 0``, else ``negative_slope * dy``."""
    return np.where(x > 0, dy, negative_slope * dy)


@quiet
def elu(x: Array, alpha: float = 1.0) -> Array:
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)`` (Clevert et al., 2015)."""
    return np.where(x > 0, x, alpha * np.expm1(x))


@quiet
def elu_backward(dy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``dy`` where ``x > 0``, else ``alpha * exp(x) * dy``."""
    return np.where(x > 0, dy, dy * alpha * np.exp(x))


@quiet
def gelu(x: Array, approximate: str = "none") -> Array:
    """``x * Phi(x)``, Phi the standard normal distribution function (Hendrycks & Gimpel, 2016).

    ``approximate="tanh"``: ``x / 2 * (1 + tanh(u))`` with ``u = sqrt(2 / pi) (x + 0.044715 x^3)``,
    which is ``x * sigmoid(2 u)``.
    """
    if approximate == "tanh":
        u, _ = _gelu_argument(x)
        return np.maximum(x, -FAR) * sigmoid(2 * u)
    distribution, _ = _normal(x)
    return np.maximum(x, -FAR) * distribution


@quiet
def gelu_backward(dy: Array, x: Array, approximate: str = "none") -> Array:
    """``dy * (Phi(x) + x * phi(x))``, phi the standard normal density.

    ``approximate="tanh"``: ``dy * (s + x * s * (1 - s) * 2 u')`` with ``s = sigmoid(2 u)``.
    """
    x = np.clip(x, -FAR, FAR)
    if approximate == "tanh":
        u, slope = _gelu_argument(x)
        s = sigmoid(2 * u)
        return dy * (s + x * s * sigmoid(-2 * u) * 2 * slope)
    distribution, density = _normal(x)
    return dy * (distribution + x * density)


@quiet
def silu(x: Array) -> Array:
    """``x * sigmoid(x)`` (Elfwing et al., 2017)."""
    return np.maximum(x, -FAR) * sigmoid(x)


@quiet
def silu_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 + x * (1 - s))`` with ``s = sigmoid(x)``."""
    x = np.clip(x, -FAR, FAR)
    return dy * sigmoid(x) * (1 + x * sigmoid(-x))


@quiet
def mish(x: Array) -> Array:
    """``x * tanh(log(1 + exp(x)))`` (Misra, 2019)."""
    return np.maximum(x, -FAR) * np.tanh(softplus(x))


@quiet
def mish_backward(dy: Array, x: Array) -> Array:
    """``dy * (t + x * (1 - t^2) * sigmoid(x))`` with ``t = tanh(log(1 + exp(x)))``."""
    x = np.clip(x, -FAR, FAR)
    t = np.tanh(softplus(x))
    return dy * (t + x * (1 - t) * (1 + t) * sigmoid(x))


SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@quiet
def selu(x: Array) -> Array:
    """``scale * x`` where ``x > 0``, else ``scale * alpha * (exp(x) - 1)`` (Klambauer et al., 2017)."""
    return np.where(x > 0, SELU_SCALE * x, SELU_SCALE * SELU_ALPHA * np.expm1(x))


@quiet
def selu_backward(dy: Array, x: Array) -> Array:
    """``scale * dy`` where ``x > 0``, else ``scale * alpha * exp(x) * dy``."""
    return np.where(x > 0, SELU_SCALE * dy, dy * (SELU_SCALE * SELU_ALPHA) * np.exp(x))


@quiet
def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow and with all its digits in the lower tail."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@quiet
def sigmoid_backward(dy: Array, x: Array) -> Array:
    """``dy * s * (1 - s)`` with ``s = sigmoid(x)`` and ``1 - s = sigmoid(-x)``."""
    return dy * sigmoid(x) * sigmoid(-x)


@quiet
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


@quiet
def tanh_backward(dy: Array, x: Array) -> Array:
    """``dy * (1 - tanh(x)^2)``, written ``4 s (1 - s)`` with ``s = sigmoid(2 x)``."""
    return dy * 4 * sigmoid(2 * x) * sigmoid(-2 * x)


@quiet
def log_sigmoid(x: Array) -> Array:
    """``log(sigmoid(x))``, which is ``min(x, 0) - log(1 + exp(-|x|))``."""
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


@quiet
def log_sigmoid_backward(dy: Array, x: Array) -> Array:
    """``dy * sigmoid(-x)``."""
    return dy * sigmoid(-x)


@quiet
def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta x)) / beta``, and ``x`` where ``beta x > threshold``, as in PyTorch."""
    z = beta * x
    return np.where(z > threshold, x, (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta)


@quiet
def softplus_backward(dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``dy * sigmoid(beta x)``, and ``dy`` where ``beta x > threshold``."""
    z = beta * x
    return np.where(z > threshold, dy, dy * sigmoid(z))


@quiet
def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / sum(exp(x))`` along ``axis``, shifted by the maximum so that nothing overflows."""
    e = np.exp(x - _max(x, axis))
    return e / e.sum(axis, keepdims=True)


@quiet
def softmax_backward(dy: Array, y: Array, axis: int = -1) -> Array:
    """``y * (dy - sum(dy * y))`` along ``axis``."""
    return y * (dy - np.sum(dy * y, axis, keepdims=True))


@quiet
def log_softmax(x: Array, axis: int = -1) -> Array:
    """``x - log(sum(exp(x)))`` along ``axis``.

    The sum is shifted by the maximum, whose own term is then exactly 1. ``log1p`` of the other
    terms keeps the digits of a confident row, where ``log`` of the whole sum would lose them.
    """
    if x.size == 0:
        return x.copy()
    shifted = x - _max(x, axis)
    others = np.exp(shifted)
    top = np.expand_dims(np.argmax(x, axis), axis)
    np.put_along_axis(others, top, np.take_along_axis(others, top, axis) - 1, axis)
    return shifted - np.log1p(others.sum(axis, keepdims=True))


@quiet
def logsumexp(x: Array, axis: Any = -1, *, keepdims: bool = False) -> Array:
    """``log(sum(exp(x)))`` along axes, -inf of nothing; as in `log_softmax`, with ``log1p``."""
    given = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
    axes = tuple(a % x.ndim for a in given)
    kept = tuple(a for a in range(x.ndim) if a not in axes)
    rows = x.transpose(kept + axes).reshape([x.shape[a] for a in kept] + [-1 if x.size else 0])
    largest = _max(rows, -1)[..., 0]
    if rows.shape[-1]:
        others = np.exp(rows - largest[..., np.newaxis])
        top = np.argmax(rows, -1)[..., np.newaxis]
        np.put_along_axis(others, top, np.take_along_axis(others, top, -1) - 1, -1)
        unbounded = np.isinf(largest) & ~np.isnan(rows).any(-1)
        largest = np.where(unbounded, largest, largest + np.log1p(others.sum(-1)))
    return np.expand_dims(largest, axes) if keepdims else largest


@quiet
def log_softmax_backward(dy: Array, y: Array, axis: int = -1) -> Array:
    """``dy - exp(y) * sum(dy)`` along ``axis``."""
    return dy - np.exp(y) * dy.sum(axis, keepdims=True)


def _max(x: Array, axis: int) -> Array:
    return np.max(x, axis, keepdims=True, initial=-np.inf)


def _gelu_argument(x: Array) -> tuple[Array, Array]:
    """``u`` of the tanh approximation and its derivative."""
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    return scale * (x + cubic * x**3), scale * (1 + 3 * cubic * x**2)


def _normal(x: Array) -> tuple[Array, Array]:
    """Distribution function and density of the standard normal; both keep their lower tail."""
    two, pi = x.dtype.type(2), np.arccos(x.dtype.type(-1))
    return _erfc(-x / np.sqrt(two)) / 2, np.exp(-x * x / 2) / np.sqrt(2 * pi)


def _erfc(x: Array) -> Array:
    """Complementary error function: the C library's, with a first-order term beyond float64."""
    near = x.astype(np.float64)
    rest = np.where(np.isfinite(x), x - near, 0)
    value = np.vectorize(math.erfc, otypes=[np.float64])(near)
    slope = -2 / math.sqrt(math.pi) * np.exp(-(near.astype(x.dtype) ** 2))
    return (value + slope * rest).astype(x.dtype)
