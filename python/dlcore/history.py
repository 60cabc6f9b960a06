"""`History`: what a fit logged, epoch by epoch, and its curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class History(dict[str, list[float]]):
    """The logs of a fit: a list for each of "loss", "accuracy", "val_loss", ..., a value an epoch.

    Attributes
    ----------
    epoch : list of int
        Index of each epoch, from 0.
    best_epoch : int or None
        Index of the best epoch, if a callback such as `EarlyStopping` kept track of it,
    monitor : str or None
        and the name of the log that was best then.
    stopped_epoch : int or None
        Index of the epoch after which a callback stopped the fit,
    reason : str or None
        and why.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.best_epoch: int | None = None
        self.monitor: str | None = None
        self.stopped_epoch: int | None = None
        self.reason: str | None = None

    def record(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the logs of an epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.setdefault(name, []).append(value)

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the curves of training and validation, a panel for each metric.

        A dot marks the best epoch and a line the one after which the fit was stopped. Epochs are
        counted from 1 in the picture.

        Parameters
        ----------
        path : str or path, optional
            Where to save the picture; its suffix tells the format.

        Returns
        -------
        matplotlib.figure.Figure
            Made without pyplot: no window opens, and nothing is left to close.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            There is no epoch to draw.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "history.plot() needs matplotlib: pip install 'dlcore-kernels[plot]'"
            ) from error
        if not self.epoch:
            raise ValueError("history.plot(): no epoch was completed, there is nothing to draw")
        names = [name for name in self if not name.startswith("val_")]
        figure = Figure(figsize=(5.2 * len(names), 3.8), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            self._draw(axes, name)
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure

    def _draw(self, axes: Axes, name: str) -> None:
        from matplotlib.ticker import MaxNLocator

        epochs = [epoch + 1 for epoch in self.epoch]
        style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) < 3 else {}
        curves = {"training": name, "validation": f"val_{name}"}
        for label, key in curves.items():
            if key in self:
                axes.plot(epochs, self[key], label=label, **style)
        monitor = self.monitor
        if self.best_epoch is not None and monitor is not None and monitor in curves.values():
            value = self[monitor][self.epoch.index(self.best_epoch)]
            label = f"best: {value:.4g} in epoch {self.best_epoch + 1}"
            axes.plot(self.best_epoch + 1, value, "o", color="black", label=label, zorder=3)
        if self.stopped_epoch is not None:
            label = f"stopped after epoch {self.stopped_epoch + 1}"
            axes.axvline(self.stopped_epoch + 1, color="gray", linestyle="--", label=label)
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.grid(alpha=0.3)
        axes.legend()
