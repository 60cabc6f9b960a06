"""Weight decay and dropout by a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_instance
from dlcore.callbacks._callback import Callback
from dlcore.nn._chains import leaves_of
from dlcore.nn._layers import Dropout
from dlcore.optim._schedules import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DropoutSchedule", "WeightDecaySchedule"]


class Scheduled(Callback):
    """Base class of what sets an option by a schedule of epochs, and gives it back after the fit."""

    _state_names = ("epochs", "_base")

    def __init__(self, schedule: Schedule) -> None:
        name = f"{type(self).__name__}: schedule"
        check_instance(name, schedule, Schedule)
        if schedule.per != "epoch":
            raise ValueError(
                f"{name} must count epochs, between which options change, not {schedule!r}"
            )
        self.schedule = schedule
        self.epochs = 0
        self._base: list[float] | None = None

    def _values(self) -> list[float]:
        """Return the options as they are, or raise an error if there are none."""
        raise NotImplementedError

    def _set(self, values: Sequence[float]) -> None:
        raise NotImplementedError

    def on_fit_begin(self) -> None:
        """Look at the options that the schedule begins from."""
        self._base = self._values()

    def on_epoch_begin(self, epoch: int) -> None:  # noqa: ARG002
        """Set the options of an epoch."""
        assert self._base is not None
        self._set([self.schedule(self.epochs, value) for value in self._base])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:  # noqa: ARG002
        """Count the epoch."""
        self.epochs += 1

    def on_fit_end(self) -> None:
        """Give the options back as they were."""
        if self._base is not None:
            self._set(self._base)


class WeightDecaySchedule(Scheduled):
    """Weight decay that changes from epoch to epoch.

    Parameters
    ----------
    schedule : Schedule
        Of epochs, which are counted from 0 over all fits with this callback. What it takes and gives
        as a learning rate is the ``weight_decay`` of each group of the optimizer; after the fit they
        are what they were before.

    Raises
    ------
    TypeError
        The optimizer has no groups with a ``weight_decay``.
    ValueError
        The schedule counts iterations.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.Sequential(dl.Linear(4, 32), dl.ReLU(), dl.Dropout(0.15), dl.Linear(32, 2), seed=0)
    >>> callbacks = [
    ...     dl.WeightDecaySchedule(dl.FlatCosineLR(256)),
    ...     dl.DropoutSchedule(dl.FlatCosineLR(256)),
    ... ]
    >>> adamw = dl.AdamW(model.parameters(), weight_decay=0.02)
    >>> trainer = dl.Trainer(model, loss="cross_entropy", optimizer=adamw, callbacks=callbacks)
    """

    def _values(self) -> list[float]:
        groups = self._groups()
        if not groups or any("weight_decay" not in group for group in groups):
            raise TypeError(
                f"WeightDecaySchedule needs an optimizer with a weight_decay, not "
                f"{type(self.trainer.optimizer).__name__}"
            )
        return [float(group["weight_decay"]) for group in groups]

    def _groups(self) -> Sequence[Any]:
        groups: Sequence[Any] = getattr(self.trainer.optimizer, "param_groups", ())
        return groups

    def _set(self, values: Sequence[float]) -> None:
        for group, value in zip(self._groups(), values, strict=True):
            if group["weight_decay"] != value:
                group["weight_decay"] = value


class DropoutSchedule(Scheduled):
    """Dropout whose probability changes from epoch to epoch.

    Parameters
    ----------
    schedule : Schedule
        Of epochs, which are counted from 0 over all fits with this callback. What it takes and gives
        as a learning rate is the ``p`` of each `Dropout` layer; after the fit they are what they were
        before.

    Raises
    ------
    ValueError
        The model has no `Dropout` layer, or the schedule counts iterations.
    """

    def _layers(self) -> list[Any]:
        leaves = leaves_of(self.trainer.model.layers).values()
        return [layer for layer in leaves if isinstance(layer, Dropout)]

    def _values(self) -> list[float]:
        layers = self._layers()
        if not layers:
            raise ValueError("DropoutSchedule: the model has no Dropout layer")
        return [layer.p for layer in layers]

    def _set(self, values: Sequence[float]) -> None:
        for layer, value in zip(self._layers(), values, strict=True):
            if layer.p != value:  # since the step is described anew for another one
                layer.p = value
