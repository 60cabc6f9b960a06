"""`sweep`: many candidates at once, of which the better ones go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_in, check_instance, check_int, generator_of
from dlcore.callbacks._callback import as_callbacks, may_log
from dlcore.callbacks._monitor import direction
from dlcore.many._fit_many import fit_many
from dlcore.many._space import checked_space, draw
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dlcore.callbacks._callback import Callback
    from dlcore.many._space import Range

__all__ = ["Candidate", "Sweep", "sweep"]


@dataclass(eq=False)
class Candidate:
    """One of the candidates of a `sweep`.

    Attributes
    ----------
    params : dict
        Its hyperparameters.
    trainer : Trainer
        As it was when it was left behind, or at the end.
    epochs : int
        How many it was trained for.
    rounds : int
        How many rounds it took part in, from 1 on.
    value : float
        The value that was monitored, of its last round; NaN where the fit failed.
    error : Exception or None
        What ended its fit, such as a divergence.
    """

    params: dict[str, Any]
    trainer: Trainer
    epochs: int = 0
    rounds: int = 0
    value: float = math.nan
    error: Exception | None = None


class Sweep(list[Candidate]):
    """The candidates of a `sweep`, the best one first.

    Those that went further come before those that were left behind, each of them by value; those
    that failed come last.

    Attributes
    ----------
    monitor, mode : str
        What they are compared by, and whether the least ("min") or the greatest ("max") is best.
    """

    def __init__(self, candidates: list[Candidate], monitor: str, mode: str) -> None:
        super().__init__(candidates)
        self.monitor, self.mode = monitor, mode

    @property
    def best(self) -> Candidate:
        """The best candidate."""
        return self[0]

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each candidate, as a data frame takes them.

        Its hyperparameters by name, and "epochs", "rounds", the monitored value by its name, and
        "error", a text or None.
        """
        return [
            {
                **own.params,
                "epochs": own.epochs,
                "rounds": own.rounds,
                self.monitor: own.value,
                "error": None if own.error is None else f"{type(own.error).__name__}: {own.error}",
            }
            for own in self
        ]

    def __repr__(self) -> str:
        rows = [
            {name: _shown(value) for name, value in row.items() if name != "error"}
            for row in self.rows()
        ]
        names = list(rows[0]) if rows else []
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
        lines = ["  ".join(name.rjust(widths[name]) for name in names)]
        lines += ["  ".join(row[name].rjust(widths[name]) for name in names) for row in rows]
        return "\n".join(lines)


def sweep(
    make: Callable[..., Trainer],
    space: Mapping[str, Range | Sequence[Any]],
    x: Any,
    y: Any,
    *,
    candidates: int = 27,
    min_epochs: int = 3,
    max_epochs: int = 27,
    factor: int = 3,
    monitor: str = "val_loss",
    mode: str = "auto",
    validation_data: Any = None,
    validation_split: float = 0.0,
    seed: int = 0,
    callbacks: Sequence[Callback] | None = None,
    **options: Any,
) -> Sweep:
    """Search hyperparameters by successive halving, all candidates of a round at once.

    All candidates are trained for ``min_epochs``. The best one of every ``factor`` goes on, from
    where it is, until it has had ``factor`` times as many epochs; and so on up to ``max_epochs``.

    Parameters
    ----------
    make : callable
        ``make(**params)`` makes the trainer of a candidate; its seed may be one of the ``params``.
    space : mapping of str to Range or list
        What each of the params is drawn from: a `Range`, or a list of choices.
    x, y
        As in `fit_many`.
    candidates : int
        How many are drawn.
    min_epochs, max_epochs : int
        Epochs of the first round, and of those that come to the end.
    factor : int
        At least 2.
    monitor, mode : str
        The log to compare by, as in `EarlyStopping`: its value in the last epoch of a round, or in
        the best epoch where a callback keeps track of it.
    validation_data, validation_split
        As in `Trainer.fit`, but that all candidates have the same split, drawn by ``seed``.
    seed : int
        Draws the candidates and the split; the same seed gives the same results, bit for bit.
    callbacks : sequence of Callback, optional
        Each fit has copies; each round is a fit of its own.
    **options
        Further ones of `fit_many`, such as ``batch_size``, ``verbose`` and ``workers``.

    Returns
    -------
    Sweep
        A list of the candidates, the best one first. ``print`` shows it as a table.

    Raises
    ------
    TypeError, ValueError, IndexError
        Something is not as described; nothing was trained.
    FloatingPointError
        All candidates diverged. One that fails alone is left behind, with its ``error``.

    Notes
    -----
    Rounds cost about the same each: n candidates for r epochs, then n / factor for r * factor. A
    schedule counts epochs over the rounds: give it the length ``max_epochs``. Values by which
    candidates were chosen are too good for the best of them: judge it by rows of their own.

    References
    ----------
    Jamieson, Talwalkar: Non-stochastic best arm identification and hyperparameter optimization,
    AISTATS 2016. Li et al.: Hyperband, JMLR 18, 2018.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)
    >>> def make(width, lr):
    ...     model = dl.Sequential(dl.Linear(4, width), dl.ReLU(), dl.Linear(width, 2), seed=0)
    ...     optimizer = dl.Adam(model.parameters(), lr=lr)
    ...     return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    >>> space = {"width": [8, 32], "lr": dl.Range(1e-4, 1e-1, log=True)}
    >>> found = dl.sweep(make, space, x, y, candidates=9, validation_split=0.3, verbose=0)
    >>> len(found), [candidate.epochs for candidate in found[:4]]
    (9, [27, 9, 9, 3])
    """
    space = checked_space(space)
    if not callable(make):
        raise TypeError(f"sweep: make must be a function that makes a Trainer, not {make!r:.60}")
    count = check_int("sweep: candidates", candidates, 1)
    first = check_int("sweep: min_epochs", min_epochs, 1)
    last = check_int("sweep: max_epochs", max_epochs, first)
    factor = check_int("sweep: factor", factor, 2)
    check_instance("sweep: monitor", monitor, str)
    mode = direction("sweep", monitor, mode)
    refused = {"on_error", "rows", "validation_rows"} & options.keys()
    if refused:
        raise TypeError(f"sweep takes no {', '.join(sorted(refused))}")
    validation_split = check_in("sweep: validation_split", validation_split, "[0, 1)")
    if validation_data is not None and validation_split:
        raise ValueError("sweep takes validation_data or validation_split, not both")
    has_validation = validation_data is not None or bool(validation_split)
    if monitor.startswith("val_") and not has_validation:
        raise ValueError(f"sweep: {monitor} needs validation_data or validation_split")
    rng = generator_of("sweep: seed", seed)
    parts = _split(x, validation_split, rng)
    every = [_made(make, draw(space, rng)) for _ in range(count)]
    names = every[0].trainer._names_of_logs([], has_validation)
    if monitor not in names and not any(map(may_log, as_callbacks(callbacks))):
        raise ValueError(f"sweep: nothing logs {monitor!r}; there are {', '.join(names)}")
    alive, epochs, done = every, first, 0
    while alive:
        histories = fit_many(
            [own.trainer for own in alive],
            x,
            y,
            epochs=epochs - done,
            validation_data=validation_data,
            rows=None if parts is None else [parts[0]] * len(alive),
            validation_rows=None if parts is None else [parts[1]] * len(alive),
            callbacks=callbacks,
            on_error="continue",
            **options,
        )
        values = histories.values(monitor)
        for i, own in enumerate(alive):
            own.epochs += len(histories[i].epoch)
            own.rounds += 1
            own.value, own.error = float(values[i]), histories.errors.get(i)
        if len(histories.errors) == count:
            raise histories.errors[0]
        if epochs >= last:
            break
        fine = sorted((own for own in alive if own.error is None), key=_by(mode))
        alive = fine[: max(1, len(alive) // factor)]
        done, epochs = epochs, min(last, epochs * factor)
    every.sort(key=_by(mode))
    return Sweep(every, monitor, mode)


def _made(make: Callable[..., Trainer], params: dict[str, Any]) -> Candidate:
    trainer = make(**params)
    check_instance("what sweep: make returns", trainer, Trainer)
    return Candidate(params, trainer)


def _split(x: Any, fraction: float, rng: np.random.Generator) -> tuple[Any, Any] | None:
    """Draw the rows to train on and to validate on, for all candidates."""
    if not fraction:
        return None
    n = x.shape[0] if hasattr(x, "shape") else len(x)
    held = max(1, round(n * fraction))
    if held >= n:
        raise ValueError(f"validation_split={fraction} leaves none of {n} rows to train on")
    drawn = rng.permutation(n)
    return np.sort(drawn[held:]), np.sort(drawn[:held])


def _by(mode: str) -> Callable[[Candidate], tuple[Any, ...]]:
    """Return what sorts candidates, the best one first."""

    def key(own: Candidate) -> tuple[Any, ...]:
        value = own.value if mode == "min" else -own.value
        return (
            own.error is not None,
            -own.rounds,
            math.inf if math.isnan(value) else value,
        )

    return key


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
