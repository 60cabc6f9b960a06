"""`EarlyStopping`: ends a fit that improves no more, with the parameters of its best epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dlcore._common.checks import check_flag, check_int, check_number
from dlcore.callbacks._monitor import ComparingCallback

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["EarlyStopping"]


class EarlyStopping(ComparingCallback):
    """Stop when a monitored value improves no more (Prechelt, 1998).

    Parameters
    ----------
    monitor : str
        Name of the log to watch, such as "val_loss", "val_accuracy" or "loss".
    min_delta : float
        A value is better if it beats the best so far by more than this.
    patience : int or inf
        Stop after this many epochs in a row without a better value.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" tells by the name.
    baseline : float, optional
        Better values end the waiting only if they beat this one as well.
    restore_best : bool
        Whether the fit leaves the parameters of the best epoch, stopped or not, and also where
        Ctrl-C, divergence or another exception ends it.
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
    ``divergence_threshold`` and ``check_finite``, of Lightning. Each fit starts anew. Epochs that
    do not log the value, such as those without validation, are not looked at and not waited for.

    Of several in one fit the first that stops it decides, and the last one if none does: the
    parameters, ``history.best_epoch``, ``history.monitor`` and the reason are its.
    """

    _state_names = (
        *("best", "best_epoch", "stopped_epoch", "reason"),
        *("_cause", "_waited", "_best_state"),
    )

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        patience: float = 5,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best: bool = True,
        start_from_epoch: int = 0,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_finite: bool = True,
    ) -> None:
        name = type(self).__name__
        super().__init__(monitor, mode)
        self.min_delta = abs(check_number(f"{name}: min_delta", min_delta, "(-inf, inf)"))
        is_endless = type(patience) is float and patience == math.inf
        self.patience = (
            patience if is_endless else check_int(f"{name}: patience", patience, least=0)
        )
        self.baseline = _limit(f"{name}: baseline", baseline)
        self.restore_best = check_flag(f"{name}: restore_best", restore_best)
        self.start_from_epoch = check_int(f"{name}: start_from_epoch", start_from_epoch, least=0)
        self.stopping_threshold = _limit(f"{name}: stopping_threshold", stopping_threshold)
        self.divergence_threshold = _limit(f"{name}: divergence_threshold", divergence_threshold)
        self.check_finite = check_flag(f"{name}: check_finite", check_finite)
        self._start_anew()

    def _start_anew(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self.reason: str | None = None
        self._cause = ""
        self._waited = 0
        self._best_state: dict[str, Array] | None = None

    def on_fit_begin(self) -> None:
        """Forget an earlier fit; a log of the name to monitor must exist."""
        super().on_fit_begin()
        self._start_anew()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Look at the value of this epoch; stop if it says so."""
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        cause = self._reason_to_stop(epoch, value)
        if cause is not None:
            self.stopped_epoch, self._cause = epoch, cause
            self.reason = self._full_reason()
            self.trainer.stop(self.reason)

    def on_exception(self, exception: BaseException) -> None:
        """Say in a note of the exception which parameters the fit leaves."""
        if self._decider() is self and self._best_state is not None:
            exception.add_note(self._kept())

    def on_fit_end(self) -> None:
        """Restore the parameters of the best epoch."""
        history = self.trainer.history
        if self.stopped_epoch is not None:
            # Another one may have seen a better epoch since.
            full = self._full_reason()
            history.reason = full if history.reason == self.reason else history.reason
            self.reason = full
        if self._decider() is not self:
            return
        if self.best_epoch is not None:
            history.best_epoch, history.monitor = self.best_epoch, self.monitor
        if self._best_state is not None:
            self.trainer.model.load_state_dict(self._best_state)

    def _decider(self) -> EarlyStopping:
        """Return the one whose parameters are kept: the first that stopped, else the last of all.

        Those that restore nothing leave it to the others.
        """
        active = self.trainer.active_callbacks
        every: list[EarlyStopping] = [c for c in active if isinstance(c, EarlyStopping)]
        every = [c for c in every if c._best_state is not None] or every
        return next((c for c in every if c.stopped_epoch is not None), every[-1])

    def _full_reason(self) -> str:
        """Say why the fit was stopped, and which parameters it leaves."""
        decider = self._decider()
        if decider._best_state is None or decider.best_epoch == self.stopped_epoch:
            return self._cause
        return f"{self._cause}; {decider._kept()}"

    def _kept(self) -> str:
        return f"the parameters are those of epoch {(self.best_epoch or 0) + 1}"

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

    def _improves(self, value: float, reference: float | None) -> bool:
        """Whether the value beats the reference by more than ``min_delta``."""
        if reference is None:
            return not math.isnan(value)
        delta = self.min_delta if self.mode == "min" else -self.min_delta
        return self._better(value + delta, reference)

    def _keep(self, epoch: int, value: float) -> None:
        state = self.trainer.model.state_dict() if self.restore_best else None
        self.best, self.best_epoch, self._best_state = value, epoch, state
        self.trainer.history.best_epoch, self.trainer.history.monitor = epoch, self.monitor

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


def _limit(name: str, value: float | None) -> float | None:
    return None if value is None else check_number(name, value, "[-inf, inf]")
