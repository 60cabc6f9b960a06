"""The one epoch loop, of `dlcore.Trainer` and of the estimators, and the run that callbacks see."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.checks import check_real
from dlcore.callbacks._checkpoint import ModelCheckpoint
from dlcore.callbacks._history import History
from dlcore.training._interruption import look_up
from dlcore.training._step_python import Diverged
from dlcore.training._watch import EndOfRun, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.callbacks._callback import Callback
    from dlcore.nn._sequential import Sequential
    from dlcore.training._batches import BatchPlan
    from dlcore.training._epoch_record import EpochRecord
    from dlcore.training._learning_rate import ScheduledLearningRates
    from dlcore.training._progress import IterationLog
    from dlcore.training._step import TrainingStep

# Seconds of native steps between two looks at Python: its signals, the progress bar.
_SLICE = 0.1
# And of steps on a mapped file, whose pages then are given back.
_SLICE_OF_MAP = 0.01


class Run:
    """A fit as its callbacks see it, under the name ``trainer``.

    Attributes
    ----------
    model : Sequential
    optimizer : optimizer
    history : History
    log_names : list of str
        What each epoch logs.
    active_callbacks : list of Callback
        Those of the fit, in the order in which they are called.
    first_epoch : int
        The epoch that the fit begins with: 0, or how many were done where it goes on from a file.
    """

    model: Sequential
    optimizer: Any
    history: History
    log_names: list[str]
    active_callbacks: list[Callback]
    first_epoch: int = 0
    _is_stopping = False
    _ranks: Ranks | None = None  # that make the same fit
    _watch: Watch
    _savers: list[ModelCheckpoint]
    _done = 0  # epochs
    _resumed_record: EpochRecord | None = None  # of the epoch that the fit goes on with

    def _open(self, active: list[Callback], log_names: list[str], **limits: Any) -> None:
        """Begin with an empty history, and with limits as `Watch` takes them."""
        vars(self).update(  # since trainers look at each attribute that is assigned
            _watch=Watch(self, **limits),
            history=History(),
            log_names=log_names,
            active_callbacks=active,
            first_epoch=0,
            _savers=[c for c in active if isinstance(c, ModelCheckpoint)],
            _is_stopping=False,
            _done=0,
        )

    def _take_up(self) -> bool:
        """Go on with a fit that was cut off, if this is one, once the callbacks know that it begins.

        Tell whether it is not over.
        """
        return True

    def training_inputs(self) -> Iterator[Array]:
        """Give x of the rows that the fit under way trains on, some at a time: for callbacks."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """End the fit after this epoch or, in `on_batch_end`, after this batch: for callbacks.

        The first reason is kept.
        """
        if not self._is_stopping:
            self._is_stopping = True
            self.history.reason = reason

    @property
    def _reports(self) -> bool:
        """Whether files are written and progress is shown here."""
        return self._ranks is None or self._ranks.is_first

    def _agree_on_stop(self) -> None:
        """Stop where the fit stops on any rank."""
        if self._ranks is None:
            return
        reasons = self._ranks.of_each(self.history.reason if self._is_stopping else None)
        for reason in reasons:
            if reason is not None:
                self.stop(reason)

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.active_callbacks:
            getattr(callback, event)(*arguments)


class Epochs(Protocol):
    """What the epochs of a fit consist of."""

    def train(self, epoch: int, end: int) -> tuple[int, dict[str, float]]:
        """Learn from all batches; return the epoch, and what its training logs.

        Where nobody looks at the epochs one by one, that may be a later one before ``end``: those in
        between are learned from and recorded, too.
        """

    def validate(self) -> dict[str, float]:
        """Return what the validation logs."""

    def counts(self, epoch: int) -> dict[str, int]:
        """Return ``batches`` of this epoch and the ``iteration``, the updates so far."""

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        """Show an epoch that is recorded, before callbacks are told."""

    def has_converged(self) -> bool:
        """Tell after the callbacks whether this was the last epoch."""


def run_epochs(
    run: Run,
    epochs: Epochs,
    count: int,
    learning_rates: ScheduledLearningRates,
    average: ExponentialMovingAverage | None,
) -> None:
    """Go through up to ``count`` epochs, and tell the callbacks of their beginnings and ends.

    The model has the average of its weights, if there is one, while it validates and while
    callbacks see it, and its own while it trains.
    """
    with _told(run, average):
        epoch = run.first_epoch - 1 if run._take_up() else count
        while (epoch := epoch + 1) < count:
            look_up()
            if average is not None:
                average.show(run.model, average=False)
            if run._resumed_record is None:  # or the epoch has begun elsewhere
                run._tell("on_epoch_begin", epoch)
                learning_rates.begin_epoch()
            run._watch.begin_epoch()
            epoch, logs = epochs.train(epoch, count)
            run._watch.end_epoch()
            if average is not None:
                average.show(run.model, average=True)
            logs |= epochs.validate()
            learning_rates.end_epochs()
            run.history.record(epoch, logs, **epochs.counts(epoch))
            run._done = epoch + 1
            epochs.end(epoch, logs)
            try:
                with raised_on_all(run._ranks):
                    run._tell("on_epoch_end", epoch, logs)
            finally:
                if run.active_callbacks:  # what they have added
                    run.history.add(_checked_logs(logs))
            run._agree_on_stop()
            run._watch.end_epoch()
            if run._is_stopping:
                run.history.stopped_epoch = epoch
            for saver in run._savers:
                saver.save_after(epoch, logs, is_last=run._is_stopping or epoch + 1 == count)
            if epochs.has_converged() or run._is_stopping:
                break


@contextmanager
def _told(run: Run, average: ExponentialMovingAverage | None) -> Iterator[None]:
    """Tell callbacks that a fit begins and, however it ends, that it does."""
    begun: list[Callback] = []
    try:
        for callback in run.active_callbacks:
            callback.trainer = run
        for callback in run.active_callbacks:
            callback.on_fit_begin()
            begun.append(callback)
        yield
    except BaseException as error:
        if average is not None:
            average.end(run.model)
        failures = _tell_each(begun, "on_exception", error) + _tell_each(begun, "on_fit_end")
        for failure in failures:
            error.add_note(f"a callback that was told of it raised {failure!r}")
        raise
    if average is not None:
        average.end(run.model)
    for failure in _tell_each(begun, "on_fit_end"):
        raise failure


def _tell_each(callbacks: Sequence[Callback], event: str, *arguments: Any) -> list[BaseException]:
    """Tell all callbacks, whatever one of them raises; return that."""
    failures: list[BaseException] = []
    for callback in callbacks:
        try:
            getattr(callback, event)(*arguments)
        except BaseException as failure:  # noqa: BLE001 - raised when all were told
            failures.append(failure)
    return failures


def _checked_logs(logs: dict[str, Any]) -> dict[str, float]:
    """Return what callbacks have left of the logs as numbers."""
    for name, value in logs.items():
        if type(value) is not float:
            logs[name] = check_real(f"logs[{name!r}]", value)
    return logs


def run_batches(
    step: TrainingStep,
    plan: BatchPlan,
    learning_rates: ScheduledLearningRates,
    log: IterationLog,
    watch: Watch,
    *,
    outputs: Array | None = None,
    squares: Array | None = None,
) -> Array:
    """Learn from batches, by the learning rates of their updates; return the loss of each.

    ``outputs`` and ``squares`` are filled in as `TrainingStep.run` does. What watches the fit may
    end it early: there are as many losses as batches that were learned from.
    """
    if watch.is_idle and log.only_counts and plan.all_count and not plan.rows.mapped:
        lrs = learning_rates.of_updates(len(plan))
        if lrs is None:
            own_losses = np.zeros(len(plan))
            run_unwatched(
                step, plan, learning_rates, log, own_losses, outputs=outputs, squares=squares
            )
            return own_losses
    losses: list[Array] = []
    row = batch = 0
    for part in watch.parts(plan, log):
        own_outputs = outputs if outputs is None else outputs[row : row + len(part.order)]
        own_squares = squares if squares is None else squares[batch : batch + len(part)]
        try:
            losses.append(
                _run_part(step, part, learning_rates, log, watch, own_outputs, own_squares)
            )
        except Diverged as error:
            error.batch += batch
            raise
        done = len(losses[-1])
        rows = int(part.offsets[done])
        watch.ran(losses[-1], own_outputs if own_outputs is None else own_outputs[:rows])
        row, batch = row + rows, batch + done
    return losses[0] if len(losses) == 1 else np.concatenate([np.empty(0), *losses])


def run_unwatched(
    step: TrainingStep,
    plan: BatchPlan,
    learning_rates: ScheduledLearningRates,
    log: IterationLog,
    losses: Array,
    *,
    outputs: Array | None = None,
    squares: Array | None = None,
) -> None:
    """Learn from batches that all count and that nobody looks at, at one rate.

    Their losses are filled in, and what is done is counted however it ends.
    """
    try:
        step.run(
            plan,
            losses=losses,
            squares=squares,
            lrs=None,
            outputs=outputs,
            seconds=_SLICE,
            between=go_on,
        )
    finally:
        updates = plan.updates(plan.done)
        learning_rates.end_updates(updates, None)
        log.iteration += updates


def go_on(batches: int) -> None:  # noqa: ARG001
    """Let a native run go on; a signal such as Ctrl-C ends it as Python is entered."""
    look_up()


def _run_part(
    step: TrainingStep,
    plan: BatchPlan,
    learning_rates: ScheduledLearningRates,
    log: IterationLog,
    watch: Watch,
    outputs: Array | None,
    squares: Array | None,
) -> Array:
    mapped = plan.rows.mapped
    losses = np.zeros(len(plan))
    lrs = learning_rates.of_updates(-(-len(plan) // plan.accumulate))
    log.begin(plan, losses, learning_rates.first if lrs is None else lrs[:, 0])
    last, made_before = 0, log.iteration
    seconds = _SLICE_OF_MAP if mapped else _SLICE
    if watch.looks_at_each_batch(plan):
        seconds = 0.0

    def between(done: int) -> None:
        nonlocal last
        look_up()
        mapped.release()
        log.up_to(done)
        before, last = last, done
        watch.between(plan, losses, done, before)

    try:
        updates = step.run(
            plan,
            losses=losses,
            squares=squares,
            lrs=lrs,
            outputs=outputs,
            seconds=seconds,
            between=between,
        )
    except EndOfRun:
        learning_rates.end_updates(log.iteration - made_before, lrs)
        return losses[:last]
    finally:
        mapped.release()
    learning_rates.end_updates(updates, lrs)
    if last < len(plan):
        between(len(plan))
    return losses
