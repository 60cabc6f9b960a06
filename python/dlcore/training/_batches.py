"""Mini-batches: of rows that lie in arrays, or as an iterable gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore.training._dataset import Dataset, loss_weights, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss


class BatchPlan(NamedTuple):
    """The batches of an epoch: ``order[i * batch_size : (i + 1) * batch_size]`` for each i.

    ``normalizers`` are the weights of the batches in the epoch, ``accumulation_weights`` those in their updates, each
    of which the last of ``accumulate`` batches completes. ``key`` draws what layers draw.
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


class Batches:
    """The mini-batches of each epoch.

    Parameters
    ----------
    rows : Dataset
        The data; ``rows.weight`` weighs the losses.
    index : ndarray of int
        The rows to use.
    batch_size : int
        Rows of a batch; the last one may be shorter.
    accumulate : int
        Batches to an update.
    loss : Loss, optional
        Says what each row contributes to the denominator of the mean loss; by default its weight.
    """

    def __init__(
        self,
        rows: Dataset,
        index: Array,
        batch_size: int,
        accumulate: int,
        loss: Loss | None = None,
    ) -> None:
        self._rows, self._index = rows, index.astype(np.int64, copy=False)
        if loss is not None:
            self._loss_weights = loss_weights(loss, rows)
        else:
            self._loss_weights = np.ones(len(index)) if rows.weight is None else rows.weight
        self._present = None if loss is None else present(loss, rows)
        self._starts = np.arange(0, len(index), batch_size)
        self._accumulate = accumulate
        self.batch_size = min(batch_size, len(index))

    def __len__(self) -> int:
        return len(self._starts)

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows, some at a time."""
        for start in range(0, len(self._index), 4096):
            yield self._rows.x[self._index[start : start + 4096]]

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch: shuffled if there is an rng, else in order."""
        yield self._plan(self._index if rng is None else rng.permutation(self._index), key)

    def _plan(self, order: Array, key: int) -> BatchPlan:
        """Plan the batches of an epoch that takes the rows in this order."""
        normalizers = np.add.reduceat(self._loss_weights[order], self._starts)
        updates = np.add.reduceat(normalizers, np.arange(0, len(normalizers), self._accumulate))
        of_update = np.repeat(updates, self._accumulate)[: len(normalizers)]
        accumulation_weights = np.divide(
            normalizers, of_update, out=np.zeros_like(normalizers), where=normalizers > 0
        )
        factors = None
        if self._present is not None:
            # The loss of a target is its mean over the rows of an update that have it.
            there = np.add.reduceat(self._present[order], self._starts)
            there = np.add.reduceat(there, np.arange(0, len(normalizers), self._accumulate))
            there = np.repeat(there, self._accumulate, axis=0)[: len(normalizers)]
            factors = np.divide(
                of_update[:, np.newaxis], there, out=np.zeros_like(there), where=there > 0
            )
        return BatchPlan(
            self._rows,
            order,
            self.batch_size,
            normalizers,
            accumulation_weights,
            self._accumulate,
            key,
            factors,
        )


class Stream:
    """The mini-batches of an iterable, which every epoch goes through anew.

    Parameters
    ----------
    loss : Loss
        Says what each row contributes to the denominator of the mean loss.
    source : iterable
        Gives (x, y) or (x, y, sample_weight).
    check : callable
        Makes `Dataset` of them, or raises an error.
    accumulate : int
        Batches to an update.
    """

    def __init__(
        self,
        loss: Loss,
        source: Iterable[Any],
        check: Callable[..., Dataset],
        accumulate: int,
    ) -> None:
        self._loss, self._source, self._check = loss, source, check
        self._accumulate = accumulate

    def inputs(self) -> Iterator[Array]:
        """Give x of each batch."""
        for batch in self._source:
            yield self._check(*batch).x

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[BatchPlan]:  # noqa: ARG002
        """Give the batches of an epoch as they come."""
        update: list[Dataset] = []
        number = 0
        for number, batch in enumerate(self._source, 1):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(
                    f"batch {number} of x must be (x, y) or (x, y, sample_weight), "
                    f"got {type(batch).__name__}"
                )
            update.append(self._check(*batch, prefix=f"batch {number}: "))
            if len(update) == self._accumulate:
                yield from self._plan(update, key + number)
                update = []
        if number == 0:
            raise ValueError(
                "x has no batches in this epoch; an iterator can be gone through only once, "
                "pass something that every epoch can iterate over, such as a list"
            )
        if update:
            yield from self._plan(update, key + number)

    def _plan(self, update: list[Dataset], key: int) -> Iterator[BatchPlan]:
        """Make one batch of those of an update: k of n rows give what one of k * n gives."""
        rows = update[0]
        if len(update) > 1:
            rows = Dataset(
                np.concatenate([r.x for r in update]),
                np.concatenate([r.y for r in update]),
                _join([r.weight for r in update], update),
                _join([r.sample_weight for r in update], update),
            )
        yield from Batches(rows, np.arange(len(rows.x)), len(rows.x), 1, self._loss).epoch(
            None, key % 2**63
        )


def _join(weights: list[Array | None], update: list[Dataset]) -> Array | None:
    """Join the weights of batches, 1 where a batch has none; None where none has any."""
    if all(weight is None for weight in weights):
        return None
    pairs = zip(weights, update, strict=True)
    return np.concatenate([np.ones(len(r.x)) if w is None else w for w, r in pairs])
