"""Ranks that learn apart, and take the mean of what they have learned now and then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.ranks import on_all
from dlcore.optim._optimizer import Optimizer
from dlcore.training._dataset import all_loss_weights
from dlcore.training._rank_means import most, take_mean_of_model
from dlcore.training._sharding import key_of_rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dlcore._common.protocols import Model
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.training._batches import BatchPlan
    from dlcore.training._learning_rate import ScheduledLearningRates
    from dlcore.training._loop import Run
    from dlcore.training._progress import IterationLog


class Averaging:
    """The means that ranks take of their weights in an epoch, each of which learns by itself.

    A rank counts by the updates that it has made since the last mean.

    Parameters
    ----------
    ranks : Ranks
    every : int
        Updates after which a mean is taken.
    made : int
        Updates of the epochs before, which count, too.
    model, loss, optimizer
        What is trained. The mean is taken of parameters that are not frozen, of running statistics
        and of the state of the optimizer.
    average : ndarray or None
        Running averages of the parameters, laid out as they are.
    rates, log
        Count the updates of this rank. One that has made fewer than others follows them.
    """

    def __init__(
        self,
        ranks: Ranks,
        every: int,
        made: int,
        model: Model,
        loss: Loss,
        optimizer: Any,
        average: Array | None,
        rates: ScheduledLearningRates,
        log: IterationLog,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise on_all(
                TypeError(
                    f"average_every takes the mean of the optimizer's state, which must be that of a "
                    f"dlcore.Optimizer, not {type(optimizer).__name__}"
                )
            )
        self.ranks = ranks
        self._every, self._left = every, every - made % every
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._average = average
        self._rates, self._log, self._counted = rates, log, log.iteration
        self._is_apart = False

    def parts(self, plans: Iterable[BatchPlan], *, of_all: bool) -> Iterator[BatchPlan]:
        """Give the batches some at a time, and take the mean after so many updates.

        ``of_all`` tells whether the batches are those of all ranks, of which each takes its share.
        """
        rest = iter(plans)
        while True:
            with raised_on_all(self.ranks):
                plan = next(rest, None)
            if plan is None:
                return
            if of_all:
                plan = share_of(self._loss, plan, self.ranks)
            start = 0
            while start < len(plan):
                part = plan.part(start, start + self._left * plan.accumulate)
                self._is_apart = True
                yield part
                start += len(part)
                self._left -= part.updates(len(part))
                if not self._left:
                    self.meet()
                    self._left = self._every

    def meet(self) -> None:
        """Take the mean, unless nothing was learned since the last one."""
        if not self._is_apart:
            return
        self._is_apart = False
        made = self._log.iteration - self._counted
        optimizer = self._optimizer
        states = [array for own in optimizer.state_arrays().values() for array in own]
        take_mean_of_model(self.ranks, self._model, made, [*self._parameters(), *states])
        # By the parameters, since cohorts may stand in another order.
        cohorts = sorted(optimizer._cohorts, key=lambda cohort: min(cohort.members))
        own = [made, *(cohort.steps for cohort in cohorts)]
        ahead = [count - before for before, count in zip(own, most(self.ranks, own), strict=True)]
        for cohort, steps in zip(cohorts, ahead[1:], strict=True):
            cohort.advance(steps)
        self._rates.catch_up(ahead[0])
        self._log.iteration += ahead[0]
        self._counted = self._log.iteration

    def _parameters(self) -> list[Array]:
        """Return the parameters that are trained, and their running averages."""
        flats = [self._model.flat] + ([] if self._average is None else [self._average])
        if not self._model.frozen:
            return flats
        return [
            array
            for flat in flats
            for name, array in self._model._split(flat).items()
            if name not in self._model.frozen
        ]


def begin_averaging(
    run: Run,
    source: Any,
    every: int | None,
    shards: Ranks | None,
    *,
    loss: Loss,
    average: Array | None,
    rates: ScheduledLearningRates,
    log: IterationLog,
    accumulate: int = 1,
) -> Averaging | None:
    """Begin an epoch of batches; return what takes the means of ranks that learn apart in it, if they do.

    Parameters
    ----------
    run, source
        The fit and its batches.
    every : int, optional
        Updates after which a mean is taken; None where the ranks learn together.
    shards : Ranks, optional
        Those that have rows of their own each.
    loss, average, rates, log
        As of `Averaging`.
    accumulate : int
        Batches to an update.
    """
    run._watch.is_apart = source.is_apart = every is not None
    if run._ranks is None or (shards is None and every is None):
        return None
    if run._watch.may_save:
        raise on_all(
            ValueError(
                "ModelCheckpoint saves at the ends of epochs, unit='epochs', where ranks have "
                "rows of their own or take means: within an epoch each has something that is in "
                "no file"
            )
        )
    if every is None:
        return None
    made = sum(-(-batches // accumulate) for batches in run.history.batches)
    return Averaging(run._ranks, every, made, run.model, loss, run.optimizer, average, rates, log)


def share_of(loss: Loss, plan: BatchPlan, ranks: Ranks) -> BatchPlan:
    """Return this rank's share of the rows of each batch, those that follow each other in it."""
    starts, sizes = plan.offsets[:-1], np.diff(plan.offsets)
    begins, ends = (starts + sizes * rank // ranks.size for rank in (ranks.rank, ranks.rank + 1))
    offsets = np.append(0, np.cumsum(ends - begins))
    rows = np.repeat(begins - offsets[:-1], ends - begins) + np.arange(offsets[-1])
    order = plan.order[rows]
    share = replace(plan, order=order, offsets=offsets, key=key_of_rank(plan.key, ranks))
    normalizers = share.sums(all_loss_weights(loss, plan.rows)[order])
    counts = normalizers > 0
    return replace(
        share,
        normalizers=normalizers,
        accumulation_weights=np.where(counts, plan.accumulation_weights, 0.0),
        all_count=bool(counts.all()),
    )
