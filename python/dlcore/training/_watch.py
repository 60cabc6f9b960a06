"""What may end a fit within an epoch: limits of time and of steps, and callbacks that hear of batches."""

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
    from dlcore.training._batches import BatchPlan
    from dlcore.training._progress import IterationLog


class EndOfFit(Exception):
    """The fit ends after the batches that are done."""


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
        self._max_time, self._max_iterations = max_time, max_iterations
        self._end = None if max_time is None else time.monotonic() + max_time
        self._batch = 0
        self._has_begun = self._was_stopping = False
        self.is_amid_epoch = False  # from its first batch to the last

    @property
    def is_idle(self) -> bool:
        """Whether nothing within this epoch can end the fit or hears of its batches."""
        return not self._callbacks and self._end is None and self._max_iterations is None

    def begin_epoch(self) -> None:
        """Count batches from 0; find the callbacks that hear of them."""
        run, self.is_amid_epoch = self._run, True
        self._batch, self._has_begun, self._was_stopping = 0, False, run._is_stopping
        self._callbacks = [c for c in run.active_callbacks if overrides(c, "on_batch_end")]

    def end_epoch(self) -> None:
        """Stop the fit if the time is over."""
        self.is_amid_epoch = False
        self._stop_late()

    def _stop_late(self) -> None:
        if self._is_late():
            self._run.stop(f"max_time: {self._max_time:g} seconds are over")

    def parts(self, plan: BatchPlan, log: IterationLog) -> Iterator[BatchPlan]:
        """Give batches, some at a time, as long as the fit goes on; the first update in any case.

        Callbacks may look at the model after each update, whose weights are packed while a native
        run goes through several of them.
        """
        if self._max_iterations is not None:
            batches = max(1, self._max_iterations - log.iteration) * plan.accumulate
            plan = next(plan.parts(batches))
        for part in plan.parts(1) if self._callbacks else (plan,):
            if self._has_begun and self.ends(log):
                return
            self._has_begun = True
            yield part

    def between(self, plan: BatchPlan, losses: Array, done: int, before: int) -> None:
        """Tell the callbacks of batches; raise `EndOfFit` where the time is over amid a run."""
        for loss in losses[before:done] if self._callbacks else ():
            logs = {"loss": float(loss)}
            for callback in self._callbacks:
                callback.on_batch_end(self._batch, logs)
            self._batch += 1
        if self._is_late() and done < len(plan) and plan.completes_update(done - 1):
            raise EndOfFit

    def ends(self, log: IterationLog) -> bool:
        """Whether the fit ends here; stop it if that is for a limit."""
        self._stop_late()
        if self._max_iterations is not None and log.iteration >= self._max_iterations:
            self._run.stop(f"max_iterations: {self._max_iterations} updates are made")
        stopped: bool = self._run._is_stopping and not self._was_stopping
        return stopped

    def _is_late(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def looks_at_each_batch(self, plan: BatchPlan) -> bool:
        """Whether it must look at the fit after each batch."""
        return bool(self._callbacks) or (self._end is not None and plan.accumulate > 1)
