"""A fit whose arguments are checked, and that has not begun."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlcore.training._epochs import TrainerEpochs
from dlcore.training._loop import run_epochs
from dlcore.training._prefetch import AugmentedBatches
from dlcore.training._progress import IterationLog, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.callbacks._callback import Callback
    from dlcore.callbacks._history import History
    from dlcore.training._batches import Batches
    from dlcore.training._dataset import Subset
    from dlcore.training._stream import Stream
    from dlcore.training._trainer import Trainer


@dataclass(eq=False)
class PreparedFit:
    """A fit that nothing stands in the way of; so far nothing is changed.

    The attributes are what `Trainer.fit` made of its arguments.
    """

    trainer: Trainer
    source: Batches | Stream | AugmentedBatches
    validation: Callable[[], Iterable[Subset]] | None
    epochs: int
    steps: int | None
    validation_freq: int
    validation_goes_on: bool
    shuffle: bool
    watchers: list[Callback]
    average: ExponentialMovingAverage | None
    log_names: list[str]
    limits: dict[str, Any]
    log_every: int | None
    setup: dict[str, Any] | None
    resumed: dict[str, Any] | None
    verbose: int | str
    ranks: Sequence[str] = ()  # where each of several runs, as messages of MPI name it

    def run(self) -> History:
        """Fit."""
        trainer, average, source = self.trainer, self.average, self.source
        with trainer.model._in_training():
            step = trainer._training_step(
                None if average is None else (average.begin(trainer.model), average.decay)
            )
            verbose = self.verbose if trainer._reports else 0
            progress = Progress(verbose, epochs=self.epochs, steps=self.steps)
            trainer._open(self.watchers, self.log_names, **self.limits)
            log = IterationLog(trainer.history, progress, self.log_every)
            trainer._begin_course(log, self.setup, self.resumed)
            trainer._source = source
            work = TrainerEpochs(
                trainer,
                source,
                step,
                self.validation,
                self.validation_freq,
                self.shuffle,
                progress,
                log,
                average,
            )
            try:
                # Threads that change batches end with the fit, however it ends.
                for rank, place in enumerate(self.ranks):
                    progress.say(f"rank {rank}: {place}")
                with source if isinstance(source, AugmentedBatches) else nullcontext(), progress:
                    if self.resumed is not None:
                        work.skip(trainer.first_epoch, self.validation_goes_on)
                    run_epochs(trainer, work, self.epochs, trainer._learning_rates, average)
                    if (last := trainer.history.stopped_epoch) is not None:
                        progress.say(f"stopped after epoch {last + 1}: {trainer.history.reason}")
            finally:
                trainer._end_course()
        return trainer.history
