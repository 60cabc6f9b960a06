"""Hyperparameter tuning: a callback for Optuna."""

from __future__ import annotations

import copy
from typing import Any, Self

from dlcore._common.optional import require
from dlcore.callbacks._monitor import MonitorCallback

__all__ = ["OptunaPruning"]


class OptunaPruning(MonitorCallback):
    """Report each epoch to a trial of Optuna, and end the fit where it says that the trial is hopeless.

    The fit ends with ``optuna.TrialPruned``, which the study expects; model and trainer are as after
    that epoch, or the best one by `EarlyStopping`, and can be used or trained on.

    Parameters
    ----------
    trial : optuna.trial.Trial
    monitor : str
        Name of the log to report, such as "val_loss" or "val_accuracy"; the study's direction says
        which way is better.

    Raises
    ------
    ImportError
        Optuna is not installed.

    Notes
    -----
    A trial that several fits report to, such as one a fold, takes the first value of each epoch.
    Deep copies, such as those in clones of an estimator, report to the same trial.
    """

    def __init__(self, trial: Any, monitor: str = "val_loss") -> None:
        self._pruned = require("optuna", "OptunaPruning").TrialPruned
        if not hasattr(trial, "should_prune"):
            raise TypeError(f"OptunaPruning: trial must be one of Optuna's, not {trial!r}")
        super().__init__(monitor)
        self.trial = trial

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of the trial would have a study of its own.
        return copy.copy(self)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Report the value; raise ``optuna.TrialPruned`` if the trial is to be pruned."""
        value = self._value(logs)
        if value is None:
            return
        self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise self._pruned(f"{self.monitor} was {value:.4g} in epoch {epoch + 1}")
