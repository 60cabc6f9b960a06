"""Mini-batches that functions of the user's own change, in other threads, ahead of the step."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from dlcore._native.threads import get_num_threads
from dlcore.preprocessing._images import one_hot
from dlcore.training._batches import Batches, Deal
from dlcore.training._dataset import MappedFile, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss

# Batches that are given to the step at once, and bytes of them, roughly; pieces that are under way.
_FEWEST, _MOST, _BYTES = 8, 64, 1 << 24
_AHEAD = 3


class Transformed:
    """The mini-batches of rows in arrays, changed anew in each epoch; a context manager.

    Parameters
    ----------
    source : Batches
        The batches as they are.
    loss : Loss
    classes : int or None
        Classes of the targets, if they are class indices.
    transform : callable, optional
        ``transform(x, rng) -> x`` of a batch, of the same shape and dtype; x is a copy.
    mix : callable, optional
        ``mix(x, y, rng) -> (x, y)`` of a batch, after it; y are values or class probabilities.

    Notes
    -----
    Each batch has a random generator of its own, so that what is drawn does not depend on threads.
    """

    def __init__(
        self,
        source: Batches,
        loss: Loss,
        classes: int | None,
        transform: Callable[..., Any] | None,
        mix: Callable[..., Any] | None,
    ) -> None:
        for name, function in (("transform", transform), ("mix", mix)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, not {function!r}")
        self._source, self._loss, self._classes = source, loss, classes
        self._transform, self._mix = transform, mix
        # For all epochs: threads take longer to begin than a small epoch does. One less than there
        # are cores: the step needs some, and one that waits for its turn holds up all of the step's.
        self._pool = ThreadPoolExecutor(max(1, get_num_threads() - 1), "dlcore-transform")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._source)

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows as they are, some at a time."""
        return self._source.inputs()

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[Deal]:
        """Draw the batches of an epoch, some at a time."""
        for deal in self._source.epoch(rng, key):
            size = _batches_of_piece(deal)
            starts = deque(range(0, len(deal), size))
            under_way: deque[_Piece] = deque()
            while starts or under_way:
                while starts and len(under_way) < _AHEAD:
                    under_way.append(self._begin(deal, starts.popleft(), size))
                yield from self._finish(deal, under_way.popleft())

    def _begin(self, deal: Deal, start: int, size: int) -> _Piece:
        """Set threads to make some batches, from ``start`` on."""
        numbers = deal.order[start * deal.batch_size : (start + size) * deal.batch_size]
        x = np.empty((len(numbers), *deal.rows.x.shape[1:]), deal.rows.x.dtype)
        batches = range(start, min(start + size, len(deal)))
        slots = (x[i * deal.batch_size : (i + 1) * deal.batch_size] for i in range(size))
        targets = [
            self._pool.submit(self._change, deal, batch, slot)
            for batch, slot in zip(batches, slots, strict=False)
        ]
        return _Piece(start, numbers, x, targets)

    def _finish(self, deal: Deal, piece: _Piece) -> Iterator[Deal]:
        """Wait for batches, and give them."""
        y = np.concatenate([target.result() for target in piece.targets])
        given = deal.rows
        MappedFile(given.x).release()
        weights = (given.weight, given.sample_weight)
        own = (w if w is None else w[piece.numbers] for w in weights)
        rows = Rows(piece.x, y, *own)
        # The key of a batch is that which it has in one run of all of them.
        key = (deal.key + piece.start * 0x9E3779B97F4A7C15) % 2**64
        order = np.arange(len(y))
        yield from Batches(self._loss, rows, order, deal.batch_size, deal.accumulate).epoch(
            None, key
        )

    def _change(self, deal: Deal, batch: int, x: Array) -> Array:
        """Fill in x of a batch, changed; return its targets."""
        rng = np.random.default_rng([deal.key, batch])
        numbers = deal.numbers(batch)
        np.take(deal.rows.x, numbers, axis=0, out=x)
        y: Array = deal.rows.y[numbers]
        changed = x
        if self._transform is not None:
            changed = _checked("transform", "x", self._transform(x, rng), x)
        if self._mix is not None:
            if y.dtype.kind in "iu":
                y = one_hot(y, self._classes or 0, x.dtype)
            mixed = self._mix(changed, y, rng)
            if not isinstance(mixed, tuple) or len(mixed) != 2:
                raise ValueError(f"mix must return (x, y), got {type(mixed).__name__}")
            changed, y = _checked("mix", "x", mixed[0], x), _checked("mix", "y", mixed[1], y)
        if changed is not x:
            np.copyto(x, changed)
        return y


class _Piece(NamedTuple):
    start: int  # the first batch
    numbers: Array  # of the rows
    x: Array  # is being filled in
    targets: list[Future[Array]]  # of each batch


def _batches_of_piece(deal: Deal) -> int:
    """Return how many batches to give at once: whole updates."""
    bytes_of_batch = max(1, deal.rows.x[:1].nbytes * deal.batch_size)
    batches = min(max(_FEWEST, _BYTES // bytes_of_batch), _MOST)
    return deal.accumulate * -(-batches // deal.accumulate)


def check_mixable(loss: Loss, y: Array) -> None:
    """Make sure that targets can be mixed: values, or classes that all count."""
    if not loss.mixable:
        raise ValueError(
            f"mix needs targets that can be mixed; those of {type(loss).__name__} cannot"
        )
    if not loss.counted(y).all():
        raise ValueError("mix needs the class of every row, but some are ignored")


def _checked(function: str, name: str, given: Any, like: Array) -> Array:
    if not isinstance(given, np.ndarray) or given.shape != like.shape or given.dtype != like.dtype:
        got = type(given).__name__
        if isinstance(given, np.ndarray):
            got = f"{given.dtype} of shape {given.shape}"
        raise ValueError(
            f"{function} must return {name} as {like.dtype} of shape {like.shape}, got {got}"
        )
    return given
