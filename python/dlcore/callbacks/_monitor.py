"""The one log that a callback watches: that it is there, and what is better, smaller or greater."""

from __future__ import annotations

import math

from dlcore._common.checks import check_choice
from dlcore.callbacks._callback import Callback

_SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "deviance")
_GREATER_IS_BETTER = ("accuracy", "acc", "auc", "precision", "recall", "f1", "r2", "score")


class MonitorCallback(Callback):
    """Base class of the callbacks that watch one log of each epoch.

    Parameters
    ----------
    monitor : str
        Name of the log to watch.
    mode : {"auto", "min", "max"}, optional
        Whether smaller or greater is better; "auto" tells by the name. None for a callback that
        compares nothing itself.
    """

    def __init__(self, monitor: str, mode: str | None = None) -> None:
        self.monitor = monitor
        if mode is not None:
            self.mode = _direction(type(self).__name__, monitor, mode)

    def on_fit_begin(self) -> None:
        """Make sure that the fit logs the value to monitor."""
        names = self.trainer.log_names
        if self.monitor not in names:
            hint = ""
            if self.monitor.startswith("val_"):
                hint = "; validation_data or validation_split gives those that begin with 'val_'"
            raise ValueError(
                f"{type(self).__name__} monitors {self.monitor!r}, but this fit logs only "
                f"{', '.join(names)}{hint}"
            )

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def _better(self, a: float, b: float) -> bool:
        return a < b if self.mode == "min" else a > b


def _direction(owner: str, monitor: str, mode: str) -> str:
    """Return the mode "min" or "max"; for "auto", tell by the last word of the name."""
    check_choice(f"{owner}: mode", mode, ("auto", "min", "max"))
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
