"""The learning rates of a trainer's fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_real
from dlcore.optim._optimizer import set_lrs
from dlcore.optim._schedules import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dlcore._common.typing import Array


class ScheduledLearningRates:
    """Sets the learning rates of an optimizer by a schedule, over all fits of a trainer.

    Parameters
    ----------
    schedule : Schedule or callable or None
        A `Schedule`, which begins from the learning rates that the groups of the optimizer have now,
        or ``schedule(epoch) -> lr``; None leaves the optimizer as it is.
    optimizer : optimizer
    """

    def __init__(self, schedule: Schedule | Callable[[int], float] | None, optimizer: Any) -> None:
        if isinstance(schedule, type):
            raise TypeError(f"schedule is the class {schedule.__name__}: write an object of it")
        if schedule is not None and not callable(schedule):
            raise TypeError(
                f"schedule must be a Schedule such as CosineAnnealingLR(50), or a function of the "
                f"epoch, not {schedule!r}"
            )
        self.schedule = schedule
        self._epochs = self._updates = 0
        self.drive(optimizer)

    def drive(self, optimizer: Any) -> None:
        """Set the rates of an optimizer from now on, beginning from those that it has."""
        self._optimizer = optimizer
        self._initial = self._now()

    def _now(self) -> list[float]:
        return list(getattr(self._optimizer, "lrs", [getattr(self._optimizer, "lr", math.nan)]))

    def _starts(self) -> list[float]:
        """Return the rates that the schedule starts from; groups that were added bring their own."""
        self._initial += self._now()[len(self._initial) :]
        return self._initial

    @property
    def lasts_epochs(self) -> bool:
        """Whether there is a schedule that counts epochs, not iterations."""
        return self.schedule is not None and getattr(self.schedule, "per", None) != "iteration"

    def begin_epoch(self) -> None:
        """Set the rates of an epoch."""
        if self.schedule is None or not self.lasts_epochs:
            return
        if isinstance(self.schedule, Schedule):
            lrs = [self.schedule(self._epochs, lr) for lr in self._starts()]
            set_lrs(self._optimizer, _checked(np.array([lrs]), self.schedule, self._epochs)[0])
        else:
            lr = check_real(f"schedule({self._epochs})", self.schedule(self._epochs))
            _checked(np.array([[lr]]), "schedule", self._epochs)
            self._optimizer.lr = lr

    def end_epochs(self, count: int = 1) -> None:
        """Count epochs that were completed."""
        self._epochs += count

    def of_updates(self, count: int) -> Array | None:
        """Return the rates of the next updates, of shape (count, groups), if they change with each."""
        if not isinstance(self.schedule, Schedule) or self.schedule.per != "iteration":
            return None
        columns = [self.schedule.values(self._updates, count, lr) for lr in self._starts()]
        return _checked(np.stack(columns, axis=1), self.schedule, self._updates)

    def end_updates(self, count: int, lrs: Array | None) -> None:
        """Count updates that were made, with these rates."""
        self._updates += count
        if lrs is not None and count:
            set_lrs(self._optimizer, lrs[count - 1])

    def state_dict(self) -> dict[str, Any]:
        """Return how far the schedule has come, and the rates that it started from."""
        return {"epochs": self._epochs, "updates": self._updates, "initial": list(self._initial)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._epochs, self._updates = state["epochs"], state["updates"]
        self._initial = list(state["initial"])

    @property
    def log_names(self) -> list[str]:
        """The names of `logs`."""
        return ["lr", *(f"lr_{i}" for i in range(1, len(self._starts())))]

    def first(self) -> float:
        """Return the rate of the first group."""
        return self._now()[0]

    def logs(self) -> dict[str, float]:
        """Return the rate of each group: "lr", "lr_1", ..."""
        return dict(zip(self.log_names, self._now(), strict=True))


def _checked(lrs: Array, schedule: object, step: int) -> Array:
    wrong = ~((lrs >= 0) & (lrs < math.inf))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"{schedule}({step + row}) is {lrs[row, column]}, not a learning rate")
    return lrs
