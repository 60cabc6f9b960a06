"""The state of a trainer: what a training that goes on elsewhere has to know."""

from __future__ import annotations

import copy
import re
import zlib
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from dlcore._common.representation import shown
from dlcore._common.tree import read_tree, write_tree
from dlcore.nn._chains import leaves_of
from dlcore.nn._options import options_of, set_options
from dlcore.training._configuration import Configured, shown_optimizer
from dlcore.training._epoch_record import EpochRecord
from dlcore.training._made_of import describe, rebuilt
from dlcore.training._rows import dense

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dlcore.callbacks._callback import Callback
    from dlcore.training._dataset import Dataset
    from dlcore.training._progress import IterationLog

KIND = "training"  # of files

_PARTS = {
    "model",
    "frozen",
    "draws",
    "options",
    "optimizer",
    "settings",
    "schedule",
    "generators",
    "callbacks",
    "history",
    "fit",
}
_SETTINGS = ("accumulate", "clip_grad_norm", "clip_grad_value")


class Course(NamedTuple):
    """How far a fit has come.

    ``setup`` is what a fit that goes on with it must have in common, None if nobody has asked for
    it; ``log`` counts its updates.
    """

    setup: dict[str, Any] | None
    log: IterationLog


class Resumable(Configured):
    """A trainer whose state can be taken, and taken over by another one."""

    _course: Course | None = None  # of the last fit, or of the one under way
    _quick: Any = None
    _resumed: dict[str, Any] | None = None  # the state that the fit under way began from
    _shuffle_rng: np.random.Generator
    _layer_rng: np.random.Generator
    _split_seed: np.random.SeedSequence
    _batch_key: int | None

    def state_dict(self) -> dict[str, Any]:
        """Return all that the training has come to: what another trainer needs to go on to the same bits.

        Parameters and running statistics, the optimizer's options and state, the position of the
        schedule, the generators of the order of the rows, of the validation split and of `Dropout`,
        what the callbacks keep (`Callback.state_dict`), the history, and how far a fit under way has
        come. Not in it are the data and what the trainer is made of: the other one has the same.

        Returns
        -------
        dict
            Nested dicts and lists of numbers, texts and arrays, which are copies: `pickle` takes it,
            and `save` writes it to a file.

        Raises
        ------
        RuntimeError
            Amid an epoch, where `ModelCheckpoint` alone takes states, between two updates.
        TypeError
            The optimizer has no ``state_dict`` and ``load_state_dict``.
        """
        if self._source is not None and self._watch.is_amid_epoch and not self._watch.is_paused:
            raise RuntimeError(
                "Trainer: there is no state amid an epoch, where an update may be under way: "
                "ModelCheckpoint(unit='batches') takes it between two, on_epoch_end after an epoch"
            )
        optimizer: Any = self.optimizer
        self._check_savable()
        model, split = self.model, self._split_seed
        return {
            "model": model.state_dict(),
            "frozen": sorted(model.frozen),
            "draws": model._draws,
            "options": [options_of(layer) for layer in leaves_of(model.layers).values()],
            "optimizer": optimizer.state_dict(),
            "settings": {name: getattr(self, name) for name in _SETTINGS},
            "schedule": self._learning_rates.state_dict(),
            "generators": {
                "shuffle": self._shuffle_rng.bit_generator.state,
                "layers": self._layer_rng.bit_generator.state,
                "split": {"entropy": split.entropy, "spawn_key": list(split.spawn_key)},
                "batch": self._batch_key,
            },
            "callbacks": self._states_of_callbacks(),
            "history": self.history.state_dict(),
            "fit": self._state_of_fit(),
        }

    def _check_savable(self) -> None:
        optimizer = self.optimizer
        if not (hasattr(optimizer, "state_dict") and hasattr(optimizer, "load_state_dict")):
            raise TypeError(
                f"Trainer: the optimizer, a {type(optimizer).__name__}, needs state_dict() and "
                f"load_state_dict(state) for the training to be saved; dlcore.Optimizer has them"
            )

    def _states_of_callbacks(self) -> list[dict[str, Any]]:
        # What a fit was given beside the trainer's own callbacks is of that fit alone.
        callbacks = self.active_callbacks or self._callbacks
        states = ((callback, callback.state_dict()) for callback in callbacks)
        return [
            {
                "kind": type(callback).__name__,
                "is_own": any(callback is own for own in self._callbacks),
                "only_watches": callback._only_watches,
                "state": state,
            }
            for callback, state in states
            if state
        ]

    def _state_of_fit(self) -> dict[str, Any] | None:
        course = self._course
        if course is None:
            return None
        is_amid = self._watch.is_amid_epoch
        if is_amid and self._source is None:
            return None  # an exception has ended it
        record = self._watch.record if is_amid else None
        is_over = self.history.stopped_epoch is not None and not self._watch.has_ended_it
        return {
            "setup": course.setup,
            "epochs": self._done,
            "is_over": is_over,
            "log": course.log.state_dict(),
            "record": None if record is None else record.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any] | str | PathLike[str]) -> None:
        """Take over a `state_dict`: the next fit goes on as that of the other trainer would have.

        It is a fit of its own, as a second one always is: it makes all the ``epochs`` that it is
        asked for, and its history and its callbacks begin anew. A fit that was cut off goes on by
        ``fit(resume=)``, where ``epochs`` counts from its beginning.

        Parameters
        ----------
        state : mapping or path
            That of a trainer made with the same arguments, or the file that `save` or
            `ModelCheckpoint` has written.

        Raises
        ------
        ValueError, TypeError
            The model, the optimizer or a callback is another one than the state is of. Nothing is
            changed then.
        """
        self._refuse_in_fit("the state")
        if isinstance(state, str | PathLike):
            state = read_tree(state, KIND)
        state = _checked(state, "Trainer.load_state_dict")
        own = [entry for entry in state["callbacks"] if entry["is_own"]]
        pairs = _paired(own, self._callbacks, "Trainer.load_state_dict: the state")
        self._take(state)
        for callback, of_callback in pairs:
            callback.load_state_dict(of_callback)
        self.history = type(self.history)()
        self.history.load_state_dict(state["history"])
        self._course = None

    def _take(self, state: Mapping[str, Any]) -> None:
        """Take over all but the callbacks and the history; nothing if something does not fit."""
        optimizer: Any = self.optimizer
        self._check_savable()
        generators = state["generators"]
        shuffle, layers = map(_generator, (generators["shuffle"], generators["layers"]))
        split = generators["split"]
        split_seed = np.random.SeedSequence(split["entropy"], spawn_key=tuple(split["spawn_key"]))
        model, before = self.model, self.model.state_dict()
        model.load_state_dict(state["model"])
        try:
            optimizer.load_state_dict(state["optimizer"])
        except BaseException:
            model.load_state_dict(before)
            raise
        for name in model.frozen - set(state["frozen"]):
            model.unfreeze(name)
        for name in set(state["frozen"]) - model.frozen:
            model.freeze(name)
        model._set_draws(state["draws"])
        leaves = leaves_of(model.layers).values()
        for layer, options in zip(leaves, state["options"], strict=True):
            set_options(layer, options)
        for name in _SETTINGS[1:]:  # one of the two before the other is set
            setattr(self, name, None)
        for name in _SETTINGS:
            setattr(self, name, state["settings"][name])
        self._learning_rates.load_state_dict(state["schedule"])
        self._shuffle_rng.bit_generator.state = shuffle
        self._layer_rng.bit_generator.state = layers
        self._split_seed, self._batch_key = split_seed, generators["batch"]
        self._quick = None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to a file, which ``fit(resume=path)`` goes on with.

        A safetensors file, written beside and renamed when it is complete: whatever happens, ``path``
        holds a whole state, the old or the new one.

        Parameters
        ----------
        path : str or path
            The file, which is replaced if it exists.

        Raises
        ------
        OSError
            It cannot be written. What was there before is as it was.
        RuntimeError, TypeError
            As `state_dict` does.
        """
        write_tree(path, KIND, self._state_of_file())

    def _state_of_file(self) -> dict[str, Any]:
        return {"made_of": describe(self), **self.state_dict()}

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        *,
        loss: Any = None,
        optimizer: Any = None,
        metrics: Any = None,
        callbacks: Sequence[Callback] | None = None,
        schedule: Any = None,
        classes: Iterable[type] = (),
    ) -> Self:
        """Make a trainer, its model and its optimizer of a file that `save` or `ModelCheckpoint` wrote.

        Its next fit goes on as one after `load_state_dict`. Callbacks, functions and objects of
        classes of one's own are not in the file, since reading it runs no code: they are handed
        over.

        Parameters
        ----------
        path : str or path
        loss, metrics, schedule : object, optional
            In the place of those in the file: needed where they are functions, of a class of one's own,
            or a `MultiTargetLoss`.
        optimizer : optional
            A function that makes an optimizer of a model, ``optimizer=lambda model: Own(...)``, where
            it is one of one's own.
        callbacks : sequence of Callback, optional
            Those of the trainer, of the kinds that it had.
        classes : iterable of class
            Classes of one's own that layers of the model have.

        Returns
        -------
        Trainer

        Raises
        ------
        ValueError
            The file is damaged or of something else, or something has to be handed over: the message
            names it.
        OSError
            It cannot be read.
        """
        state, name = read_tree(path, KIND), fspath(path)
        given = {
            "loss": loss,
            "optimizer": optimizer,
            "metrics": metrics,
            "callbacks": callbacks,
            "schedule": schedule,
        }
        made_of = state.get("made_of") if isinstance(state, dict) else None
        if made_of is None:
            raise ValueError(f"{name} does not say what its trainer is made of")
        trainer: Self = rebuilt(cls, made_of, state["model"], classes, name, given)
        trainer.load_state_dict(state)
        return trainer

    # ---- fits that go on

    def _read_resumed(self, path: Any, callbacks: Sequence[Callback]) -> dict[str, Any] | None:
        """Read what a fit is to go on from; None where it begins."""
        paths = [c.last_path for c in callbacks if hasattr(c, "last_path")]
        if path is True:
            if not paths:
                raise ValueError("resume=True needs a ModelCheckpoint among the callbacks")
            found = [path for path in paths if path is not None]
            path = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
        elif (
            any(c.writes(path) for c in callbacks if hasattr(c, "writes"))
            and not Path(path).exists()
        ):
            path = None  # the first of all runs
        if path is None:
            return None
        state = _checked(read_tree(path, KIND), str(path))
        if state["fit"] is None:
            raise ValueError(
                f"{path} is of no fit that could go on: Trainer.load_state_dict takes it"
            )
        return state | {"path": path}

    def _check_resumed(
        self, state: dict[str, Any], setup: dict[str, Any], callbacks: Sequence[Callback]
    ) -> None:
        """Make sure that a fit is the one that a state is of, as far as can be told."""
        path, other = state["path"], state["fit"]["setup"]
        if other is not None:
            differing = [
                _difference(name, setup.get(name), other.get(name))
                for name in {**other, **setup}
                if setup.get(name) != other.get(name)
            ]
            if differing:
                raise ValueError(
                    f"fit(resume={str(path)!r}): this fit is not the one that the file is of: "
                    f"{'; '.join(differing)}"
                )
        _paired(state["callbacks"], callbacks, str(path))

    def _setup(self, source: Any, **options: Any) -> dict[str, Any]:
        """Return what fits must have in common for one of them to go on with the other's state."""
        given = {
            "model": repr(self.model),
            "loss": shown(self.loss),
            "optimizer": shown_optimizer(self.optimizer, self.model),
            "schedule": shown(self.schedule),
            "seed": self._seed,
            "metrics": list(self._metrics),
            **{name: getattr(self, name) for name in _SETTINGS},
            **options,
        }
        rows = getattr(source, "data", None)
        if rows is not None and self._shards is None:  # and not a stream, or rows of each rank
            given["rows"], given["values of x and y"] = len(rows), _checksum(rows)
        return {name: _plain(value) for name, value in given.items()}

    def _begin_course(
        self, log: IterationLog, setup: dict[str, Any] | None, resumed: dict[str, Any] | None
    ) -> None:
        """Begin a fit, or go on with one."""
        self._course = Course(setup, log)
        if resumed is not None:
            self._resumed = resumed
            self.first_epoch = resumed["fit"]["epochs"]

    def _end_course(self) -> None:
        """End a fit, however it ends."""
        self._source = None
        if self._resumed is not None:
            self._resumed = self._resumed_record = None

    def _take_up(self) -> bool:
        """Take over the state that the fit goes on from; tell whether it is not over."""
        state, course = self._resumed, self._course
        if state is None or course is None:
            return True
        pairs = _paired(state["callbacks"], self.active_callbacks, str(state["path"]))
        self._take(state)
        for callback, of_callback in pairs:
            callback.load_state_dict(of_callback)
        fit = state["fit"]
        self.history.load_state_dict(state["history"])
        self._done = fit["epochs"]
        course.log.load_state_dict(fit["log"])
        if fit["record"] is not None:
            self._resumed_record = EpochRecord(**fit["record"])
        if fit["is_over"]:
            return False
        self.history.stopped_epoch = self.history.reason = None
        course.log.pass_over(sum(self.history.batches))
        return self._resumed_record is not None or not self._watch.ends(course.log)


def _checked(state: Any, where: str) -> dict[str, Any]:
    """Return a state with all its parts."""
    parts: Any = type(state).__name__
    if isinstance(state, dict):
        state = {name: value for name, value in state.items() if name != "made_of"}
        parts = sorted(state)
    if parts != sorted(_PARTS):
        raise ValueError(f"{where}: the state of a training has {sorted(_PARTS)}, got {parts}")
    return dict(state)


def _paired(
    entries: Sequence[dict[str, Any]], callbacks: Sequence[Callback], where: str
) -> list[tuple[Callback, dict[str, Any]]]:
    """Return callbacks with their states, those of one kind in their order.

    Those that only watch a fit may come and go.
    """
    rest, pairs = list(callbacks), []
    for entry in entries:
        kind = entry["kind"]
        callback = next((c for c in rest if type(c).__name__ == kind), None)
        if callback is not None:
            rest = [c for c in rest if c is not callback]
            pairs.append((callback, entry["state"]))
        elif not entry["only_watches"]:
            raise ValueError(f"{where} has the state of a {kind}, but there is none to take it")
    for callback in rest:
        if callback.state_dict() and not callback._only_watches:
            raise ValueError(f"{where} has no state of {callback!r}")
    return pairs


def _difference(name: str, own: Any, other: Any) -> str:
    """Say what a setting is here and in a file."""
    if name == "values of x and y":
        return "x and y hold other values"
    if name == "model" and isinstance(own, str) and isinstance(other, str):
        lines = (own.splitlines(), other.splitlines())
        apart = [pair for pair in zip(*lines, strict=False) if pair[0] != pair[1]]
        own, other = apart[-1] if apart else map(len, lines)
        return f"its model has {str(other).strip()}, this one {str(own).strip()}"
    return f"its {name} is {other}, this one's {own}"


def _plain(value: Any) -> Any:
    """Return a value that compares equal in another process."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else shown(value)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _checksum(rows: Dataset) -> int:
    """Return a number that other rows hardly have: of all of y, and of some rows of x."""
    some = np.linspace(0, len(rows) - 1, min(len(rows), 16)).astype(np.int64)
    x = np.ascontiguousarray(dense(rows.x[some]))
    return zlib.crc32(x.tobytes(), zlib.crc32(np.ascontiguousarray(rows.y).tobytes()))


def _generator(state: Any) -> dict[str, Any]:
    """Return the state of a generator, which is one of those that trainers have."""
    np.random.PCG64().state = copy.deepcopy(state)
    return dict(state)
