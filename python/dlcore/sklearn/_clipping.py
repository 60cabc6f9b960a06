"""Predictions of numbers that go no further than the targets of the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.typing import Array


class ClippingMixin:
    """Keeps predictions between the least and the largest target of each column, if `_clips`."""

    _clips = False
    _low: Array
    _high: Array

    def _take_range(self, targets: Array, *, widens: bool = False) -> None:
        """Take the range of targets of shape (n_samples, n_outputs), or widen that which there is."""
        low, high = targets.min(axis=0), targets.max(axis=0)
        if widens:
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
        self._low, self._high = low, high

    def _bounds(self) -> tuple[Array, Array] | None:
        """Return what predictions are kept between, of shape (n_outputs,); None if they are free."""
        return (self._low, self._high) if self._clips else None

    def _clipped(self, values: Array) -> Array:
        return np.clip(values, self._low, self._high) if self._clips else values
