"""Mini-batches as an iterable gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.training._batches import Batches, BatchPlan
from dlcore.training._dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss


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
        self.accumulate = accumulate

    def weigh(self) -> None:
        """Weigh rows by the loss as it is now, as is done with each batch anyway."""

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
            if len(update) == self.accumulate:
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
        yield from Batches(self._loss, rows, np.arange(len(rows.x)), len(rows.x), 1).epoch(
            None, key % 2**63
        )


def _join(weights: list[Array | None], update: list[Dataset]) -> Array | None:
    """Join the weights of batches, 1 where a batch has none; None where none has any."""
    if all(weight is None for weight in weights):
        return None
    pairs = zip(weights, update, strict=True)
    return np.concatenate([np.ones(len(r.x)) if w is None else w for w, r in pairs])
