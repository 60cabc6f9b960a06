"""Mini-batches of rows that lie in arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.training._dataset import Dataset, all_loss_weights, loss_weights, present
from dlcore.training._rows import dense, rows_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss

# Most epochs that are one run, and most products of parameters with rows in them.
_EPOCHS, _PRODUCTS = 64, 2**24
# Most rows whose batches are laid out once for all fits.
_FEW_ROWS = 4096
# From the key of a batch to that of the next one.
KEY_STEP = 0x9E3779B97F4A7C15


@dataclass  # not frozen, which took longer than all else that is done for an epoch of one batch
class BatchPlan:
    """The batches of an epoch: ``order[offsets[i] : offsets[i + 1]]`` for each i.

    ``normalizers`` are the weights of the batches in the epoch, ``accumulation_weights`` those in
    their updates, each of which the last of ``accumulate`` batches completes, and the last of all
    unless ``ends_update`` says that more will follow. ``gradient_scale`` multiplies the gradient of
    an update, whose weight may be known only in the end. ``key`` draws what layers draw.
    ``factors`` are those of each loss of several in each batch, where targets are missing. ``done``
    is how many of the batches a run has learned from. ``ranks`` have the other rows of the batches,
    if there are any, and weigh them together.
    """

    rows: Dataset
    order: Array
    offsets: Array
    normalizers: Array
    accumulation_weights: Array
    accumulate: int
    key: int
    factors: Array | None = None
    ends_update: bool = True
    gradient_scale: float = 1.0
    all_count: bool = False  # whether it is known that no batch weighs nothing
    done: int = 0
    ranks: Ranks | None = None

    def __len__(self) -> int:
        return len(self.normalizers)

    @cached_property
    def batch_size(self) -> int:
        """Rows of the largest batch."""
        return int((self.offsets[1:] - self.offsets[:-1]).max())

    def indices(self, batch: int) -> Array:
        """Return the indices of the rows of a batch."""
        drawn: Array = self.order[self.offsets[batch] : self.offsets[batch + 1]]
        return drawn

    def key_of(self, batch: int) -> int:
        """Return what draws what layers draw in a batch."""
        return (self.key + batch * KEY_STEP) % 2**64

    def completes_update(self, batch: int) -> bool:
        """Whether this batch is the last one of an update."""
        return (batch + 1) % self.accumulate == 0 or (self.ends_update and batch + 1 == len(self))

    def updates(self, done: int) -> int:
        """Return how many updates are complete after so many batches."""
        left = done % self.accumulate > 0 and done == len(self) and self.ends_update
        return done // self.accumulate + left

    def sums(self, values: Array) -> Array:
        """Return the sum over the rows of each batch of values of rows in their order."""
        return _sums(values, self.offsets)

    def parts(self, batches: int) -> Iterator[BatchPlan]:
        """Give the batches some at a time: so many, rounded up to whole updates."""
        batches = self.accumulate * -(-batches // self.accumulate)
        for start in range(0, len(self), batches):
            yield self.part(start, start + batches)

    def part(self, start: int, stop: int) -> BatchPlan:
        """Return some of the batches: whole updates."""
        if start == 0 and stop >= len(self):
            return self
        some = slice(start, stop)
        offsets = self.offsets[start : stop + 1]
        return replace(
            self,
            order=self.order[offsets[0] : offsets[-1]],
            offsets=offsets - offsets[0],
            normalizers=self.normalizers[some],
            accumulation_weights=self.accumulation_weights[some],
            key=self.key_of(start),
            factors=None if self.factors is None else self.factors[some],
        )


def plan_batches(
    rows: Dataset,
    order: Array,
    offsets: Array,
    accumulate: int,
    key: int,
    *,
    weights: Array,
    there: Array | None,
    ranks: Ranks | None = None,
) -> BatchPlan:
    """Plan batches, each update of which is weighed as a whole.

    ``weights`` are what each of the rows contributes to the denominator of the mean loss, ``there``
    what it does to that of each target where some are missing (`loss_weights` and `present`).
    ``ranks`` have other rows of the same batches.
    """
    normalizers = _sums(weights[order], offsets)
    own_there = None if there is None else _sums(there[order], offsets)
    if ranks is not None:
        normalizers, own_there = _sums_of_ranks(ranks, normalizers, own_there)
    if accumulate == 1:
        of_update, accumulation_weights = normalizers, (normalizers > 0).astype(np.float64)
    else:
        of_update = _of_updates(normalizers, accumulate)
        accumulation_weights = np.divide(
            normalizers, of_update, out=np.zeros_like(normalizers), where=normalizers > 0
        )
    factors = None
    if own_there is not None:
        # The loss of a target is its mean over the rows of an update that have it.
        present_rows = _of_updates(own_there, accumulate)
        factors = np.divide(
            of_update[:, np.newaxis],
            present_rows,
            out=np.zeros_like(present_rows),
            where=present_rows > 0,
        )
    return BatchPlan(
        rows,
        order,
        offsets,
        normalizers,
        accumulation_weights,
        accumulate,
        key,
        factors,
        ranks=ranks,
    )


def _sums_of_ranks(
    ranks: Ranks, normalizers: Array, there: Array | None
) -> tuple[Array, Array | None]:
    """Return the weights of batches, and of targets in them if any are missing, on all ranks."""
    targets = int(ranks.all_gather(np.array([0 if there is None else there.shape[1]])).max())
    if targets and there is None:
        there = np.repeat(normalizers[:, np.newaxis], targets, axis=1)
    own = normalizers[:, np.newaxis]
    sums = ranks.sum(own if there is None else np.hstack([own, there]))
    return sums[:, 0].copy(), sums[:, 1:] if targets else None


def plan_batch(loss: Loss, rows: Dataset, key: int, ranks: Ranks | None = None) -> BatchPlan:
    """Plan one batch, of all rows that are read; ranks may have more of them."""
    order = np.arange(len(rows)) if rows.weight is None else np.flatnonzero(rows.weight)
    return plan_batches(
        rows,
        order,
        np.array([0, len(order)]),
        1,
        key,
        weights=all_loss_weights(loss, rows),
        there=present(loss, rows),
        ranks=ranks,
    )


class Batches:
    """The mini-batches of each epoch.

    A row that weighs nothing has a place in a batch, but is left out there: it is not read.

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

    # Whether this rank learns by itself from rows of its own, weighed without those of the others.
    is_apart = False

    def __init__(
        self, loss: Loss, rows: Dataset, index: Array, batch_size: int, accumulate: int
    ) -> None:
        self._weighed_by, self._batch_size = loss, min(batch_size, len(index))
        self._rows, self._index = rows, index.astype(np.int64, copy=False)
        self.weigh(anew=False)
        layout = _layout if len(index) <= _FEW_ROWS else _layout.__wrapped__
        self._offsets, self._sizes = layout(len(index), batch_size)
        self._starts = self._offsets[:-1]
        self.accumulate = accumulate
        # Which rows are read; None if all are.
        read = None if rows.weight is None else rows.weight > 0
        self._read = None if read is None or read[self._index].all() else read

    @property
    def data(self) -> Dataset:
        """The data."""
        return self._rows

    def weigh(self, *, anew: bool = True) -> None:
        """Weigh the rows by the loss as it is now."""
        self._weighed: tuple[Array, Array] | None = None
        self._loss_weights = loss_weights(self._weighed_by, self._rows, anew=anew)
        self._present = present(self._weighed_by, self._rows)

    def __len__(self) -> int:
        return len(self._starts)

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows that are read, some at a time."""
        index = self._index if self._read is None else self._index[self._read[self._index]]
        step = rows_at_once(self._rows.x, 4096)
        for start in range(0, len(index), step):
            yield dense(self._rows.x[index[start : start + step]])

    def _draw_order(self, rng: Any) -> Array:
        """Return the rows in the order of an epoch."""
        if rng is None:
            return self._index
        order = self._index.copy()
        rng.shuffle(order)  # what rng.permutation does as well
        return order

    def epoch(self, rng: Any, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch: shuffled if there is an rng, else in order."""
        order = self._draw_order(rng)
        offsets = self._offsets
        if self._read is None and self.accumulate == 1 and self._present is None:
            weighed = self._weigh_batches()
            if weighed is not None:
                plan = BatchPlan(self._rows, order, offsets, *weighed, 1, key, all_count=True)
                plan.batch_size = self._batch_size
                yield plan
                return
        yield self._plan(order, offsets, key)

    def _plan(
        self, order: Array, offsets: Array, key: int, ranks: Ranks | None = None
    ) -> BatchPlan:
        """Plan batches, and weigh them as they are."""
        if self._read is not None:
            read = self._read[order]
            offsets = np.append(0, np.cumsum(read))[offsets]
            order = order[read]
        return plan_batches(
            self._rows,
            order,
            offsets,
            self.accumulate,
            key,
            weights=all_loss_weights(self._weighed_by, self._rows),
            there=self._present,
            ranks=ranks,
        )

    def at_once(self, parameters: int) -> int:
        """Return how many epochs `epochs` may make one run: of few rows several, some milliseconds.

        ``parameters`` are those that each row meets. 0 where batches must be weighed as they are
        drawn, or be watched.
        """
        if self._read is not None or self.accumulate > 1 or self._present is not None:
            return 0
        if self._rows.mapped or self._weigh_batches() is None:
            return 0
        return max(1, min(_EPOCHS, _PRODUCTS // (parameters * len(self._index))))

    def epochs(self, rng: Any, count: int) -> BatchPlan:
        """Draw the batches of several epochs as one plan, as so many calls of `epoch` would."""
        weighed = self._weigh_batches()
        assert weighed is not None
        if count == 1:
            order = self._draw_order(rng)
            plan = BatchPlan(self._rows, order, self._offsets, *weighed, 1, 0, all_count=True)
            plan.batch_size = self._batch_size
            return plan
        rows = len(self._index)
        order = np.tile(self._index, (count, 1))
        if rng is not None:
            rng.permuted(order, axis=1, out=order)
        starts = np.add.outer(np.arange(0, count * rows, rows), self._starts)
        offsets = np.append(starts, count * rows)
        sizes, ones = np.tile(weighed, count)
        plan = BatchPlan(self._rows, order.reshape(-1), offsets, sizes, ones, 1, 0, all_count=True)
        plan.batch_size = self._batch_size
        return plan

    def _weigh_batches(self) -> tuple[Array, Array] | None:
        """Return the weights of the batches where those of any order are the same; else None."""
        if self._weighed is None and (
            self._loss_weights is None or (self._loss_weights == 1).all()
        ):
            self._weighed = self._sizes
        return self._weighed


@lru_cache(maxsize=32)
def _layout(rows: int, batch_size: int) -> tuple[Array, tuple[Array, Array]]:
    """Return the offsets of batches, the last of which may be shorter; and their sizes, and ones."""
    offsets = np.arange(0, rows + batch_size, batch_size)
    offsets[-1] = rows
    sizes = (offsets[1:] - offsets[:-1]).astype(np.float64)
    arrays = offsets, (sizes, np.ones(len(sizes)))
    for array in (offsets, *arrays[1]):
        array.flags.writeable = False  # many epochs have them in common
    return arrays


def _of_updates(values: Array, accumulate: int) -> Array:
    """Return for each batch the sum over those of its update."""
    sums = np.add.reduceat(values, np.arange(0, len(values), accumulate))
    repeated: Array = np.repeat(sums, accumulate, axis=0)[: len(values)]
    return repeated


def _sums(values: Array, offsets: Array) -> Array:
    """Return the sum of each run of values; that of an empty one is 0."""
    starts = offsets[:-1]
    filled = starts < offsets[1:]
    if filled.all():
        whole: Array = np.add.reduceat(values, starts)
        return whole
    sums = np.zeros((len(starts), *values.shape[1:]))
    if filled.any():
        sums[filled] = np.add.reduceat(values, starts[filled])
    return sums
