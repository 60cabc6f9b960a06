"""Callbacks: what is called at the beginning and the end of a fit, of each epoch and batch."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dlcore._common.checks import check_call
from dlcore._common.representation import shown_call

if TYPE_CHECKING:
    from dlcore._common.protocols import Run

__all__ = ["Callback"]


class Callback:
    """Base class of the callbacks; every method may be left as it is.

    Epochs are counted from 0. ``logs`` holds what the epoch logged, by the names of `History`; what
    `on_epoch_end` adds to it is in the history as well, and callbacks that follow can monitor it.
    ``self.trainer.stop(reason)`` ends the fit after the epoch or, from `on_batch_end`, after the
    batch. A method ``on_...`` of any other name would never be called: it is a TypeError.

    What a callback changes takes effect from the next epoch on: settings of the trainer, the layers,
    the loss or the optimizer, and which parameters are frozen.

    One that goes by what it saw in earlier epochs has `state_dict` and `load_state_dict`, for a fit
    that is cut off and goes on in another process.

    Attributes
    ----------
    trainer : Trainer
        The trainer that fits, set before ``on_fit_begin``; ``trainer.history`` is the history so
        far, ``trainer.model`` the model, and ``trainer.first_epoch`` the epoch that the fit begins
        with: not 0 where it goes on from a file.
    every_batches : int or None
        How often `on_batch_end` is called.
    """

    trainer: Run

    every_batches: int | None = 1
    # The attributes that `state_dict` has, and whether the training is the same without the callback.
    _state_names: ClassVar[tuple[str, ...]] = ()
    _only_watches: ClassVar[bool] = False

    def on_fit_begin(self) -> None:
        """Before the first epoch; ``self.trainer.log_names`` is what each epoch will log."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch."""

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        """After each batch of the training, counted from 0 in its epoch; ``logs`` has its "loss".

        A fit with a callback that has this method goes back to Python after each batch, which takes
        some 50 microseconds each; with ``every_batches = k`` in the class or the object after the
        k-th, the 2k-th and so on of each epoch, and "loss" is the mean of the k. With None it is
        never called.
        """

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After each epoch, its validation included."""

    def on_exception(self, exception: BaseException) -> None:
        """When an exception ends the fit, Ctrl-C included, before `on_fit_end`."""

    def on_fit_end(self) -> None:
        """After the last epoch, however the fit ends, if `on_fit_begin` has returned."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the callback must know again when a fit that was cut off goes on.

        `ModelCheckpoint` and `Trainer.save` write it to a file, and ``fit(resume=)`` gives it back to
        `load_state_dict` after `on_fit_begin`.

        Returns
        -------
        dict
            Numbers, texts, None, arrays, and lists and dicts of them, by name. Empty by default:
            there is nothing.
        """
        return {name: copy.deepcopy(getattr(self, name)) for name in self._state_names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        if set(state) != set(self._state_names):
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: state must hold "
                f"{', '.join(self._state_names) or 'nothing'}, got {', '.join(state)}"
            )
        for name, value in state.items():
            setattr(self, name, copy.deepcopy(value))

    # Not the trainer, with the rows of a fit under way: it tells each callback of a fit that it is its.
    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "trainer"}

    def __repr__(self) -> str:
        return shown_call(self)


# The arguments of each.
_HOOKS = {
    name: tuple(inspect.signature(hook).parameters)[1:]
    for name, hook in vars(Callback).items()
    if name.startswith("on_")
}


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return a list of callbacks, empty for None; TypeError if it is none."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback):
        name = type(callbacks).__name__
        raise TypeError(f"callbacks must be a list, got one {name}: write callbacks=[{name}(...)]")
    if not np.iterable(callbacks) or isinstance(callbacks, str | bytes | Mapping):
        raise TypeError(f"callbacks must be a list, not {callbacks!r}")
    given: list[Callback] = list(callbacks)
    for callback in given:
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(
                f"a callback must be an instance of Callback: write {name}(...), not {name}"
            )
        if not isinstance(callback, Callback):
            raise TypeError(f"a callback must be an instance of Callback, not {callback!r}")
        _check_hooks(type(callback))
        if _is_own(callback):
            for hook, arguments in _HOOKS.items():
                if overrides(callback, hook):
                    where = f"callbacks: {type(callback).__name__}.{hook}"
                    check_call(where, getattr(callback, hook), *arguments)
    return given


def may_log(callback: Callback) -> bool:
    """Whether a callback may add to the logs: one of the user's own."""
    return _is_own(callback) and overrides(callback, "on_epoch_end")


def _is_own(callback: Callback) -> bool:
    return not type(callback).__module__.startswith("dlcore.")


def overrides(callback: Callback, hook: str) -> bool:
    """Whether a callback does anything in a hook."""
    method = getattr(callback, hook)
    return getattr(method, "__func__", method) is not getattr(Callback, hook)


def _check_hooks(kind: type[Callback]) -> None:
    """Raise a TypeError for a method ``on_...`` that is never called.

    A function that is a known hook as well, by another name, is called.
    """
    called = [getattr(kind, hook) for hook in _HOOKS]
    for base in kind.__mro__[: kind.__mro__.index(Callback)]:
        for name, method in vars(base).items():
            is_hook = name.startswith("on_") and callable(method)
            if is_hook and name not in _HOOKS and method not in called:
                raise TypeError(
                    f"{kind.__name__}.{name} would never be called: a callback has "
                    f"{', '.join(_HOOKS)}"
                )
