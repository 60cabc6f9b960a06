"""Activation functions and their gradients.

Every function takes float32 or float64 arrays of any shape and layout and computes in their own
precision. A backward takes the upstream gradient, then the forward's *input* (`softmax_backward` and
`log_softmax_backward`: the forward's *output*), then the forward's options.

NaN stays NaN; the sign of zero is as in PyTorch. At minus and plus infinity functions and slopes are
what they tend to: `gelu`, `mish` and `silu` are 0 and infinity, with slopes 0 and 1.

All of them raise

- TypeError where an array is not float32 or float64 in native byte order, cannot be read without a
  copy, or where dtypes differ;
- ValueError where shapes differ, an option has no meaning (a slope that is NaN, a `beta` of 0), or
  where `out` has another shape, is read-only, has elements that
  share memory, or overlaps an input in part (it may be exactly an input: in place).

Largest errors in units in the last place, against a wider reference, over the whole range; the tests
hold them. Where a result is a difference of terms, or an exponential of an argument that was rounded
(`softmax`, `log_softmax`, and `gelu` with ``approximate="tanh"``), they are in units of the terms,
or of the result times 1 + the argument: "Speed and error" in the documentation says of which.

====================  =======  =======
kernel                float32  float64
====================  =======  =======
elu                         3        3
elu_backward                3        3
gelu                        8       12
gelu_backward               4        4
leaky_relu                  1        1
leaky_relu_backward         1        1
log_sigmoid                 2        2
log_sigmoid_backward        4        4
log_softmax                 5        5
log_softmax_backward        4        4
logsumexp                   3        3
mish                        4        4
mish_backward               5        5
relu                        0        0
relu_backward               0        0
selu                        3        3
selu_backward               3        3
sigmoid                     4        4
sigmoid_backward            5        5
silu                        4        4
silu_backward               4        4
softmax                     4       12
softmax_backward            4        4
softplus                    4        4
softplus_backward           4        4
tanh                        4        4
tanh_backward               6        6
====================  =======  =======
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_choice, check_flag, check_index
from dlcore._native import dispatch

if TYPE_CHECKING:
    from dlcore._common.typing import Approximation, Array

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


def relu(x: Array, *, out: Array | None = None) -> Array:
    """Rectified linear unit, ``max(x, 0)``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Nair, Hinton: Rectified linear units improve restricted Boltzmann machines, ICML 2010.
    """
    return dispatch.core.relu(x, out)


def relu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `relu`: dy where x > 0, else 0 (0 at x = 0).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.relu_backward(dy, x, out)


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    """``x`` where x > 0, else ``negative_slope * x``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    negative_slope : float, default 0.01
        Slope where x is negative.
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models, ICML 2013.
    """
    return dispatch.core.leaky_relu(x, negative_slope, out)


def leaky_relu_backward(
    dy: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Gradient of `leaky_relu`: dy where x > 0, else negative_slope * dy.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    negative_slope : float, default 0.01
        As in `leaky_relu`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.leaky_relu_backward(dy, x, negative_slope, out)


def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """``x`` where x > 0, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    alpha : float, default 1.0
        The limit at minus infinity is -alpha.
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear
    units, ICLR 2016.
    """
    return dispatch.core.elu(x, alpha, out)


def elu_backward(dy: Array, x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """Gradient of `elu`: dy where x > 0, else dy * alpha * exp(x).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    alpha : float, default 1.0
        As in `elu`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.elu_backward(dy, x, alpha, out)


def silu(x: Array, *, out: Array | None = None) -> Array:
    """Sigmoid linear unit (swish), ``x * sigmoid(x)``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Elfwing, Uchibe, Doya: Sigmoid-weighted linear units for neural network function approximation,
    Neural Networks 107, 2018.
    """
    return dispatch.core.silu(x, out)


def silu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `silu`: dy * sigmoid(x) * (1 + x * sigmoid(-x)).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.silu_backward(dy, x, out)


def mish(x: Array, *, out: Array | None = None) -> Array:
    """Self-regularized activation, ``x * tanh(log(1 + exp(x)))``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Misra: Mish: a self regularized non-monotonic activation function, BMVC 2020.
    """
    return dispatch.core.mish(x, out)


def mish_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `mish`: dy * (t + x * (1 - t**2) * sigmoid(x)) with t = tanh(log(1 + exp(x))).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.mish_backward(dy, x, out)


def selu(x: Array, *, out: Array | None = None) -> Array:
    """Scaled ELU, ``1.0507 * x`` where x > 0, else ``1.7581 * (exp(x) - 1)``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, NeurIPS 2017, whose
    constants have 17 digits here.
    """
    return dispatch.core.selu(x, out)


def selu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `selu`: 1.0507 * dy where x > 0, else 1.7581 * dy * exp(x).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.selu_backward(dy, x, out)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """Logistic function, ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.
    """
    return dispatch.core.sigmoid(x, out)


def sigmoid_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `sigmoid`: dy * s * (1 - s), s the sigmoid, without its cancellation for large x.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.sigmoid_backward(dy, x, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.
    """
    return dispatch.core.tanh(x, out)


def tanh_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `tanh`: dy * (1 - tanh(x)**2), without its cancellation for large x.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.tanh_backward(dy, x, out)


def log_sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """Logarithm of `sigmoid`, right where the sigmoid itself is 0 or rounds to 1.

    Parameters
    ----------
    x : ndarray of float32 or float64
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    Notes
    -----
    ``min(x, 0) - log(1 + exp(-|x|))``; PyTorch calls it ``logsigmoid``.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> dl.log_sigmoid(np.array([-800.0, 0.0])).round(4).tolist()
    [-800.0, -0.6931]
    """
    return dispatch.core.log_sigmoid(x, out)


def log_sigmoid_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """Gradient of `log_sigmoid`: dy * sigmoid(-x).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.log_sigmoid_backward(dy, x, out)


def softplus(
    x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None
) -> Array:
    """``log(1 + exp(beta * x)) / beta``, a smooth rectifier.

    Parameters
    ----------
    x : ndarray of float32 or float64
    beta : float, default 1.0
        Sharpness, greater than 0.
    threshold : float, default 20.0
        Above ``beta * x > threshold`` the result is x itself.
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Dugas et al.: Incorporating second-order functional knowledge for better option pricing,
    NIPS 2000.
    """
    return dispatch.core.softplus(x, beta, threshold, out)


def softplus_backward(
    dy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0, *, out: Array | None = None
) -> Array:
    """Gradient of `softplus`: dy * sigmoid(beta * x), and dy above the threshold.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    beta : float, default 1.0
        As in `softplus`.
    threshold : float, default 20.0
        As in `softplus`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    return dispatch.core.softplus_backward(dy, x, beta, threshold, out)


def _gelu_kernel(approximate: Approximation) -> str:
    check_choice("gelu: approximate", approximate, ("none", "tanh"))
    return "gelu" if approximate == "none" else "gelu_tanh"


def gelu(x: Array, approximate: Approximation = "none", *, out: Array | None = None) -> Array:
    """Gaussian error linear unit, ``x * Phi(x)`` with Phi the normal distribution function.

    Right to the last digits in the lower tail too, where ``1 + erf`` has none left.

    Parameters
    ----------
    x : ndarray of float32 or float64
    approximate : {"none", "tanh"}
        "tanh": ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Hendrycks, Gimpel: Gaussian error linear units, arXiv 1606.08415.
    """
    if _gelu_kernel(approximate) == "gelu":
        return dispatch.core.gelu(x, out)
    return dispatch.core.gelu_tanh(x, out)


def gelu_backward(
    dy: Array, x: Array, approximate: Approximation = "none", *, out: Array | None = None
) -> Array:
    """Gradient of `gelu`: dy * (Phi(x) + x * phi(x)), phi the normal density.

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `x`.
    x : ndarray of float32 or float64
        The forward's input.
    approximate : {"none", "tanh"}
        As in `gelu`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `x`.

    Returns
    -------
    ndarray
        Gradient with respect to `x`; `out` where it was given.
    """
    if _gelu_kernel(approximate) == "gelu":
        return dispatch.core.gelu_backward(dy, x, out)
    return dispatch.core.gelu_tanh_backward(dy, x, out)


def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """``exp(x) / sum(exp(x))`` along an axis, without overflow.

    Entries of -inf get 0. A slice with NaN, with +inf, or of -inf alone is NaN throughout.

    Parameters
    ----------
    x : ndarray of float32 or float64
    axis : int, default -1
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Blanchard, Higham, Higham: Accurately computing the log-sum-exp and softmax functions,
    IMA J. Numer. Anal. 41, 2021.
    """
    try:
        return dispatch.core.softmax(x, axis, out)
    except (OverflowError, TypeError):
        check_index("softmax: axis", axis)
        raise


def softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """Gradient of `softmax`: y * (dy - sum(dy * y)).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `y`.
    y : ndarray of float32 or float64
        The forward's output.
    axis : int, default -1
        As in `softmax`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `y`.

    Returns
    -------
    ndarray
        Gradient with respect to the forward's input; `out` where it was given.
    """
    try:
        return dispatch.core.softmax_backward(dy, y, axis, out)
    except (OverflowError, TypeError):
        check_index("softmax_backward: axis", axis)
        raise


def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """Logarithm of `softmax`, right where the softmax itself is 0 or rounds to 1.

    Parameters
    ----------
    x : ndarray of float32 or float64
    axis : int, default -1
    out : ndarray, optional
        Where the result goes, of the shape and dtype of `x`; it may be `x`.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`; `out` where it was given.

    References
    ----------
    Blanchard, Higham, Higham: Accurately computing the log-sum-exp and softmax functions,
    IMA J. Numer. Anal. 41, 2021.
    """
    try:
        return dispatch.core.log_softmax(x, axis, out)
    except (OverflowError, TypeError):
        check_index("log_softmax: axis", axis)
        raise


def log_softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """Gradient of `log_softmax`: dy - exp(y) * sum(dy).

    Parameters
    ----------
    dy : ndarray
        Gradient with respect to the output, of the shape and dtype of `y`.
    y : ndarray of float32 or float64
        The forward's output.
    axis : int, default -1
        As in `log_softmax`.
    out : ndarray, optional
        Where the result goes; it may be `dy` or `y`.

    Returns
    -------
    ndarray
        Gradient with respect to the forward's input; `out` where it was given.
    """
    try:
        return dispatch.core.log_softmax_backward(dy, y, axis, out)
    except (OverflowError, TypeError):
        check_index("log_softmax_backward: axis", axis)
        raise


def logsumexp(x: Array, axis: int | tuple[int, ...] | None = -1, *, keepdims: bool = False) -> Any:
    """``log(sum(exp(x)))`` along one or several axes, without overflow.

    Parameters
    ----------
    x : ndarray of float32 or float64
    axis : int, tuple of int or None, default -1
        Along which to add up; None for all. Several that are not one run of memory are copied.
    keepdims : bool, default False
        Whether the axes stay, of length 1.

    Returns
    -------
    scalar or ndarray
        Of the dtype of `x`, without those axes. -inf of nothing and of -inf alone; inf where there is
        an infinity, NaN where there is a NaN. The gradient is `softmax` over the same axes.

    Notes
    -----
    The largest element, plus log1p of the sum of the other exponentials over its own: where they are
    tiny their digits stay.

    References
    ----------
    Blanchard, Higham, Higham: Accurately computing the log-sum-exp and softmax functions,
    IMA J. Numer. Anal. 41, 2021.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> float(dl.logsumexp(np.array([1000.0, 1000.0])).round(4))
    1000.6931
    """
    keepdims = check_flag("logsumexp: keepdims", keepdims)
    axes: tuple[int, ...]
    if isinstance(axis, int | np.integer):
        axes = (int(axis),)
        try:
            values = dispatch.core.logsumexp(x, axes[0])
        except OverflowError:
            check_index("logsumexp: axis", axis)
            raise
    else:
        array = as_array(x, "logsumexp: x")
        axes = _axes(axis, array.ndim)
        kept = [d for d in range(array.ndim) if d not in axes]
        lengths = [array.shape[d] for d in axes]
        rows = array.transpose(*kept, *axes).reshape(*(array.shape[d] for d in kept), prod(lengths))
        values = dispatch.core.logsumexp(rows, -1)
    if keepdims:
        values = np.expand_dims(values, axes)
    return values[()]


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return several axes, each once and counted from the first."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple) or not all(isinstance(a, int | np.integer) for a in axis):
        raise TypeError(f"logsumexp: axis must be an int, a tuple of int or None, got {axis!r}")
    axes = tuple(int(a) + ndim * (a < 0) for a in axis)
    if len(set(axes)) < len(axes) or not all(0 <= a < ndim for a in axes):
        raise ValueError(
            f"logsumexp: axis {axis} is out of range for an array of {ndim} dimensions, or names one "
            f"twice"
        )
    return axes
