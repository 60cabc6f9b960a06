"""The mean of outputs, or of the probabilities that they stand for, as outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlcore.functional._activations import log_softmax, softplus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dlcore._common.typing import Array


class Mean:
    """The mean of outputs of shape (N, out_features), of one member after the other.

    Parameters
    ----------
    of : {"outputs", "softmax", "sigmoid", "exp"}
        What is averaged: the outputs; or the probabilities of classes or of yes, whose logits they
        are; or the values whose logarithms they are. The mean is in the outputs' form again.
    widths : sequence of int, optional
        Numbers of outputs of several targets side by side, each with classes of its own.
    """

    def __init__(self, of: str, widths: Sequence[int] | None = None) -> None:
        self._of, self._widths, self._count = of, widths, 0
        self._sums: list[Array] = []

    def _parts(self, outputs: Array) -> list[Array]:
        """Return what is summed: values, or their logarithms."""
        if self._of == "softmax":
            if self._widths is None or len(self._widths) == 1:
                return [log_softmax(outputs)]
            return [np.hstack([log_softmax(own) for own in parts_of(outputs, self._widths)])]
        if self._of == "sigmoid":
            return [-softplus(-outputs), -softplus(outputs)]
        return [outputs]

    def add(self, outputs: Array) -> None:
        """Take those of a further member."""
        parts = self._parts(outputs)
        if self._count == 0:
            self._sums = [part.copy() if part is outputs else part for part in parts]
        else:
            total = np.add if self._of == "outputs" else np.logaddexp
            with np.errstate(all="ignore"):  # as the kernels
                for own, part in zip(self._sums, parts, strict=True):
                    total(own, part, out=own)
        self._count += 1

    def with_(self, outputs: Array) -> Mean:
        """Return the mean with a further member."""
        other = Mean(self._of, self._widths)
        other._sums, other._count = [own.copy() for own in self._sums], self._count
        other.add(outputs)
        return other

    def outputs(self) -> Array:
        """Return the outputs of all together."""
        sums, count = self._sums, self._count
        if self._of == "sigmoid":
            with np.errstate(all="ignore"):
                return np.subtract(*sums)
        one = sums[0]
        if self._of == "outputs":
            return np.divide(one, count, dtype=one.dtype)
        return np.subtract(one, np.log(count), dtype=one.dtype)


def mean_of(every: Iterable[Array], of: str, widths: Sequence[int] | None = None) -> Array:
    """Return the mean of the outputs of all members."""
    mean = Mean(of, widths)
    for outputs in every:
        mean.add(outputs)
    return mean.outputs()


def parts_of(outputs: Array, widths: Sequence[int]) -> list[Array]:
    """Return the outputs of each target, of which there are so many."""
    parts = np.split(outputs, np.cumsum(widths)[:-1], axis=1)
    return [np.ascontiguousarray(own) for own in parts]
