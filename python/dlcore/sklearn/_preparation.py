"""What a network is given of a table: columns centered, scaled and without gaps."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.typing import Array

# Rows that are prepared at once where not all are needed.
_ROWS = 8192
# Beyond it a scaled value counts hardly more.
_BOUND = 3.0
_FAR = 1e100  # whose square is a number


@dataclass(frozen=True)
class Preparation:
    """Makes the input of a network of what `TableEncoder` gives; all of it is arrays.

    Numbers come first, less their median, by the distance of their quartiles, then squeezed smoothly
    into (-3, 3); a missing one is the median, and each column with gaps has one of 0 and 1 beside
    it. Categories are one column each where there are two, +1 and -1, else one of 0 and 1 for each
    category; of one that was not in `of` all are 0. They are scaled as numbers are (Holzmüller et
    al., 2024).

    Parameters
    ----------
    has_gaps : ndarray of int
        The columns of numbers with a column for their gaps.
    places : list of ndarray of int
        For each column of categories the number of each code among those that rows have, from 1 on;
        0 for others.
    center, scale : ndarray
        Of each column of the result.
    """

    n_numbers: int
    has_gaps: Array
    places: Sequence[Array]
    center: Array
    scale: Array

    @classmethod
    def of(cls, encoded: Array, n_numbers: int, cardinalities: Sequence[int]) -> Self:
        """Fit to the rows to train on.

        Parameters
        ----------
        encoded : ndarray of shape (n_samples, columns)
            Of `TableEncoder`.
        n_numbers, cardinalities
            Its attributes.
        """
        gaps = np.flatnonzero(np.isnan(encoded[:, :n_numbers]).any(axis=0))
        places = []
        for i, count in enumerate(cardinalities, n_numbers):
            there = np.bincount(encoded[:, i].astype(np.intp), minlength=count) > 0
            there[0] = False  # rare ones and unknown ones
            places.append(np.where(there, np.cumsum(there), 0))
        made = cls(n_numbers, gaps, places, np.empty(0), np.empty(0))
        pairs = [_median_and_factor(column) for column in made._columns(encoded)]
        center, scale = np.array(pairs).reshape(-1, 2).T.copy()
        return cls(n_numbers, gaps, places, center, scale)

    def state(self) -> dict[str, Any]:
        """Return it as plain data, of which ``Preparation(**state)`` makes it again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def width(self) -> int:
        """Columns of the result."""
        return len(self.center)

    def __call__(self, encoded: Array) -> Array:
        """Make the input of these rows, in float32 and without gaps."""
        x = np.empty((len(encoded), self.width), np.float32)
        for i, column in enumerate(self._columns(encoded)):
            with np.errstate(over="ignore"):
                z = np.clip((column - self.center[i]) * self.scale[i], -_FAR, _FAR)
            z[np.isnan(z)] = 0
            x[:, i] = z / np.sqrt(1 + (z / _BOUND) ** 2)
        return x

    def blocks(self, encoded: Array) -> Iterator[Array]:
        """Make the input some rows at a time."""
        for begin in range(0, len(encoded), _ROWS):
            yield self(encoded[begin : begin + _ROWS])

    def _columns(self, encoded: Array) -> Iterator[Array]:
        """Give each column before it is scaled."""
        yield from encoded[:, : self.n_numbers].astype(np.float64, copy=False).T
        for i in self.has_gaps:
            yield np.isnan(encoded[:, i]).astype(np.float64)
        for i, places in enumerate(self.places, self.n_numbers):
            own = places[encoded[:, i].astype(np.intp)]
            count = int(places.max())
            if count <= 2:
                yield np.array([0.0, 1.0, -1.0])[own]
            else:
                for place in range(1, count + 1):
                    yield (own == place).astype(np.float64)


def _median_and_factor(column: Array) -> tuple[float, float]:
    values = column[~np.isnan(column)]
    if not len(values):
        return 0.0, 0.0
    low, quarter, median, three, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    span = three - quarter or 0.5 * (high - low)
    return float(median), float(1 / span) if span else 0.0
