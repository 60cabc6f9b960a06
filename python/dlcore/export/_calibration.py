"""The ranges of what the steps of a pipeline give, for its integers of 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore import functional
from dlcore.export import _steps as kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array

LEAST, MOST = -128, 127


@dataclass(frozen=True)
class Quantized:
    """Integers q of 8 bits that stand for the values ``scale * (q - zero)``."""

    scale: float
    zero: int

    @classmethod
    def of(cls, values: Array) -> Quantized:
        """Return integers that reach from the least to the largest value, and have 0."""
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        scale = (high - low) / (MOST - LEAST) or 1.0
        return cls(scale, round(LEAST - low / scale))

    def to_integers(self, values: Array) -> Array:
        """Round values to the integers that stand for them."""
        places = np.rint(values / self.scale) + self.zero
        integers: Array = np.clip(places, LEAST, MOST).astype(np.int64)
        return integers

    def all_values(self) -> Array:
        """Return what the integers from -128 to 127 stand for."""
        values: Array = self.scale * (np.arange(LEAST, MOST + 1) - self.zero)
        return values


def check_calibration(calibration: Any, features: int) -> Array:
    """Return the rows to calibrate with, in float64."""
    if calibration is None:
        raise ValueError(
            'to_c: dtype="int8" needs calibration: some hundred rows as those that will come'
        )
    rows = np.asarray(calibration, np.float64)
    if rows.ndim != 2 or rows.shape[1] != features or len(rows) == 0:
        raise ValueError(
            f"to_c: calibration must have the shape (rows, {features}) with a row at least, "
            f"got {rows.shape}"
        )
    if not np.isfinite(rows).all():
        raise ValueError("to_c: calibration has NaN or infinities")
    return rows


def computed(step: kinds.Step, x: Array) -> Array:
    """Compute a step in float64."""
    y: Array
    if isinstance(step, kinds.Linear):
        y = x @ step.weight.T.astype(np.float64) + step.bias
    elif isinstance(step, kinds.Affine):
        y = x * step.weight.astype(np.float64) + step.bias
    elif isinstance(step, kinds.Columns):
        y = np.clip((x - step.subtract) * step.multiply + step.add, step.low, step.high)
    elif isinstance(step, kinds.BatchNorm):
        y = (x - step.mean) * (step.scale * step.weight) + step.bias
    elif isinstance(step, kinds.RowNorm):
        x = x - x.mean(1, keepdims=True) if step.is_centered else x
        root = np.sqrt((x * x).mean(1, keepdims=True) + step.eps)
        y = x / root * step.weight + step.bias
    else:
        assert isinstance(step, kinds.Activation)
        y = getattr(functional, step.kernel)(np.ascontiguousarray(x), **step.options)
    return y


def values_after(steps: Sequence[kinds.Step], x: Array) -> list[Array]:
    """Return what each step gives for the rows, each given what the one before gave."""
    values = []
    for step in steps:
        x = computed(step, x)
        values.append(x)
    return values
