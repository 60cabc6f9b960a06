"""`History`: what a fit logged, epoch by epoch, and its curves."""

from __future__ import annotations

import copy
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_choice, check_in
from dlcore._common.plotting import finish_panel, new_figure, saved
from dlcore.callbacks._diagnosis import Diagnosis, diagnose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dlcore._common.typing import Array

__all__ = ["History"]


class History(dict[str, list[float]]):
    """The logs of a fit: a list for each of "loss", "accuracy", "val_loss", ..., a value an epoch.

    Attributes
    ----------
    epoch : list of int
        Index of each epoch, from 0.
    batches : list of int
        Mini-batches of each epoch.
    iteration : list of int
        Iterations (updates) of the fit up to the end of each epoch.
    iterations : dict of lists
        With ``log_every=k`` in the fit, a value every k iterations: "iteration", counted from 1,
        "loss", the mean over the k, and "lr".
    best_epoch : int or None
        Index of the best epoch, if a callback such as `EarlyStopping` kept track of it,
    monitor : str or None
        and the name of the log that was best then.
    stopped_epoch : int or None
        Index of the epoch after which a callback stopped the fit,
    reason : str or None
        and why.

    Notes
    -----
    What only some epochs log, such as "val_loss" with ``validation_freq``, has a value for each of
    these: `epochs_of` tells which.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.batches: list[int] = []
        self.iteration: list[int] = []
        self.iterations: dict[str, list[float]] = {}
        self.best_epoch: int | None = None
        self.monitor: str | None = None
        self.stopped_epoch: int | None = None
        self.reason: str | None = None
        self._places: dict[str, list[int]] = {}  # of the epochs in `epoch`, by log

    def record(
        self, epoch: int, logs: dict[str, float], *, batches: int = 0, iteration: int = 0
    ) -> None:
        """Add the logs of an epoch."""
        last = len(self.epoch)
        new: list[tuple[list[Any], Any]] = [
            (self.epoch, epoch),
            (self.batches, batches),
            (self.iteration, iteration),
        ]
        for name, value in logs.items():
            new += (self.setdefault(name, []), value), (self._places.setdefault(name, []), last)
        # All in one call, into which no Ctrl-C comes: the lists stay of one length.
        list(starmap(list.append, new))

    def record_losses(
        self, epoch: int, losses: list[float], *, batches: int, iteration: int
    ) -> None:
        """Add epochs that log the loss alone, from this one on, each of so many batches and updates.

        ``iteration`` is the number of updates before them.
        """
        if not losses:
            return
        count, known, updates = len(losses), len(self.epoch), batches * len(losses)
        new = (
            (self.setdefault("loss", []), losses),
            (self._places.setdefault("loss", []), range(known, known + count)),
            (self.epoch, range(epoch, epoch + count)),
            (self.batches, [batches] * count),
            (self.iteration, range(iteration + batches, iteration + updates + 1, batches)),
        )
        list(starmap(list.extend, new))

    def add(self, logs: dict[str, float]) -> None:
        """Add to the logs of the last epoch, or replace them."""
        last = len(self.epoch) - 1
        for name, value in logs.items():
            own, places = self.setdefault(name, []), self._places.setdefault(name, [])
            if places[-1:] == [last]:
                own[-1] = value
            else:
                own.append(value)
                places.append(last)

    def epochs_of(self, name: str) -> list[int]:
        """Return the index of the epoch that each value of a log belongs to."""
        places = self._places.get(name, [])
        if len(places) != len(self[name]):  # it was put there by hand
            return self.epoch[: len(self[name])]
        return [self.epoch[place] for place in places]

    def record_iterations(
        self, iterations: list[int], losses: list[float], lrs: list[float]
    ) -> None:
        """Add the logs of iterations."""
        for name, values in (("iteration", iterations), ("loss", losses), ("lr", lrs)):
            self.iterations.setdefault(name, []).extend(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the logs and all attributes, copied, for `load_state_dict`."""
        lists = {name: list(value) for name, value in vars(self).items() if type(value) is list}
        dicts = {name: _copied(value) for name, value in vars(self).items() if type(value) is dict}
        return {"logs": _copied(self), **vars(self), **lists, **dicts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what `state_dict` was taken of."""
        if set(state) != {"logs", *vars(self)}:
            raise ValueError(f"History.load_state_dict: got {', '.join(state)}")
        self.clear()
        own = copy.deepcopy(dict(state))
        self.update(own.pop("logs"))
        vars(self).update(own)

    def diagnose(self, **options: Any) -> Diagnosis:
        """Say what the curves of the loss show: overfitting, underfitting, a good fit, ...

        Parameters
        ----------
        **options
            Thresholds of `dlcore.diagnose`, such as ``target_loss`` or ``baseline``.

        Returns
        -------
        Diagnosis
            Its text tells the verdict with the numbers, and what to try.
        """
        return diagnose(self, **options)

    def plot(
        self,
        path: str | PathLike[str] | None = None,
        *,
        by: str = "epoch",
        smoothing: float = 0.9,
    ) -> Figure:
        """Draw the curves of training and validation, a panel for each metric.

        By epoch, a dot marks the best one and a line the one after which the fit was stopped.
        Epochs are counted from 1 in the picture. By iteration, the loss is drawn as it was logged
        and smoothed, and the learning rate if it changed; light lines mark the ends of the epochs.

        Parameters
        ----------
        path : str or path, optional
            Where to save the picture; its suffix tells the format.
        by : {"epoch", "iteration"}
            Where each value belongs; "iteration" needs a fit with ``log_every``.
        smoothing : float
            Share of the past in the smoothed loss, in [0, 1).

        Returns
        -------
        matplotlib.figure.Figure
            Made without pyplot: no window opens, and nothing is left to close.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            There is no epoch or no iteration to draw, or an option is not as described.
        """
        check_choice("history.plot(): by", by, ("epoch", "iteration"))
        smoothing = check_in("history.plot(): smoothing", smoothing, "[0, 1)")
        by_epoch = by == "epoch"
        if by_epoch:
            names = [name for name in self if not name.startswith("val_")]
        else:
            changes = len(set(self.iterations.get("lr", ()))) > 1
            names = ["loss", "lr"] if changes else ["loss"]
        figure, panels = new_figure("history.plot()", len(names))
        if by_epoch and not self.epoch:
            raise ValueError("history.plot(): no epoch was completed, there is nothing to draw")
        if not by_epoch and not self.iterations.get("iteration"):
            raise ValueError(
                "history.plot(by='iteration'): no iteration was logged; fit with log_every=10"
            )
        for axes, name in zip(panels, names, strict=True):
            if by_epoch:
                self._draw_epochs(axes, name)
            else:
                self._draw_iterations(axes, name, smoothing)
        return saved(figure, path)

    def _draw_epochs(self, axes: Axes, name: str) -> None:
        curves = {"training": name, "validation": f"val_{name}"}
        if name.startswith("lr"):
            curves = {"learning rate": name}
        for label, key in curves.items():
            if key in self:
                epochs = [epoch + 1 for epoch in self.epochs_of(key)]
                style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) < 3 else {}
                axes.plot(epochs, self[key], label=label, **style)
        monitor = self.monitor
        if self.best_epoch is not None and monitor is not None and monitor in curves.values():
            value = self[monitor][self.epochs_of(monitor).index(self.best_epoch)]
            label = f"best: {value:.4g} in epoch {self.best_epoch + 1}"
            axes.plot(self.best_epoch + 1, value, "o", color="black", label=label, zorder=3)
        if self.stopped_epoch is not None:
            label = f"stopped after epoch {self.stopped_epoch + 1}"
            axes.axvline(self.stopped_epoch + 1, color="gray", linestyle="--", label=label)
        finish_panel(axes, "epoch", name)

    def _draw_iterations(self, axes: Axes, name: str, smoothing: float) -> None:
        iterations, values = self.iterations["iteration"], self.iterations[name]
        if name == "loss":
            axes.plot(iterations, values, alpha=0.35, label="training")
            smooth = smoothed(values, smoothing)
            axes.plot(iterations, smooth, color="C0", label="training, smoothed")
        else:
            axes.plot(iterations, values, label=name)
        for end in self.iteration:
            axes.axvline(end, color="gray", linewidth=0.5, alpha=0.4, zorder=0)
        finish_panel(axes, "iteration", name)


def _copied(lists: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in lists.items()}


def smoothed(values: list[float], past: float) -> Array:
    """Exponential moving average without the bias toward its first value, 0.

    Notes
    -----
    ``s[t] = past * s[t - 1] + (1 - past) * values[t]``, divided by ``1 - past ** t`` for t from 1.

    References
    ----------
    Kingma, Ba: Adam: a method for stochastic optimization, ICLR 2015, section 3.
    """
    result, average = np.empty(len(values)), 0.0
    for t, value in enumerate(values):
        average = past * average + (1 - past) * value
        result[t] = average / (1 - past ** (t + 1))
    return result
