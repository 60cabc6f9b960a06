"""Which elements `Dropout` keeps: a function of a key, the row and the element alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["kept", "mix64"]

_WORD = 2**64 - 1


def mix64(x: int) -> int:
    """Mix the bits of a number of 64 bits: a step of splitmix64."""
    x = (x + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


def kept(key: int, stream: int, rows: int, features: int, p: float) -> Array:
    """Return which elements of a batch are kept, of shape (rows, features).

    Parameters
    ----------
    key : int
        Of the step: 64 bits.
    stream : int
        The layer's number in its network.
    rows, features : int
        The shape.
    p : float
        The probability of an element to be dropped, in steps of 2^-32.
    """
    layer = mix64((key + stream) & _WORD)
    rows_of_layer = [mix64((layer + row) & _WORD) for row in range(rows)]
    own = np.array(rows_of_layer, np.uint64)[:, None]
    start, step = own.astype(np.uint32), (own >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
    x = start + np.arange(features, dtype=np.uint32) * step
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x.view(np.int32).astype(np.int64) >= int(p * 2**32) - 2**31
