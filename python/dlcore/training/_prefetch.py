"""Mini-batches that functions of the user's own change, in other threads, ahead of the step."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._native.compressed_rows import is_sparse
from dlcore._native.threads import adopt_num_threads, get_num_threads
from dlcore.functional._one_hot import one_hot
from dlcore.training._batches import Batches, BatchPlan, plan_batches
from dlcore.training._dataset import Dataset, MappedFile, Subset, all_loss_weights, present
from dlcore.training._rows import dense

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss

# Batches that are given to the step at once, and bytes of them, roughly; pieces that are under way.
_FEWEST, _MOST, _BYTES = 8, 64, 1 << 24
_AHEAD = 3


class AugmentedBatches:
    """The mini-batches of rows in arrays, changed anew in each epoch; a context manager.

    Parameters
    ----------
    source : Batches
        The batches as they are.
    loss : Loss
    dtype : dtype
        That of the model, which the changed rows have.
    classes : int or None
        Classes of the targets, if they are class indices.
    transform : callable, optional
        ``transform(x, rng) -> x`` of a batch, of the same shape; x is a copy.
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
        dtype: np.dtype[Any],
        classes: int | None,
        transform: Callable[..., Any] | None,
        mix: Callable[..., Any] | None,
    ) -> None:
        self._source, self._loss, self._classes = source, loss, classes
        self._dtype = dtype
        self._transform, self._mix = transform, mix
        # For all epochs: threads take longer to begin than a small epoch does. One less than there
        # are cores: the step needs some, and one that waits for its turn holds up all of the step's.
        threads = get_num_threads()
        self._pool = ThreadPoolExecutor(
            max(1, threads - 1), "dlcore-transform", adopt_num_threads, (threads,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        # Who pressed Ctrl-C does not wait for functions that are under way.
        self._pool.shutdown(wait=error is None, cancel_futures=True)

    def __len__(self) -> int:
        return len(self._source)

    @property
    def accumulate(self) -> int:
        """Batches to an update, from the next epoch on."""
        return self._source.accumulate

    @accumulate.setter
    def accumulate(self, batches: int) -> None:
        self._source.accumulate = batches

    @property
    def is_apart(self) -> bool:
        """Whether this rank learns by itself in the next epoch."""
        return self._source.is_apart

    @is_apart.setter
    def is_apart(self, is_apart: bool) -> None:
        self._source.is_apart = is_apart

    @property
    def data(self) -> Dataset:
        """The data as they are."""
        return self._source.data

    def weigh(self) -> None:
        """Weigh the rows by the loss as it is now."""
        self._source.weigh()

    def inputs(self) -> Iterator[Array]:
        """Give x of all rows as they are, some at a time; changed where they have another dtype."""
        for x in self._source.inputs():
            if x.dtype == self._dtype or self._transform is None:
                yield x
            else:
                like = np.empty(x.shape, self._dtype)
                yield _checked("transform", "x", self._transform(x, np.random.default_rng(0)), like)

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch, some at a time."""
        for plan in self._source.epoch(rng, key):
            size = _batches_of_piece(plan)
            starts = deque(range(0, len(plan), size))
            under_way: deque[_Piece] = deque()
            while starts or under_way:
                while starts and len(under_way) < _AHEAD:
                    under_way.append(self._begin(plan, starts.popleft(), size))
                yield from self._finish(plan, under_way.popleft())

    def _begin(self, plan: BatchPlan, start: int, size: int) -> _Piece:
        """Set threads to make some batches, from ``start`` on."""
        offsets = plan.offsets[start : start + size + 1]
        indices, offsets = plan.order[offsets[0] : offsets[-1]], offsets - offsets[0]
        x = np.empty((len(indices), *plan.rows.x.shape[1:]), self._dtype)
        targets = [
            self._submit(plan, start + i, x[offsets[i] : offsets[i + 1]])
            for i in range(len(offsets) - 1)
        ]
        return _Piece(start, indices, offsets, x, targets)

    def _submit(self, plan: BatchPlan, batch: int, x: Array) -> Future[Array]:
        """Set a thread to change a batch; change it here where no thread can be started."""
        try:
            return self._pool.submit(self._change, plan, batch, x)
        except RuntimeError:
            changed: Future[Array] = Future()
            changed.set_result(self._change(plan, batch, x))
            return changed

    def _finish(self, plan: BatchPlan, piece: _Piece) -> Iterator[BatchPlan]:
        """Wait for batches, and give them."""
        with raised_on_all(plan.ranks):
            y = np.concatenate([target.result() for target in piece.targets])
        given = plan.rows
        MappedFile(given.x).release()
        weight, sample_weight = (
            w if w is None else w[piece.indices] for w in (given.weight, given.sample_weight)
        )
        made_of = Subset(given, piece.indices)
        rows = Dataset(piece.x, y, weight, sample_weight, made_of)
        changed = plan_batches(
            rows,
            np.arange(len(y)),
            piece.offsets,
            plan.accumulate,
            plan.key_of(piece.start),  # that which the batch has in one run of all of them
            weights=all_loss_weights(self._loss, rows),
            there=present(self._loss, rows),
            ranks=plan.ranks,
        )
        changed.batch_size = plan.batch_size
        yield changed

    def _change(self, plan: BatchPlan, batch: int, x: Array) -> Array:
        """Fill in x of a batch, changed; return its targets."""
        rng = np.random.default_rng([plan.key, batch])
        indices = plan.indices(batch)
        given = plan.rows.x
        changed = x
        if given.dtype != x.dtype or is_sparse(given):
            changed = dense(given[indices])
        else:
            np.take(given, indices, axis=0, out=x)
        y: Array = plan.rows.y[indices]
        if self._transform is not None and len(indices):
            changed = _checked("transform", "x", self._transform(changed, rng), x)
        if self._mix is not None:
            if y.dtype.kind in "iu":
                y = one_hot(y, self._classes or 0, x.dtype)
            if not len(indices):  # other ranks have rows of the batch
                return y
            mixed = self._mix(changed, y, rng)
            if not isinstance(mixed, tuple) or len(mixed) != 2:
                raise ValueError(f"mix must return (x, y), got {type(mixed).__name__}")
            changed, y = _checked("mix", "x", mixed[0], x), _checked("mix", "y", mixed[1], y)
        if changed is not x:
            np.copyto(x, changed)
        return y


class _Piece(NamedTuple):
    start: int  # the first batch
    indices: Array  # of the rows
    offsets: Array  # of the batches in them
    x: Array  # is being filled in
    targets: list[Future[Array]]  # of each batch


def _batches_of_piece(plan: BatchPlan) -> int:
    """Return how many batches to give at once: whole updates."""
    x = plan.rows.x
    bytes_of_batch = max(1, int(x.shape[1]) * int(x.dtype.itemsize) * plan.batch_size)
    batches = min(max(_FEWEST, _BYTES // bytes_of_batch), _MOST)
    return plan.accumulate * -(-batches // plan.accumulate)


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
