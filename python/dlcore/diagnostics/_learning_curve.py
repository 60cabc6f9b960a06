"""How the score of a model changes with the number of rows that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import (
    check_call,
    check_in,
    check_instance,
    check_int,
    check_name,
    check_several,
    generator_of,
    is_int,
)
from dlcore._common.plotting import finish_panel, new_figure, saved
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from matplotlib.figure import Figure

    from dlcore._common.typing import Array

__all__ = ["LearningCurve", "learning_curve"]


@dataclass(frozen=True)
class LearningCurve:
    """Scores of training and validation by the number of rows trained on.

    Attributes
    ----------
    sizes : ndarray of int, of shape (k,)
        Numbers of rows, ascending.
    train, validation : ndarray of float64, of shape (k, repeats)
        Scores on the rows trained on, and on those of the validation, after each fit.
    monitor : str
        What the scores are: "loss" or the name of a metric.
    """

    sizes: Array
    train: Array
    validation: Array
    monitor: str = "loss"

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Draw the means over the repeats, with a band of one standard deviation to each side.

        Parameters
        ----------
        path : str or path, optional
            Where to save the picture; its suffix tells the format.

        Returns
        -------
        matplotlib.figure.Figure
            Made without pyplot.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        figure, (axes,) = new_figure("learning_curve.plot()")
        for label, scores in (("training", self.train), ("validation", self.validation)):
            mean, deviation = scores.mean(1), scores.std(1)
            (line,) = axes.plot(self.sizes, mean, "o-", markersize=3, label=label)
            if scores.shape[1] > 1:
                color = line.get_color()
                axes.fill_between(
                    self.sizes, mean - deviation, mean + deviation, color=color, alpha=0.2
                )
        finish_panel(axes, "rows trained on", self.monitor)
        return saved(figure, path)


def learning_curve(
    make_trainer: Callable[[], Trainer],
    x: Any,
    y: Any,
    *,
    epochs: int,
    sizes: Sequence[float] = (0.1, 0.33, 0.55, 0.78, 1.0),
    validation_data: tuple[Any, Any] | None = None,
    validation_split: float = 0.2,
    repeats: int = 1,
    monitor: str = "loss",
    seed: int = 0,
    **fit: Any,
) -> LearningCurve:
    """Fit anew on more and more rows, and score each fit on its own and on the same other rows.

    Where both curves meet at a bad score, the model underfits and more rows do not help; where a
    gap remains that is still closing, they do.

    Parameters
    ----------
    make_trainer : callable
        ``make_trainer() -> Trainer`` builds a fresh model with its trainer.
    x, y : ndarray of shape (N, ...)
        As for ``Trainer.fit``.
    epochs : int
        Of each fit.
    sizes : sequence of float or of int
        Shares of the rows to train on, in (0, 1], or numbers of rows.
    validation_data : (x, y), optional
        Rows to score on,
    validation_split : float
        or, without them, the share of the rows that is held out for it, drawn at random.
    repeats : int
        Fits of each size, each on other rows: of a repeat the smaller parts are in the larger.
    monitor : str
        "loss" or the name of a metric of the trainer.
    seed : int
        Draws the rows.
    **fit
        Other arguments of ``Trainer.fit``, such as ``batch_size``.

    Returns
    -------
    LearningCurve

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; those of ``Trainer.fit``.

    References
    ----------
    Perlich: Learning curves in machine learning, Encyclopedia of Machine Learning, 2011.
    """
    x, y = as_array(x, "learning_curve: x"), as_array(y, "learning_curve: y")
    if len(x) != len(y):
        raise ValueError(f"learning_curve: x has {len(x)} rows, y {len(y)}")
    repeats = check_int("learning_curve: repeats", repeats, 1)
    check_call("learning_curve: make_trainer", make_trainer)
    rng = generator_of("learning_curve: seed", seed)
    rows = np.arange(len(x))
    if validation_data is None:
        validation_split = check_in("learning_curve: validation_split", validation_split, "(0, 1)")
        rows = rng.permutation(rows)
        held = max(1, round(len(rows) * validation_split))
        validation_data = x[rows[:held]], y[rows[:held]]
        rows = rows[held:]
    counts = _row_counts(sizes, len(rows))
    _score(_made(make_trainer), validation_data, monitor)  # an unknown name is told before any fit
    scores = np.empty((2, len(counts), repeats))
    for repeat in range(repeats):
        order = rng.permutation(rows)
        for i, count in enumerate(counts):
            trainer = _made(make_trainer)
            own = x[order[:count]], y[order[:count]]
            options: dict[str, Any] = {"verbose": 0, "validation_data": validation_data} | fit
            trainer.fit(*own, epochs=epochs, **options)
            for part, data in enumerate((own, validation_data)):
                scores[part, i, repeat] = _score(trainer, data, monitor)
    return LearningCurve(np.array(counts), scores[0], scores[1], monitor)


def _made(make_trainer: Callable[[], Trainer]) -> Trainer:
    trainer = make_trainer()
    check_instance("what learning_curve: make_trainer makes", trainer, Trainer)
    return trainer


def _row_counts(sizes: Sequence[float], rows: int) -> list[int]:
    counts, name = set(), "learning_curve: sizes"
    for size in check_several(name, sizes, "several shares or numbers of rows"):
        if is_int(size) and 1 <= size <= rows:
            counts.add(int(size))
        else:
            otherwise = f", or numbers of rows from 1 to {rows}"
            share = check_in(name, size, "(0, 1]", otherwise=otherwise)
            counts.add(max(1, round(share * rows)))
    if not counts:
        raise ValueError("learning_curve: sizes must not be empty")
    return sorted(counts)


def _score(trainer: Trainer, data: tuple[Any, Any], monitor: str) -> float:
    scores = trainer.evaluate(*data)
    return scores[check_name("learning_curve: monitor", monitor, scores)]
