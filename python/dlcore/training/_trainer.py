"""`Trainer`: fits a model to data, epoch by epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_matrix
from dlcore._common.checks import check_int, check_positive_int
from dlcore.callbacks._averaging import one_average
from dlcore.callbacks._callback import Callback, as_callbacks
from dlcore.callbacks._history import History
from dlcore.callbacks._reduce_lr import ReduceLROnPlateau
from dlcore.training._batches import Batches, BatchPlan
from dlcore.training._configuration import Configured
from dlcore.training._dataset import (
    Dataset,
    MappedFile,
    Subset,
    check_rows,
    hold_out,
    loss_weights,
    weigh_classes,
)
from dlcore.training._loop import run_batches, run_epochs
from dlcore.training._prefetch import AugmentedBatches, check_mixable
from dlcore.training._progress import IterationLog, Progress
from dlcore.training._settings import loss_settings
from dlcore.training._step import Diverged, TrainingStep
from dlcore.training._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from dlcore._common.protocols import Optimizer
    from dlcore._common.typing import Array
    from dlcore.callbacks._averaging import ExponentialMovingAverage
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential
    from dlcore.optim._schedules import Schedule


class Trainer(Configured):
    """Fits a model, and predicts and evaluates with it.

    Parameters
    ----------
    model : Sequential
        The model, trained in place.
    loss : str or Loss
        What to minimize: "cross_entropy", "bce_with_logits", "mse", "l1", "huber", "smooth_l1"
        (or the name of the kernel in full), or an object such as
        ``CrossEntropyLoss(label_smoothing=0.1)``.
    optimizer : optimizer or str, optional
        Made of ``model.parameters()`` or of some of them; or "adam" (the default), "adamw" or
        "sgd" with its default options.
    callbacks : sequence of Callback, optional
        Called in every fit, in this order.
    metrics : sequence of str or callable, optional
        What to log beside the loss: names such as "accuracy", "f1" or "r2" (see
        `dlcore.metrics.metric_named`), scikit-learn's scorers, which both count a row of
        ``sample_weight`` 2 twice; or functions ``metric(y_true, outputs) -> float``, called once
        an epoch with all rows and logged under their ``__name__``.
    seed : int, optional
        Draws the order of the rows, the validation split and what `Dropout` drops. The same seed,
        data and calls give the same result, bit for bit on the same machine.
    accumulate : int
        Batches to an update: k batches of n rows give the update of one batch of k * n rows.
    clip_grad_norm : float, optional
        Largest norm of the gradients of an update (see `dlcore.clip_grad_norm`),
    clip_grad_value : float, optional
        or largest absolute value of their elements (see `dlcore.clip_grad_value`).
    schedule : Schedule or callable, optional
        How the learning rate changes: a schedule such as ``CosineAnnealingLR(50)``, of epochs or of
        iterations, `ReduceLROnPlateau`, or a function ``schedule(epoch) -> lr``, called before each
        epoch. Epochs and iterations are counted from 0 over all fits of this trainer. The learning
        rate is logged as "lr", those of further groups as "lr_1" and so on.

    Attributes
    ----------
    history : History
        Of the last fit, up to the last complete epoch.
    log_names : list of str
        What each epoch of the last fit logs.
    active_callbacks : list of Callback
        Those of the last fit.
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
        clip_grad_value: float | None = None,
        schedule: Schedule | ReduceLROnPlateau | Callable[[int], float] | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.metrics = metrics
        self.optimizer = optimizer or "adam"
        self.callbacks = callbacks
        if isinstance(schedule, ReduceLROnPlateau):
            self.callbacks.append(schedule)
            schedule = None
        self.schedule = schedule
        self.accumulate = accumulate
        self.clip_grad_norm = clip_grad_norm
        self.clip_grad_value = clip_grad_value
        self.history: History = History()
        self.log_names: list[str] = []
        self.active_callbacks: list[Callback] = []
        self._source: Batches | Stream | AugmentedBatches | None = None
        self._seed = seed
        seeds = np.random.SeedSequence(seed)
        self._shuffle_rng = np.random.default_rng(seeds)
        self._split_seed, layer_seed = seeds.spawn(2)
        self._layer_rng = np.random.default_rng(layer_seed)

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = 32,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        validation_freq: int = 1,
        shuffle: bool = True,
        transform: Callable[..., Array] | None = None,
        mix: Callable[..., tuple[Array, Array]] | None = None,
        callbacks: Sequence[Callback] | None = None,
        max_time: float | timedelta | None = None,
        max_steps: int | None = None,
        log_every: int | None = None,
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
            Passes over the rows, unless a callback or a limit stops earlier; with 0 the model stays
            as it is, and the history is empty.
        batch_size : int
            Rows of a mini-batch; the last one may be shorter.
        sample_weight : ndarray of shape (N,), optional
            Weights of the rows, of any real dtype. The loss of a batch is
            ``sum(weight * loss) / sum(weight)``.
        class_weight : mapping, array or "balanced", optional
            Weights of the classes in training, which multiply ``sample_weight``: a dict such as
            ``{0: 1.0, 1: 5.0}``, 1 for a class it does not name, an array with one for each, or
            "balanced" for ``N / (classes * rows of the class)``.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Rows to validate on after each epoch.
        validation_split : float
            Share of the rows to validate on instead, drawn at random. Fits of one trainer on
            equally many rows hold out the same ones.
        validation_freq : int
            Validate after every so many epochs: the k-th, the 2k-th and so on. The others log
            nothing of it, and callbacks that monitor a value of it do not look at them.
        shuffle : bool
            Whether each epoch goes through the rows in a new random order; otherwise the batches
            are consecutive rows.
        transform : callable, optional
            ``transform(batch, rng) -> batch`` changes x of each batch, a copy of shape (n, features),
            to one of the same shape and dtype: data augmentation. It runs in other threads ahead
            of the training, with a random generator of the batch's own, drawn by the seed.
        mix : callable, optional
            ``mix(x, y, rng) -> (x, y)``, after it, such as `dlcore.mixup`. Class indices come as
            class probabilities of shape (n, classes).
        callbacks : sequence of Callback, optional
            Called in this fit, after those of the trainer.
        max_time : float or timedelta, optional
            Seconds after which the fit ends, within an epoch, too: about a tenth of a second or one
            batch later. The epoch is logged as far as it went, and validated.
        max_steps : int, optional
            Iterations (updates) after which it ends so.
        log_every : int, optional
            Log the mean loss of every so many iterations (updates) as well, in
            ``history.iterations``, and show it unless ``verbose`` is 0.
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
            infinite. The model has its parameters from before that step, or those of the best epoch
            if `EarlyStopping` restores them.
        KeyboardInterrupt
            Ctrl-C ends the fit between two operations; the model can be used or trained on, has
            the parameters of the best epoch if `EarlyStopping` restores them, and
            ``trainer.history`` has the complete epochs.
        """
        epochs = check_int("epochs", epochs, least=0)
        check_positive_int("batch_size", batch_size)
        check_positive_int("validation_freq", validation_freq)
        if log_every is not None:
            check_positive_int("log_every", log_every)
        source: Batches | Stream | AugmentedBatches
        if y is None:
            steps = None
            if transform is not None or mix is not None:
                raise ValueError(
                    "transform and mix need x and y as arrays; an iterable can change its batches"
                )
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
            if transform is not None or mix is not None:
                classes = self.loss.classes(self.model.out_features or rows.x.shape[1])
                if mix is not None:
                    check_mixable(self.loss, rows.y)
                source = AugmentedBatches(source, self.loss, classes, transform, mix)
            steps = len(source)
        if validation_freq != 1 and validation is None:
            raise ValueError("validation_freq needs validation_data or validation_split")
        watchers = as_callbacks(self.callbacks) + as_callbacks(callbacks)
        if self._learning_rates.schedule is not None and _reduces(watchers):
            raise ValueError("schedule sets the learning rate, ReduceLROnPlateau cannot reduce it")
        average = one_average(watchers)
        with self.model._in_training():
            step = TrainingStep(
                self.model,
                self.loss,
                self.optimizer,
                accumulate=self.accumulate > 1,
                max_norm=self.clip_grad_norm,
                clip_value=self.clip_grad_value,
                average=None if average is None else (average.begin(self.model), average.decay),
            )
            progress = Progress(verbose, epochs=epochs, steps=steps)
            names = self._names_of_logs(watchers, validation is not None)
            self._open(watchers, names, max_time=max_time, max_steps=max_steps)
            log = IterationLog(self.history, progress, log_every)
            self._source = source
            work = _Epochs(
                self, source, step, validation, validation_freq, shuffle, progress, log, average
            )
            try:
                # Threads that change batches end with the fit, however it ends.
                with source if isinstance(source, AugmentedBatches) else nullcontext(), progress:
                    run_epochs(self, work, epochs, self._learning_rates, average)
                    if (last := self.history.stopped_epoch) is not None:
                        progress.say(f"stopped after epoch {last + 1}: {self.history.reason}")
            finally:
                self._source = None
        return self.history

    def training_inputs(self) -> Iterator[Array]:
        """Give x of the rows that the fit under way trains on, some at a time: for callbacks."""
        if self._source is None:
            raise RuntimeError("training_inputs() is for callbacks: there is no fit under way")
        return self._source.inputs()

    def predict(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the outputs of the model, such as logits, ``batch_size`` rows at a time."""
        check_positive_int("batch_size", batch_size)
        x = as_matrix(x, "x", self.model.dtype, self.model.in_features)
        if len(x) <= batch_size:
            return self.model(x)
        return self._outputs(Subset(Dataset(x, x)), batch_size)

    def evaluate(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Compute the loss and the metrics on these rows, by name."""
        return self._score(Subset(check_rows(self.model, self.loss, x, y, sample_weight)))

    def _stream(
        self,
        source: Any,
        sample_weight: Any,
        class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None,
        validation_data: tuple[Any, ...] | None,
        validation_split: float,
    ) -> tuple[Stream, Subset | None]:
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
        if isinstance(class_weight, str):
            raise ValueError(  # noqa: TRY004 - "balanced" is right for arrays
                "for an iterable of batches class_weight must be a dict or an array"
            )

        def check(x: Any, y: Any, weight: Any = None, prefix: str = "") -> Dataset:
            rows = check_rows(self.model, self.loss, x, y, weight, prefix)
            index = np.arange(len(rows.x))
            return weigh_classes(self.model, self.loss, rows, index, class_weight)

        validation = None
        if validation_data is not None:
            x, y, weight = (*validation_data, None)[:3]
            validation = Subset(check_rows(self.model, self.loss, x, y, weight, "validation "))
        return Stream(self.loss, source, check, self.accumulate), validation

    def _names_of_logs(self, watchers: list[Callback], has_validation: bool) -> list[str]:
        scores = ["loss", *self._metrics]
        has_lr = self._learning_rates.schedule is not None or _reduces(watchers)
        names = scores + (self._learning_rates.log_names if has_lr else [])
        return names + ([f"val_{name}" for name in scores] if has_validation else [])

    def _train(
        self,
        epoch: int,
        plans: Iterable[BatchPlan],
        step: TrainingStep,
        log: IterationLog,
    ) -> tuple[dict[str, float], int]:
        """Train one epoch; return its loss and metrics before each update, and its number of batches."""
        total = weight = 0.0
        batches = 0
        watch = self._watch
        measured: list[tuple[Dataset, Array, Array]] = []  # data, rows of it and outputs
        for plan in plans:
            outputs = None
            if self._metrics:
                outputs = np.empty((len(plan.order), step.width_of(plan.rows)), self.model.dtype)
                measured.append((plan.rows, plan.order, outputs))
            try:
                losses = run_batches(
                    step, plan, self._learning_rates, log, watch=watch, outputs=outputs
                )
            except Diverged as error:
                raise FloatingPointError(
                    f"the training diverged in epoch {epoch + 1}, "
                    f"step {batches + error.batch + 1}: {error}; that step was undone"
                ) from None
            batches += len(losses)
            normalizers = plan.normalizers[: len(losses)]
            total += float((losses * normalizers).sum())
            weight += float(normalizers.sum())
            if len(losses) < len(plan) and measured:
                rows, order, outputs = measured.pop()
                done = len(losses) * plan.batch_size
                measured += [(rows, order[:done], outputs[:done])] if done else []
            if watch.ends(log):
                break
        logs = {"loss": total / weight if weight else math.nan}
        return (logs | self._measure_all(measured) if measured else logs), batches

    def _measure_all(self, measured: list[tuple[Dataset, Array, Array]]) -> dict[str, float]:
        """Measure the outputs of an epoch."""
        y = np.concatenate([rows.y[order] for rows, order, _ in measured])
        outputs = np.concatenate([outputs for *_, outputs in measured])
        weight = None
        if any(rows.sample_weight is not None for rows, *_ in measured):
            weight = np.concatenate(
                [
                    np.ones(len(order)) if rows.sample_weight is None else rows.sample_weight[order]
                    for rows, order, _ in measured
                ]
            )
        return self._measure(y, outputs, weight)

    def _outputs(self, rows: Subset, batch_size: int = 4096) -> Array:
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

    def _score(self, rows: Subset) -> dict[str, float]:
        """Compute the loss and the metrics of the model as it is now."""
        outputs, y, weight = self._outputs(rows), rows.y, rows.weight
        loss = self.loss.weighted_value(outputs, y, weight, loss_weights(self.loss, rows))
        return {"loss": loss} | self._measure(y, outputs, weight)

    def _measure(self, y: Array, outputs: Array, weight: Array | None) -> dict[str, float]:
        return {name: metric(y, outputs, weight) for name, metric in self._metrics.items()}


class _Epochs:
    """The epochs of a trainer's fit."""

    def __init__(
        self,
        trainer: Trainer,
        source: Batches | Stream | AugmentedBatches,
        step: TrainingStep,
        validation: Subset | None,
        validation_freq: int,
        shuffle: bool,
        progress: Progress,
        log: IterationLog,
        average: ExponentialMovingAverage | None,
    ) -> None:
        self._trainer, self._source, self._step = trainer, source, step
        self._validation, self._validation_freq = validation, validation_freq
        self._shuffle = shuffle
        self._progress, self._log = progress, log
        self._average = average
        self._callbacks = list(trainer.callbacks)
        self._loss_settings = loss_settings(trainer.loss)
        self._epoch = self._batches = 0
        self._began = 0.0

    def train(self, epoch: int) -> dict[str, float]:
        trainer = self._trainer
        self._epoch, self._began = epoch, time.perf_counter()
        self._take_changes()
        self._progress.begin_epoch(epoch)
        plans = self._source.epoch(
            trainer._shuffle_rng if self._shuffle else None,
            int(trainer._layer_rng.integers(2**63)),
        )
        logs, self._batches = trainer._train(epoch, plans, self._step, self._log)
        return logs | (trainer._learning_rates.logs() if "lr" in trainer.log_names else {})

    def _take_changes(self) -> None:
        """Take over what callbacks have changed."""
        trainer, average = self._trainer, self._average
        if trainer.callbacks != self._callbacks:
            raise RuntimeError("Trainer: callbacks cannot be changed while a fit is under way")
        self._source.accumulate = trainer.accumulate
        if (now := loss_settings(trainer.loss)) != self._loss_settings:
            self._loss_settings = now
            self._source.weigh()
        self._step.refresh(
            optimizer=trainer.optimizer,
            accumulate=trainer.accumulate > 1,
            max_norm=trainer.clip_grad_norm,
            clip_value=trainer.clip_grad_value,
            average=None if average is None else (self._step.average, average.decay),
        )

    def validate(self) -> dict[str, float]:
        if self._validation is None or (self._epoch + 1) % self._validation_freq:
            return {}
        scores = self._trainer._score(self._validation)
        return {f"val_{name}": value for name, value in scores.items()}

    def counts(self, epoch: int) -> dict[str, int]:  # noqa: ARG002
        return {"batches": self._batches, "iteration": self._log.iteration}

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        self._progress.end_epoch(epoch, logs, time.perf_counter() - self._began)

    def has_converged(self) -> bool:
        return False


def _reduces(callbacks: list[Callback]) -> bool:
    return any(isinstance(callback, ReduceLROnPlateau) for callback in callbacks)
