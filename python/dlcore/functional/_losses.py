"""Loss functions, alone and fused with their gradient.

Each ``loss(...)`` has a twin ``loss_and_grad(..., out=None)`` that returns ``(loss, grad)`` in one
pass over memory, `grad` being the gradient of the result (with ``reduction="none"``: of the sum of
the losses) with respect to the first argument. `out` receives the gradient; it may be exactly the
first argument.

``reduction`` is "none" (the loss of each element or row), "mean" or "sum" (a NumPy scalar of the
input's dtype). Sums are accumulated in float64, over chunks that do not depend on the number of
threads. Shapes must match exactly: nothing is broadcast but `weight`, `pos_weight` and
`quantile` where said.

A weight of 0 hides an element or a row: it adds exactly 0 to the loss and to the gradient, be what
stands there infinite, NaN or no probability. Where all weights are 0 the gradient is 0, and a mean
that is divided by them NaN.

All of them raise

- TypeError where an array cannot be read without a copy, is not float32 or float64 in native byte
  order, or differs in dtype from the first argument; where labels are no integers;
- ValueError where a shape does not fit, or `out` has another shape, is read-only, has elements that
  share memory, or overlaps an argument;
- IndexError where a label is out of range, naming the first such row. Nothing is written then.

Largest errors in units in the last place, against a wider reference; the tests hold them. Where a
result is a difference of terms they are in units of the terms, that of `cross_entropy` together with
the arguments of its exponentials, its gradient, softmax minus target, in units of 1 (over the number
of rows with "mean"): "Speed and error" in the documentation says of which.

=========================================  =======  =======
kernel                                     float32  float64
=========================================  =======  =======
binary_cross_entropy                             6        6
binary_cross_entropy_and_grad                    6        6
binary_cross_entropy_with_logits                 5        5
binary_cross_entropy_with_logits_and_grad        5        5
cross_entropy                                    6       16
cross_entropy_and_grad                           6       16
huber_loss                                       5        6
huber_loss_and_grad                              5        6
kl_div                                           4        6
kl_div_and_grad                                  4        6
l1_loss                                          4        6
l1_loss_and_grad                                 4        6
mse_loss                                         4        6
mse_loss_and_grad                                4        6
nll_loss                                         2       16
nll_loss_and_grad                                2       16
poisson_nll_loss                                 4        6
poisson_nll_loss_and_grad                        4        6
quantile_loss                                    4        6
quantile_loss_and_grad                           4        6
smooth_l1_loss                                   5        6
smooth_l1_loss_and_grad                          5        6
=========================================  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_numbers
from dlcore._common.checks import check_flag, check_index
from dlcore._native import dispatch

if TYPE_CHECKING:
    from dlcore._common.typing import Array, BatchReduction, Loss, LossAndGrad, Reduction

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_and_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_and_grad",
    "cross_entropy",
    "cross_entropy_and_grad",
    "huber_loss",
    "huber_loss_and_grad",
    "kl_div",
    "kl_div_and_grad",
    "l1_loss",
    "l1_loss_and_grad",
    "mse_loss",
    "mse_loss_and_grad",
    "nll_loss",
    "nll_loss_and_grad",
    "poisson_nll_loss",
    "poisson_nll_loss_and_grad",
    "quantile_loss",
    "quantile_loss_and_grad",
    "smooth_l1_loss",
    "smooth_l1_loss_and_grad",
]


def _label_smoothing(value: float) -> float:
    try:
        if 0 <= value <= 1:
            return value
    except (ArithmeticError, TypeError, ValueError):  # text, several numbers
        pass
    raise ValueError(f"cross_entropy: label_smoothing must be between 0 and 1, got {value!r}")


def _of_classes(kernel: Any, function: str, x: Any, target: Any, weight: Any, *options: Any) -> Any:
    """Call a kernel whose first option is ``ignore_index``, and name that if it is no index."""
    try:
        return kernel(x, target, weight, *options)
    except (OverflowError, TypeError):
        check_index(f"{function}: ignore_index", options[0])
        raise


def _broadcast(
    function: str, name: str, weight: Any, like: Any, like_name: str = "input"
) -> Array | None:
    """Return the weight, anything that counts as an array, as a view of the shape of the input."""
    if weight is None:
        return None
    shape = as_array(like, f"{function}: {like_name}").shape
    if type(weight) is np.ndarray and weight.shape == shape:
        return weight
    array = as_array(weight, f"{function}: {name}")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{function}: {name} must broadcast to the shape {shape}, got {array.shape}"
        ) from None


def all_probabilities(function: str, name: str, x: Array) -> bool:
    """Whether all elements are in [0, 1] or NaN; the names are for messages."""
    return dispatch.core.all_probabilities(function, name, x)


_BCE_LOGITS = "binary_cross_entropy_with_logits"


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross-entropy of logits, ``-log(softmax(logits)[target])``.

    Parameters
    ----------
    logits : ndarray of float32 or float64, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalized log-probabilities of C classes. A class of -inf is masked.
    target : ndarray
        Class indices of any integer dtype, shape (), (N,) or (N, d1, ...); or class probabilities of
        the dtype and shape of `logits`. A probability of 0 adds exactly 0, at a masked class too.
    weight : ndarray of shape (C,), optional
        Weight of each class. "mean" divides by the sum of the weights of the labels. A row whose
        label has weight 0 adds exactly 0, whatever its logits are (unless labels are smoothed).
    ignore_index : int, default -100
        Label of rows that add nothing to the loss, its mean or the gradient.
    label_smoothing : float, default 0.0
        Share of the target spread evenly over the classes, between 0 and 1.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `target` for class indices, else of `logits` without its class axis.

    Notes
    -----
    The log-softmax is taken from the row's largest logit and the sum of the *other* exponentials: the
    loss of a confident row is log1p of that sum, with all its digits. Semantics are those of
    ``torch.nn.functional.cross_entropy``, the mean of rows that are all ignored (nan) included.
    """
    loss: Loss = _of_classes(
        dispatch.core.cross_entropy,
        "cross_entropy",
        logits,
        target,
        weight,
        ignore_index,
        _label_smoothing(label_smoothing),
        reduction,
        False,
        None,
    )
    return loss


def cross_entropy_and_grad(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`cross_entropy` and its gradient, ``softmax(logits) - target``, in one pass.

    Parameters
    ----------
    logits, target, weight, ignore_index, label_smoothing, reduction
        As in `cross_entropy`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `logits`; it may be `logits`.

    Returns
    -------
    loss : scalar or ndarray
        As from `cross_entropy`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `logits`; `out` where it was given.
    """
    both: LossAndGrad = _of_classes(
        dispatch.core.cross_entropy,
        "cross_entropy",
        logits,
        target,
        weight,
        ignore_index,
        _label_smoothing(label_smoothing),
        reduction,
        True,
        out,
    )
    return both


def nll_loss(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Loss:
    """Negative log-likelihood, ``-input[target]``.

    Parameters
    ----------
    input : ndarray of float32 or float64, shape (C,), (N, C) or (N, C, d1, ...)
        Log-probabilities of C classes.
    target : ndarray of integers, shape (), (N,) or (N, d1, ...)
        Class indices.
    weight : ndarray of shape (C,), optional
        Weight of each class. "mean" divides by the sum of the weights of the labels.
    ignore_index : int, default -100
        Label of rows that add nothing to the loss, its mean or the gradient.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `target`.

    Notes
    -----
    Semantics are those of ``torch.nn.functional.nll_loss``.
    """
    kernel = dispatch.core.nll_loss
    loss: Loss = _of_classes(
        kernel, "nll_loss", input, target, weight, ignore_index, reduction, False, None
    )
    return loss


def nll_loss_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`nll_loss` and its gradient, ``-weight at the label, else 0``, in one pass.

    Parameters
    ----------
    input, target, weight, ignore_index, reduction
        As in `nll_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `nll_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    kernel = dispatch.core.nll_loss
    both: LossAndGrad = _of_classes(
        kernel, "nll_loss", input, target, weight, ignore_index, reduction, True, out
    )
    return both


def binary_cross_entropy(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Binary cross-entropy of probabilities, ``-(t log(x) + (1 - t) log(1 - x))``.

    Parameters
    ----------
    input : ndarray of float32 or float64
        Probabilities, between 0 and 1; NaN gives NaN.
    target : ndarray
        Of the dtype and shape of `input`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.

    Notes
    -----
    Like PyTorch's, the logarithms are not let below -100, nor x (1 - x) in the gradient below 1e-12.
    Prefer `binary_cross_entropy_with_logits`, which loses nothing at either end.
    """
    if weight is not None:
        weight = _broadcast("binary_cross_entropy", "weight", weight, input)
    loss: Loss = dispatch.core.binary_cross_entropy(input, target, weight, reduction, False, None)
    return loss


def binary_cross_entropy_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`binary_cross_entropy` and its gradient, ``(x - t) / (x (1 - x))``, in one pass.

    Parameters
    ----------
    input, target, weight, reduction
        As in `binary_cross_entropy`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `binary_cross_entropy`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("binary_cross_entropy", "weight", weight, input)
    both: LossAndGrad = dispatch.core.binary_cross_entropy(
        input, target, weight, reduction, True, out
    )
    return both


def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Binary cross-entropy of logits, ``-(p t log(s) + (1 - t) log(1 - s))``, s = sigmoid(logits).

    Parameters
    ----------
    logits : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `logits`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `logits`. An element of weight 0 adds exactly
        0, whatever stands there.
    pos_weight : ndarray, optional
        The factor p of positive targets; broadcast to the shape of `logits`.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `logits`.

    Notes
    -----
    Computed as ``(1 - t) softplus(x) + p t softplus(-x)``, which neither overflows nor cancels. An
    infinite logit costs 0 where it is right, and infinity where it is wrong.
    """
    if weight is not None:
        weight = _broadcast(_BCE_LOGITS, "weight", weight, logits, "logits")
    if pos_weight is not None:
        pos_weight = _broadcast(_BCE_LOGITS, "pos_weight", pos_weight, logits, "logits")
    loss: Loss = dispatch.core.binary_cross_entropy_with_logits(
        logits, target, weight, pos_weight, reduction, False, None
    )
    return loss


def binary_cross_entropy_with_logits_and_grad(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`binary_cross_entropy_with_logits` and its gradient, ``(1 - t) s - p t (1 - s)``, in one pass.

    Parameters
    ----------
    logits, target, weight, pos_weight, reduction
        As in `binary_cross_entropy_with_logits`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `logits`; it may be `logits`.

    Returns
    -------
    loss : scalar or ndarray
        As from `binary_cross_entropy_with_logits`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `logits`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast(_BCE_LOGITS, "weight", weight, logits, "logits")
    if pos_weight is not None:
        pos_weight = _broadcast(_BCE_LOGITS, "pos_weight", pos_weight, logits, "logits")
    both: LossAndGrad = dispatch.core.binary_cross_entropy_with_logits(
        logits, target, weight, pos_weight, reduction, True, out
    )
    return both


def mse_loss(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Squared error, ``(input - target)**2``.

    Parameters
    ----------
    input : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `input`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.
    """
    if weight is not None:
        weight = _broadcast("mse_loss", "weight", weight, input)
    loss: Loss = dispatch.core.mse_loss(input, target, weight, reduction, False, None)
    return loss


def mse_loss_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`mse_loss` and its gradient, ``2 (input - target)``, in one pass.

    Parameters
    ----------
    input, target, weight, reduction
        As in `mse_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `mse_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("mse_loss", "weight", weight, input)
    both: LossAndGrad = dispatch.core.mse_loss(input, target, weight, reduction, True, out)
    return both


def l1_loss(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Absolute error, ``|input - target|``.

    Parameters
    ----------
    input : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `input`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.
    """
    if weight is not None:
        weight = _broadcast("l1_loss", "weight", weight, input)
    loss: Loss = dispatch.core.l1_loss(input, target, weight, reduction, False, None)
    return loss


def l1_loss_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`l1_loss` and its gradient, ``sign(input - target), 0 at 0``, in one pass.

    Parameters
    ----------
    input, target, weight, reduction
        As in `l1_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `l1_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("l1_loss", "weight", weight, input)
    both: LossAndGrad = dispatch.core.l1_loss(input, target, weight, reduction, True, out)
    return both


def smooth_l1_loss(
    input: Array,
    target: Array,
    *,
    beta: float = 1.0,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Absolute error with a quadratic bottom.

    ``d**2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``.

    Parameters
    ----------
    input : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `input`.
    beta : float, default 1.0
        Where the quadratic part ends, at least 0; with 0 it is `l1_loss`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.

    Notes
    -----
    Girshick: Fast R-CNN, ICCV 2015. d = input - target.
    """
    if weight is not None:
        weight = _broadcast("smooth_l1_loss", "weight", weight, input)
    loss: Loss = dispatch.core.smooth_l1_loss(input, target, beta, weight, reduction, False, None)
    return loss


def smooth_l1_loss_and_grad(
    input: Array,
    target: Array,
    *,
    beta: float = 1.0,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`smooth_l1_loss` and its gradient, ``d / beta where |d| < beta, else sign(d)``, in one pass.

    Parameters
    ----------
    input, target, beta, weight, reduction
        As in `smooth_l1_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `smooth_l1_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("smooth_l1_loss", "weight", weight, input)
    both: LossAndGrad = dispatch.core.smooth_l1_loss(
        input, target, beta, weight, reduction, True, out
    )
    return both


def huber_loss(
    input: Array,
    target: Array,
    *,
    delta: float = 1.0,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Huber loss, ``d**2 / 2`` where ``|d| <= delta``, else ``delta (|d| - delta / 2)``.

    Parameters
    ----------
    input : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `input`.
    delta : float, default 1.0
        Where the quadratic part ends, greater than 0.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the number of elements, as in PyTorch.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.

    Notes
    -----
    Huber: Robust estimation of a location parameter, Ann. Math. Stat. 35, 1964. d = input - target.
    """
    if weight is not None:
        weight = _broadcast("huber_loss", "weight", weight, input)
    loss: Loss = dispatch.core.huber_loss(input, target, delta, weight, reduction, False, None)
    return loss


def huber_loss_and_grad(
    input: Array,
    target: Array,
    *,
    delta: float = 1.0,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`huber_loss` and its gradient, ``d where |d| <= delta, else delta sign(d)``, in one pass.

    Parameters
    ----------
    input, target, delta, weight, reduction
        As in `huber_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `huber_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("huber_loss", "weight", weight, input)
    both: LossAndGrad = dispatch.core.huber_loss(input, target, delta, weight, reduction, True, out)
    return both


def poisson_nll_loss(
    input: Array, target: Array, *, weight: Array | None = None, reduction: Reduction = "mean"
) -> Loss:
    """Negative log-likelihood of counts that follow a Poisson distribution, ``exp(x) - t x``.

    The input is the logarithm of the rate. What depends on the target alone, ``log(t!)``, is left
    out, as in PyTorch's function with its defaults.

    Parameters
    ----------
    input : ndarray of float32 or float64
        Logarithms of the rates.
    target : ndarray
        Counts, of the dtype and shape of `input`.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array of the shape of `input`. A target of 0 costs
        ``exp(x)`` alone, 0 for x = -inf.

    Notes
    -----
    Nelder, Wedderburn: Generalized linear models, J. R. Stat. Soc. A 135, 1972.
    """
    if weight is not None:
        weight = _broadcast("poisson_nll_loss", "weight", weight, input)
    loss: Loss = dispatch.core.poisson_nll_loss(input, target, weight, reduction, False, None)
    return loss


def poisson_nll_loss_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`poisson_nll_loss` and its gradient, ``exp(x) - t``, in one pass.

    Parameters
    ----------
    input, target, weight, reduction
        As in `poisson_nll_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `poisson_nll_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("poisson_nll_loss", "weight", weight, input)
    both: LossAndGrad = dispatch.core.poisson_nll_loss(input, target, weight, reduction, True, out)
    return both


def quantile_loss(
    input: Array,
    target: Array,
    *,
    quantile: float | Array = 0.5,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Quantile (pinball) loss, ``q d`` where ``d = target - input`` is positive, else ``(q - 1) d``.

    The best constant is the target's quantile of that order.

    Parameters
    ----------
    input : ndarray of float32 or float64
    target : ndarray
        Of the dtype and shape of `input`.
    quantile : float or ndarray, default 0.5
        Order of the quantile, between 0 and 1; an array of `input`'s dtype broadcasts to its shape,
        such as one for each column.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array of the shape of `input`.

    Notes
    -----
    Koenker, Bassett: Regression quantiles, Econometrica 46, 1978.
    """
    if weight is not None:
        weight = _broadcast("quantile_loss", "weight", weight, input)
    orders = _quantile(quantile, input)
    loss: Loss = dispatch.core.quantile_loss(input, target, orders, weight, reduction, False, None)
    return loss


def quantile_loss_and_grad(
    input: Array,
    target: Array,
    *,
    quantile: float | Array = 0.5,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    out: Array | None = None,
) -> LossAndGrad:
    """`quantile_loss` and its gradient: -q, 1 - q, or 0 where input and target are equal.

    Parameters
    ----------
    input, target, quantile, weight, reduction
        As in `quantile_loss`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `quantile_loss`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("quantile_loss", "weight", weight, input)
    orders = _quantile(quantile, input)
    both: LossAndGrad = dispatch.core.quantile_loss(
        input, target, orders, weight, reduction, True, out
    )
    return both


def _quantile(quantile: Any, input: Any) -> Any:
    """Return the orders of the quantiles as a view of the shape of the input."""
    values = as_numbers(quantile, "quantile_loss: quantile")
    if values.dtype.kind not in "fiu" or not ((values >= 0) & (values <= 1)).all():  # NaN too
        raise ValueError(f"quantile_loss: quantile must be between 0 and 1, got {quantile}")
    if values.ndim == 0:
        values = values.astype(as_array(input, "quantile_loss: input").dtype)
    return _broadcast("quantile_loss", "quantile", values, input)


def kl_div(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: BatchReduction = "mean",
    log_target: bool = False,
) -> Loss:
    """Kullback-Leibler divergence, ``target * (log(target) - input)``.

    Parameters
    ----------
    input : ndarray of float32 or float64
        Log-probabilities.
    target : ndarray
        Probabilities, or their logarithms with `log_target`; of the dtype and shape of `input`.
        A probability of 0 adds exactly 0.
    weight : ndarray, optional
        Weight of each element; broadcast to the shape of `input`. An element of weight 0 adds exactly
        0, whatever stands there. "mean" divides by
        the sum of the weights.
    reduction : {"none", "mean", "sum", "batchmean"}
    log_target : bool, default False

    Returns
    -------
    scalar or ndarray
        The reduced loss; with "none" an array
        of the shape of `input`.

    Notes
    -----
    Semantics are those of ``torch.nn.functional.kl_div``: "mean" divides by the number of elements,
    "batchmean" by the length of the first axis, which is the divergence of a batch.
    """
    if weight is not None:
        weight = _broadcast("kl_div", "weight", weight, input)
    log_target = check_flag("kl_div: log_target", log_target)
    loss: Loss = dispatch.core.kl_div(input, target, weight, reduction, log_target, False, None)
    return loss


def kl_div_and_grad(
    input: Array,
    target: Array,
    *,
    weight: Array | None = None,
    reduction: BatchReduction = "mean",
    log_target: bool = False,
    out: Array | None = None,
) -> LossAndGrad:
    """`kl_div` and its gradient, ``-target``, in one pass.

    Parameters
    ----------
    input, target, weight, reduction, log_target
        As in `kl_div`.
    out : ndarray, optional
        Where the gradient goes, of the shape and dtype of `input`; it may be `input`.

    Returns
    -------
    loss : scalar or ndarray
        As from `kl_div`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`; `out` where it was given.
    """
    if weight is not None:
        weight = _broadcast("kl_div", "weight", weight, input)
    log_target = check_flag("kl_div: log_target", log_target)
    both: LossAndGrad = dispatch.core.kl_div(
        input, target, weight, reduction, log_target, True, out
    )
    return both
