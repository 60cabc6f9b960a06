"""Mini-batches: rows dealt out in an order, into buffers that are used again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._typing import Array
    from .data import Rows


class Batch(NamedTuple):
    """A mini-batch: rows ``start`` to ``stop`` of the epoch, in buffers that the next one reuses.

    ``weight`` adds up the losses of its rows to its mean loss, None if they weigh the same.
    ``mass`` is the weight of the batch in the epoch, ``share`` that in its update, which the last
    of its batches completes.
    """

    start: int
    stop: int
    x: Array
    y: Array
    weight: Array | None
    mass: float
    share: float
    completes_update: bool


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
        self._rows, self._mass, self._index = rows, mass, index
        self._starts = np.arange(0, len(index), batch_size)
        self._accumulate = accumulate
        self.batch_size = min(batch_size, len(index))
        self._x = np.empty((self.batch_size, *rows.x.shape[1:]), rows.x.dtype)
        self._y = np.empty((self.batch_size, *rows.y.shape[1:]), rows.y.dtype)

    def __len__(self) -> int:
        return len(self._starts)

    def order(self, rng: np.random.Generator | None) -> Array:
        """Draw the order of an epoch: indices of the rows, shuffled if there is an rng."""
        return self._index if rng is None else self._index[rng.permutation(len(self._index))]

    def deal(self, order: Array) -> Iterator[Batch]:
        """Go through the rows in this order, batch by batch."""
        masses = np.add.reduceat(self._mass[order], self._starts)
        updates = np.add.reduceat(masses, np.arange(0, len(masses), self._accumulate))
        weight = self._rows.weight
        for i, (start, mass) in enumerate(zip(self._starts.tolist(), masses.tolist(), strict=True)):
            drawn = order[start : start + self.batch_size]
            update = updates[i // self._accumulate]
            yield Batch(
                start=start,
                stop=start + len(drawn),
                x=_gather(self._rows.x, drawn, self._x),
                y=_gather(self._rows.y, drawn, self._y),
                weight=None if weight is None or mass == 0 else weight[drawn] / mass,
                mass=mass,
                share=float(mass / update) if mass else 0.0,
                completes_update=(i + 1) % self._accumulate == 0 or i + 1 == len(masses),
            )


def _gather(source: Array, index: Array, buffer: Array) -> Array:
    # mode="clip" writes to out directly; the indices are within range.
    return np.take(source, index, axis=0, out=buffer[: len(index)], mode="clip")
