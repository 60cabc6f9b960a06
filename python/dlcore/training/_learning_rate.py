"""The learning rates of a trainer's fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_call, check_real
from dlcore.optim._optimizer import set_lrs
from dlcore.optim._schedules import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dlcore._common.typing import Array


class ScheduledLearningRates:
    """Sets the learning rates of an optimizer by a schedule, over all fits of a trainer.

    Parameters
    ----------
    schedule : Schedule or sequence of them or callable or None
        A `Schedule`, which begins from the learning rates that the groups of the optimizer have now;
        one for each group, which count the same; or ``schedule(epoch) -> lr``. None leaves the
        optimizer as it is.
    optimizer : optimizer
    name : str
        What errors call the schedule.
    """

    def __init__(
        self,
        schedule: Schedule | Sequence[Schedule] | Callable[[int], float] | None,
        optimizer: Any,
        name: str = "schedule",
    ) -> None:
        self._name = name
        if isinstance(schedule, list | tuple):
            schedule = _checked_schedules(schedule)
        elif isinstance(schedule, type):
            raise TypeError(f"{name} is the class {schedule.__name__}: write an object of it")
        elif schedule is not None and not callable(schedule):
            raise TypeError(
                f"{name} must be a Schedule such as CosineAnnealingLR(50), or a function of the "
                f"epoch, not {schedule!r}"
            )
        elif schedule is not None and not isinstance(schedule, Schedule):
            check_call(name, schedule, "epoch")
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
        own = self.schedule[0] if isinstance(self.schedule, tuple) else self.schedule
        return own is not None and getattr(own, "per", None) != "iteration"

    def _of_groups(self) -> list[tuple[Schedule, float]]:
        """Return the schedule of each group, and the rate that it starts from."""
        own: Any = self.schedule
        starts = self._starts()
        schedules = own if isinstance(own, tuple) else [own] * len(starts)
        if len(schedules) != len(starts):
            raise ValueError(
                f"schedule has {len(schedules)} schedules, but the optimizer {len(starts)} groups"
            )
        return list(zip(schedules, starts, strict=True))

    def begin_epoch(self) -> None:
        """Set the rates of an epoch."""
        if self.schedule is None or not self.lasts_epochs:
            return
        if isinstance(self.schedule, Schedule | tuple):
            lrs = [own(self._epochs, lr) for own, lr in self._of_groups()]
            set_lrs(self._optimizer, _checked(np.array([lrs]), self.schedule, self._epochs)[0])
        else:
            lr = check_real(f"{self._name}({self._epochs})", self.schedule(self._epochs))
            _checked(np.array([[lr]]), self._name, self._epochs)
            self._optimizer.lr = lr

    def end_epochs(self, count: int = 1) -> None:
        """Count epochs that were completed."""
        self._epochs += count

    def of_updates(self, count: int) -> Array | None:
        """Return the rates of the next updates, of shape (count, groups), if they change with each."""
        if self.schedule is None or self.lasts_epochs:
            return None
        columns = [own.values(self._updates, count, lr) for own, lr in self._of_groups()]
        return _checked(np.stack(columns, axis=1), self.schedule, self._updates)

    def end_updates(self, count: int, lrs: Array | None) -> None:
        """Count updates that were made, with these rates."""
        self._updates += count
        if lrs is not None and count:
            set_lrs(self._optimizer, lrs[count - 1])

    def catch_up(self, count: int) -> None:
        """Count updates that were made elsewhere, with the rates that they had here."""
        self.end_updates(count, self.of_updates(count))

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


def _checked_schedules(schedules: Sequence[Schedule]) -> tuple[Schedule, ...]:
    for schedule in schedules:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must hold a Schedule for each group, not {schedule!r}")
    if len({schedule.per for schedule in schedules}) != 1:
        raise ValueError(
            f"the schedules of the groups must count the same, epochs or iterations, not {schedules!r}"
        )
    return tuple(schedules)


def _checked(lrs: Array, schedule: object, step: int) -> Array:
    wrong = ~((lrs >= 0) & (lrs < math.inf))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"{schedule}({step + row}) is {lrs[row, column]}, not a learning rate")
    return lrs
