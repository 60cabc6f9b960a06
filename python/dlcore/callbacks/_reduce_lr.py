"""`ReduceLROnPlateau`: smaller learning rates once a value improves no more."""

from __future__ import annotations

from dlcore._common.checks import check_choice, check_int, check_number
from dlcore.callbacks._monitor import ComparingCallback
from dlcore.optim._optimizer import set_lrs

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(ComparingCallback):
    """Multiply the learning rate by ``factor`` when a monitored value improves no more.

    Parameters
    ----------
    monitor : str
        Name of the log to watch, such as "val_loss", "val_accuracy" or "loss".
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" tells by the name.
    factor : float
        In (0, 1).
    patience : int
        Epochs in a row without a better value that are put up with; the next one reduces.
    threshold : float
        A value is better if it beats the best so far by more than this share of it, in [0, 1),
    threshold_mode : {"rel", "abs"}
        or by more than this amount, if "abs".
    cooldown : int
        Epochs after a reduction that do not count as without a better value.
    min_lr : float
        No learning rate is reduced to less.
    eps : float
        A reduction by no more than this is left out.

    Attributes
    ----------
    best : float
        The best value so far; infinite before the first.
    reductions : list of int
        Epochs, counted from 0, after which a learning rate was reduced.

    Notes
    -----
    The rules are those of PyTorch's class of that name, for every group of the optimizer. Each fit
    starts anew, with the learning rates that the one before left: the best value, the waiting and
    ``reductions`` are forgotten, as in Keras. A schedule of the trainer would undo the reductions:
    `Trainer` takes one or the other.
    """

    _state_names = ("best", "reductions", "_waited", "_cooling")

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = type(self).__name__
        super().__init__(monitor, mode)
        self.factor = check_number(f"{name}: factor", factor, "(0, 1)")
        self.patience = check_int(f"{name}: patience", patience, least=0)
        self.threshold_mode = check_choice(
            f"{name}: threshold_mode", threshold_mode, ("rel", "abs")
        )
        interval = "[0, 1)" if threshold_mode == "rel" else "[0, inf)"
        self.threshold = check_number(f"{name}: threshold", threshold, interval)
        self.cooldown = check_int(f"{name}: cooldown", cooldown, least=0)
        self.min_lr = check_number(f"{name}: min_lr", min_lr, "[0, inf)")
        self.eps = check_number(f"{name}: eps", eps, "[0, inf)")
        self._start_anew()

    def _start_anew(self) -> None:
        self.best = self._worst
        self.reductions: list[int] = []
        self._waited = 0
        self._cooling = 0

    def on_fit_begin(self) -> None:
        """Forget an earlier fit; a log of the name to monitor must exist."""
        super().on_fit_begin()
        self._start_anew()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Look at the value of this epoch; reduce the learning rates if it says so."""
        value = self._value(logs)
        if value is None:
            return
        if self._improves(value):
            self.best, self._waited = value, 0
        else:
            self._waited += 1
        if self._cooling:
            self._cooling -= 1
            self._waited = 0
        if self._waited > self.patience:
            self._waited, self._cooling = 0, self.cooldown
            self._reduce(epoch)

    def _improves(self, value: float) -> bool:
        """Whether the value beats the best so far by more than the threshold."""
        sign = -1 if self.mode == "min" else 1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return self._better(value, bound)

    def _reduce(self, epoch: int) -> None:
        optimizer = self.trainer.optimizer
        old = list(getattr(optimizer, "lrs", [optimizer.lr]))  # one's own may have no groups
        new = [max(lr * self.factor, self.min_lr) for lr in old]
        new = [b if a - b > self.eps else a for a, b in zip(old, new, strict=True)]
        if new != old:
            set_lrs(optimizer, new)
            self.reductions.append(epoch)
