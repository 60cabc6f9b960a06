"""`lr_find`: a range of learning rates, tried in one short training."""

from __future__ import annotations

import contextlib
import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_instance, check_positive_int, check_real
from dlcore._common.plotting import new_figure, saved
from dlcore.callbacks._history import smoothed
from dlcore.nn._sequential import Sequential
from dlcore.optim._optimizer import set_lrs
from dlcore.optim._schedules import LambdaLR
from dlcore.training._configuration import optimizer_named
from dlcore.training._dataset import all_loss_weights, check_rows, weigh_classes
from dlcore.training._step import trained_names
from dlcore.training._stream import is_batches
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from matplotlib.figure import Figure

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.training._dataset import Dataset

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
    y: Any = None,
    *,
    loss: str | Loss | None = None,
    optimizer: Any = None,
    trainer: Trainer | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None = None,
    start: float = 1e-6,
    end: float = 10.0,
    iterations: int = 100,
    batch_size: int = 32,
    seed: int | None = 0,
) -> LearningRates:
    """Train a copy of a model with a learning rate that rises from update to update.

    Parameters
    ----------
    model : Sequential
        Stays as it is.
    x, y
        Rows to learn from, as in `Trainer.fit`; or x alone, an iterable of batches (x, y) or
        (x, y, sample_weight), which is gone through as often as needed.
    loss : str or Loss
        By default that of the ``trainer``.
    optimizer : {"adam", "adamw", "sgd"} or optimizer
        The name of one with its default options, or one of the parameters of ``model``, with its
        options and as far as it is; a copy of it is used. By default that of the ``trainer``, or
        "adam".
    trainer : Trainer, optional
        What is to train the model: ``accumulate`` and the clipping are its, too.
    sample_weight, class_weight
        As in `Trainer.fit`.
    start, end : float
        The first and the last learning rate; in between they rise by one factor. Groups of the
        optimizer keep the ratio of their rates to that of the first, which this is.
    iterations : int
        Updates at most: the training ends where the smoothed loss is more than four times its
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
    TypeError
        The optimizer is one that cannot be copied: its arrays are not in its ``params``.
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
    start, end = check_real("lr_find: start", start), check_real("lr_find: end", end)
    if not 0 < start < end < np.inf:
        raise ValueError(f"lr_find: start and end must be 0 < start < end, not {start} and {end}")
    check_positive_int("lr_find: iterations", iterations)
    check_positive_int("lr_find: batch_size", batch_size)
    if iterations < 10:
        raise ValueError(f"lr_find: iterations must be at least 10, not {iterations}")
    check_instance("lr_find: model", model, Sequential)
    if trainer is not None:
        check_instance("lr_find: trainer", trainer, Trainer)
        if trainer.model is not model:
            raise ValueError("lr_find: model must be that of the trainer")
    if loss is None:
        if trainer is None:
            raise ValueError("lr_find: loss must be given, or a trainer")
        loss = trainer.loss
    if optimizer is None:
        optimizer = "adam" if trainer is None else trainer.optimizer
    settings = ("accumulate", "clip_grad_norm", "clip_grad_value")
    ratio = (end / start) ** (1 / (iterations - 1))
    tried = copy.deepcopy(model)
    own = Trainer(
        tried,
        loss=loss,
        optimizer=_copied(optimizer, model, tried, start),
        schedule=LambdaLR(lambda step: ratio**step, per="iteration"),
        seed=seed,
        **{name: getattr(trainer, name) for name in settings if trainer is not None},
    )
    if y is None:
        if sample_weight is not None:
            raise ValueError("lr_find: sample_weight needs x and y as arrays")
        source = _again_and_again(x)
    else:
        rows = check_rows(tried, own.loss, x, y, sample_weight)
        rows = weigh_classes(tried, own.loss, rows, np.arange(len(rows)), class_weight)
        source, class_weight = _drawn(own.loss, rows, batch_size, seed), None
    width = max(3, iterations // _WINDOWS)

    def batches() -> Iterator[Any]:
        for i, batch in enumerate(itertools.islice(source, iterations * own.accumulate)):
            if i % (10 * own.accumulate) == 0 and _beyond(smoothed(losses(), _PAST), width).any():
                return
            yield batch

    def losses() -> list[float]:
        return own.history.iterations.get("loss", [])

    with contextlib.suppress(FloatingPointError):  # the loss is no longer finite
        own.fit(batches(), epochs=1, class_weight=class_weight, log_every=1, verbose=0)
        if len(losses()) < 10:
            raise ValueError(
                f"lr_find: x must give batches for at least 10 updates, not {len(losses())}"
            )
    lrs = start * ratio ** np.arange(len(losses()))
    return _judged(np.array(losses()), lrs, width)


def _copied(optimizer: Any, model: Sequential, tried: Sequential, lr: float) -> Any:
    """Return an optimizer like it of the copy of the model, with this learning rate."""
    if isinstance(optimizer, str):
        return optimizer_named(optimizer, tried, lr=lr)
    if not hasattr(optimizer, "params"):
        raise TypeError(
            f"lr_find: optimizer must be a name, or an optimizer of the model's parameters that "
            f"has them as params, not {optimizer!r}"
        )
    arrays = tried.named_parameters()
    names = trained_names(model, optimizer)
    # The copy holds the arrays of the copied model wherever the optimizer holds those of the model.
    memo = {id(p): arrays[name] for p, name in zip(optimizer.params, names, strict=True)}
    copied = copy.deepcopy(optimizer, memo)
    lrs = list(getattr(copied, "lrs", [copied.lr]))
    set_lrs(copied, [lr * own / lrs[0] if lrs[0] else lr for own in lrs])
    return copied


def _drawn(loss: Loss, rows: Dataset, size: int, seed: int | None) -> Iterator[Any]:
    """Give batches of the rows that count, shuffled once, again and again."""
    counted = np.random.default_rng(seed).permutation(np.flatnonzero(all_loss_weights(loss, rows)))
    for start in itertools.count(step=size):
        some = np.take(counted, np.arange(start, start + size), mode="wrap")
        batch = rows.x[some], rows.y[some]
        yield batch if rows.weight is None else (*batch, rows.weight[some])


def _again_and_again(x: Any) -> Iterator[Any]:
    """Give the batches of an iterable, from the first one on after the last."""
    if not is_batches(x):
        raise TypeError(
            f"lr_find: without y, x must be an iterable of batches (x, y), not {type(x).__name__}"
        )
    return _cycled(x)


def _cycled(batches: Iterable[Any]) -> Iterator[Any]:
    """Give items again and again, as long as there are any."""
    some = True
    while some:
        some = False
        for batch in batches:
            some = True
            yield batch


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
