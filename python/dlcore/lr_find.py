"""`lr_find`: a range of learning rates, tried in one short training."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arrays import as_array
from .history import new_figure, smoothed
from .layers import check_positive_int
from .schedules import LambdaLR
from .training import Trainer, optimizer_named

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.figure import Figure

    from ._typing import Array
    from .nn import Sequential
    from .objectives import Loss


@dataclass(frozen=True)
class LearningRates:
    """The losses of a training whose learning rate rises.

    Attributes
    ----------
    lr : ndarray of shape (iterations,)
        Learning rate of each iteration, up to the one at which the loss went beyond all bounds.
    loss : ndarray of shape (iterations,)
        Loss of each batch, smoothed.
    suggestion : float
        A learning rate to begin with: that where the smoothed loss falls most steeply.
    """

    lr: Array
    loss: Array
    suggestion: float

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the loss over the learning rate, and mark the suggestion.

        Parameters
        ----------
        path : str or path, optional
            Where to save the picture; its suffix tells the format.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        figure, (axes,) = new_figure("lr_find(...).plot()")
        axes.plot(self.lr, self.loss)
        label = f"suggestion: {self.suggestion:.2g}"
        axes.axvline(self.suggestion, color="gray", linestyle="--", label=label)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss, smoothed")
        axes.grid(alpha=0.3)
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=150)
        return figure


def lr_find(
    model: Sequential,
    x: Any,
    y: Any,
    *,
    loss: str | Loss,
    optimizer: str = "adam",
    start: float = 1e-6,
    end: float = 10.0,
    iterations: int = 100,
    batch_size: int = 32,
    seed: int | None = 0,
) -> LearningRates:
    """Train a copy of a model with a learning rate that rises from batch to batch.

    Parameters
    ----------
    model : Sequential
        Stays as it is.
    x, y
        Rows to learn from, as in `Trainer.fit`.
    loss : str or Loss
    optimizer : {"adam", "adamw", "sgd"}
        With its default options.
    start, end : float
        The first and the last learning rate; in between they rise by one factor.
    iterations : int
        Batches at most: the training ends where the loss is more than four times its smallest value,
        or no longer finite.
    batch_size : int
    seed : int, optional
        Draws the order of the rows.

    Returns
    -------
    LearningRates

    Raises
    ------
    ValueError
        If an option is out of range, or no learning rate makes the loss fall.

    References
    ----------
    Smith: Cyclical learning rates for training neural networks, WACV 2017.
    """
    if not 0 < start < end < np.inf:
        raise ValueError(f"lr_find: start and end must be 0 < start < end, not {start} and {end}")
    check_positive_int("lr_find: iterations", iterations)
    if iterations < 10:
        raise ValueError(f"lr_find: iterations must be at least 10, not {iterations}")
    ratio = (end / start) ** (1 / (iterations - 1))
    tried = copy.deepcopy(model)
    trainer = Trainer(
        tried,
        loss=loss,
        optimizer=optimizer_named(optimizer, tried, lr=start),
        schedule=LambdaLR(lambda step: ratio**step, per="iteration"),
        seed=seed,
    )
    x, y = as_array(x, "lr_find: x"), as_array(y, "lr_find: y")
    rows = np.resize(np.random.default_rng(seed).permutation(len(x)), iterations * batch_size)
    # Between few batches there is a look at their losses.
    losses: list[float] = []
    for i in range(0, iterations, 10):
        some = rows[i * batch_size : (i + 10) * batch_size]
        try:
            trainer.fit(
                x[some],
                y[some],
                epochs=1,
                batch_size=batch_size,
                shuffle=False,
                log_every=1,
                verbose=0,
            )
        except FloatingPointError:
            losses += trainer.history.iterations.get("loss", [])
            break
        losses += trainer.history.iterations["loss"]
        if max(losses[-10:]) > 4 * min(losses):
            break
    return _judged(np.array(losses), start * ratio ** np.arange(len(losses)))


def _judged(losses: Array, lrs: Array) -> LearningRates:
    smooth = smoothed(losses.tolist(), 0.9)
    if len(smooth) < 3:
        raise ValueError("lr_find: the training diverged at once; begin with a smaller start")
    beyond = np.flatnonzero(smooth > 4 * np.minimum.accumulate(smooth))
    stop = int(beyond[0]) if beyond.size else len(smooth)
    smooth, lrs = smooth[:stop], lrs[:stop]
    slope = np.gradient(smooth, np.log(lrs))
    best = int(slope.argmin())
    if not slope[best] < 0:
        raise ValueError("lr_find: no learning rate made the loss fall; try another start and end")
    return LearningRates(lrs, smooth, float(lrs[best]))
