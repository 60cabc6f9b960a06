"""Temperature scaling: probabilities that are as sure as they are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# Temperatures are looked for from a twentieth to 20.
_LARGEST = np.log(20)
_HALVINGS = 40


def temperature(logits: Array, classes: Array, weight: Array | None = None) -> float:
    """Return the temperature T for which softmax(logits / T) predicts these rows best.

    The cross-entropy is convex in 1 / T, so that halving finds where its derivative is 0. The classes
    of n rows count as n of n + C, and each of the C classes 1 of it besides (Laplace's rule), so that
    rows which are all right do not make probabilities of 1.

    Parameters
    ----------
    logits : ndarray of shape (N, C)
    classes : ndarray of int, shape (N,)
    weight : ndarray of shape (N,), optional

    Returns
    -------
    float
        From 1/20 to 20; 1 where there are no rows, or where all logits of a row are the same.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks, ICML 2017.
    """
    z = logits.astype(np.float64)
    n, count = z.shape
    if weight is None:
        weight = np.ones(n)
    if not n or count < 2 or not weight.sum() > 0 or not np.ptp(z, axis=1).any():
        return 1.0
    z -= z.max(axis=1, keepdims=True)
    target = (n * z[np.arange(n), classes] + z.sum(axis=1)) / (n + count)
    low, high = -_LARGEST, _LARGEST  # of the logarithm of 1 / T
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        p = np.exp(z * np.exp(middle))
        expected = (p * z).sum(axis=1) / p.sum(axis=1)
        if np.average(expected - target, weights=weight) < 0:
            low = middle
        else:
            high = middle
    return float(np.exp(-(low + high) / 2))
