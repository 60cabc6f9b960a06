"""What looks at a fit within an epoch: limits of time and of steps, and callbacks that hear of batches."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_not_negative, check_positive_int
from dlcore.callbacks._callback import overrides

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback
    from dlcore.callbacks._checkpoint import ModelCheckpoint
    from dlcore.training._batches import BatchPlan
    from dlcore.training._epoch_record import EpochRecord
    from dlcore.training._progress import IterationLog


class EndOfRun(Exception):
    """A native run ends after the batches that are done."""


class Watch:
    """Looks at a fit within its epochs.

    Parameters
    ----------
    run : Run
        The fit, whose callbacks may have `Callback.on_batch_end`.
    max_time : float or timedelta, optional
        Seconds from now after which the fit ends.
    max_iterations : int, optional
        Updates after which it ends.
    """

    def __init__(
        self,
        run: Any,
        *,
        max_time: float | timedelta | None = None,
        max_iterations: int | None = None,
    ) -> None:
        if isinstance(max_time, timedelta):
            max_time = max_time.total_seconds()
        if max_time is not None:
            max_time = check_not_negative("max_time", max_time)
        if max_iterations is not None:
            max_iterations = check_positive_int("max_iterations", max_iterations)
        self._run = run
        self._callbacks: list[Callback] = []
        self._longest = 1  # batches between two calls of one of them
        self._savers: list[ModelCheckpoint] = []
        self._recent: list[float] = []  # losses of the last batches
        self._max_time, self._max_iterations = max_time, max_iterations
        self._end = None if max_time is None else time.monotonic() + max_time
        self._batch = self._ran = 0  # batches of the epoch, and of the last run
        self._has_begun = self._was_stopping = False
        self.is_amid_epoch = False  # from its first batch to the last
        self.is_paused = False  # between two updates, to save
        self.has_ended_it = False  # for a limit
        self.is_apart = False  # from other ranks, which are asked between two plans alone
        self.record: EpochRecord | None = None  # of an epoch that may be cut off

    @property
    def is_idle(self) -> bool:
        """Whether nothing within this epoch can end the fit or hears of its batches."""
        return (
            not self._callbacks
            and not self._savers
            and self._end is None
            and self._max_iterations is None
        )

    @property
    def may_save(self) -> bool:
        """Whether states are saved within epochs."""
        return bool(self._savers)

    def begin_epoch(self) -> None:
        """Count batches from 0; find the callbacks that hear of them."""
        run, self.is_amid_epoch = self._run, True
        self._batch, self._has_begun, self._was_stopping = 0, False, run._is_stopping
        self._callbacks = [
            c
            for c in run.active_callbacks
            if overrides(c, "on_batch_end") and c.every_batches is not None
        ]
        self._savers = [c for c in run._savers if c.unit != "epochs"]
        self.record = None
        if self._callbacks:
            self._longest = max(_every(callback) for callback in self._callbacks)
            self._recent = []

    def go_on(self, record: EpochRecord) -> None:
        """Begin after the batches that a record knows."""
        self.record, self._batch, self._has_begun = record, record.known, record.known > 0
        self._recent = record.state_dict()["losses"].tolist()

    def end_epoch(self) -> None:
        """Stop the fit if the time is over."""
        self.is_amid_epoch = False
        self._stop_late()

    def _stop_late(self) -> None:
        if self._is_late():
            self._stop(f"max_time: {self._max_time:g} seconds are over")

    def _stop(self, reason: str) -> None:
        self.has_ended_it |= not self._run._is_stopping
        self._run.stop(reason)

    def parts(self, plan: BatchPlan, log: IterationLog) -> Iterator[BatchPlan]:
        """Give batches, some at a time, as long as the fit goes on; the first update in any case.

        Callbacks may look at the model after each update, whose weights are packed while a native
        run goes through several of them.
        """
        if self._max_iterations is not None:
            batches = max(1, self._max_iterations - log.iteration) * plan.accumulate
            plan = next(plan.parts(batches))
        start = 0
        while start < len(plan):
            if self._has_begun and not self.is_apart and self.ends(log):
                return
            self._has_begun = True
            part = plan.part(start, self._next_cut(plan, start))
            yield part
            start += self._ran
            if self._savers and part.completes_update(self._ran - 1) and self._is_save_due():
                self._save()

    def _next_cut(self, plan: BatchPlan, start: int) -> int:
        """Return the batch before which somebody wants to look at the model."""
        if not self._callbacks and not self._savers:
            return len(plan)
        left = [every - self._batch % every for every in map(_every, self._callbacks)]
        left += [n for saver in self._savers if (n := saver.batches_left) is not None]
        batches = max(1, min(left, default=len(plan)))
        return min(len(plan), start + plan.accumulate * -(-batches // plan.accumulate))

    def ran(self, losses: Array, outputs: Array | None) -> None:
        """Take batches that were learned from."""
        self._ran = len(losses)
        self._batch += len(losses)
        if self.record is not None:
            self.record.add(losses, outputs)
        for saver in self._savers:
            saver.count(len(losses))

    def _save(self) -> None:
        """Have the state saved, where it is time to."""
        due = [saver for saver in self._savers if saver.is_due]
        self.is_paused = True
        try:
            for saver in due:
                saver.save_within(self._run._done, self._batch)
        finally:
            self.is_paused = False

    def between(self, plan: BatchPlan, losses: Array, done: int, before: int) -> None:
        """Tell the callbacks of batches; raise `EndOfRun` where the time is over amid a run."""
        for number in range(before, done) if self._callbacks else ():
            self._tell(self._batch + number, float(losses[number]))
        if self.is_apart:
            return
        is_due = self._is_late() or self._is_save_due()
        if is_due and done < len(plan) and plan.completes_update(done - 1):
            raise EndOfRun

    def _tell(self, batch: int, loss: float) -> None:
        recent = self._recent = [*self._recent[1 - self._longest :], loss][-self._longest :]
        for callback in self._callbacks:
            every = _every(callback)
            if (batch + 1) % every == 0:
                mean = loss if every == 1 else sum(recent[-every:]) / every
                callback.on_batch_end(batch, {"loss": mean})

    def ends(self, log: IterationLog) -> bool:
        """Whether the fit ends here; stop it if that is for a limit."""
        self._stop_late()
        if self._max_iterations is not None and log.iteration >= self._max_iterations:
            self._stop(f"max_iterations: {self._max_iterations} updates are made")
        if self._callbacks or (self.is_apart and self._max_iterations is not None):
            self._run._agree_on_stop()
        stopped: bool = self._run._is_stopping and not self._was_stopping
        return stopped

    def _is_late(self) -> bool:
        return self._end is not None and self._agreed(time.monotonic() >= self._end)

    def _is_save_due(self) -> bool:
        is_due = any(saver.is_due for saver in self._savers)
        return self._agreed(is_due) if self._goes_by_clock else is_due

    def _agreed(self, is_so: bool) -> bool:
        """Return what is so on rank 0: clocks differ."""
        ranks = self._run._ranks
        return is_so if ranks is None else bool(ranks.of_first(is_so))

    @property
    def _goes_by_clock(self) -> bool:
        return self._end is not None or any(saver.unit == "minutes" for saver in self._savers)

    def looks_at_each_batch(self, plan: BatchPlan) -> bool:
        """Whether it must look at the fit after each batch."""
        if self._run._ranks is not None and self._goes_by_clock and not self.is_apart:
            return True  # as all others do
        if plan.accumulate > 1:  # of which not each one completes an update
            return bool(self._callbacks or self._savers) or self._end is not None
        return self._longest == 1 and bool(self._callbacks)


def _every(callback: Callback) -> int:
    return check_positive_int(f"{type(callback).__name__}.every_batches", callback.every_batches)
