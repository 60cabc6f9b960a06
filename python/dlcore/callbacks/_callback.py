"""Callbacks: what is called at the beginning and the end of a fit and of each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlcore._common.protocols import Run

__all__ = ["Callback"]


class Callback:
    """Base class of the callbacks; every method may be left as it is.

    Epochs are counted from 0. ``logs`` holds what the epoch logged, by the names of `History`.
    ``self.trainer.stop(reason)`` ends the fit after the epoch. When a fit ends with an exception,
    Ctrl-C included, ``on_fit_end`` is not called.

    Attributes
    ----------
    trainer : Trainer
        The trainer that fits, set before ``on_fit_begin``; ``trainer.history`` is the history so
        far and ``trainer.model`` the model.
    """

    trainer: Run

    def on_fit_begin(self) -> None:
        """Before the first epoch; ``self.trainer.log_names`` is what each epoch will log."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before each epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """After each epoch, its validation included."""

    def on_fit_end(self) -> None:
        """After the last epoch."""


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Return a list of callbacks, empty for None; TypeError if it is none."""
    if isinstance(callbacks, Callback):
        name = type(callbacks).__name__
        raise TypeError(f"callbacks must be a list, got one {name}: write callbacks=[{name}(...)]")
    given = list(callbacks or ())
    for callback in given:
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(
                f"a callback must be an instance of Callback: write {name}(...), not {name}"
            )
        if not isinstance(callback, Callback):
            raise TypeError(f"a callback must be an instance of Callback, not {callback!r}")
    return given
