"""Mini-batches: the order of the rows in an epoch, and what each batch weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from ._typing import Array
    from .data import Rows


class Deal(NamedTuple):
    """The batches of an epoch: ``order[i * batch_size : (i + 1) * batch_size]`` for each i.

    ``masses`` are the weights of the batches in the epoch, ``shares`` those in their updates, each
    of which the last of ``accumulate`` batches completes. ``key`` draws what layers draw.
    """

    rows: Rows
    order: Array
    batch_size: int
    masses: Array
    shares: Array
    accumulate: int
    key: int

    def __len__(self) -> int:
        return len(self.masses)

    def numbers(self, batch: int) -> Array:
        """Return the numbers of the rows of a batch."""
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
    rows : Rows
        The data; ``rows.weight`` weighs the losses.
    mass : ndarray of shape (N,)
        What each row contributes to the denominator of the mean loss.
    index : ndarray of int
        The rows to use.
    batch_size : int
        Rows of a batch; the last one may be shorter.
    accumulate : int
        Batches to an update.
    """

    def __init__(
        self, rows: Rows, mass: Array, index: Array, batch_size: int, accumulate: int
    ) -> None:
        self._rows, self._mass, self._index = rows, mass, index.astype(np.int64, copy=False)
        self._starts = np.arange(0, len(index), batch_size)
        self._accumulate = accumulate
        self.batch_size = min(batch_size, len(index))

    def __len__(self) -> int:
        return len(self._starts)

    def deal(self, rng: np.random.Generator | None, key: int) -> Deal:
        """Draw the batches of an epoch: shuffled if there is an rng, else in order."""
        order = self._index if rng is None else self._index[rng.permutation(len(self._index))]
        masses = np.add.reduceat(self._mass[order], self._starts)
        updates = np.add.reduceat(masses, np.arange(0, len(masses), self._accumulate))
        of_update = np.repeat(updates, self._accumulate)[: len(masses)]
        shares = np.divide(masses, of_update, out=np.zeros_like(masses), where=masses > 0)
        return Deal(self._rows, order, self.batch_size, masses, shares, self._accumulate, key)
