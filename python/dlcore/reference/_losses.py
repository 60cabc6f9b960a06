"""Loss functions and their gradients in plain NumPy.

``loss`` gives the reduced loss; ``loss_and_grad`` also gives the gradient of the reduced loss with
respect to the first argument, for ``reduction="none"`` the gradient of the sum. Sums are taken in
float64 at least. Semantics and names of arguments are those of ``torch.nn.functional``.
"""

from typing import Any

import numpy as np

from dlcore.reference._activations import Array, log_softmax, quiet, sigmoid, softplus

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

Labels = Any  # an array of any integer dtype
Loss = Any  # a NumPy scalar of the input's dtype, with reduction="none" an array


def cross_entropy(
    logits: Array,
    target: Array | Labels,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Loss:
    """``-sum_c weight_c t_c log_softmax(logits)_c`` for each row, ``t`` its class probabilities.

    A row all of whose ``weight_c t_c`` are 0 counts 0, whatever its logits are.

    A class index y means ``t_c = (1 - label_smoothing) [c = y] + label_smoothing / C``;
    probabilities are smoothed alike. A probability of exactly 0 contributes exactly 0. Rows whose
    index is ``ignore_index`` count nothing. The mean is weighted by ``weight[y]`` for indices and
    over all rows for probabilities.
    """
    return cross_entropy_and_grad(
        logits,
        target,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )[0]


@quiet
def cross_entropy_and_grad(
    logits: Array,
    target: Array | Labels,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient of a row: ``softmax(logits) * sum(q) - q`` with ``q_c = weight_c t_c``."""
    axis = _class_axis(logits)
    log_p = np.moveaxis(log_softmax(logits, axis), axis, -1)
    classes = log_p.shape[-1]
    w = np.ones(classes, logits.dtype) if weight is None else weight
    if target.dtype.kind == "f":
        t = np.moveaxis(target, axis, -1)
        kept = np.ones(log_p.shape[:-1], np.bool_)
        row_weight = kept.astype(logits.dtype)
    else:
        index, kept = _class_indices(target, classes, ignore_index)
        t = _one_hot(index, classes).astype(logits.dtype)
        row_weight = np.where(kept, w[index], 0)
    q = _product(w, (1 - label_smoothing) * t + label_smoothing / classes)
    kept = kept & (q != 0).any(-1)
    losses = np.where(kept, -_product(q, log_p).sum(-1), 0)
    grads = np.where(kept[..., np.newaxis], np.exp(log_p) * q.sum(-1, keepdims=True) - q, 0)
    return _reduce(losses, np.moveaxis(grads, -1, axis), reduction, row_weight)


def nll_loss(
    input: Array,
    target: Labels,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Loss:
    """``-weight[y] * input[y]`` for each row of log-probabilities.

    The mean is weighted by ``weight[y]``.
    """
    return nll_loss_and_grad(
        input, target, weight=weight, ignore_index=ignore_index, reduction=reduction
    )[0]


@quiet
def nll_loss_and_grad(
    input: Array,
    target: Labels,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient of a row: ``-weight[y]`` at its class y, else 0."""
    axis = _class_axis(input)
    rows = np.moveaxis(input, axis, -1)
    classes = rows.shape[-1]
    index, kept = _class_indices(target, classes, ignore_index)
    w = np.ones(classes, input.dtype) if weight is None else weight
    row_weight = np.where(kept, w[index], 0)
    picked = np.take_along_axis(rows, index[..., np.newaxis], -1)[..., 0]
    losses = -_product(row_weight, picked)
    grads = -row_weight[..., np.newaxis] * _one_hot(index, classes)
    return _reduce(losses, np.moveaxis(grads, -1, axis), reduction, row_weight)


def binary_cross_entropy(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> Loss:
    """``-(t log(p) + (1 - t) log(1 - p))``, p the input, the logarithms not let below -100."""
    return binary_cross_entropy_and_grad(input, target, weight=weight, reduction=reduction)[0]


@quiet
def binary_cross_entropy_and_grad(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Loss, Array]:
    """Gradient: ``(p - t) / max(p (1 - p), 1e-12)``."""
    log_p, log_q = np.maximum(np.log(input), -100), np.maximum(np.log1p(-input), -100)
    losses = -(target * log_p + (1 - target) * log_q)
    grads = (input - target) / np.maximum(input * (1 - input), 1e-12)
    return _reduce(*_weighted(losses, grads, weight), reduction)


def binary_cross_entropy_with_logits(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> Loss:
    """``-weight * (pos_weight t log(p) + (1 - t) log(1 - p))`` with ``p = sigmoid(logits)``.

    ``-log(p) = softplus(-logits)`` and ``-log(1 - p) = softplus(logits)`` overflow nowhere.
    """
    return binary_cross_entropy_with_logits_and_grad(
        logits, target, weight=weight, pos_weight=pos_weight, reduction=reduction
    )[0]


@quiet
def binary_cross_entropy_with_logits_and_grad(
    logits: Array,
    target: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient: ``weight * ((1 - t) p - pos_weight t (1 - p))``."""
    one = logits.dtype.type(1)
    positive = target * (one if pos_weight is None else pos_weight)
    negative = 1 - target
    never = np.inf  # no threshold beyond which softplus is taken for the identity
    losses = _product(positive, softplus(-logits, threshold=never)) + _product(
        negative, softplus(logits, threshold=never)
    )
    grads = _product(negative, sigmoid(logits)) - _product(positive, sigmoid(-logits))
    return _reduce(*_weighted(losses, grads, weight), reduction)


def mse_loss(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> Loss:
    """``d^2`` with ``d = input - target``."""
    return mse_loss_and_grad(input, target, weight=weight, reduction=reduction)[0]


@quiet
def mse_loss_and_grad(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Loss, Array]:
    """Gradient: ``2 d``."""
    d = input - target
    return _reduce(*_weighted(d * d, 2 * d, weight), reduction, weight)


def l1_loss(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> Loss:
    """``|d|`` with ``d = input - target``."""
    return l1_loss_and_grad(input, target, weight=weight, reduction=reduction)[0]


@quiet
def l1_loss_and_grad(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Loss, Array]:
    """Gradient: ``sign(d)``, 0 for 0 and, as in PyTorch, for NaN."""
    d = input - target
    return _reduce(*_weighted(np.abs(d), _sign(d), weight), reduction, weight)


def smooth_l1_loss(
    input: Array,
    target: Array,
    *,
    beta: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Loss:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2`` (Girshick, 2015)."""
    return smooth_l1_loss_and_grad(input, target, beta=beta, weight=weight, reduction=reduction)[0]


@quiet
def smooth_l1_loss_and_grad(
    input: Array,
    target: Array,
    *,
    beta: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient: ``d / beta`` where ``|d| < beta``, else ``sign(d)``."""
    d = input - target
    if beta == 0:
        return _reduce(*_weighted(np.abs(d), _sign(d), weight), reduction, weight)
    far = np.abs(d) >= beta
    losses = np.where(far, np.abs(d) - beta / 2, d * d / (2 * beta))
    return _reduce(*_weighted(losses, np.where(far, _sign(d), d / beta), weight), reduction, weight)


def huber_loss(
    input: Array,
    target: Array,
    *,
    delta: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Loss:
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)`` (Huber, 1964)."""
    return huber_loss_and_grad(input, target, delta=delta, weight=weight, reduction=reduction)[0]


@quiet
def huber_loss_and_grad(
    input: Array,
    target: Array,
    *,
    delta: float = 1.0,
    weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient: ``d`` where ``|d| < delta``, else ``delta sign(d)``."""
    d = input - target
    far = np.abs(d) >= delta
    losses = np.where(far, delta * (np.abs(d) - delta / 2), d * d / 2)
    return _reduce(*_weighted(losses, np.where(far, delta * _sign(d), d), weight), reduction, None)


def poisson_nll_loss(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> Loss:
    """``exp(x) - t x``, x being the logarithm of the rate; ``t x`` is 0 where ``t = 0``."""
    return poisson_nll_loss_and_grad(input, target, weight=weight, reduction=reduction)[0]


@quiet
def poisson_nll_loss_and_grad(
    input: Array, target: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> tuple[Loss, Array]:
    """Gradient: ``exp(x) - t``."""
    rate = np.exp(input)
    losses = rate - _product(target, input)
    return _reduce(*_weighted(losses, rate - target, weight), reduction, weight)


def quantile_loss(
    input: Array,
    target: Array,
    *,
    quantile: float | Array = 0.5,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Loss:
    """``max(q d, (q - 1) d)`` with ``d = target - input`` (Koenker & Bassett, 1978)."""
    return quantile_loss_and_grad(
        input, target, quantile=quantile, weight=weight, reduction=reduction
    )[0]


@quiet
def quantile_loss_and_grad(
    input: Array,
    target: Array,
    *,
    quantile: float | Array = 0.5,
    weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient: ``-q`` where d is positive, ``1 - q`` where it is negative, else 0."""
    q = np.asarray(quantile, input.dtype)
    d = target - input
    factor = np.where(d > 0, q, q - 1)
    return _reduce(
        *_weighted(factor * d, np.where((d > 0) | (d < 0), -factor, 0 * q), weight),
        reduction,
        weight,
    )


def kl_div(
    input: Array,
    target: Array,
    *,
    log_target: bool = False,
    weight: Array | None = None,
    reduction: str = "mean",
) -> Loss:
    """``t (log(t) - input)``, 0 where ``t = 0``; the input holds log-probabilities.

    With ``log_target`` the target is ``log(t)``, else ``t``.
    The mean is over elements; ``"batchmean"`` divides by the first dimension instead.
    """
    return kl_div_and_grad(
        input, target, log_target=log_target, weight=weight, reduction=reduction
    )[0]


@quiet
def kl_div_and_grad(
    input: Array,
    target: Array,
    *,
    log_target: bool = False,
    weight: Array | None = None,
    reduction: str = "mean",
) -> tuple[Loss, Array]:
    """Gradient: ``-t``."""
    t, log_t = (np.exp(target), target) if log_target else (target, np.log(target))
    return _reduce(*_weighted(_product(t, log_t - input), -t, weight), reduction, weight)


def _sign(x: Array) -> Array:
    return np.where(np.isnan(x), 0, np.sign(x))


def _weighted(losses: Array, grads: Array, weight: Array | None) -> tuple[Array, Array]:
    """Multiply losses and their gradients by weights; a weight of 0 hides anything."""
    if weight is None:
        return losses, grads
    return _product(weight, losses), _product(weight, grads)


def _product(coefficient: Array, x: Array) -> Array:
    """``coefficient * x``, with 0 times anything 0: a term of probability 0 does not count."""
    return np.where(coefficient == 0, 0, coefficient * x)


def _class_axis(x: Array) -> int:
    """Classes lie along axis 1 of (N, C, d1, ...), along the only axis of (C)."""
    return 1 if x.ndim > 1 else 0


def _class_indices(target: Labels, classes: int, ignore_index: int) -> tuple[Labels, Array]:
    """Return the indices, with 0 in place of ``ignore_index``, and which rows are kept."""
    kept = target != ignore_index
    bad = kept & ((target < 0) | (target >= classes))
    if np.any(bad):
        row = int(np.flatnonzero(bad)[0])
        raise IndexError(
            f"target row {row} is {target.reshape(-1)[row]}, outside the {classes} classes"
        )
    return np.where(kept, target, 0).astype(np.intp), kept


def _one_hot(index: Labels, classes: int) -> Array:
    return index[..., np.newaxis] == np.arange(classes)


def _reduce(
    losses: Array, grads: Array, reduction: str, row_weight: Array | None = None
) -> tuple[Loss, Array]:
    """Reduced loss and its gradient from the losses and their gradients, one by one.

    ``row_weight`` are the weights that the mean is divided by; the losses already carry them. Where
    they add up to 0, the mean is NaN and its gradient 0.
    """
    if reduction == "none":
        return losses, grads
    wide = np.promote_types(losses.dtype, np.float64).type
    divisor = wide(1)
    if reduction == "mean":
        divisor = wide(losses.size) if row_weight is None else _total(row_weight, losses)
    elif reduction == "batchmean":
        divisor = wide(losses.shape[0])
    loss = losses.dtype.type(losses.sum(dtype=wide) / divisor)
    scaled = np.zeros_like(grads) if divisor == 0 else grads / divisor
    return loss, scaled.astype(losses.dtype)


def _total(weight: Array, losses: Array) -> Array:
    """Add up the weights of all losses."""
    wide = np.promote_types(losses.dtype, np.float64)
    return np.broadcast_to(weight, losses.shape).sum(dtype=wide)
