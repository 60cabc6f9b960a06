"""`fit_many`: independent trainers, each of which fits as it would alone."""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_choice, check_instance, check_several, is_several
from dlcore.callbacks._callback import as_callbacks
from dlcore.callbacks._checkpoint import ModelCheckpoint
from dlcore.callbacks._loggers import CSVLogger, JSONLogger, TensorBoard
from dlcore.many._workers import run_jobs
from dlcore.nn._chains import leaves_of
from dlcore.training._progress import Progress
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dlcore._common.typing import Array
    from dlcore.callbacks._callback import Callback
    from dlcore.callbacks._history import History

__all__ = ["Histories", "fit_many"]

# What writes to one place that all members would share.
_WRITERS = (ModelCheckpoint, CSVLogger, JSONLogger, TensorBoard)


class Histories(list["History"]):
    """The histories of many fits, in the order of their trainers.

    Attributes
    ----------
    errors : dict of int to Exception
        What ended the fit of a member, by its index, where the others went on.
    """

    def __init__(self, histories: Iterable[History], errors: dict[int, Exception]) -> None:
        super().__init__(histories)
        self.errors = errors

    def values(self, name: str) -> Array:
        """Return a log of each member: its value in the best epoch where a callback kept track.

        Otherwise that of the last epoch; NaN where there is none, and where the fit failed.

        Parameters
        ----------
        name : str
            Such as "val_loss".

        Returns
        -------
        ndarray of float64, shape (members,)
        """
        return np.array(
            [math.nan if i in self.errors else _value(own, name) for i, own in enumerate(self)]
        )


def fit_many(
    trainers: Sequence[Trainer],
    x: Any,
    y: Any,
    *,
    epochs: int | Sequence[int],
    batch_size: int | Sequence[int] = 32,
    rows: Sequence[Any] | None = None,
    validation_rows: Sequence[Any] | None = None,
    callbacks: Sequence[Callback] | None = None,
    on_error: str = "raise",
    workers: int | None = None,
    verbose: int | str = "auto",
    **options: Any,
) -> Histories:
    """Fit many trainers at once, each on one thread: the members of an ensemble, folds, candidates.

    Each has its own model, optimizer, rates, dropout, seed and callbacks, and ends with exactly the
    bits that it has alone, whatever the number of threads. A small network keeps one core busy and
    no more, so that many of them take about the time of all divided by the number of cores.

    Parameters
    ----------
    trainers : sequence of Trainer
        They share no model, layer, optimizer or callback.
    x, y : ndarray
        The rows of all, as `Trainer.fit` takes them; they are not copied.
    epochs, batch_size : int or sequence of int
        As in `Trainer.fit`, of all or of each trainer.
    rows, validation_rows : sequence of ndarray, optional
        For each trainer the indices of the rows that it learns from, in this order where it does not
        shuffle, and may be some several times; and of those that it validates on. Or masks of
        shape (N,). None for all rows, and for no such validation.
    callbacks : sequence of Callback, optional
        Each trainer is given copies of its own, after its own callbacks.
    on_error : {"raise", "continue"}
        What happens where a fit fails, such as by divergence: the others are stopped and the error
        is raised; or they go on, and the error is in ``errors`` of what is returned.
    workers : int, optional
        How many fit at a time, by default `get_num_threads`. Those that fit share these threads.
    verbose : {"auto", 0, 1, 2}
        0 shows nothing, 2 a line a member when it has ended, 1 a progress bar of all epochs as well
        (with tqdm); "auto" is 1 on a terminal and 2 elsewhere.
    **options
        Further ones of `Trainer.fit`, the same for all: ``sample_weight``, ``class_weight``,
        ``validation_data``, ``validation_split``, ``validation_freq``, ``shuffle``, ``transform``,
        ``mix``, ``max_time``, ``max_iterations``, ``log_every``.

    Returns
    -------
    Histories
        A list of the `History` of each.

    Raises
    ------
    TypeError, ValueError, IndexError
        Something is not as described; no member has begun. A note of the error names the member.
    Exception
        That of the first member that failed, with ``on_error="raise"``. All members stop within half
        a second and can be used: each has what it has learned up to then, the parameters of the best
        epoch if `EarlyStopping` restores them, and its complete epochs in ``trainer.history``.
    KeyboardInterrupt
        Ctrl-C stops all of them so.

    Notes
    -----
    A loss, an optimizer, a metric or a callback of your own is called by several threads, one call
    at a time for each member. Members on rows of their own need no copies of x, only an index a row.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    >>> def make(seed, lr):
    ...     model = dl.Sequential(dl.Linear(4, 16), dl.ReLU(), dl.Linear(16, 2), seed=seed)
    ...     optimizer = dl.Adam(model.parameters(), lr=lr)
    ...     return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed)
    >>> trainers = [make(seed, 1e-3 * 2**seed) for seed in range(4)]
    >>> histories = dl.fit_many(trainers, x, y, epochs=5, validation_split=0.2, verbose=0)
    >>> len(histories), len(histories[0]["val_loss"])
    (4, 5)
    """
    members = _checked_trainers(trainers)
    count = len(members)
    check_choice("fit_many: on_error", on_error, ("raise", "continue"))
    refused = {"resume", "steps_per_epoch", "validation_steps"} & options.keys()
    if refused:
        raise TypeError(f"fit_many takes no {', '.join(sorted(refused))}: Trainer.fit does")
    if y is None:
        raise TypeError("fit_many needs x and y as arrays, which all members read")
    all_epochs, sizes = _each("epochs", epochs, count), _each("batch_size", batch_size, count)
    of_rows = _indices("rows", rows, count, x)
    of_validation = _indices("validation_rows", validation_rows, count, x)
    given = as_callbacks(callbacks)
    for callback in given:
        if isinstance(callback, _WRITERS):
            raise ValueError(  # noqa: TRY004 - it is right for a trainer
                f"fit_many: a copy of {callback!r} for each member would write to one place: give "
                f"each trainer its own"
            )
    fits = []
    for i, trainer in enumerate(members):
        try:
            fits.append(
                trainer._prepare(
                    x,
                    y,
                    epochs=all_epochs[i],
                    batch_size=sizes[i],
                    rows=of_rows[i],
                    validation_rows=of_validation[i],
                    callbacks=copy.deepcopy(given),
                    verbose=0,
                    **options,
                )
            )
        except Exception as error:
            error.add_note(f"in member {i} of {count}")
            raise
    show = _Progress(verbose, members, [fit.epochs for fit in fits])
    with show.progress:
        errors = run_jobs(
            [fit.run for fit in fits],
            workers=workers,
            stops=on_error == "raise",
            ended=show.end,
            look=show.look,
        )
    if errors and on_error == "raise":
        ((i, failure),) = errors.items()
        failure.add_note(f"in member {i} of {count}; the others were stopped")
        raise failure
    return Histories([trainer.history for trainer in members], errors)


class _Progress:
    """The lines of members, and the bar of all their epochs."""

    def __init__(self, verbose: int | str, trainers: list[Trainer], epochs: list[int]) -> None:
        self.progress = Progress(verbose, epochs=sum(epochs), steps=1, name="members")
        self._trainers, self._epochs = trainers, epochs
        self._begin = time.perf_counter()
        self._shown = 0
        self._over = 0  # epochs of members that have ended before their last
        self._before = [trainer.history for trainer in trainers]  # of other fits

    def look(self) -> None:
        """Move the bar."""
        done = self._over
        for trainer, before in zip(self._trainers, self._before, strict=True):
            if trainer.history is not before:
                done += len(trainer.history.epoch)
        self.progress.step(done - self._shown)
        self._shown = done

    def end(self, member: int, error: Exception | None) -> None:
        """Show the line of a member."""
        history, count = self._trainers[member].history, len(self._trainers)
        epochs = 0 if history is self._before[member] else len(history.epoch)
        self._over += self._epochs[member] - epochs
        self.look()
        names = [name for name in ("loss", "val_loss") if name in history]
        values = "".join(f"  {name} {_value(history, name):.4g}" for name in names)
        seconds = time.perf_counter() - self._begin
        failed = "" if error is None else f"  failed: {type(error).__name__}: {error}"
        number = f"{member + 1:>{len(str(count))}}/{count}"
        self.progress.say(f"member {number}  epochs {epochs}{values}  {seconds:.2f} s{failed}")


def _value(history: History, name: str) -> float:
    """Return a log in the best epoch where one is known, else in the last; NaN if there is none."""
    own = history.get(name)
    if not own:
        return math.nan
    epochs = history.epochs_of(name)
    if history.best_epoch in epochs:
        return own[epochs.index(history.best_epoch)]
    return own[-1]


def _checked_trainers(trainers: Any) -> list[Trainer]:
    """Return trainers that have nothing in common that a fit changes."""
    if isinstance(trainers, Trainer):
        raise TypeError("trainers must be a list: one Trainer has its own fit")
    members = check_several("trainers", trainers, "a list of them")
    owners: dict[int, tuple[int, Any]] = {}
    for i, trainer in enumerate(members):
        check_instance(f"trainers[{i}]", trainer, Trainer)
        if trainer.comm is not None:
            raise ValueError(
                f"trainers[{i}] has comm=, but fit_many trains on one process: on several ranks, "
                f"give each of them some of the trainers"
            )
        own = [trainer, trainer.optimizer, *trainer.callbacks]
        own += leaves_of(trainer.model.layers).values()
        for part in own:
            before, _ = owners.setdefault(id(part), (i, part))
            if before != i:
                raise ValueError(
                    f"trainers[{before}] and trainers[{i}] share one {type(part).__name__}, which "
                    f"both would change: give each its own"
                )
    return members


def _each(name: str, value: Any, count: int) -> list[Any]:
    """Return a value for each member."""
    if not is_several(value):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} values for {count} trainers")
    return list(value)


def _indices(name: str, given: Any, count: int, x: Any) -> list[Array | None]:
    """Return the indices of the rows of each member, None for all."""
    if given is None:
        return [None] * count
    indices = check_several(name, given, "the indices or a mask of the rows of each member")
    if len(indices) != count:
        raise ValueError(f"{name} has indices for {len(indices)} members, but there are {count}")
    n = x.shape[0] if hasattr(x, "shape") else len(x)
    return [as_indices(f"{name}[{i}]", own, n) for i, own in enumerate(indices)]


def as_indices(name: str, given: Any, n: int) -> Array:
    """Return indices of rows, given as such or as a mask of all n rows."""
    index = np.array(given) if isinstance(given, list | tuple) else as_array(given, name)
    if index.shape == (0,):
        return np.empty(0, np.int64)
    if index.dtype == np.bool_:
        if index.shape != (n,):
            raise ValueError(f"{name} is a mask of shape {index.shape}, but x has {n} rows")
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" or index.ndim != 1:
        raise TypeError(
            f"{name} must hold indices of rows, or be a mask, not {index.dtype} of shape "
            f"{index.shape}"
        )
    bad = np.flatnonzero((index < 0) | (index >= n))
    if bad.size:
        raise IndexError(f"{name}[{bad[0]}] is {index[bad[0]]}, but x has {n} rows")
    return index.astype(np.int64)
