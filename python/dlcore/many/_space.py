"""The hyperparameters that a sweep searches: ranges and choices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_finite, check_flag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Range"]


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, both among them, of a `sweep`.

    Parameters
    ----------
    low, high : int or float
        Integers are drawn where both are integers.
    log : bool
        Whether the logarithm is uniform: for rates, penalties and widths, which act by their ratios.

    Raises
    ------
    TypeError, ValueError
        They are no finite numbers, high is less than low, or low is not positive with ``log``.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.Range(1e-4, 1e-1, log=True), dl.Range(1, 4)
    (Range(low=0.0001, high=0.1, log=True), Range(low=1, high=4, log=False))
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        check_flag("Range: log", self.log)
        for name in ("low", "high"):
            own = getattr(self, name)
            number = check_finite(f"Range: {name}", own, positive=self.log)
            vars(self)[name] = own if isinstance(own, int | np.integer) else number
        if self.high < self.low:
            raise ValueError(f"Range: high is {self.high}, less than low, {self.low}")

    def draw(self, rng: np.random.Generator) -> int | float:
        """Draw a number."""
        low, high = self.low, self.high
        whole = isinstance(low, int | np.integer) and isinstance(high, int | np.integer)
        if not whole:
            value = _uniform(rng, low, high, self.log)
            return min(max(value, float(low)), float(high))
        if not self.log:
            return int(rng.integers(int(low), int(high), endpoint=True))
        # Each integer has what rounds to it.
        value = _uniform(rng, low - 0.5, high + 0.5, log=True)
        return min(max(round(value), int(low)), int(high))


def _uniform(rng: np.random.Generator, low: float, high: float, log: bool) -> float:
    if log:
        return math.exp(rng.uniform(math.log(low), math.log(high)))
    return float(rng.uniform(low, high))


def checked_space(space: Mapping[str, Any]) -> dict[str, Range | Sequence[Any]]:
    """Return a space whose values are ranges or choices."""
    if not hasattr(space, "items") or not space:
        raise TypeError("space must be a dict of names to a Range or a list of choices")
    checked: dict[str, Range | Sequence[Any]] = {}
    for name, own in space.items():
        if not isinstance(name, str):
            raise TypeError(f"space: a name must be a string, not {name!r}")
        if not isinstance(own, Range | list | tuple):
            raise TypeError(
                f"space[{name!r}] must be a Range or a list of choices, not {own!r:.60}; a value "
                f"that is always the same is [value]"
            )
        if not isinstance(own, Range) and not len(own):
            raise ValueError(f"space[{name!r}] has no choice")
        checked[name] = own
    return checked


def draw(space: Mapping[str, Range | Sequence[Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Draw a value of each hyperparameter, in the order of the space."""
    return {
        name: own.draw(rng) if isinstance(own, Range) else own[int(rng.integers(len(own)))]
        for name, own in space.items()
    }
