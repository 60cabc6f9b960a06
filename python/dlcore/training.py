"""`Trainer`: fits a model to data, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import optimizers
from .batches import Batches, Deal, Stream
from .callbacks import Callback
from .data import MappedFile, Part, Rows, as_matrix, check_rows, hold_out, mass, weigh_classes
from .history import History
from .layers import check_positive_int
from .metrics import as_metrics
from .network import Diverged, Optimizer, TrainingStep, trained_names
from .nn import Sequential
from .objectives import Loss, as_loss
from .progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._typing import Array

# Seconds of native steps between two looks at Python: its signals, the progress bar.
_SLICE = 0.1
# And of steps on a mapped file, whose pages then are given back.
_SLICE_OF_MAP = 0.01

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
        Draws the order of the rows, the validation split and what `Dropout` drops. The same seed,
        data and calls give the same result, bit for bit on the same machine.
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
        y: Any = None,
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
            Rows to learn from, of the model's dtype; `numpy.memmap` for more of them than fit the
            memory. Or, without y, an iterable of batches (x, y) or (x, y, sample_weight), which
            every epoch goes through anew; ``batch_size`` and ``shuffle`` have no meaning then.
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
        source: Batches | Stream
        if y is None:
            steps = None
            source, validation = self._stream(
                x, sample_weight, class_weight, validation_data, validation_split
            )
        else:
            rows = check_rows(self.model, self.loss, x, y, sample_weight)
            index, validation = hold_out(
                self.model, self.loss, rows, validation_data, validation_split, self._split_seed
            )
            weighted = weigh_classes(self.model, self.loss, rows, index, class_weight)
            source = Batches(self.loss, weighted, index, batch_size, self.accumulate)
            steps = len(source)
        step = TrainingStep(
            self.model,
            self.loss,
            self.optimizer,
            accumulate=self.accumulate > 1,
            max_norm=self.clip_grad_norm,
        )
        progress = Progress(verbose, epochs=epochs, steps=steps)
        watchers = _check_callbacks([*self.callbacks, *(callbacks or ())])
        with self.model.in_training():
            return self._fit(epochs, source, shuffle, validation, step, progress, watchers)

    def _fit(
        self,
        epochs: int,
        source: Batches | Stream,
        shuffle: bool,
        validation: Part | None,
        step: TrainingStep,
        progress: Progress,
        watchers: list[Callback],
    ) -> History:
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
                deals = source.epoch(
                    self._shuffle_rng if shuffle else None, int(self._layer_rng.integers(2**63))
                )
                logs = self._train(epoch, deals, step, progress) | logs
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
        return self._outputs(Part(Rows(x, x)), batch_size)

    def evaluate(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Compute the loss and the metrics on these rows, by name."""
        return self._score(Part(check_rows(self.model, self.loss, x, y, sample_weight)))

    def _stream(
        self,
        source: Any,
        sample_weight: Any,
        class_weight: Mapping[Any, float] | str | None,
        validation_data: tuple[Any, ...] | None,
        validation_split: float,
    ) -> tuple[Stream, Part | None]:
        """Take x without y for an iterable of batches."""
        if not isinstance(source, Iterable) or isinstance(source, np.ndarray):
            raise TypeError(
                f"without y, x must be an iterable of batches (x, y), not {type(source).__name__}"
            )
        for name, given in (
            ("sample_weight", sample_weight is not None),
            ("validation_split", validation_split != 0),
        ):
            if given:
                raise ValueError(f"{name} needs x and y as arrays; x is an iterable of batches")
        if class_weight is not None and not isinstance(class_weight, Mapping):
            raise ValueError("for an iterable of batches class_weight must be a dict")

        def check(x: Any, y: Any, weight: Any = None, prefix: str = "") -> Rows:
            rows = check_rows(self.model, self.loss, x, y, weight, prefix)
            index = np.arange(len(rows.x))
            return weigh_classes(self.model, self.loss, rows, index, class_weight)

        validation = None
        if validation_data is not None:
            x, y, weight = (*validation_data, None)[:3]
            validation = Part(check_rows(self.model, self.loss, x, y, weight, "validation "))
        return Stream(self.loss, source, check, self.accumulate), validation

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
        self, epoch: int, deals: Iterable[Deal], step: TrainingStep, progress: Progress
    ) -> dict[str, float]:
        """Train one epoch; return its loss and metrics over the rows as they were seen."""
        total = weight = 0.0
        steps = 0
        seen: list[tuple[Rows, Array, Array]] = []  # data, rows of it and outputs
        for deal in deals:
            outputs = None
            if self._metrics:
                outputs = np.empty((len(deal.order), step.width_of(deal.rows)), self.model.dtype)
                seen.append((deal.rows, deal.order, outputs))
            mapped = MappedFile(deal.rows.x)
            losses = np.zeros(len(deal))
            between = _Between(progress, mapped)
            try:
                step.run(
                    deal,
                    losses=losses,
                    seen=outputs,
                    seconds=_SLICE_OF_MAP if mapped else _SLICE,
                    between=between,
                )
            except Diverged as error:
                raise FloatingPointError(
                    f"the training diverged in epoch {epoch + 1}, "
                    f"step {steps + error.batch + 1}: {error}; "
                    f"the model has its parameters from before that step"
                ) from None
            finally:
                mapped.release()
            between(len(deal))
            total += float((losses * deal.masses).sum())
            weight += float(deal.masses.sum())
            steps += len(deal)
        logs = {"loss": total / weight}
        return logs | self._measure_all(seen) if seen else logs

    def _measure_all(self, seen: list[tuple[Rows, Array, Array]]) -> dict[str, float]:
        """Measure the outputs of an epoch."""
        y = np.concatenate([rows.y[order] for rows, order, _ in seen])
        outputs = np.concatenate([outputs for *_, outputs in seen])
        weight = None
        if any(rows.sample_weight is not None for rows, *_ in seen):
            weight = np.concatenate(
                [
                    np.ones(len(order)) if rows.sample_weight is None else rows.sample_weight[order]
                    for rows, order, _ in seen
                ]
            )
        return self._measure(y, outputs, weight)

    def _outputs(self, rows: Part, batch_size: int = 4096) -> Array:
        """Compute the outputs of rows, some at a time."""
        if len(rows) == 0:
            return self.model(rows.x(0, 0))
        outputs: Array | None = None
        mapped = MappedFile(rows.rows.x)
        for start in range(0, len(rows), batch_size):
            some = self.model(rows.x(start, start + batch_size))
            if outputs is None:
                outputs = np.empty((len(rows), some.shape[1]), some.dtype)
            outputs[start : start + len(some)] = some
            mapped.release()
        assert outputs is not None
        return outputs

    def _score(self, rows: Part) -> dict[str, float]:
        """Compute the loss and the metrics of the model as it is now."""
        outputs, y, weight = self._outputs(rows), rows.y, rows.weight
        loss = self.loss.weighted_value(outputs, y, weight, mass(self.loss, rows))
        return {"loss": loss} | self._measure(y, outputs, weight)

    def _measure(self, y: Array, outputs: Array, weight: Array | None) -> dict[str, float]:
        return {name: metric(y, outputs, weight) for name, metric in self._metrics.items()}


class _Between:
    """What there is to do now and then between two batches of an epoch."""

    def __init__(self, progress: Progress, mapped: MappedFile) -> None:
        self._progress, self._mapped = progress, mapped
        self._done = 0

    def __call__(self, done: int) -> None:
        self._mapped.release()
        self._progress.step(done - self._done)
        self._done = done


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
