"""`lr_find`: a range of learning rates, tried in one short training."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_positive_int
from dlcore._common.plotting import new_figure, saved
from dlcore.callbacks._history import smoothed
from dlcore.optim._schedules import LambdaLR
from dlcore.training._configuration import optimizer_named
from dlcore.training._dataset import check_rows, loss_weights
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from matplotlib.figure import Figure

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential

__all__ = ["LearningRates", "lr_find"]

# Share of the past in the smoothed loss.
_PAST = 0.9
# A slope is that of this share of the iterations.
_WINDOWS = 7


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
        A learning rate to begin with: the middle of those over which the loss falls most steeply.
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
        return saved(figure, path)


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
        Batches at most: the training ends where the smoothed loss is more than four times its
        smallest value, or the loss is no longer finite.
    batch_size : int
        The losses of batches of a few rows differ by chance, which can hide where they fall.
    seed : int, optional
        Draws the order of the rows.

    Returns
    -------
    LearningRates

    Raises
    ------
    TypeError, ValueError, IndexError
        x or y is not as described.
    ValueError
        An option is out of range, or no learning rate makes the loss fall.

    Notes
    -----
    The loss falls by the slope of a straight line, fitted by least squares to a seventh of the
    iterations, up to the smallest smoothed loss.

    References
    ----------
    Smith: Cyclical learning rates for training neural networks, WACV 2017.
    """
    if not 0 < start < end < np.inf:
        raise ValueError(f"lr_find: start and end must be 0 < start < end, not {start} and {end}")
    check_positive_int("lr_find: iterations", iterations)
    check_positive_int("lr_find: batch_size", batch_size)
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
    rows = check_rows(tried, trainer.loss, x, y, None)
    counted = np.flatnonzero(loss_weights(trainer.loss, rows))
    order = np.resize(np.random.default_rng(seed).permutation(counted), (iterations, batch_size))

    width = max(3, iterations // _WINDOWS)

    def batches() -> Iterator[tuple[Array, Array]]:
        for i, some in enumerate(order):
            if i % 10 == 0 and _beyond(smoothed(losses(), _PAST), width).any():
                return
            yield rows.x[some], rows.y[some]

    def losses() -> list[float]:
        return trainer.history.iterations.get("loss", [])

    with contextlib.suppress(FloatingPointError):  # the loss is no longer finite
        trainer.fit(batches(), epochs=1, log_every=1, verbose=0)
    lrs = start * ratio ** np.arange(len(losses()))
    return _judged(np.array(losses()), lrs, width)


def _beyond(smooth: Array, width: int) -> Array:
    """Whether losses are four times the smallest one before, or as far above one below 0.

    The first ones are means of too few batches to compare with.
    """
    smooth = np.where(np.arange(len(smooth)) < width - 1, np.inf, smooth)
    best = np.minimum.accumulate(smooth)
    beyond: Array = smooth > best + 3 * np.abs(best)
    return beyond


def _judged(losses: Array, lrs: Array, width: int) -> LearningRates:
    smooth = smoothed(losses.tolist(), _PAST)
    beyond = np.flatnonzero(_beyond(smooth, width))
    stop = int(beyond[0]) if beyond.size else len(smooth)
    if stop < width:
        raise ValueError("lr_find: the training diverged at once; begin with a smaller start")
    losses, smooth, lrs = losses[:stop], smooth[:stop], lrs[:stop]
    # Lines by least squares, which batches that are easy or hard by chance tilt little, as long as
    # the loss falls on the whole.
    windows = np.lib.stride_tricks.sliding_window_view(losses, width)
    slopes = (windows - windows[:, :1]) @ (np.arange(width) - (width - 1) / 2)
    slopes = slopes[: 1 + int(smooth[width - 1 :].argmin())]
    steepest = int(slopes.argmin())
    if not slopes[steepest] < 0:
        raise ValueError("lr_find: no learning rate made the loss fall; try another start and end")
    return LearningRates(lrs, smooth, float(lrs[steepest + width // 2]))
