"""`cross_validate`: a fit for each fold, all at once, and the predictions out of fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_flag
from dlcore.functional._activations import sigmoid, softmax
from dlcore.many._ensemble import Ensemble
from dlcore.many._fit_many import fit_many
from dlcore.many._folds import folds_of
from dlcore.many._members import made_trainers
from dlcore.metrics._accumulation import Measurement, of_loss
from dlcore.metrics._named import kind_of
from dlcore.training._dataset import Subset, check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback
    from dlcore.many._fit_many import Histories
    from dlcore.training._dataset import Dataset
    from dlcore.training._trainer import Trainer

__all__ = ["CrossValidation", "cross_validate"]

# Rows that are predicted at once.
_ROWS = 4096


@dataclass(eq=False, repr=False)
class CrossValidation:
    """What `cross_validate` found.

    Attributes
    ----------
    trainers : list of Trainer
        One for each fold, trained.
    histories : Histories
    folds : list of (ndarray, ndarray)
        The indices of the rows that each was trained on and tested with.
    outputs : ndarray of shape (N, out_features)
        The outputs out of fold: those for each row are of the model that was not trained on it. NaN
        for rows of no fold.
    scores : dict of str to ndarray of shape (folds,)
        The loss and the metrics of each model on the rows of its fold.
    total : dict of str to float
        The loss and the metrics of the outputs out of fold, of all rows together.
    """

    trainers: list[Trainer]
    histories: Histories
    folds: list[tuple[Array, Array]]
    outputs: Array
    scores: dict[str, Array]
    total: dict[str, float]

    def predict_proba(self) -> Array:
        """Return the probabilities out of fold: softmax or sigmoid of the outputs, as in `Trainer`.

        Raises
        ------
        ValueError
            The loss is for values, or for several targets.
        """
        kind = kind_of(self.trainers[0].loss)
        if kind == "values":
            raise ValueError(
                f"predict_proba needs a loss for classes, not "
                f"{type(self.trainers[0].loss).__name__}"
            )
        return softmax(self.outputs) if kind == "classes" else sigmoid(self.outputs)

    def ensemble(self) -> Ensemble:
        """Return the models of the folds as an `Ensemble`, which predicts for new rows."""
        return Ensemble(self.trainers)

    def __repr__(self) -> str:
        lines = [f"CrossValidation of {len(self.folds)} folds"]
        for name, own in self.scores.items():
            spread = f" ± {own.std(ddof=1):.4g}" if len(own) > 1 else ""
            lines.append(
                f"  {name}: {own.mean():.4g}{spread} a fold, {self.total[name]:.4g} in all"
            )
        return "\n".join(lines)


def cross_validate(
    trainer: Trainer | Callable[[int], Trainer],
    x: Any,
    y: Any,
    *,
    folds: Any = 5,
    epochs: int,
    sample_weight: Any = None,
    groups: Any = None,
    seed: int = 0,
    validate: bool = True,
    callbacks: Sequence[Callback] | None = None,
    **options: Any,
) -> CrossValidation:
    """Train a model for each fold of the rows on the other folds, all at once, and judge it by its own.

    Parameters
    ----------
    trainer : Trainer or callable
        ``trainer(fold)`` makes the trainer of each fold, counted from 0; or one that has learned
        nothing yet, of which each fold has a copy, with its initial weights and its seed.
    x, y, sample_weight
        As in `Trainer.fit`; they are not copied.
    folds : int, splitter or sequence of (train, test)
        A number k: the rows are drawn into k folds of equal sizes, and so are those of each class
        where the loss is one of classes. Or an object with the ``split`` of scikit-learn's, such as
        ``GroupKFold(5)`` and ``TimeSeriesSplit(5)``; or pairs of indices or masks. No row may be
        tested with in two folds.
    epochs : int
        As in `Trainer.fit`.
    groups : ndarray of shape (N,), optional
        What the ``split`` of a splitter takes.
    seed : int
        Draws the folds, where ``folds`` is a number.
    validate : bool
        Whether each model validates on the rows of its fold, for its curves and for early stopping.
        Predictions out of fold are a little too good then, since the best epoch was chosen by these
        rows. With ``validation_split`` or ``validation_data`` it validates on those: on a share of
        the rows that it would be trained on, which are none of its fold.
    callbacks : sequence of Callback, optional
        Each fit has copies: `EarlyStopping` stops each by itself.
    **options
        Further ones of `fit_many`, such as ``batch_size``, ``verbose`` and ``workers``.

    Returns
    -------
    CrossValidation

    Raises
    ------
    TypeError, ValueError, IndexError
        Something is not as described; nothing was trained.
    Exception
        That of a fit, as `fit_many` raises it.

    Notes
    -----
    A model of a fold has the bits that ``trainer.fit(x[train], y[train], ...)`` gives.

    References
    ----------
    Stone: Cross-validatory choice and assessment of statistical predictions, Journal of the Royal
    Statistical Society B 36, 1974.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> y = (x[:, 0] > 0).astype(np.int64)
    >>> model = dl.Sequential(dl.Linear(4, 16), dl.ReLU(), dl.Linear(16, 2), seed=0)
    >>> trainer = dl.Trainer(model, loss="cross_entropy", metrics=["accuracy"], seed=0)
    >>> result = dl.cross_validate(
    ...     trainer, x, y, epochs=20, callbacks=[dl.EarlyStopping(patience=3)], verbose=0
    ... )
    >>> result.outputs.shape, result.scores["accuracy"].shape
    ((200, 2), (5,))
    """
    if "on_error" in options:
        raise TypeError("cross_validate takes no on_error: each fold is needed")
    n = x.shape[0] if hasattr(x, "shape") else len(x)
    pairs = folds_of(folds, n, groups, seed, y)
    trainers = made_trainers("cross_validate: trainer", trainer, len(pairs))
    rows = check_rows(trainers[0].model, trainers[0].loss, x, y, sample_weight)
    validates = check_flag("cross_validate: validate", validate) and not (
        options.get("validation_split") or options.get("validation_data") is not None
    )
    histories = fit_many(
        trainers,
        x,
        y,
        epochs=epochs,
        sample_weight=sample_weight,
        rows=[train for train, _ in pairs],
        validation_rows=[test for _, test in pairs] if validates else None,
        callbacks=callbacks,
        **options,
    )
    outputs, scores, total = _judge(trainers, rows, [test for _, test in pairs])
    return CrossValidation(trainers, histories, pairs, outputs, scores, total)


def _judge(
    trainers: list[Trainer], rows: Dataset, tests: list[Array]
) -> tuple[Array, dict[str, Array], dict[str, float]]:
    """Return the outputs out of fold, and what is measured of each fold and of all."""
    first = trainers[0]
    metrics = {"loss": of_loss(first.loss)} | first._metrics
    total, of_folds = Measurement(metrics), []
    outputs: Array | None = None
    for trainer, test in zip(trainers, tests, strict=True):
        measured = Measurement(metrics)
        for start in range(0, len(test), _ROWS):
            index = test[start : start + _ROWS]
            part = Subset(rows, index).part(0, len(index))
            own = trainer.model(part.x)
            if outputs is None:
                outputs = np.full((len(rows), own.shape[1]), np.nan, own.dtype)
            outputs[index] = own
            counts = slice(None) if part.weight is None else part.weight > 0
            weight = None if part.weight is None else part.weight[counts]
            if len(part.y[counts]):
                measured.add(part.y[counts], own[counts], weight)
                total.add(part.y[counts], own[counts], weight)
        of_folds.append(measured.values())
    assert outputs is not None
    scores = {name: np.array([own[name] for own in of_folds]) for name in of_folds[0]}
    return outputs, scores, total.values()
