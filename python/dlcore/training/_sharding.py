"""Mini-batches of ranks that have rows of their own each: every batch is that of all of them together."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.ranks import on_all
from dlcore.training._batches import Batches, BatchPlan
from dlcore.training._dataset import Dataset, Subset, all_loss_weights, present
from dlcore.training._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.training._stream import Reader


def share_of_batch(batch_size: int, ranks: Ranks) -> int:
    """Return how many rows of a batch of all ranks together are this rank's."""
    if batch_size < ranks.size:
        raise ValueError(
            f"batch_size={batch_size} is that of all ranks together where sharded=True, "
            f"and leaves some of {ranks.size} ranks without a row"
        )
    return batch_size // ranks.size + (ranks.rank < batch_size % ranks.size)


def key_of_rank(key: int, ranks: Ranks) -> int:
    """Return what draws on this rank what layers draw, from what it is on all of them."""
    drawn: int = int(np.random.SeedSequence([key, ranks.rank]).generate_state(1, np.uint64)[0])
    return drawn


class ShardedBatches(Batches):
    """The mini-batches of each epoch, of ranks with rows of their own.

    There are as many as the rank with the most has; one that has no further rows takes part with
    empty ones. Rows are drawn by a generator of the rank's own, so that the one given, which all
    ranks have in the same state, stays so.

    Parameters
    ----------
    loss, rows, index, accumulate
        As of `Batches`.
    batch_size : int
        Rows of a batch of all ranks together.
    ranks : Ranks
    """

    def __init__(
        self,
        loss: Loss,
        rows: Dataset,
        index: Array,
        batch_size: int,
        accumulate: int,
        ranks: Ranks,
    ) -> None:
        super().__init__(loss, rows, index, share_of_batch(batch_size, ranks), accumulate)
        self._ranks = ranks
        self._largest = -(-batch_size // ranks.size)
        self._own = super().__len__()
        self._most = int(ranks.all_gather(np.array([self._own])).max())

    def __len__(self) -> int:
        return self._most

    def epoch(self, rng: Any, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch: shuffled if there is an rng, else in order."""
        ranks = self._ranks
        if rng is not None:
            rng = np.random.default_rng([int(rng.integers(2**63)), ranks.rank])
        order = self._draw_order(rng)
        offsets = np.append(self._offsets, np.full(self._most - self._own, len(order)))
        plan = self._plan(order, offsets, key_of_rank(key, ranks), None if self.is_apart else ranks)
        plan.batch_size = self._largest  # on all ranks, which cut the epoch alike
        yield plan

    def at_once(self, parameters: int) -> int:  # noqa: ARG002
        """Return 0: batches are weighed as they are drawn."""
        return 0


class ShardedStream(Stream):
    """The mini-batches that a reader gives in each epoch, of ranks with readers of their own.

    The i-th batches of all ranks are one batch; a rank whose reader has ended takes part with empty
    ones.

    Parameters
    ----------
    loss, reader, accumulate
        As of `Stream`.
    dtype : dtype
        That of the model.
    ranks : Ranks
    """

    def __init__(
        self, loss: Loss, reader: Reader, accumulate: int, dtype: np.dtype[Any], ranks: Ranks
    ) -> None:
        super().__init__(loss, reader, accumulate)
        self._dtype, self._ranks = dtype, ranks
        self._empty: Dataset | None = None

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[BatchPlan]:  # noqa: ARG002
        """Give the batches of an epoch as they come, those of an update at once."""
        ranks, batches, number = self._ranks, iter(self._reader), 1
        key = key_of_rank(key, ranks)
        while True:
            with raised_on_all(ranks):
                own = list(islice(batches, self.accumulate))
                part = _Part.of(self._loss, own) if own else None
            parts = [of_rank for of_rank in ranks.of_each(part) if of_rank is not None]
            if not parts:
                break
            count = max(len(of_rank.weights) for of_rank in parts)
            if self._empty is None:
                x = np.empty((0, parts[0].features), self._dtype)
                self._empty = Dataset(x, parts[0].no_targets)
            own += [self._empty] * (count - len(own))
            if self.is_apart:
                parts = [] if part is None else [part]
            weights = sum((of_rank.padded_weights(count) for of_rank in parts), np.zeros(count))
            for i, rows in enumerate(own):
                is_last = i == count - 1
                plan = self._plan(rows, key + number + i)
                yield replace(
                    plan,
                    normalizers=weights[i : i + 1],
                    accumulation_weights=weights[i : i + 1] / (weights.sum() or 1.0),
                    accumulate=1 if is_last else self.accumulate,
                    ends_update=is_last,
                    factors=_factors(parts, float(weights.sum())),
                    ranks=None if self.is_apart else ranks,
                )
            number += count
        if number == 1:
            raise on_all(ValueError("x has no batches in this epoch on any rank"))


class _Part(NamedTuple):
    """The batches of an update that a rank has, as others need to know them."""

    weights: Array  # of each
    there: list[Array | None]  # what each adds to the means of several targets
    features: int
    no_targets: Array

    @classmethod
    def of(cls, loss: Loss, batches: list[Dataset]) -> _Part:
        there = [present(loss, rows) for rows in batches]
        return cls(
            np.array([all_loss_weights(loss, rows).sum() for rows in batches]),
            [None if own is None else own.sum(0) for own in there],
            batches[0].x.shape[1],
            batches[0].y[:0],
        )

    def padded_weights(self, count: int) -> Array:
        return np.pad(self.weights, (0, count - len(self.weights)))


def _factors(parts: list[_Part], total: float) -> Array | None:
    """Return the factors of the targets in an update, whose batches weigh so much."""
    targets = next((len(own) for part in parts for own in part.there if own is not None), None)
    if targets is None:
        return None
    counts = np.zeros((1, targets))
    for part in parts:
        for weight, own in zip(part.weights, part.there, strict=True):
            counts += weight if own is None else own
    return np.divide(total, counts, out=np.zeros_like(counts), where=counts > 0)


def check_alike(ranks: Ranks, **given: Any) -> None:
    """Raise a ValueError on all ranks where something that must be the same is not."""
    for name, own in given.items():
        ranks.check_same(name, repr(own))


def check_counts_of_all(
    ranks: Ranks, loss: Loss, rows: Dataset, index: Array, held: Subset | None
) -> None:
    """Make sure that some of the rows to train on and of those held out count on any rank."""
    of_held = 1 if held is None else len(held)
    own = np.array([all_loss_weights(loss, rows)[index].sum(), of_held])
    weight, count = ranks.sum(own).tolist()
    if not weight > 0:
        raise ValueError("no row to train on counts on any rank: their weights are all 0")
    if not count:
        raise ValueError("validation_split leaves no row to validate on, on any rank")
