"""Mini-batches of rows that lie in arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.training._dataset import Dataset, loss_weights, present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss


@dataclass(frozen=True)
class BatchPlan:
    """The batches of an epoch: ``order[i * batch_size : (i + 1) * batch_size]`` for each i.

    ``normalizers`` are the weights of the batches in the epoch, ``accumulation_weights`` those in
    their updates, each of which the last of ``accumulate`` batches completes. ``key`` draws what layers draw.
    ``factors`` are those of each loss of several in each batch, where targets are missing.
    """

    rows: Dataset
    order: Array
    batch_size: int
    normalizers: Array
    accumulation_weights: Array
    accumulate: int
    key: int
    factors: Array | None = None

    def __len__(self) -> int:
        return len(self.normalizers)

    def indices(self, batch: int) -> Array:
        """Return the indices of the rows of a batch."""
        start = batch * self.batch_size
        drawn: Array = self.order[start : start + self.batch_size]
        return drawn

    def completes_update(self, batch: int) -> bool:
        """Whether this batch is the last one of an update."""
        return (batch + 1) % self.accumulate == 0 or batch + 1 == len(self)

    def parts(self, batches: int) -> Iterator[BatchPlan]:
        """Give the batches some at a time: so many, rounded up to whole updates."""
        batches = self.accumulate * -(-batches // self.accumulate)
        if batches >= len(self):
            yield self
            return
        for start in range(0, len(self), batches):
            some = slice(start, start + batches)
            yield replace(
                self,
                order=self.order[start * self.batch_size : (start + batches) * self.batch_size],
                normalizers=self.normalizers[some],
                accumulation_weights=self.accumulation_weights[some],
                key=(self.key + start * 0x9E3779B97F4A7C15) % 2**64,
                factors=None if self.factors is None else self.factors[some],
            )


class Batches:
    """The mini-batches of each epoch.

    Parameters
    ----------
    loss : Loss
        Says what each row contributes to the denominator of the mean loss.
    rows : Dataset
        The data; ``rows.weight`` weighs the losses.
    index : ndarray of int
        The rows to use.
    batch_size : int
        Rows of a batch; the last one may be shorter.
    accumulate : int
        Batches to an update.
    """

    def __init__(
        self, loss: Loss, rows: Dataset, index: Array, batch_size: int, accumulate: int
    ) -> None:
        self._weighed_by = loss
        self._rows, self._index = rows, index.astype(np.int64, copy=False)
        self.weigh()
        self._starts = np.arange(0, len(index), batch_size)
        self.accumulate = accumulate
        self.batch_size = min(batch_size, len(index))

    def weigh(self) -> None:
        """Weigh the rows by the loss as it is now."""
        self._loss_weights = loss_weights(self._weighed_by, self._rows)
        self._present = present(self._weighed_by, self._rows)

    def __len__(self) -> int:
        return len(self._starts)

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows, some at a time."""
        for start in range(0, len(self._index), 4096):
            yield self._rows.x[self._index[start : start + 4096]]

    def _draw_order(self, rng: Any) -> Array:
        """Return the rows in the order of an epoch."""
        order: Array = self._index if rng is None else rng.permutation(self._index)
        return order

    def epoch(self, rng: Any, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch: shuffled if there is an rng, else in order."""
        order = self._draw_order(rng)
        normalizers = np.add.reduceat(self._loss_weights[order], self._starts)
        updates = np.add.reduceat(normalizers, np.arange(0, len(normalizers), self.accumulate))
        of_update = np.repeat(updates, self.accumulate)[: len(normalizers)]
        accumulation_weights = np.divide(
            normalizers, of_update, out=np.zeros_like(normalizers), where=normalizers > 0
        )
        factors = None
        if self._present is not None:
            # The loss of a target is its mean over the rows of an update that have it.
            there = np.add.reduceat(self._present[order], self._starts)
            there = np.add.reduceat(there, np.arange(0, len(normalizers), self.accumulate))
            there = np.repeat(there, self.accumulate, axis=0)[: len(normalizers)]
            factors = np.divide(
                of_update[:, np.newaxis], there, out=np.zeros_like(there), where=there > 0
            )
        yield BatchPlan(
            self._rows,
            order,
            self.batch_size,
            normalizers,
            accumulation_weights,
            self.accumulate,
            key,
            factors,
        )
