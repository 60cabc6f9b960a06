"""How many networks, and how many of their epochs, a time limit lasts for."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from dlcore.many._fit_many import fit_many

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array
    from dlcore.training._trainer import Trainer

# Updates that tell how long one takes, and the share of a time limit that is planned for: what is left is
# for rows to validate on.
_TRIED, _SHARE = 64, 0.8
# Seconds of a year: epochs that a longer limit lasts for may be more than there are numbers.
_LONGEST = 3e7


class TimeLimit:
    """Seconds after which the fit of several networks ends, from now on.

    Parameters
    ----------
    seconds : float
    at_once : int
        Networks that are trained at a time.
    """

    def __init__(self, seconds: float, at_once: int) -> None:
        self._seconds = min(seconds, _LONGEST)
        self._at_once, self._begun = at_once, time.monotonic()

    def lasts_for(
        self,
        trainer_of: Callable[[int, int], Trainer],
        rows: tuple[Array, Array, Array | None],
        size: int,
        seeds: list[int],
    ) -> tuple[int, int]:
        """Return for how many networks, and for how many epochs of each, the time lasts.

        It is told by what some updates take, of as many other networks as are trained at a time.

        Parameters
        ----------
        trainer_of : callable
            Makes a trainer of a seed and a number of epochs.
        rows : (x, y, sample_weight)
        size : int
            Of a batch.
        seeds : list of int
            One for each network.
        """
        x, y, weight = rows
        trainers = [trainer_of(seed, _TRIED) for seed in seeds[: self._at_once]]
        made = self._passed() / self._at_once
        turns = math.ceil(len(seeds) / self._at_once)
        tried = time.monotonic()
        fit_many(
            trainers,
            x,
            y,
            epochs=_TRIED,
            batch_size=size,
            sample_weight=weight,
            max_iterations=_TRIED,
            max_time=max(0.1 * self._seconds / turns, 1e-3),
            log_every=1,
            on_error="continue",
            verbose=0,
        )
        done = sum(len(own.history.iterations.get("loss", ())) for own in trainers) / self._at_once
        each = (time.monotonic() - tried) / max(1, done)
        epoch = each * math.ceil(len(x) / size)
        left = _SHARE * self._seconds - self._passed()
        count = min(len(seeds), max(1, int(left / (made + epoch / self._at_once))))
        turns = math.ceil(count / self._at_once)
        return count, max(1, int((left - count * made) / (turns * epoch)))

    def left_for_each(self, count: int) -> float:
        """Return the seconds that are left for each of so many networks, one set after the other."""
        left = max(self._seconds - self._passed(), 1e-3)
        return left / math.ceil(count / self._at_once)

    def _passed(self) -> float:
        return time.monotonic() - self._begun
