"""Trainers that are made for a purpose: one for each fold, one for each candidate."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from dlcore._common.checks import check_instance
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable


def made_trainers(name: str, make: Trainer | Callable[[int], Trainer], count: int) -> list[Trainer]:
    """Return trainers of a function of their number, or copies of one that has learned nothing yet.

    ``name`` is what messages call it.
    """
    if isinstance(make, Trainer):
        if getattr(make.optimizer, "steps", 0) or make.history.epoch:
            raise ValueError(
                f"{name} has learned already, so that copies of it know rows that they are to be "
                f"judged by: give a function that makes a new one"
            )
        return [copy.deepcopy(make) for _ in range(count)]
    if not callable(make):
        raise TypeError(
            f"{name} must be a Trainer or a function that makes one, not {type(make).__name__}"
        )
    trainers: list[Any] = [make(i) for i in range(count)]
    for i, trainer in enumerate(trainers):
        check_instance(f"what {name} makes of {i}", trainer, Trainer)
    return trainers
