"""`Trainer`: fits a model to data, epoch by epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from . import optimizers
from .batches import Batches, Deal
from .callbacks import Callback
from .data import Rows, as_matrix, check_rows, hold_out, mass, weigh_classes
from .history import History
from .layers import check_positive_int
from .metrics import as_metrics
from .network import Diverged, Optimizer, TrainingStep, trained_names
from .nn import Sequential
from .objectives import Loss, as_loss
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ._typing import Array

# Seconds of native steps between two looks at Python: its signals, the progress bar.
_SLICE = 0.1

_OPTIMIZERS = {"sgd": optimizers.SGD, "adam": optimizers.Adam, "adamw": optimizers.AdamW}


class Trainer:
    """Fits a model, and predicts and evaluates with it.

    Parameters
    ----------
    model : Sequential
        The model, trained in place.
    loss : str or Loss
        What to minimise: "cross_entropy", "bce_with_logits", "mse", "l1", "huber", "smooth_l1"
        (or the name of the kernel in full), or an object such as
        ``CrossEntropyLoss(label_smoothing=0.1)``.
    optimizer : optimizer or str, optional
        Made of ``model.parameters()`` or of some of them; or "adam" (the default), "adamw" or
        "sgd" with its default options.
    callbacks : sequence of Callback, optional
        Called in every fit, in this order.
    metrics : sequence of str or callable, optional
        What to log beside the loss: "accuracy", "mae", "mse", which count a row of
        ``sample_weight`` 2 twice; or functions ``metric(y_true, outputs) -> float``, called once
        an epoch with all rows and logged under their ``__name__``.
    seed : int, optional
        Draws the order of the rows, the validation split and what `Dropout` drops. The same seed, data and calls give
        the same result, bit for bit on the same machine.
    accumulate : int
        Batches to an update: k batches of n rows give the update of one batch of k * n rows.
    clip_grad_norm : float, optional
        Largest norm of the gradients of an update (see `dlcore.clip_grad_norm`).
    schedule : callable, optional
        ``schedule(epoch) -> lr``, called before each epoch. Epochs are counted from 0 over all
        fits of this trainer. The learning rate is logged as "lr".

    Attributes
    ----------
    history : History
        Of the last fit, up to the last complete epoch.
    log_names : list of str
        What each epoch of the last fit logs.
    """

    def __init__(
        self,
        model: Sequential,
        *,
        loss: str | Loss,
        optimizer: Optimizer | str | None = None,
        callbacks: Sequence[Callback] | None = None,
        metrics: Sequence[str | Callable[[Array, Array], float]] | None = None,
        seed: int | None = None,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        schedule: Callable[[int], float] | None = None,
    ) -> None:
        if not isinstance(model, Sequential):
            raise TypeError(f"Trainer: model must be a Sequential, not {type(model).__name__}")
        check_positive_int("accumulate", accumulate)
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"clip_grad_norm must be positive, not {clip_grad_norm}")
        if schedule is not None and not callable(schedule):
            raise TypeError(f"schedule must be a function of the epoch, not {schedule!r}")
        self.model = model
        self.loss = as_loss(loss)
        self.optimizer = _as_optimizer(optimizer or "adam", model)
        self.callbacks = list(callbacks or ())
        self.accumulate = accumulate
        self.clip_grad_norm = clip_grad_norm
        self.schedule = schedule
        self.history: History = History()
        self.log_names: list[str] = []
        self._stopping = False
        self._metrics = as_metrics(metrics, self.loss)
        seeds = np.random.SeedSequence(seed)
        self._shuffle_rng = np.random.default_rng(seeds)
        self._split_seed, layer_seed = seeds.spawn(2)
        self._layer_rng = np.random.default_rng(layer_seed)
        self._epochs_done = 0

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int,
        batch_size: int = 32,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        callbacks: Sequence[Callback] | None = None,
        verbose: int | str = "auto",
    ) -> History:
        """Train; a second call goes on where the first ended.

        Parameters
        ----------
        x : ndarray of shape (N, in_features)
            Rows to learn from, of the model's dtype.
        y : ndarray of shape (N,) or (N, out_features)
            Class indices of any integer dtype for cross-entropy; otherwise values of the model's
            dtype and the outputs' shape, where (N,) is taken for (N, 1).
        epochs : int
            Passes over the rows, unless a callback stops earlier.
        batch_size : int
            Rows of a mini-batch; the last one may be shorter.
        sample_weight : ndarray of shape (N,), optional
            Weights of the rows, of any real dtype. The loss of a batch is
            ``sum(weight * loss) / sum(weight)``.
        class_weight : mapping or "balanced", optional
            Weights of the classes in training, which multiply ``sample_weight``: a dict such as
            ``{0: 1.0, 1: 5.0}``, 1 for a class it does not name, or "balanced" for
            ``N / (classes * rows of the class)``.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Rows to validate on after each epoch.
        validation_split : float
            Share of the rows to validate on instead, drawn at random. Fits of one trainer on
            equally many rows hold out the same ones.
        shuffle : bool
            Whether each epoch goes through the rows in a new random order; otherwise the batches
            are consecutive rows.
        callbacks : sequence of Callback, optional
            Called in this fit, after those of the trainer.
        verbose : {"auto", 0, 1, 2}
            0 shows nothing, 2 a line an epoch, 1 a progress bar as well (with tqdm); "auto" is 1
            on a terminal and 2 elsewhere.

        Returns
        -------
        History
            "loss" and the metrics of each epoch, and those of the validation, "val_loss" and so
            on. The values of the training are means over the rows as they were seen, while the
            parameters were changing; those of the validation are from the end of the epoch.

        Raises
        ------
        TypeError, ValueError, IndexError
            x, y or an option is not as described; nothing was changed.
        FloatingPointError
            The training diverged: the loss, the gradient or the parameters became NaN or
            infinite. The model has its parameters from before that step.
        KeyboardInterrupt
            Ctrl-C ends the fit between two operations; the model can be used or trained on, and
            ``trainer.history`` has the complete epochs.
        """
        check_positive_int("epochs", epochs)
        check_positive_int("batch_size", batch_size)
        rows = check_rows(self.model, self.loss, x, y, sample_weight)
        index, validation = hold_out(
            self.model, self.loss, rows, validation_data, validation_split, self._split_seed
        )
        weighted = weigh_classes(self.model, self.loss, rows, index, class_weight)
        batches = Batches(weighted, mass(self.loss, weighted), index, batch_size, self.accumulate)
        step = TrainingStep(
            self.model,
            self.loss,
            self.optimizer,
            batch_size=batches.batch_size,
            rows=rows,
            accumulate=self.accumulate > 1,
            max_norm=self.clip_grad_norm,
        )
        progress = Progress(verbose, epochs=epochs, steps=len(batches))
        watchers = _check_callbacks([*self.callbacks, *(callbacks or ())])
        self._begin(has_validation=validation is not None)
        for callback in watchers:
            callback.trainer = self
            callback.on_fit_begin()
        with progress:
            for epoch in range(epochs):
                began = time.perf_counter()
                for callback in watchers:
                    callback.on_epoch_begin(epoch)
                logs = self._set_lr()
                progress.begin_epoch(epoch)
                deal = batches.deal(
                    self._shuffle_rng if shuffle else None, int(self._layer_rng.integers(2**63))
                )
                logs = self._train(epoch, rows, deal, step, progress) | logs
                if validation is not None:
                    scores = self._score(validation)
                    logs |= {f"val_{name}": value for name, value in scores.items()}
                self._epochs_done += 1
                self.history.record(epoch, logs)
                progress.end_epoch(epoch, logs, time.perf_counter() - began)
                for callback in watchers:
                    callback.on_epoch_end(epoch, logs)
                if self._stopping:
                    self.history.stopped_epoch = epoch
                    progress.say(f"stopped after epoch {epoch + 1}: {self.history.reason}")
                    break
        for callback in watchers:
            callback.on_fit_end()
        return self.history

    def stop(self, reason: str) -> None:
        """End the fit after this epoch: for callbacks."""
        self._stopping = True
        self.history.reason = reason

    def predict(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the outputs of the model, such as logits, ``batch_size`` rows at a time."""
        check_positive_int("batch_size", batch_size)
        x = as_matrix(x, "x", self.model.dtype, self.model.in_features)
        if len(x) <= batch_size:
            return self.model(x)
        starts = range(0, len(x), batch_size)
        return np.concatenate([self.model(x[i : i + batch_size]) for i in starts])

    def evaluate(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Compute the loss and the metrics on these rows, by name."""
        return self._score(check_rows(self.model, self.loss, x, y, sample_weight))

    def _begin(self, *, has_validation: bool) -> None:
        self.history = History()
        self._stopping = False
        scores = ["loss", *self._metrics]
        self.log_names = scores + ["lr"] * (self.schedule is not None)
        self.log_names += [f"val_{name}" for name in scores] if has_validation else []

    def _set_lr(self) -> dict[str, float]:
        """Set the learning rate by the schedule; return what is logged of it."""
        if self.schedule is None:
            return {}
        lr = float(self.schedule(self._epochs_done))
        if not 0 <= lr < float("inf"):
            raise ValueError(f"schedule({self._epochs_done}) is {lr}, not a learning rate")
        self.optimizer.lr = lr
        return {"lr": lr}

    def _train(
        self, epoch: int, rows: Rows, deal: Deal, step: TrainingStep, progress: Progress
    ) -> dict[str, float]:
        """Train one epoch; return its loss and metrics over the rows as they were seen."""
        seen = None
        if self._metrics:
            seen = np.empty((len(deal.order), step.width), self.model.dtype)
        total = 0.0
        batch = 0
        while batch < len(deal):
            try:
                following, loss = step.run(deal, batch, seconds=_SLICE, seen=seen)
            except Diverged as error:
                raise FloatingPointError(
                    f"the training diverged in epoch {epoch + 1}, step {error.batch + 1}: {error}; "
                    f"the model has its parameters from before that step"
                ) from None
            total += loss
            progress.step(following - batch)
            batch = following
        logs = {"loss": total / float(deal.masses.sum())}
        if seen is None:
            return logs
        weight_of_row = None if rows.weight is None else rows.weight[deal.order]
        return logs | self._measure(rows.y[deal.order], seen, weight_of_row)

    def _score(self, rows: Rows) -> dict[str, float]:
        """Compute the loss and the metrics of the model as it is now."""
        outputs = self.predict(rows.x)
        loss = self.loss.weighted_value(outputs, rows.y, rows.weight, mass(self.loss, rows))
        return {"loss": loss} | self._measure(rows.y, outputs, rows.weight)

    def _measure(self, y: Array, outputs: Array, weight: Array | None) -> dict[str, float]:
        return {name: metric(y, outputs, weight) for name, metric in self._metrics.items()}


def _as_optimizer(optimizer: Optimizer | str, model: Sequential) -> Optimizer:
    if isinstance(optimizer, str):
        if optimizer not in _OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(_OPTIMIZERS)}, not {optimizer!r}"
            )
        made: Optimizer = _OPTIMIZERS[optimizer](model.parameters())
        return made
    if not hasattr(optimizer, "step"):
        raise TypeError(
            f"optimizer must be a name or an optimizer such as Adam(model.parameters()), "
            f"not {optimizer!r}"
        )
    trained_names(model, optimizer)
    return optimizer


def _check_callbacks(callbacks: list[Callback]) -> list[Callback]:
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"a callback must be an instance of Callback, not {callback!r}")
    return callbacks
