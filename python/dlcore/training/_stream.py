"""Mini-batches as an iterable gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import is_array_like
from dlcore._native.compressed_rows import is_sparse
from dlcore.nn._losses import Loss
from dlcore.training._batches import BatchPlan, plan_batch
from dlcore.training._dataset import Dataset, all_loss_weights, present
from dlcore.training._rows import dense, rows_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array


def is_batches(data: object) -> bool:
    """Whether data are an iterable of batches, and not arrays."""
    if is_array_like(data) or is_sparse(data) or isinstance(data, str | bytes | Mapping):
        return False
    return isinstance(data, Iterable) or _has_items(data)


def is_pair(data: object) -> bool:
    """Whether data are (x, y) or (x, y, sample_weight), and not a list of such batches."""
    return (
        isinstance(data, tuple | list)
        and len(data) in (2, 3)
        and not isinstance(data[0], tuple | list)
    )


class Reader:
    """The batches of an iterable, checked; each iteration is an epoch.

    Parameters
    ----------
    source : iterable
        Gives (x, y) or (x, y, sample_weight).
    name : str
        What to call it in messages.
    check : callable
        ``check(x, y, sample_weight=None, prefix=...)`` makes `Dataset` of a batch, or raises an
        error.
    steps : int, optional
        Batches of an epoch. The next one then goes on where this one ends, and begins anew at the
        end of what can be gone through again.
    steps_name : str
        What to call these.
    prefix : str
        What messages say before the number of a batch.
    may_be_empty : bool
        Whether an epoch may have no batch, since other ranks have some.
    """

    def __init__(
        self,
        source: Any,
        name: str,
        check: Callable[..., Dataset],
        *,
        steps: int | None = None,
        steps_name: str = "steps_per_epoch",
        prefix: str = "",
        may_be_empty: bool = False,
    ) -> None:
        if not is_batches(source):
            raise TypeError(
                f"without y, {name} must be an iterable of batches (x, y), "
                f"not {type(source).__name__}"
            )
        self._source, self._name, self._check, self._prefix = source, name, check, prefix
        self.steps, self._steps_name = steps, steps_name
        self._is_one_pass = isinstance(source, Iterator)
        self._may_be_empty = may_be_empty
        self._rest: Iterator[Any] | None = None  # of what an epoch of so many steps has left

    def check_repeats(self, epochs: int) -> None:
        """Make sure that it can be gone through so many times."""
        if epochs > 1 and self._is_one_pass and self.steps is None:
            raise ValueError(
                f"{self._name} is a {type(self._source).__name__}, which gives its batches only "
                f"once, for {epochs} epochs: pass something that can be gone through again, such "
                f"as a list or an object with __iter__, or {self._steps_name}="
            )

    def skip(self, epochs: int) -> None:
        """Pass over the batches of so many epochs, where the next one goes on with what follows."""
        for _ in range(epochs if self.steps is not None else 0):
            for _ in self._batches():
                pass

    def __iter__(self) -> Iterator[Dataset]:
        number = 0
        for number, batch in enumerate(self._batches(), 1):
            if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
                raise TypeError(
                    f"batch {number} of {self._name} must be (x, y) or (x, y, sample_weight), "
                    f"got {type(batch).__name__}"
                )
            yield self._check(*batch, prefix=f"{self._prefix}batch {number}: ")
        if number == 0 and not self._may_be_empty:
            raise ValueError(
                f"{self._name} has no batches in this epoch; an iterator can be gone through only "
                f"once, pass something that every epoch can iterate over, such as a list"
            )

    def _batches(self) -> Iterator[Any]:
        """Give the batches of an epoch as they come."""
        if self.steps is None:
            yield from _begin(self._source)
            return
        left, got_some = self.steps, True
        while left:
            if self._rest is None:
                self._rest, got_some = _begin(self._source), False
            for batch in islice(self._rest, left):
                left, got_some = left - 1, True
                yield batch
            if left:  # it has ended
                self._rest = None
                if self._is_one_pass or not got_some:
                    raise ValueError(
                        f"{self._name} ended after {self.steps - left} of {self.steps} batches of "
                        f"an epoch ({self._steps_name})"
                    )


class Stream:
    """The mini-batches that a reader gives in each epoch.

    Parameters
    ----------
    loss : Loss
        Says what each row contributes to the denominator of the mean loss.
    reader : Reader
    accumulate : int
        Batches to an update: as many passes, of a batch each.
    """

    # Whether this rank learns by itself from batches of its own, weighed without those of the others.
    is_apart = False

    def __init__(self, loss: Loss, reader: Reader, accumulate: int) -> None:
        self._loss, self._reader, self.accumulate = loss, reader, accumulate

    def skip(self, epochs: int) -> None:
        """Pass over the batches of so many epochs, as far as the next one does not begin anew."""
        self._reader.skip(epochs)

    def weigh(self) -> None:
        """Weigh rows by the loss as it is now, as is done with each batch anyway."""

    def inputs(self) -> Iterator[Array]:
        """Give x of each batch, of the rows that are read."""
        for rows in self._reader:
            for part in rows.counted().parts(4096):
                step = rows_at_once(part.x, 4096)
                for start in range(0, len(part), step):
                    yield dense(part.x[start : start + step])

    def epoch(self, rng: np.random.Generator | None, key: int) -> Iterator[BatchPlan]:  # noqa: ARG002
        """Give the batches of an epoch as they come."""
        numbered = enumerate(self._reader, 1)
        if self.accumulate == 1:
            for number, rows in numbered:
                yield self._plan(rows, key + number)
        elif type(self._loss).present is not Loss.present:
            yield from self._known_updates(numbered, key)
        else:
            yield from self._updates(numbered, key)

    def _updates(self, numbered: Iterator[tuple[int, Dataset]], key: int) -> Iterator[BatchPlan]:
        """Plan updates of several batches, whose weight is known at their end alone.

        Each batch is weighed against the first one, and the sum of the gradients scaled in the end.
        """
        for first in numbered:
            unit = total = 0.0
            update = chain([first], islice(numbered, self.accumulate - 1))
            for (number, rows), is_last in _with_last(update):
                plan = self._plan(rows, key + number)
                normalizer = float(plan.normalizers[0])
                unit, total = unit or normalizer, total + normalizer
                yield replace(
                    plan,
                    accumulation_weights=plan.normalizers / (unit or 1.0),
                    accumulate=1 if is_last else self.accumulate,
                    ends_update=is_last,
                    gradient_scale=unit / total if is_last and total > 0 else 1.0,
                )

    def _known_updates(
        self, numbered: Iterator[tuple[int, Dataset]], key: int
    ) -> Iterator[BatchPlan]:
        """Plan updates whose batches are all there: what a target weighs depends on them all."""
        while update := list(islice(numbered, self.accumulate)):
            plans = [self._plan(rows, key + number) for number, rows in update]
            total = sum(float(plan.normalizers[0]) for plan in plans)
            factors = self._factors([rows for _, rows in update], total)
            for (plan, _), is_last in _with_last(zip(plans, update, strict=True)):
                yield replace(
                    plan,
                    accumulation_weights=plan.normalizers / (total or 1.0),
                    accumulate=1 if is_last else self.accumulate,
                    ends_update=is_last,
                    factors=factors,
                )

    def _factors(self, update: list[Dataset], total: float) -> Array | None:
        """Return the factors of the targets in an update, whose batches weigh so much."""
        of_batches = [(rows, present(self._loss, rows)) for rows in update]
        targets = next((there.shape[1] for _, there in of_batches if there is not None), None)
        if targets is None:
            return None
        counts = np.zeros((1, targets))
        for rows, there in of_batches:
            counts += all_loss_weights(self._loss, rows).sum() if there is None else there.sum(0)
        return np.divide(total, counts, out=np.zeros_like(counts), where=counts > 0)

    def _plan(self, rows: Dataset, key: int) -> BatchPlan:
        """Plan one batch."""
        return plan_batch(self._loss, rows, key % 2**63)


def _has_items(source: Any) -> bool:
    return hasattr(source, "__getitem__") and hasattr(source, "__len__")


def _begin(source: Any) -> Iterator[Any]:
    """Begin to go through a source; one of numbered items without __iter__ is, such as Keras', too."""
    if isinstance(source, Iterable):
        return iter(source)
    return (source[i] for i in range(len(source)))


def _with_last(items: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Give each item, and whether it is the last one."""
    rest = iter(items)
    for item in rest:
        for following in rest:
            yield item, False
            item = following
        yield item, True
