"""The one epoch loop, of `dlcore.Trainer` and of the estimators, and the run that callbacks see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dlcore.callbacks._history import History

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.callbacks._callback import Callback
    from dlcore.nn._sequential import Sequential
    from dlcore.training._learning_rate import ScheduledLearningRates


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
    """

    model: Sequential
    optimizer: Any
    history: History
    log_names: list[str]
    active_callbacks: list[Callback]
    _is_stopping = False

    def _open(self, callbacks: Sequence[Callback], log_names: list[str]) -> None:
        """Begin with an empty history."""
        self.history = History()
        self.log_names = log_names
        self.active_callbacks = list(callbacks)
        self._is_stopping = False

    def training_inputs(self) -> Iterator[Array]:
        """Give x of the rows that the fit under way trains on, some at a time: for callbacks."""
        raise NotImplementedError

    def stop(self, reason: str) -> None:
        """End the fit after this epoch: for callbacks."""
        self._is_stopping = True
        self.history.reason = reason

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.active_callbacks:
            getattr(callback, event)(*arguments)


class Epochs(Protocol):
    """What the epochs of a fit consist of."""

    def train(self, epoch: int) -> dict[str, float]:
        """Learn from all batches; return what the training logs."""

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
    for callback in run.active_callbacks:
        callback.trainer = run
    run._tell("on_fit_begin")
    for epoch in range(count):
        if average is not None:
            average.show(run.model, average=False)
        run._tell("on_epoch_begin", epoch)
        learning_rates.begin_epoch()
        logs = epochs.train(epoch)
        if average is not None:
            average.show(run.model, average=True)
        logs |= epochs.validate()
        learning_rates.end_epoch()
        run.history.record(epoch, logs, **epochs.counts(epoch))
        epochs.end(epoch, logs)
        run._tell("on_epoch_end", epoch, logs)
        if run._is_stopping:
            run.history.stopped_epoch = epoch
        if epochs.has_converged() or run._is_stopping:
            break
