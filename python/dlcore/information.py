"""Entropy of distributions, and how far one is from another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import as_array

if TYPE_CHECKING:
    from ._typing import Array

__all__ = ["entropy", "relative_entropy"]


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
    wide, other = (
        _probabilities("relative_entropy", "p", p),
        _probabilities("relative_entropy", "q", q),
    )
    if np.asarray(q).dtype != np.asarray(p).dtype:
        raise TypeError(f"relative_entropy: q must be {np.asarray(p).dtype}, like p")
    if other.shape != wide.shape:
        raise ValueError(
            f"relative_entropy: q must have the shape of p, {wide.shape}, got {other.shape}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(wide == 0, 0.0, wide * (np.log(wide) - np.log(other)))
    return _summed("relative_entropy", terms, base, axis, p)


def _probabilities(function: str, name: str, p: Any) -> Array:
    array = as_array(p, f"{function}: {name}")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{function}: {name} must be float32 or float64, got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{function}: {name} must have at least one dimension")
    if ((array < 0) | (array > 1)).any():
        raise ValueError(f"{function}: {name} must be between 0 and 1")
    return array.astype(np.float64)


def _summed(function: str, terms: Array, base: float | None, axis: int, like: Any) -> Any:
    if base is not None and not (0 < base < np.inf and base != 1):
        raise ValueError(f"{function}: base must be greater than 0 and not 1, got {base}")
    total = terms.sum(axis) / (1.0 if base is None else np.log(base))
    return total.astype(np.asarray(like).dtype) + 0  # no -0
