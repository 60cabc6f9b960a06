"""What the outputs of a classifier's network mean: probabilities, their logarithms, decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlcore._native import dispatch
from dlcore.functional._activations import log_softmax, sigmoid
from dlcore.functional._losses import binary_cross_entropy_with_logits

if TYPE_CHECKING:
    from dlcore._common.typing import Array


def class_probabilities(logits: Array) -> Array:
    """Compute the softmax of each row; rows add up to 1, to the last bit that they can.

    The logits, which may be large, are overwritten.
    """
    return dispatch.core.class_probabilities(np.ascontiguousarray(logits))


def binary_probabilities(logits: Array) -> Array:
    """Compute (1 - p, p) with p = sigmoid(logit), each to its last digit, from shape (N, 1)."""
    return dispatch.core.binary_probabilities(np.ascontiguousarray(logits))


def log_sigmoid(logits: Array) -> Array:
    """Compute log(sigmoid(x)), finite for all finite x."""
    losses = binary_cross_entropy_with_logits(logits, np.ones_like(logits), reduction="none")
    log: Array = np.negative(losses)
    return log


def log_independent_probabilities(logits: Array) -> Array:
    """Compute log(p) of p = sigmoid(logit), the largest p of a row having the largest logarithm.

    From 0.5 on p itself is exact enough; logits that round to one p have one logarithm.
    """
    p = sigmoid(logits)
    return np.where(p < 0.5, log_sigmoid(logits), np.log(p, where=p >= 0.5, out=p))


def log_class_probabilities(logits: Array) -> Array:
    """Compute the logarithm of the softmax of each row, overwriting the logits."""
    return log_softmax(logits, out=logits if logits.flags.c_contiguous else None)


def log_binary_probabilities(logits: Array) -> Array:
    """Compute the logarithms of (1 - p, p) with p = sigmoid(logit), from shape (N, 1)."""
    return np.hstack([log_sigmoid(-logits), log_sigmoid(logits)])
