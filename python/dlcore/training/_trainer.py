"""`Trainer`: fits a model to data, epoch by epoch."""

from __future__ import annotations

import math
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import first_of, raised_on_all
from dlcore._common.checks import check_in, check_int, check_positive_int, check_seed
from dlcore.callbacks._averaging import one_average
from dlcore.callbacks._callback import Callback, as_callbacks
from dlcore.callbacks._checkpoint import ModelCheckpoint
from dlcore.callbacks._history import History
from dlcore.callbacks._reduce_lr import ReduceLROnPlateau
from dlcore.functional._activations import sigmoid, softmax
from dlcore.metrics._named import kind_of
from dlcore.training._batches import KEY_STEP, Batches, plan_batch
from dlcore.training._dataset import (
    Subset,
    describe_fault,
)
from dlcore.training._evaluation import outputs_of, score
from dlcore.training._loop import go_on
from dlcore.training._prepared import PreparedFit
from dlcore.training._ranks import become_alike, check_same_rows, fit_together
from dlcore.training._sharding import (
    key_of_rank,
)
from dlcore.training._sources import BATCH_SIZE, Sources
from dlcore.training._step import Diverged, QuickStep, TrainingStep
from dlcore.training._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from os import PathLike

    from dlcore._common.protocols import Optimizer
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential
    from dlcore.optim._schedules import Schedule
    from dlcore.training._prefetch import AugmentedBatches


class Trainer(Sources):
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
    metrics : sequence of str or callable, or mapping of names to them, optional
        What to log beside the loss: names such as "accuracy", "f1" or "r2" (see
        `dlcore.metrics.metric_named`), scikit-learn's scorers, which both count a row of
        ``sample_weight`` 2 twice; or functions ``metric(y_true, outputs) -> float``, called once
        an epoch with all rows and logged under their ``__name__``, a `functools.partial` under
        that of its function and an object under that of its class, or by the names of a mapping.
    seed : int, optional
        Draws the order of the rows, the validation split and what `Dropout` drops. The same seed,
        data and calls give the same result, bit for bit on the same machine.
    accumulate : int
        Batches to an update: k batches of n rows give the update of one batch of k * n rows.
    clip_grad_norm : float, optional
        Largest norm of the gradients of an update (see `dlcore.clip_grad_norm`),
    clip_grad_value : float, optional
        or largest absolute value of their elements (see `dlcore.clip_grad_value`).
    schedule : Schedule, sequence of Schedule or callable, optional
        How the learning rate changes: a schedule such as ``CosineAnnealingLR(50)``, of epochs or of
        iterations; one for each group of the optimizer; `ReduceLROnPlateau`, or a function
        ``schedule(epoch) -> lr``, called before each epoch. Epochs and iterations are counted from 0 over all fits of this trainer. The learning
        rate is logged as "lr", those of further groups as "lr_1" and so on.
    comm : communicator, optional
        Ranks that train together, such as ``mpi4py.MPI.COMM_WORLD``: processes that make the same
        calls. Each is given the same rows and computes its share of every batch; the result has
        the bits of one process, whatever the number of ranks.
    sharded : bool
        Whether each rank is given rows of its own instead, to train and to validate on: as many as
        it has, maybe none. ``batch_size``, at least the number of ranks, is that of all of them
        together; a rank that has no further rows takes part with empty batches. Each update is that
        of the rows of all ranks, which end with the same weights, and so are the losses, the metrics
        and "balanced" weights of classes. See Notes.
    average_every : int, optional
        Let each rank learn by itself from its share of the batches, and take the mean of the
        weights and of the optimizer's state over the ranks after every so many updates and at the
        end of each epoch. Fewer messages: for networks whose step is shorter than one. What is
        assigned at the end of an epoch, None among it, acts from the next one on (post-local SGD).
        See Notes.

    Attributes
    ----------
    history : History
        Of the last fit, up to the last complete epoch.
    log_names : list of str
        What each epoch of the last fit logs.
    active_callbacks : list of Callback
        Those of the last fit.
    first_epoch : int
        The epoch that the last fit began with: not 0 where it went on from a file.

    Notes
    -----
    Where ranks have rows of their own, the gradients and losses are summed over them, weighted as
    those of one batch, before they are clipped and used for the same update on each. What depends on
    a whole batch is computed of a rank's own part: `BatchNorm1d` normalizes by its statistics, as in
    PyTorch's data parallel training, and a loss of one's own is asked for ``reduction="none"``.
    Running statistics are averaged over the ranks at the end of each epoch, weighted by their rows.
    `Dropout` and the order of the rows are drawn by each rank for itself. A metric that needs all
    rows at once, such as a function of one's own, gets those of all ranks, on each of them. A number
    of ranks gives the same bits each time; another number gives other batches.

    In the mean over ranks that learn apart a rank counts by the updates that it has made since the
    last one. It is taken of the parameters that are not frozen, of running averages and statistics
    and of the arrays of the optimizer, which must be a `dlcore.Optimizer`. An epoch logs the mean
    loss of the rows of all ranks, each as its rank saw it; ``log_every`` logs that of a rank's own.

    References
    ----------
    Lin, Stich, Patel, Jaggi: Don't use large mini-batches, use local SGD, 2020.
    """

    def __init__(
        self,
        model: Sequential,
        *,
        loss: str | Loss,
        optimizer: Optimizer | str | None = None,
        callbacks: Sequence[Callback] | None = None,
        metrics: Sequence[str | Callable[[Array, Array], float]]
        | Mapping[str, str | Callable[[Array, Array], float]]
        | None = None,
        seed: int | None = None,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        schedule: Schedule
        | Sequence[Schedule]
        | ReduceLROnPlateau
        | Callable[[int], float]
        | None = None,
        comm: Any = None,
        sharded: bool = False,
        average_every: int | None = None,
    ) -> None:
        self.comm, self.sharded, self.average_every = comm, sharded, average_every
        self.model = model
        self.loss = loss
        self.metrics = metrics
        self.optimizer = "adam" if optimizer is None else optimizer
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
        self._step: TrainingStep | None = None  # of the last fit or batch
        self._quick: QuickStep | None = None  # goes on from the last batch
        self._seed = seed
        seeds = check_seed("Trainer: seed", seed)
        self._shuffle_rng = np.random.default_rng(seeds)
        self._split_seed, layer_seed = seeds.spawn(2)
        self._layer_rng = np.random.default_rng(layer_seed)
        self._batch_key: int | None = None  # of what layers draw in `train_on_batch`

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = BATCH_SIZE,
        steps_per_epoch: int | None = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None = None,
        validation_data: Any = None,
        validation_split: float = 0.0,
        validation_steps: int | None = None,
        validation_freq: int = 1,
        shuffle: bool = True,
        transform: Callable[..., Array] | None = None,
        mix: Callable[..., tuple[Array, Array]] | None = None,
        callbacks: Sequence[Callback] | None = None,
        max_time: float | timedelta | None = None,
        max_iterations: int | None = None,
        log_every: int | None = None,
        resume: str | PathLike[str] | bool | None = None,
        verbose: int | str = "auto",
    ) -> History:
        """Train; a second call goes on where the first ended.

        Parameters
        ----------
        x : ndarray of shape (N, in_features)
            Rows to learn from, of the model's dtype; `numpy.memmap` for more of them than fit the
            memory; a matrix of `scipy.sparse`, or one with the attributes of its CSR matrices, which
            a `Linear` first layer reads without making it dense;
            with ``transform`` numbers of any dtype, of which it makes the model's. Or, without y,
            an iterable of batches (x, y) or (x, y, sample_weight), which every epoch goes through
            anew, in its order: ``batch_size`` and ``shuffle`` are for arrays.
        y : ndarray of shape (N,) or (N, out_features)
            Class indices of any integer dtype for cross-entropy; otherwise values of the model's
            dtype and the outputs' shape, where (N,) is taken for (N, 1).
        epochs : int
            Passes over the rows, unless a callback or a limit stops earlier; with 0 the model stays
            as it is, and the history is empty.
        batch_size : int
            Rows of a mini-batch; the last one may be shorter.
        steps_per_epoch : int, optional
            Batches of an epoch, of an iterable that may be endless. The next epoch goes on with the
            batches that follow, and from the first one on when there are no more.
        sample_weight : ndarray of shape (N,), optional
            Weights of the rows, of any real dtype. The loss of a batch is
            ``sum(weight * loss) / sum(weight)``. A row of weight 0 has a place in a batch, but is
            left out there, whatever it holds.
        class_weight : mapping, array or "balanced", optional
            Weights of the classes in training, which multiply ``sample_weight``: a dict such as
            ``{0: 1.0, 1: 5.0}``, 1 for a class it does not name, an array with one for each, or
            "balanced" for ``N / (classes * rows of the class)``.
        validation_data : (x, y), (x, y, sample_weight) or an iterable of these, optional
            Rows to validate on after each epoch, or batches of them.
        validation_split : float
            Share of the rows to validate on instead, drawn at random. Fits of one trainer on
            equally many rows hold out the same ones.
        validation_steps : int, optional
            Batches to validate on, of an iterable that may be endless.
        validation_freq : int
            Validate after every so many epochs: the k-th, the 2k-th and so on. The others log
            nothing of it, and callbacks that monitor a value of it do not look at them.
        shuffle : bool
            Whether each epoch goes through the rows in a new random order; otherwise the batches
            are consecutive rows.
        transform : callable, optional
            ``transform(batch, rng) -> batch`` changes x of each batch, a copy of shape (n, features),
            to one of the same shape and the model's dtype: data augmentation. It runs in other threads ahead
            of the training, with a random generator of the batch's own, drawn by the seed.
        mix : callable, optional
            ``mix(x, y, rng) -> (x, y)``, after it, such as `dlcore.mixup`. Class indices come as
            class probabilities of shape (n, classes).
        callbacks : sequence of Callback, optional
            Called in this fit, after those of the trainer.
        max_time : float or timedelta, optional
            Seconds after which the fit ends, within an epoch, too: about a tenth of a second or one
            batch later. The epoch is logged as far as it went, and validated.
        max_iterations : int, optional
            Iterations (updates) after which it ends so.
        log_every : int, optional
            Log the mean loss of every so many iterations (updates) as well, in
            ``history.iterations``, and show it unless ``verbose`` is 0.
        resume : path or True, optional
            Go on with the fit whose state is in this file, of `ModelCheckpoint` or `save`, to the
            bits of one that was never cut off; True takes the newest file of the `ModelCheckpoint`
            among the callbacks. ``epochs`` and ``max_iterations`` count from the first fit's
            beginning then, and the history is of the whole. Where the `ModelCheckpoint` of this fit
            has not written yet, the fit begins: the same call starts and resumes.
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
            x, y or an option is not as described, or not that of the fit to resume; nothing was
            changed.
        FloatingPointError
            The training diverged: the loss, the gradient or the parameters became NaN or
            infinite. The model has its parameters from before that step, or those of the best epoch
            if `EarlyStopping` restores them. The message names the row and the column where x or y
            of that batch hold NaN or an infinity.
        KeyboardInterrupt
            Ctrl-C ends the fit between two operations; the model can be used or trained on, has
            the parameters of the best epoch if `EarlyStopping` restores them, and
            ``trainer.history`` has the complete epochs.
        """
        prepare = partial(
            self._prepare,
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            sample_weight=sample_weight,
            class_weight=class_weight,
            validation_data=validation_data,
            validation_split=validation_split,
            validation_steps=validation_steps,
            validation_freq=validation_freq,
            shuffle=shuffle,
            transform=transform,
            mix=mix,
            callbacks=callbacks,
            max_time=max_time,
            max_iterations=max_iterations,
            log_every=log_every,
            resume=resume,
            verbose=verbose,
        )
        if self._others is not None:
            return fit_together(self, self._others, prepare)
        return prepare().run()

    def _prepare(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = BATCH_SIZE,
        validation_freq: int = 1,
        validation_data: Any = None,
        validation_split: float = 0.0,
        shuffle: bool = True,
        callbacks: Sequence[Callback] | None = None,
        max_time: float | timedelta | None = None,
        max_iterations: int | None = None,
        log_every: int | None = None,
        resume: str | PathLike[str] | bool | None = None,
        verbose: int | str = "auto",
        rows: Array | None = None,
        validation_rows: Array | None = None,
        **options: Any,
    ) -> PreparedFit:
        """Check what `fit` is given; change nothing.

        ``rows`` are indices of the rows of x and y to train on, by default all, and
        ``validation_rows`` of those to validate on. A fit on them has the bits of one on copies.
        """
        if self._ranks is None and (self.sharded or self.average_every is not None):
            raise ValueError("sharded and average_every need comm, the ranks that train together")
        epochs = check_int("epochs", epochs, least=0)
        check_positive_int("batch_size", batch_size)
        check_positive_int("validation_freq", validation_freq)
        if type(validation_split) is not float or validation_split:  # the default needs no check
            validation_split = check_in("validation_split", validation_split, "[0, 1)")
        if log_every is not None:
            check_positive_int("log_every", log_every)
        source, validation = self._sources(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            validation_split=validation_split,
            index=rows,
            validation_index=validation_rows,
            **options,
        )
        if validation_freq != 1 and validation is None:
            raise ValueError("validation_freq needs validation_data or validation_split")
        watchers = as_callbacks(self.callbacks) + as_callbacks(callbacks)
        if self._learning_rates.schedule is not None and _reduces(watchers):
            raise ValueError("schedule sets the learning rate, ReduceLROnPlateau cannot reduce it")
        average = one_average(watchers)
        resumed = None if resume is None else self._read_resumed(resume, watchers)
        setup = None
        if resume is not None or (watchers and _saves(watchers)):
            weighted = options.get("sample_weight") is not None
            setup = self._setup(
                source,
                batch_size=batch_size,
                steps_per_epoch=options.get("steps_per_epoch"),
                sample_weight=weighted,
                class_weight=options.get("class_weight"),
                validation=validation is not None,
                validation_split=validation_split,
                validation_freq=validation_freq,
                shuffle=shuffle,
                transform=options.get("transform"),
                mix=options.get("mix"),
                **({} if rows is None else {"rows to train on": zlib.crc32(rows.tobytes())}),
            )
        if resumed is not None and setup is not None:
            self._check_resumed(resumed, setup, watchers)
        return PreparedFit(
            trainer=self,
            source=source,
            validation=validation,
            epochs=epochs,
            steps=options.get("steps_per_epoch") if isinstance(source, Stream) else len(source),
            validation_freq=validation_freq,
            validation_goes_on=options.get("validation_steps") is not None,
            shuffle=shuffle,
            watchers=watchers,
            average=average,
            log_names=self._names_of_logs(watchers, validation is not None),
            limits={"max_time": max_time, "max_iterations": max_iterations},
            log_every=log_every,
            setup=setup,
            resumed=resumed,
            verbose=verbose,
        )

    def _training_step(self, average: tuple[Array, float] | None) -> TrainingStep:
        """Return the step of all fits, described anew if anything has been changed."""
        options: dict[str, Any] = {
            "accumulate": self.accumulate > 1,
            "max_norm": self.clip_grad_norm,
            "clip_value": self.clip_grad_value,
            "average": average,
            "shared": self._shared_work(),
        }
        step, self._quick = self._step, None
        if step is None or not step.is_of(self.model, self.loss):
            step = self._step = TrainingStep(self.model, self.loss, self.optimizer, **options)
        else:
            step.refresh(optimizer=self.optimizer, **options)
            step.forget()
        return step

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Learn from one batch: forward, loss, back and update in one native step.

        It is a step of `fit` on these rows, with the trainer's loss, optimizer, clipping and
        schedule of iterations, for loops of one's own. It logs nothing: metrics, the history and
        callbacks belong to fits. Ranks make the same calls, from the weights and draws of rank 0 on,
        with the same rows or, where they are sharded, those of each.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`, of one batch.

        Returns
        -------
        float
            The mean loss of the batch before the update.

        Raises
        ------
        ValueError
            ``accumulate`` is more than 1, which needs the batches of a fit, or the schedule is one
            of epochs.
        TypeError, ValueError, IndexError
            x, y or sample_weight is not as described; nothing was changed.
        FloatingPointError
            The loss, the gradient or the parameters became NaN or infinite; nothing was changed.
        """
        quick = self._quick  # which ranks that train together do not have
        if quick is None and self._others is not None and not self._is_alike:
            become_alike(self, self._others)
        key = self._next_batch_key()
        if quick is not None and sample_weight is None:
            loss = quick(x, y, key)
            if loss is not None:
                return loss
        return self._learn_from(x, y, sample_weight, key)

    def _next_batch_key(self) -> int:
        """Return what draws what layers draw in the next batch."""
        if self._batch_key is None:
            self._batch_key = int(self._layer_rng.integers(2**63))
        key = self._batch_key
        self._batch_key = key + KEY_STEP & 2**64 - 1
        return key

    def _learn_from(self, x: Any, y: Any, sample_weight: Any, key: int) -> float:
        """Learn from a batch after a close look at everything."""
        if self._source is not None:
            raise RuntimeError("Trainer: train_on_batch cannot be called while a fit is under way")
        rates = self._learning_rates
        if self.accumulate > 1:
            raise ValueError(
                f"train_on_batch updates after each batch, but accumulate={self.accumulate}: "
                f"give it the rows of an update at once, or fit"
            )
        if rates.lasts_epochs:
            raise ValueError(
                "train_on_batch has no epochs for the schedule to count: use one of iterations "
                "(per='iteration'), or set optimizer.lr"
            )
        shards = self._shards
        if self._means_every is not None:
            raise ValueError(
                "average_every is for fits: train_on_batch takes no means over the ranks"
            )
        with raised_on_all(self._others):
            rows = self._check_rows(x, y, sample_weight)
        if self._others is not None and shards is None:
            check_same_rows(self._others, rows)
        plan = plan_batch(
            self.loss, rows, key if shards is None else key_of_rank(key, shards), shards
        )
        if shards is not None and not plan.normalizers[0] > 0:
            raise ValueError("no row of the batch counts on any rank")
        with self.model._in_training():
            step = self._training_step(None)
            losses, lrs = np.zeros(1), rates.of_updates(1)
            try:
                updates = step.run(
                    plan,
                    losses=losses,
                    lrs=lrs,
                    outputs=None,
                    seconds=math.inf,
                    between=go_on,
                )
            except Diverged as error:
                fault = first_of(shards, describe_fault(self.loss, rows, plan.order))
                raise FloatingPointError(
                    f"{fault or 'the training diverged'}: {error}; the step was undone"
                ) from None
            rates.end_updates(updates, lrs)
        is_plain = rates.schedule is None and self._others is None
        self._quick = step.quick_step() if is_plain else None
        return float(losses[0])

    def training_inputs(self) -> Iterator[Array]:
        """Give x of the rows that the fit under way trains on, some at a time: for callbacks."""
        if self._source is None:
            raise RuntimeError("training_inputs() is for callbacks: there is no fit under way")
        return self._source.inputs()

    def predict(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the outputs of the model, such as logits, ``batch_size`` rows at a time.

        x are rows as in `fit`, or an iterable of batches of them: x alone, or (x, y) as in `fit`.
        """
        check_positive_int("batch_size", batch_size)
        return outputs_of(self.model, x, batch_size)

    def predict_proba(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the probabilities that the outputs stand for.

        Those of the classes, the softmax of the outputs, for a loss of one of several classes; that
        of yes for each output, the sigmoid, for a loss of yes-or-no outputs. Of the shape of the
        outputs.

        Raises
        ------
        ValueError
            The loss is for values, or for several targets.
        """
        kind = kind_of(self.loss)
        if kind == "values":
            raise ValueError(
                f"predict_proba needs a loss for classes, not {type(self.loss).__name__}"
            )
        outputs = self.predict(x, batch_size=batch_size)
        return softmax(outputs, out=outputs) if kind == "classes" else sigmoid(outputs, out=outputs)

    def evaluate(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, steps: int | None = None
    ) -> dict[str, float]:
        """Compute the loss and the metrics on these rows, by name.

        Block by block: no more of the outputs is kept than what a metric needs of all rows at once,
        such as a function of your own. Rows of weight 0 are left out.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`; or x alone, an iterable of batches (x, y) or (x, y, sample_weight).
        steps : int, optional
            Batches of the iterable to take, by default all.
        """
        data: Iterable[Subset]
        shards = self._shards
        with raised_on_all(shards):
            if y is None:
                if sample_weight is not None:
                    raise ValueError("sample_weight needs x and y as arrays")
                data = self._counted_batches(x, "x", steps, "steps")()
            elif steps is not None:
                raise ValueError("steps is for an iterable of batches; x and y are arrays")
            else:
                data = [self._check_rows(x, y, sample_weight).counted()]
        return score(self.model, self.loss, self._metrics, data, shards)

    def _names_of_logs(self, watchers: list[Callback], has_validation: bool) -> list[str]:
        scores = ["loss", *self._metrics]
        has_lr = self._learning_rates.schedule is not None or _reduces(watchers)
        names = scores + (self._learning_rates.log_names if has_lr else [])
        return names + ([f"val_{name}" for name in scores] if has_validation else [])


def _saves(callbacks: list[Callback]) -> bool:
    return any(isinstance(callback, ModelCheckpoint) for callback in callbacks)


def _reduces(callbacks: list[Callback]) -> bool:
    return any(isinstance(callback, ReduceLROnPlateau) for callback in callbacks)
