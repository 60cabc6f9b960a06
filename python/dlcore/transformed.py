"""Mini-batches that functions of the user's own change, in other threads, ahead of the step."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .batches import Batches, Deal
from .data import Rows
from .parallel import get_num_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._typing import Array
    from .objectives import Loss

# Batches that are given to the step at once, at least, and such pieces that are under way.
_PIECE = 8
_AHEAD = 3


class Transformed:
    """The mini-batches of rows in arrays, changed anew in each epoch.

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

    def __len__(self) -> int:
        return len(self._source)

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows as they are, some at a time."""
        return self._source.inputs()

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[Deal]:
        """Draw the batches of an epoch, some at a time."""
        for deal in self._source.epoch(rng, key):
            size = deal.accumulate * -(-_PIECE // deal.accumulate)
            starts = deque(range(0, len(deal), size))
            under_way: deque[tuple[int, list[Future[Rows]]]] = deque()
            with ThreadPoolExecutor(get_num_threads(), "dlcore-transform") as pool:
                try:
                    while starts or under_way:
                        while starts and len(under_way) < _AHEAD:
                            start = starts.popleft()
                            batches = range(start, min(start + size, len(deal)))
                            under_way.append(
                                (start, [pool.submit(self._changed, deal, b) for b in batches])
                            )
                        start, futures = under_way.popleft()
                        yield from self._piece(deal, start, [f.result() for f in futures])
                finally:  # after an error, or Ctrl-C
                    pool.shutdown(wait=True, cancel_futures=True)

    def _piece(self, deal: Deal, start: int, batches: list[Rows]) -> Iterator[Deal]:
        rows = Rows(*(_joined(part) for part in zip(*map(_parts, batches), strict=True)))
        order = np.arange(len(rows.x))
        # The key of a batch is that which it has in one run of all of them.
        key = (deal.key + start * 0x9E3779B97F4A7C15) % 2**64
        yield from Batches(self._loss, rows, order, deal.batch_size, deal.accumulate).epoch(
            None, key
        )

    def _changed(self, deal: Deal, batch: int) -> Rows:
        rng = np.random.default_rng([deal.key, batch])
        numbers = deal.numbers(batch)
        rows = deal.rows
        x, y = np.ascontiguousarray(rows.x[numbers]), rows.y[numbers]
        if self._transform is not None:
            x = _checked("transform", "x", self._transform(x, rng), x.shape, x.dtype)
        if self._mix is not None:
            if y.dtype.kind in "iu":
                y = np.eye(self._classes or 0, dtype=x.dtype)[y]
            mixed = self._mix(x, y, rng)
            if not isinstance(mixed, tuple) or len(mixed) != 2:
                raise ValueError(f"mix must return (x, y), got {type(mixed).__name__}")
            x = _checked("mix", "x", mixed[0], x.shape, x.dtype)
            y = _checked("mix", "y", mixed[1], y.shape, y.dtype)
        weights = (rows.weight, rows.sample_weight)
        return Rows(x, y, *(w if w is None else w[numbers] for w in weights))


def check_mixable(loss: Loss, y: Array) -> None:
    """Make sure that targets can be mixed: values, or classes that all count."""
    if not loss.mixable:
        raise ValueError(
            f"mix needs targets that can be mixed; those of {type(loss).__name__} cannot"
        )
    if not loss.counted(y).all():
        raise ValueError("mix needs the class of every row, but some are ignored")


def _checked(function: str, name: str, given: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    if not isinstance(given, np.ndarray) or given.shape != shape or given.dtype != dtype:
        got = type(given).__name__
        if isinstance(given, np.ndarray):
            got = f"{given.dtype} of shape {given.shape}"
        raise ValueError(f"{function} must return {name} as {dtype} of shape {shape}, got {got}")
    return given


def _parts(rows: Rows) -> tuple[Array | None, ...]:
    return rows.x, rows.y, rows.weight, rows.sample_weight


def _joined(parts: tuple[Any, ...]) -> Any:
    return None if parts[0] is None else np.concatenate(parts)
