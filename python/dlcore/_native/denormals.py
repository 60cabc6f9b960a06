"""Subnormal numbers, which some processors compute with a hundred times as slowly as with others."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Let kernels take subnormal numbers for 0 within a ``with`` block.

    It holds for the kernels that this Python thread calls, on all threads that they use, and for
    nothing else: not for NumPy, nor for other Python threads. Subnormal numbers are those below
    1.2e-38 in float32 and 2.2e-308 in float64. Training steps and networks that predict take them
    for 0 anyway.

    Raises
    ------
    NotImplementedError
        The instruction set in use knows no such mode.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x = np.array([1e-40, 1.0], np.float32)
    >>> with dl.flush_denormals():
    ...     dl.leaky_relu(x, 2.0)
    array([0., 1.], dtype=float32)
    """
    if not dispatch.core.can_flush_denormals:
        raise NotImplementedError(f"{dispatch.core.isa} has no mode that flushes subnormal numbers")
    before = dispatch.core.exchange_flushing(True)
    try:
        yield
    finally:
        dispatch.core.exchange_flushing(before)
