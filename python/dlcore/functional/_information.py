"""Entropy of distributions and of samples, and how far one distribution is from another."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_numbers, without_mask
from dlcore._common.checks import check_choice, check_floating
from dlcore.functional._losses import all_probabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlcore._common.typing import Array, Reduction

__all__ = [
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "cross_entropy",
    "entropy",
    "label_entropy",
    "relative_entropy",
]


def entropy(p: Array, *, base: float | None = None, axis: int = -1) -> Any:
    """Entropy of distributions, ``-sum(p log(p))``.

    Parameters
    ----------
    p : ndarray of float32 or float64
        Probabilities; they are not made to add up to 1. A probability of 0 adds exactly 0.
    base : float, optional
        Of the logarithm, greater than 0 and not 1: 2 for bits; None for e, nats.
    axis : int, default -1
        Along which the probabilities of a distribution lie.

    Returns
    -------
    scalar or ndarray
        Of the dtype of `p`, without that axis; summed in float64.

    Raises
    ------
    TypeError
        If `p` is not float32 or float64.
    ValueError
        If a probability is less than 0 or more than 1, or `base` is out of range.

    Notes
    -----
    Shannon: A mathematical theory of communication, 1948.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> float(dl.entropy(np.array([0.5, 0.25, 0.25, 0.0]), base=2))
    1.5
    """
    return _summed("entropy", _entropy_terms, {"p": p}, base, axis)


def label_entropy(labels: Any, *, base: float | None = None, weight: Any = None) -> float:
    """Entropy of a sample of labels: how mixed a group is, 0 where all are alike.

    ``-sum(n_k / n log(n_k / n))`` over the labels k that occur n_k times among n.

    Parameters
    ----------
    labels : array_like of any dtype, shape (N,)
    base : float, optional
        Of the logarithm, as in `entropy`.
    weight : array_like of shape (N,), optional
        Weight of each label, at least 0, instead of 1.

    Returns
    -------
    float
        0.0 for no labels.

    Raises
    ------
    ValueError
        If `labels` has not one dimension, the weights do not fit or are negative or not finite, or
        `base` is out of range.

    Notes
    -----
    The impurity of a node in the decision trees of Quinlan: Induction of decision trees, Machine
    Learning 1, 1986.
    """
    given = np.asarray(without_mask(labels, "label_entropy: labels"))
    if given.ndim != 1:
        raise ValueError(f"label_entropy: labels must have shape (N,), got {given.shape}")
    of_each: Array | None = None
    if weight is not None:
        of_each = as_numbers(weight, "label_entropy: weight").astype(np.float64)
        if of_each.shape != given.shape:
            raise ValueError(
                f"label_entropy: weight must have the shape of labels, {given.shape}, "
                f"got {of_each.shape}"
            )
        if not (np.isfinite(of_each) & (of_each >= 0)).all():
            raise ValueError("label_entropy: weight must be finite and at least 0")
    counts = np.bincount(np.unique(given, return_inverse=True)[1], of_each).astype(np.float64)
    total = counts.sum()
    shares = counts / total if total > 0 else np.zeros(1)
    return float(entropy(shares, base=base))


def cross_entropy(p: Array, q: Array, *, base: float | None = None, axis: int = -1) -> Any:
    """Cross-entropy of distributions, ``H(p, q) = -sum(p log(q))``.

    What it takes on average to code what is drawn from p with a code made for q. It is
    ``entropy(p) + relative_entropy(p, q)``. (`dlcore.cross_entropy` is the loss of logits.)

    Parameters
    ----------
    p, q : ndarray of float32 or float64
        Probabilities, of one shape and dtype. Where p is 0 nothing is added; where q alone is 0 the
        result is infinite.
    base, axis
        As in `entropy`.

    Returns
    -------
    scalar or ndarray
        Of the dtype of `p`, without that axis; summed in float64.

    Raises
    ------
    TypeError
        If `p` is not float32 or float64, or `q` is of another dtype.
    ValueError
        If the shapes differ, a probability is less than 0 or more than 1, or `base` is out of
        range.

    Notes
    -----
    Good: Some terminology and notation in information theory, Proc. IEE C 103, 1956.
    """
    return _summed("cross_entropy", _cross_entropy_terms, {"p": p, "q": q}, base, axis)


def relative_entropy(p: Array, q: Array, *, base: float | None = None, axis: int = -1) -> Any:
    """Relative entropy (Kullback-Leibler divergence) of p from q, ``sum(p log(p / q))``.

    Parameters
    ----------
    p, q : ndarray of float32 or float64
        Probabilities, of one shape and dtype. Where p is 0 nothing is added; where q alone is 0 the
        result is infinite.
    base, axis
        As in `entropy`.

    Returns
    -------
    scalar or ndarray
        Of the dtype of `p`, without that axis; summed in float64.

    Raises
    ------
    TypeError
        If `p` is not float32 or float64, or `q` is of another dtype.
    ValueError
        If the shapes differ, a probability is less than 0 or more than 1, or `base` is out of
        range.

    Notes
    -----
    Where p and q are near each other, with ``d = (p - q) / q``, a term is taken as
    ``(p - q) + q ((1 + d) log(1 + d) - d)``: the differences, which are exact, add up to 0 or nearly,
    and the rest is positive. So nothing cancels, and nearly equal distributions are not less than 0
    apart.

    Kullback, Leibler: On information and sufficiency, Ann. Math. Stat. 22, 1951.
    """
    return _summed("relative_entropy", _divergence_terms, {"p": p, "q": q}, base, axis)


def categorical_cross_entropy(
    input: Array,
    target: Any,
    *,
    base: float | None = None,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Any:
    """Cross-entropy loss of probabilities, ``-log(input[target])``.

    Parameters
    ----------
    input : ndarray of float32 or float64, shape (C,) or (N, C)
        Probabilities of C classes; they are not made to add up to 1.
    target : ndarray of integers, shape () or (N,), or ndarray of the shape and dtype of `input`
        Class indices, or probabilities t of the classes: ``-sum(t log(input))``.
    base : float, optional
        Of the logarithm, as in `entropy`.
    weight : ndarray of shape (C,), optional
        Weight of each class. For class indices "mean" divides by the sum of those of the targets. A
        class of weight 0 adds exactly 0, be its probability 0 or NaN.
    reduction : {"none", "mean", "sum"}

    Returns
    -------
    scalar or ndarray
        Of the dtype of `input`; with "none" an array of shape () or (N,).

    Raises
    ------
    TypeError
        If `input` is not float32 or float64, or `target` is neither of integers nor like `input`.
    ValueError
        If shapes do not fit, a probability is less than 0 or more than 1, or an option is out of
        range.
    IndexError
        If a class index is out of range.

    Notes
    -----
    As in `binary_cross_entropy` the (natural) logarithm is not let below -100. Prefer
    `dlcore.cross_entropy` of logits, which loses nothing of small probabilities.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> p = np.array([0.775, 0.116, 0.039, 0.070])
    >>> float(dl.categorical_cross_entropy(p, np.array([1.0, 0, 0, 0]), base=2).round(4))
    0.3677
    """
    return _categorical("categorical_cross_entropy", input, target, base, weight, reduction).loss


def categorical_cross_entropy_and_grad(
    input: Array,
    target: Any,
    *,
    base: float | None = None,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> tuple[Any, Array]:
    """`categorical_cross_entropy` and its gradient, ``-t / input``, with input not below 1e-12.

    Parameters
    ----------
    input, target, base, weight, reduction
        As in `categorical_cross_entropy`.

    Returns
    -------
    loss : scalar or ndarray
        As from `categorical_cross_entropy`.
    grad : ndarray
        Gradient of the (summed) loss with respect to `input`.
    """
    function = "categorical_cross_entropy_and_grad"
    call = _categorical(function, input, target, base, weight, reduction)
    return call.loss, call.gradient()


@dataclass
class _Categorical:
    """A call of `categorical_cross_entropy`: rows of probabilities and their targets, checked."""

    rows: Array  # of shape (N, C)
    shape: tuple[int, ...]  # of the input
    weight: Array | None  # of each class
    labels: Array | None  # of each row; None: there are probabilities
    target: Array  # probabilities of the classes, of the shape of the rows
    scale: float  # of the losses
    gradient_scale: float
    loss: Any = None

    def targets(self, rows: slice) -> Array:
        """Return the weighted probabilities of some rows, in float64."""
        t = self.target[rows].astype(np.float64)
        return t if self.weight is None else _product(self.weight, t)

    def row_losses(self) -> Array:
        """Return the loss of each row, in float64."""
        n = len(self.rows)
        if self.labels is not None:
            of_label = self.rows[np.arange(n), self.labels].astype(np.float64)
            losses = -_log(of_label)
            return losses if self.weight is None else _product(self.weight[self.labels], losses)
        losses = np.empty(n)
        for block in self._row_blocks():
            logs = _log(self.rows[block].astype(np.float64))
            losses[block] = -_product(self.targets(block), logs).sum(1)
        return losses

    def gradient(self) -> Array:
        """Return the gradient, of the shape and dtype of the input."""
        grad = np.zeros(self.rows.shape, self.rows.dtype)
        if self.labels is not None:
            at = np.arange(len(grad)), self.labels
            t = np.ones(len(grad)) if self.weight is None else self.weight[self.labels]
            grad[at] = self._slopes(t, self.rows[at])
            return grad.reshape(self.shape)
        for block in self._row_blocks():
            grad[block] = self._slopes(self.targets(block), self.rows[block])
        return grad.reshape(self.shape)

    def _row_blocks(self) -> Iterator[slice]:
        n, classes = self.rows.shape
        step = max(1, BLOCK // max(1, classes))
        return (slice(start, start + step) for start in range(0, n, step))

    def _slopes(self, t: Array, p: Array) -> Array:
        with np.errstate(invalid="ignore"):
            slopes: Array = -t / np.maximum(p.astype(np.float64), 1e-12)
        return np.where(t == 0, 0.0, slopes * self.gradient_scale)


def _categorical(
    function: str, input: Any, target: Any, base: float | None, weight: Any, reduction: Reduction
) -> _Categorical:
    p, log_base = _probabilities(function, "input", input), _log_of_base(function, base)
    if p.ndim > 2:
        raise ValueError(f"{function}: input must have shape (C,) or (N, C), got {p.shape}")
    check_choice(f"{function}: reduction", reduction, ("none", "mean", "sum"))
    classes = p.shape[-1]
    of_class = None
    if weight is not None:
        of_class = as_array(weight, f"{function}: weight").astype(np.float64)
        if of_class.shape != (classes,):
            raise ValueError(f"{function}: weight must have shape ({classes},)")
    given = as_array(target, f"{function}: target")
    rows, labels = p.reshape(-1, classes), None
    normalizer = float(len(rows))
    if given.dtype.kind in "iu":
        if given.shape != p.shape[:-1]:
            raise ValueError(
                f"{function}: target must have shape {p.shape[:-1]}, got {given.shape}"
            )
        labels = given.reshape(-1)
        outside = np.flatnonzero((labels < 0) | (labels >= classes))
        if outside.size:
            raise IndexError(
                f"{function}: target[{outside[0]}] is {labels[outside[0]]}, "
                f"but there are {classes} classes"
            )
        labels = labels.astype(np.intp, copy=False)
        if of_class is not None:
            normalizer = float(of_class[labels].sum())
    elif given.dtype == p.dtype and given.shape == p.shape:
        given = _probabilities(function, "target", given).reshape(rows.shape)
    else:
        raise TypeError(
            f"{function}: target must hold class indices, or be {p.dtype} of shape {p.shape} "
            f"like input, got {given.dtype} of shape {given.shape}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 1.0 if reduction != "mean" else float(np.divide(1.0, normalizer))
        slope = unit if np.isfinite(unit) else 0.0  # 0 where all labels weigh nothing
        call = _Categorical(rows, p.shape, of_class, labels, given, unit, slope / log_base)
        losses = call.row_losses() / log_base
        loss = losses.reshape(p.shape[:-1]) if reduction == "none" else losses.sum() * unit
    call.loss = np.asarray(loss).astype(p.dtype)[()] + 0  # no -0
    return call


def _log(p: Array) -> Array:
    """Return the logarithms in place of the probabilities, not below -100; NaN stays."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(p, out=p), -100.0, out=p)


def _product(factor: Array, x: Array) -> Array:
    """Return ``factor * x``, with 0 times anything 0."""
    with np.errstate(invalid="ignore"):
        return np.where(factor == 0, 0.0, factor * x)


def _entropy_terms(p: Array) -> Array:
    with np.errstate(divide="ignore"):
        return _product(-p, np.log(p))


def _cross_entropy_terms(p: Array, q: Array) -> Array:
    with np.errstate(divide="ignore"):
        return _product(-p, np.log(q))


# (1 + d) log(1 + d) - d = d^2 (1/2 - d/6 + d^2/12 - ...), the coefficients of the highest power
# first: of |d| < 1/16 up to the last digit.
_NEAR = [(-1) ** k / (k * (k - 1)) for k in range(14, 1, -1)]


def _divergence_terms(p: Array, q: Array) -> tuple[Array, Array]:
    """Return ``p log(p / q)`` as two parts, to be added up apart from each other."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = p - q
        d = difference / q
        near = np.abs(d) < 0.0625
        small = np.where(near, d, 0.0)
        rest = q * small**2 * np.polyval(_NEAR, small)
        far = _product(p, np.log(p / q))
    return np.where(near, difference, 0.0), np.where(near, rest, far)


# Elements that are computed at once, so that what is made of them stays in the caches.
BLOCK = 1 << 15


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut an array of this shape into blocks of `BLOCK` elements or less, all axes kept."""
    for d in range(len(shape)):
        inner = prod(shape[d + 1 :])
        if inner <= BLOCK or d + 1 == len(shape):
            step = max(1, BLOCK // max(1, inner))
            for index in np.ndindex(shape[:d]):
                outer = tuple(slice(i, i + 1) for i in index)
                for start in range(0, shape[d], step):
                    yield (*outer, slice(start, start + step))
            return


def _summed(
    function: str,
    terms: Callable[..., Any],
    distributions: dict[str, Any],
    base: float | None,
    axis: int,
) -> Any:
    """Add up the terms of distributions along an axis, block by block."""
    arrays = [_probabilities(function, name, x) for name, x in distributions.items()]
    first = arrays[0]
    for name, other in zip([*distributions][1:], arrays[1:], strict=True):
        if other.dtype != first.dtype:
            raise TypeError(f"{function}: {name} must be {first.dtype}, like p")
        if other.shape != first.shape:
            raise ValueError(
                f"{function}: {name} must have the shape of p, {first.shape}, got {other.shape}"
            )
    log_base = _log_of_base(function, base)
    if not -first.ndim <= axis < first.ndim:
        raise ValueError(
            f"{function}: axis {axis} is out of range for an array of {first.ndim} dimensions"
        )
    axis %= first.ndim
    shape = (*first.shape[:axis], 1, *first.shape[axis + 1 :])
    totals = np.zeros((2, *shape))
    for block in _blocks(first.shape):
        parts = terms(*(x[block].astype(np.float64) for x in arrays))
        parts = parts if isinstance(parts, tuple) else (parts,)
        at = tuple(slice(0, 1) if d == axis else s for d, s in enumerate(block))
        for total, part in zip(totals, parts, strict=False):
            total[at] += part.sum(axis, keepdims=True)
    total = totals.sum(0).reshape(first.shape[:axis] + first.shape[axis + 1 :]) / log_base
    return total.astype(first.dtype)[()] + 0  # no -0


def _probabilities(function: str, name: str, p: Any) -> Array:
    array = as_array(p, f"{function}: {name}")
    check_floating(f"{function}: {name}", array.dtype, word="got")
    if array.ndim == 0:
        raise ValueError(f"{function}: {name} must have at least one dimension")
    if not all_probabilities(function, name, array):
        raise ValueError(f"{function}: {name} must be between 0 and 1")
    return array


def _log_of_base(function: str, base: float | None) -> float:
    if base is not None and not (0 < base < np.inf and base != 1):
        raise ValueError(f"{function}: base must be greater than 0 and not 1, got {base}")
    return 1.0 if base is None else float(np.log(base))
