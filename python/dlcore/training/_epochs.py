"""The epochs of a trainer's fit: one after the other, or several in one native run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import first_of, raised_on_all
from dlcore._common.checks import check_flag
from dlcore._common.ranks import on_all
from dlcore.metrics._accumulation import Measurement
from dlcore.training._averaging import begin_averaging
from dlcore.training._batches import Batches
from dlcore.training._dataset import describe_fault
from dlcore.training._epoch_record import EpochRecord
from dlcore.training._evaluation import score
from dlcore.training._loop import run_batches, run_unwatched
from dlcore.training._rank_means import take_mean_of_model
from dlcore.training._step import Diverged
from dlcore.training._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dlcore._common.typing import Array
    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.training._averaging import Averaging
    from dlcore.training._batches import BatchPlan
    from dlcore.training._configuration import Configured
    from dlcore.training._dataset import Subset
    from dlcore.training._prefetch import AugmentedBatches
    from dlcore.training._progress import IterationLog, Progress
    from dlcore.training._step import TrainingStep

# Outputs of training batches that are kept at once for metrics: 32 MiB of float32.
_OUTPUTS = 2**23


class TrainerEpochs:
    """The epochs of a trainer's fit."""

    def __init__(
        self,
        trainer: Configured,
        source: Batches | Stream | AugmentedBatches,
        step: TrainingStep,
        validation: Callable[[], Iterable[Subset]] | None,
        validation_freq: int,
        shuffle: bool,
        progress: Progress,
        log: IterationLog,
        average: ExponentialMovingAverage | None,
    ) -> None:
        self._trainer, self._source, self._step = trainer, source, step
        self._validation, self._validation_freq = validation, validation_freq
        self._rng = trainer._shuffle_rng if check_flag("shuffle", shuffle) else None
        # Layers that draw, and rows that are changed, take a key of each epoch.
        self._draws = step.draws or not isinstance(source, Batches)
        self._progress, self._log = progress, log
        self._average = average
        self._callbacks = list(trainer.callbacks)
        self._epoch = self._batches = 0
        self._began = 0.0
        self._options = _options_of(trainer)  # when they were looked at
        # The step is described anew before each fit: only callbacks may have changed anything since.
        self._is_described = not trainer.active_callbacks
        self._averaging: Averaging | None = None  # of the epoch, where ranks learn apart

    def train(self, epoch: int, end: int) -> tuple[int, dict[str, float]]:
        self._epoch, self._began = epoch, time.perf_counter()
        if not self._is_described:
            self._take_changes()
        self._is_described = False
        trainer, source = self._trainer, self._source
        averaging = self._averaging = self._begin_averaging()
        if isinstance(source, Batches) and self._is_unseen():
            count = source.at_once(self._step.size)
            if count:
                return self._train_unseen(source, epoch, min(count, end - epoch))
        self._progress.begin_epoch(epoch)
        plans = source.epoch(self._rng, self._begin())
        if trainer._metrics:
            plans = self._pieces(plans)
        if averaging is not None:
            plans = averaging.parts(plans, of_all=trainer._shards is None)
        logs = self._train(plans)
        if "lr" in trainer.log_names:
            logs |= trainer._learning_rates.logs()
        return epoch, logs

    def _begin_averaging(self) -> Averaging | None:
        """Return what takes the means of an epoch in which the ranks learn apart; None if they do not."""
        trainer = self._trainer
        return begin_averaging(
            trainer,
            self._source,
            trainer._means_every,
            trainer._shards,
            loss=trainer.loss,
            average=self._step.average,
            rates=trainer._learning_rates,
            log=self._log,
            accumulate=trainer.accumulate,
        )

    def skip(self, epochs: int, validation_goes_on: bool) -> None:
        """Pass over the batches of epochs that were learned from elsewhere.

        ``validation_goes_on`` tells whether each validation goes on where the one before ended.
        """
        if isinstance(self._source, Stream):
            self._source.skip(epochs)
        if self._validation is not None and validation_goes_on:
            for _ in range(epochs // self._validation_freq):
                for _ in self._validation():
                    pass

    def _begin(self) -> int:
        """Return what draws what layers draw; keep or restore what has drawn the batches."""
        trainer, rng = self._trainer, self._rng
        watch, record = trainer._watch, trainer._resumed_record
        if record is None:
            key = int(trainer._layer_rng.integers(2**63)) if self._draws else 0
            if watch.may_save:
                watch.record = EpochRecord(None if rng is None else rng.bit_generator.state, key)
            return key
        if rng is not None and record.order is not None:
            rng.bit_generator.state = record.order
        watch.go_on(record)
        trainer._resumed_record = None
        return record.key

    def _take_changes(self) -> None:
        """Take over what callbacks have changed."""
        trainer, average = self._trainer, self._average
        if trainer._callbacks != self._callbacks:
            raise RuntimeError("Trainer: callbacks cannot be changed while a fit is under way")
        # A look at each of them takes longer than an epoch of one small batch.
        options = _options_of(trainer)
        if average is None and options == self._options and self._step.is_as_it_was():
            return
        self._options = options
        self._source.accumulate = trainer.accumulate
        has_changed = self._step.refresh(
            optimizer=trainer.optimizer,
            accumulate=trainer.accumulate > 1,
            max_norm=trainer.clip_grad_norm,
            clip_value=trainer.clip_grad_value,
            average=None if average is None else (self._step.average, average.decay),
            shared=trainer._shared_work(),
        )
        if has_changed:
            self._source.weigh()

    def _is_unseen(self) -> bool:
        """Whether nothing looks at the epochs one by one, or within them."""
        trainer = self._trainer
        return not (
            self._draws
            or self._averaging is not None
            or trainer.active_callbacks
            or trainer._metrics
            or self._validation is not None
            or self._progress.shows
            or trainer._learning_rates.schedule is not None
            or not self._log.only_counts
            or not trainer._watch.is_idle
            or not self._step.is_native
            or trainer._resumed_record is not None
        )

    def _train_unseen(
        self, source: Batches, first: int, count: int
    ) -> tuple[int, dict[str, float]]:
        """Learn from the batches of several epochs in one run; record all of them but the last."""
        trainer, rng, log = self._trainer, self._rng, self._log
        before = log.iteration
        state: Any = rng.bit_generator.state if count > 1 and rng is not None else None
        plan = source.epochs(rng, count)
        losses, batches = np.zeros(len(plan)), len(plan) // count
        try:
            run_unwatched(self._step, plan, trainer._learning_rates, log, losses)
        except BaseException as error:
            begun = min(count, plan.done // batches + 1)
            if state is not None and rng is not None:  # as if no further ones had been drawn
                rng.bit_generator.state = state
                source.epochs(rng, begun)
            if isinstance(error, Diverged):
                last = first + begun - 1
                raise self._divergence(error, plan, last, error.batch % batches) from None
            raise
        finally:
            means = _means(losses, plan.normalizers, count)
            passed = means[: min(count - 1, plan.done // batches)]
            if passed:
                trainer.history.record_losses(first, passed, batches=batches, iteration=before)
                trainer._learning_rates.end_epochs(len(passed))
        self._epoch, self._batches = first + count - 1, batches
        return self._epoch, {"loss": means[-1]}

    def _train(self, plans: Iterable[BatchPlan]) -> dict[str, float]:
        """Learn from the batches of one epoch; return its loss and the metrics before each update."""
        trainer, step, log, watch = self._trainer, self._step, self._log, self._trainer._watch
        record = watch.record
        apart = None if self._averaging is None else self._averaging.ranks
        others = apart or trainer._shards
        total = weight = 0.0
        self._batches = rows = 0
        measured = Measurement(trainer._metrics) if trainer._metrics else None
        for plan in plans:
            outputs = None
            if measured is not None:
                shape = len(plan.order), step.width_of(plan.rows)
                outputs = np.empty(shape, trainer.model.dtype)
            known = None if record is None or not record.known else record.read(plan, outputs)
            with raised_on_all(apart):
                losses = self._learn_from(plan, outputs, known)
            if len(losses) < len(plan):  # the fit has been ended
                if not len(losses):
                    break
                plan = next(plan.parts(len(losses)))
            if measured is not None and outputs is not None and len(plan.order):
                own = plan.rows.sample_weight
                own = None if own is None else own[plan.order]
                measured.add(plan.rows.y[plan.order], outputs[: len(plan.order)], own)
            if len(losses) == 1:  # asking numbers takes less than arrays
                of_plan = float(plan.normalizers[0])
                total, weight = total + float(losses[0]) * of_plan, weight + of_plan
            else:
                total += float((losses * plan.normalizers).sum())
                weight += float(plan.normalizers.sum())
            self._batches, rows = self._batches + len(plan), rows + len(plan.order)
            if watch.ends(log):
                break
        if self._averaging is not None:
            self._averaging.meet()
            total, weight = self._averaging.ranks.sum(np.array([total, weight])).tolist()
        elif others is not None:
            take_mean_of_model(others, trainer.model, rows)
        if not weight > 0:
            raise on_all(
                ValueError(f"no row of epoch {self._epoch + 1} counts: their weights are all 0")
            )
        logs = {"loss": total / weight}
        if measured is None:
            return logs
        if others is not None:
            measured.merge(others)
        return logs | measured.values()

    def _run_rest(self, plan: BatchPlan, outputs: Array | None, known: Array) -> Array:
        """Learn from the batches of a plan whose losses are not known; return those of all."""
        done, trainer = len(known), self._trainer
        if done == len(plan):
            return known
        if outputs is not None:
            outputs = outputs[plan.offsets[done] :]
        rates, rest = trainer._learning_rates, plan.part(done, len(plan))
        try:
            losses = run_batches(
                self._step, rest, rates, self._log, trainer._watch, outputs=outputs
            )
        except Diverged as error:
            error.batch += done
            raise
        return np.concatenate([known, losses])

    def _learn_from(self, plan: BatchPlan, outputs: Array | None, known: Array | None) -> Array:
        """Learn from batches, the first of which may be known; return the loss of each."""
        trainer = self._trainer
        try:
            if known is not None:
                return self._run_rest(plan, outputs, known)
            return run_batches(
                self._step,
                plan,
                trainer._learning_rates,
                self._log,
                trainer._watch,
                outputs=outputs,
            )
        except Diverged as error:
            batch = self._batches + error.batch
            raise self._divergence(error, plan, self._epoch, batch) from None

    def _pieces(self, plans: Iterable[BatchPlan]) -> Iterator[BatchPlan]:
        """Give batches whose outputs, where there are metrics of them, do not fill the memory."""
        for plan in plans:
            values = max(1, plan.batch_size) * self._step.width_of(plan.rows)
            yield from plan.parts(max(1, _OUTPUTS // values))

    def _divergence(
        self, error: Diverged, plan: BatchPlan, epoch: int, step: int
    ) -> FloatingPointError:
        fault = describe_fault(self._trainer.loss, plan.rows, plan.indices(error.batch))
        fault = first_of(plan.ranks, fault)
        raised = FloatingPointError(
            f"{fault or 'the training diverged'} in epoch {epoch + 1}, step {step + 1}: {error}; "
            f"that step was undone"
        )
        return raised if self._averaging is not None else on_all(raised)

    def validate(self) -> dict[str, float]:
        if self._validation is None or (self._epoch + 1) % self._validation_freq:
            return {}
        trainer = self._trainer
        scores = score(
            trainer.model, trainer.loss, trainer._metrics, self._validation(), trainer._shards
        )
        return {f"val_{name}": value for name, value in scores.items()}

    def counts(self, epoch: int) -> dict[str, int]:  # noqa: ARG002
        return {"batches": self._batches, "iteration": self._log.iteration}

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        self._progress.end_epoch(epoch, logs, time.perf_counter() - self._began)

    def has_converged(self) -> bool:
        return False


def _options_of(trainer: Configured) -> tuple[Any, ...]:
    """Return what callbacks may change that a step is made for."""
    return (
        trainer._optimizer,
        trainer._accumulate,
        trainer._clip_grad_norm,
        trainer._clip_grad_value,
        trainer._average_every,
    )


def _means(losses: Array, weights: Array, count: int) -> list[float]:
    """Return the mean loss of each of several epochs, whose batches have these weights."""
    if len(losses) == 1:  # asking numbers takes less than arrays
        weight = float(weights[0])
        return [float(losses[0]) * weight / weight]
    own = weights[: len(weights) // count]
    means: list[float] = ((losses.reshape(count, -1) * own).sum(1) / own.sum()).tolist()
    return means
