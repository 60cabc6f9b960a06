"""The one log that a callback watches: that it is there, and what is better, smaller or greater."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dlcore._common.checks import check_choice, check_instance
from dlcore._common.representation import shown_call
from dlcore.callbacks._callback import Callback, may_log
from dlcore.metrics._scores import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

_SMALLER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "deviance")
_GREATER_IS_BETTER = ("accuracy", "acc", "auc", "precision", "recall", "f1", "r2", "score")


class MonitorCallback(Callback):
    """Base class of the callbacks that watch one log of each epoch.

    It may be one that another callback, which stands before, adds to the logs. An epoch that does
    not log it, such as one without validation, is not looked at.

    Parameters
    ----------
    monitor : str
        Name of the log to watch.
    """

    def __init__(self, monitor: str) -> None:
        check_instance(f"{type(self).__name__}: monitor", monitor, str)
        self.monitor = monitor

    def on_fit_begin(self) -> None:
        """Make sure that the fit logs the value to monitor, or that a callback may add it."""
        names = self.trainer.log_names
        others = self.trainer.active_callbacks
        if self.monitor not in names and not any(map(may_log, others)):
            raise ValueError(self._unknown(names))

    def _value(self, logs: dict[str, float]) -> float | None:
        """Return the value of an epoch; None if it has none."""
        run = self.trainer
        value = logs.get(self.monitor)
        if value is None and self.monitor not in run.log_names and self.monitor not in run.history:
            raise ValueError(self._unknown(logs))
        return value

    def _unknown(self, names: Iterable[str]) -> str:
        """Say what there is instead of the value to monitor."""
        names = list(names)
        owner = type(self).__name__
        text = f"{owner} monitors {self.monitor!r}, but this fit logs only {', '.join(names)}"
        prefix = "val_" if self.monitor.startswith("val_") else ""
        own = self.monitor.removeprefix(prefix)
        if prefix and not any(name.startswith(prefix) for name in names):
            text += "; validation_data or validation_split gives those that begin with 'val_'"
        elif meant := _meant(self.monitor, names):
            return f"{text}; did you mean {meant!r}?"
        metric = own if own in NAMES else _meant(own, NAMES)
        if prefix and metric and metric not in names and not hasattr(self.trainer, "estimator"):
            text += f"; metrics=[{metric!r}] of the trainer logs {prefix + metric!r}"
        if any(map(may_log, self.trainer.active_callbacks)):
            text += f"; a callback that logs it must stand before {owner}"
        return text


class ComparingCallback(MonitorCallback):
    """Base class of those that tell which of two values is better.

    Parameters
    ----------
    monitor : str
        Name of the log to watch.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" tells by the name.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(monitor)
        self._given_mode = mode
        self.mode = direction(type(self).__name__, monitor, mode)

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def _better(self, a: float, b: float) -> bool:
        return a < b if self.mode == "min" else a > b

    def __repr__(self) -> str:
        return shown_call(self, {"mode": self._given_mode})


def _meant(name: str, names: Iterable[str]) -> str | None:
    """Return the one of some names that is much like another, or begins with it."""
    names = list(names)
    close = [known for known in names if known.startswith(name)]
    return next(iter(close or get_close_matches(name, names, 1, 0.7)), None)


def direction(owner: str, monitor: str, mode: str) -> str:
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
