"""The epochs of an estimator's fit, and the run that its callbacks see."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dlcore._common.agreement import raised_on_all
from dlcore.callbacks._callback import as_callbacks
from dlcore.nn import _layers as nn
from dlcore.training._averaging import begin_averaging
from dlcore.training._loop import Run, run_batches
from dlcore.training._progress import IterationLog, Progress
from dlcore.training._rank_means import take_mean_of_model
from dlcore.training._step import Diverged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential
    from dlcore.sklearn._batches import ScaledBatches, ScaledLoss
    from dlcore.sklearn._early_stopping import Validation
    from dlcore.training._averaging import Averaging
    from dlcore.training._batches import BatchPlan
    from dlcore.training._step import TrainingStep


class EstimatorRun(Run):
    """A fit of an estimator as its callbacks see it."""

    def __init__(
        self,
        estimator: Any,
        batches: ScaledBatches,
        log_names: list[str],
        ranks: Ranks | None,
        shards: Ranks | None,
    ) -> None:
        self.estimator = estimator
        self.model: Sequential = estimator.model_
        self.optimizer = estimator._optimizer
        self._batches, self._ranks, self._shards = batches, ranks, shards
        self._open(as_callbacks(estimator.callbacks or ()), log_names)

    def training_inputs(self) -> Iterator[Array]:
        """Give X of the rows that the fit trains on, some at a time: for callbacks."""
        return self._batches.inputs()

    def let_go(self) -> None:
        """Let go of the callbacks, however the fit ended: clones of the estimator copy them."""
        for callback in self.active_callbacks:
            callback.__dict__.pop("trainer", None)


class EstimatorEpochs:
    """The epochs of an estimator's fit, which ends when scikit-learn's does."""

    def __init__(
        self,
        run: EstimatorRun,
        step: TrainingStep,
        loss: ScaledLoss,
        held: Validation | None,
        incremental: bool,
    ) -> None:
        self._run, self._batches, self._step = run, run._batches, step
        self._estimator = estimator = run.estimator
        self._loss, self._held, self._incremental = loss, held, incremental
        self._log = IterationLog(run.history, Progress(0, epochs=0, steps=None), None)
        self._draws = any(isinstance(layer, nn.Dropout) for layer in estimator.model_.layers)
        self._learned = int(estimator.t_)

    def train(self, epoch: int, end: int) -> tuple[int, dict[str, float]]:  # noqa: ARG002
        of, run, batches = self._estimator, self._run, self._batches
        self._step.refresh()
        key = of._draw_key(self._learned) if self._draws else 0
        rng = of._random_state if of.shuffle else None
        if rng is not None and run._shards is not None:
            rng = np.random.default_rng(rng.randint(2**31))
        averaging = self._begin_averaging()
        plans: Iterable[BatchPlan] = batches.epoch(rng, key)
        if averaging is not None:
            plans = averaging.parts(plans, of_all=run._shards is None)
        total = rows = own_rows = 0.0
        for plan in plans:
            squares = np.zeros(len(plan)) if of.alpha else None
            losses = self._learn_from(plan, squares, averaging)
            added = batches.sum_of_losses(plan, losses, squares, of._penalty())
            total, rows = total + added[0], rows + added[1]
            own_rows += len(plan.order)
            if len(losses) < len(plan) or (averaging is not None and run._watch.ends(self._log)):
                break
        if averaging is not None:
            averaging.meet()
            total, rows = averaging.ranks.sum(np.array([total, rows])).tolist()
        elif run._shards is not None:
            take_mean_of_model(run._shards, run.model, own_rows)
        of._end_pass(total / rows, batches.rows)
        if of._reports:
            print(f"Iteration {of.n_iter_}, loss = {of.loss_:.8f}")
        return epoch, {"loss": of.loss_}

    def _begin_averaging(self) -> Averaging | None:
        """Return what takes the means of an epoch in which ranks learn apart; None if they do not."""
        run, of = self._run, self._estimator
        return begin_averaging(
            run,
            self._batches,
            None if of.average_every is None or run._ranks is None else int(of.average_every),
            run._shards,
            loss=self._loss.loss,
            average=self._step.average,
            rates=of._learning_rates,
            log=self._log,
        )

    def _learn_from(
        self, plan: BatchPlan, squares: Array | None, averaging: Averaging | None
    ) -> Array:
        """Learn from batches; return the loss of each. Ranks that learn apart diverge together."""
        rates, watch = self._estimator._learning_rates, self._run._watch
        try:
            with raised_on_all(None if averaging is None else averaging.ranks):
                return run_batches(self._step, plan, rates, self._log, watch, squares=squares)
        except Diverged:
            raise
        except FloatingPointError as error:  # on another rank
            raise Diverged(0, str(error)) from None

    def validate(self) -> dict[str, float]:
        logs: dict[str, float] = self._estimator._validate(self._loss, self._held)
        self._estimator._count_improvement()
        return logs

    def counts(self, epoch: int) -> dict[str, int]:  # noqa: ARG002
        return {"batches": len(self._batches), "iteration": self._log.iteration}

    def end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        self._estimator._standby.end_epoch(self._estimator)

    def has_converged(self) -> bool:
        of = self._estimator
        # The loss of other rows than before tells nothing about convergence.
        if of._converges() and (of.early_stopping or not self._incremental):
            return True
        # scikit-learn ends without a warning where the score has nothing to tell.
        tells = self._held is None or not (of.early_stopping and self._held.score_is_loss)
        is_last = not self._incremental and of.n_iter_ == of.max_iter
        if tells and is_last and not self._run._is_stopping:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({of.max_iter}) reached and "
                "the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=8,
            )
        return False
