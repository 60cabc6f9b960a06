"""Callbacks: what is called at the beginning and the end of a fit and of each epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.training._trainer import Trainer

_SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "deviance")
_GREATER_IS_BETTER = ("accuracy", "acc", "auc", "precision", "recall", "f1", "r2", "score")


class Callback:
    """Base class of the callbacks; every method may be left as it is.

    Epochs are counted from 0. ``logs`` holds what the epoch logged, by the names of `History`.
    ``self.trainer.stop(reason)`` ends the fit after the epoch. When a fit ends with an exception,
    Ctrl-C included, ``on_fit_end`` is not called.

    Attributes
    ----------
    trainer : Trainer
        The trainer that fits, set before ``on_fit_begin``; ``trainer.history`` is the history so
        far and ``trainer.model`` the model.
    """

    trainer: Trainer

    def on_fit_begin(self) -> None:
        """Before the first epoch; ``self.trainer.log_names`` is what each epoch will log."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After each epoch, its validation included."""

    def on_fit_end(self) -> None:
        """After the last epoch."""


class EarlyStopping(Callback):
    """Stop when a monitored value improves no more (Prechelt, 1998).

    Parameters
    ----------
    monitor : str
        Name of the log to watch, such as "val_loss", "val_accuracy" or "loss".
    min_delta : float
        A value is better if it beats the best so far by more than this.
    patience : int
        Stop after this many epochs in a row without a better value.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" tells by the name.
    baseline : float, optional
        Better values end the waiting only if they beat this one as well.
    restore_best : bool
        Whether the fit leaves the parameters of the best epoch, stopped or not.
    start_from_epoch : int
        Epochs before this one, counted from 0, are not looked at.
    stopping_threshold : float, optional
        Stop as soon as the value is as good as this: good enough.
    divergence_threshold : float, optional
        Stop as soon as the value is worse than this: hopeless.
    check_finite : bool
        Stop as soon as the value is NaN or infinite. (A loss that is not finite *in training*
        ends the fit with FloatingPointError at that step; this is for the values of epochs,
        those of the validation above all.)

    Attributes
    ----------
    best : float or None
        The best value so far.
    best_epoch : int or None
        The epoch of the best value, counted from 0.
    stopped_epoch : int or None
        The epoch after which the fit was stopped, counted from 0; None if it was not.
    reason : str or None
        Why, in a sentence that counts epochs from 1.

    Notes
    -----
    The names and rules are those of Keras and, for ``stopping_threshold``,
    ``divergence_threshold`` and ``check_finite``, of Lightning. Each fit starts anew.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: int = 5,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best: bool = True,
        start_from_epoch: int = 0,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_finite: bool = True,
    ) -> None:
        if patience < 0:
            raise ValueError(f"EarlyStopping: patience must not be negative, but is {patience}")
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.mode = direction("EarlyStopping", monitor, mode)
        self.baseline = baseline
        self.restore_best = restore_best
        self.start_from_epoch = start_from_epoch
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_finite = check_finite
        self._start_anew()

    def _start_anew(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.reason: str | None = None
        self._waited = 0
        self._best_state: dict[str, Array] | None = None

    def on_fit_begin(self) -> None:
        """Forget an earlier fit; a log of the name to monitor must exist."""
        check_monitor(self, self.monitor)
        self._start_anew()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Look at the value of this epoch; stop if it says so."""
        if epoch < self.start_from_epoch:
            return
        reason = self._reason_to_stop(epoch, logs[self.monitor])
        if reason is not None:
            if self._best_state is not None and self.best_epoch != epoch:
                reason += f"; the parameters are those of epoch {(self.best_epoch or 0) + 1}"
            self.stopped_epoch, self.reason = epoch, reason
            self.trainer.stop(reason)

    def on_fit_end(self) -> None:
        """Restore the parameters of the best epoch."""
        if self._best_state is not None:
            self.trainer.model.load_state_dict(self._best_state)

    def _reason_to_stop(self, epoch: int, value: float) -> str | None:
        if self.check_finite and not math.isfinite(value):
            return f"{self.monitor} was {value}"
        good_enough, hopeless = self.stopping_threshold, self.divergence_threshold
        if good_enough is not None and (value == good_enough or self._better(value, good_enough)):
            self._keep(epoch, value)
            return f"{self.monitor} was {value:.4g}, as good as the threshold {good_enough:.4g}"
        if hopeless is not None and self._better(hopeless, value):
            return f"{self.monitor} was {value:.4g}, worse than the threshold {hopeless:.4g}"
        self._waited += 1
        if self._improves(value, self.best):
            self._keep(epoch, value)
            if self._improves(value, self.baseline):
                self._waited = 0
        if self._waited and self._waited >= self.patience:
            return self._no_improvement()
        return None

    def _better(self, a: float, b: float) -> bool:
        return a < b if self.mode == "min" else a > b

    def _improves(self, value: float, reference: float | None) -> bool:
        """Whether the value beats the reference by more than ``min_delta``."""
        if reference is None:
            return not math.isnan(value)
        delta = self.min_delta if self.mode == "min" else -self.min_delta
        return self._better(value + delta, reference)

    def _keep(self, epoch: int, value: float) -> None:
        self.best, self.best_epoch = value, epoch
        self.trainer.history.best_epoch, self.trainer.history.monitor = epoch, self.monitor
        if self.restore_best:
            self._best_state = self.trainer.model.state_dict()

    def _no_improvement(self) -> str:
        epochs = "epoch" if self._waited == 1 else "epochs"
        reason = f"{self.monitor} has not improved for {self._waited} {epochs}"
        if self.min_delta:
            reason += f" by more than {self.min_delta:.4g}"
        if self.best is not None and not self._improves(self.best, self.baseline):
            reason += f" on the baseline {self.baseline:.4g}"
        if self.best_epoch is not None:
            reason += f" (best: {self.best:.4g} in epoch {self.best_epoch + 1})"
        return reason


def check_monitor(callback: Callback, monitor: str) -> None:
    """Make sure that the fit that begins logs the value that a callback monitors."""
    names = callback.trainer.log_names
    if monitor not in names:
        hint = ""
        if monitor.startswith("val_"):
            hint = "; validation_data or validation_split gives those that begin with 'val_'"
        raise ValueError(
            f"{type(callback).__name__} monitors {monitor!r}, but this fit logs only "
            f"{', '.join(names)}{hint}"
        )


def direction(owner: str, monitor: str, mode: str) -> str:
    """Return the mode "min" or "max"; for "auto", tell by the last word of the name."""
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"{owner}: mode must be 'auto', 'min' or 'max', not {mode!r}")
    if mode != "auto":
        return mode
    words = monitor.lower().removeprefix("val_").split("_")
    if words[0] == "neg":  # scikit-learn's scorers of what is better smaller
        return "max"
    word = words[-1]
    if word in _SMALLER_IS_BETTER:
        return "min"
    if word in _GREATER_IS_BETTER:
        return "max"
    raise ValueError(
        f"{owner}: mode='auto' cannot tell whether a smaller or a greater {monitor!r} is "
        f"better; pass mode='min' or mode='max'"
    )
