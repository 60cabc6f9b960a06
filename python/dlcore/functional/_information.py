"""Entropy of distributions and of samples, and how far one distribution is from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array, as_numbers, without_mask
from dlcore._common.checks import check_choice, check_floating
from dlcore.functional._one_hot import one_hot

if TYPE_CHECKING:
    from dlcore._common.typing import Array

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
    wide = _probabilities("entropy", "p", p)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wide == 0, 0.0, -wide * np.log(wide))
    return _summed("entropy", terms, base, axis, p)


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
    wide, other = _pair("cross_entropy", p, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wide == 0, 0.0, -wide * np.log(other))
    return _summed("cross_entropy", terms, base, axis, p)


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
    Kullback, Leibler: On information and sufficiency, Ann. Math. Stat. 22, 1951.
    """
    wide, other = _pair("relative_entropy", p, q)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wide == 0, 0.0, wide * (np.log(wide) - np.log(other)))
    return _summed("relative_entropy", terms, base, axis, p)


def categorical_cross_entropy(
    input: Array,
    target: Any,
    *,
    base: float | None = None,
    weight: Array | None = None,
    reduction: str = "mean",
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
        Weight of each class. For class indices "mean" divides by the sum of those of the targets.
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
    return _categorical("categorical_cross_entropy", input, target, base, weight, reduction)[0]


def categorical_cross_entropy_and_grad(
    input: Array,
    target: Any,
    *,
    base: float | None = None,
    weight: Array | None = None,
    reduction: str = "mean",
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
    return _categorical(function, input, target, base, weight, reduction)


def _categorical(
    function: str, input: Any, target: Any, base: float | None, weight: Any, reduction: str
) -> tuple[Any, Array]:
    wide, log_base = _probabilities(function, "input", input), _log_of_base(function, base)
    dtype = np.asarray(input).dtype
    if wide.ndim > 2:
        raise ValueError(f"{function}: input must have shape (C,) or (N, C), got {wide.shape}")
    check_choice(f"{function}: reduction", reduction, ("none", "mean", "sum"))
    classes = wide.shape[-1]
    of_class = np.ones(classes)
    if weight is not None:
        of_class = as_array(weight, f"{function}: weight").astype(np.float64)
        if of_class.shape != (classes,):
            raise ValueError(f"{function}: weight must have shape ({classes},)")
    given = as_array(target, f"{function}: target")
    rows = wide.reshape(-1, classes)
    if given.dtype.kind in "iu":
        if given.shape != wide.shape[:-1]:
            raise ValueError(
                f"{function}: target must have shape {wide.shape[:-1]}, got {given.shape}"
            )
        labels = given.reshape(-1)
        outside = np.flatnonzero((labels < 0) | (labels >= classes))
        if outside.size:
            raise IndexError(
                f"{function}: target[{outside[0]}] is {labels[outside[0]]}, "
                f"but there are {classes} classes"
            )
        t = one_hot(labels, classes, np.float64) * of_class
        normalizer = float(of_class[labels].sum())
    elif given.dtype == dtype and given.shape == wide.shape:
        t = _probabilities(function, "target", given).reshape(rows.shape) * of_class
        normalizer = float(len(rows))
    else:
        raise TypeError(
            f"{function}: target must hold class indices, or be {dtype} of shape {wide.shape} "
            f"like input, got {given.dtype} of shape {given.shape}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = -(t * np.maximum(np.log(rows), -100.0)).sum(1) / log_base
        unit = 1.0 if reduction != "mean" else np.divide(1.0, normalizer)
        grad = np.where(t == 0, 0.0, -t / np.maximum(rows, 1e-12)) * (unit / log_base)
        loss = losses.reshape(wide.shape[:-1]) if reduction == "none" else losses.sum() * unit
    return np.asarray(loss).astype(dtype)[()] + 0, grad.reshape(wide.shape).astype(dtype)


def _pair(function: str, p: Any, q: Any) -> tuple[Array, Array]:
    wide, other = _probabilities(function, "p", p), _probabilities(function, "q", q)
    if np.asarray(q).dtype != np.asarray(p).dtype:
        raise TypeError(f"{function}: q must be {np.asarray(p).dtype}, like p")
    if other.shape != wide.shape:
        raise ValueError(f"{function}: q must have the shape of p, {wide.shape}, got {other.shape}")
    return wide, other


def _probabilities(function: str, name: str, p: Any) -> Array:
    array = as_array(p, f"{function}: {name}")
    check_floating(f"{function}: {name}", array.dtype, word="got")
    if array.ndim == 0:
        raise ValueError(f"{function}: {name} must have at least one dimension")
    if ((array < 0) | (array > 1)).any():
        raise ValueError(f"{function}: {name} must be between 0 and 1")
    return array.astype(np.float64)


def _summed(function: str, terms: Array, base: float | None, axis: int, like: Any) -> Any:
    total = terms.sum(axis) / _log_of_base(function, base)
    return total.astype(np.asarray(like).dtype) + 0  # no -0


def _log_of_base(function: str, base: float | None) -> float:
    if base is not None and not (0 < base < np.inf and base != 1):
        raise ValueError(f"{function}: base must be greater than 0 and not 1, got {base}")
    return 1.0 if base is None else float(np.log(base))
