"""What a network is given of a table: columns scaled, without gaps, and codes to embed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dlcore.preprocessing._quantile import QuantileNormalizer
from dlcore.preprocessing._robust import RobustNormalizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dlcore._common.typing import Array

# Rows that are prepared at once where not all are needed.
_ROWS = 8192


@dataclass(frozen=True)
class Preparation:
    """Makes the input of a network of what `TableEncoder` gives; all of it is plain data.

    Its columns are numbers, which a `normalizer` scales and whose gaps are 0 then; 0 and 1 for each
    column with gaps; of each column of few categories +1 and -1 for two of them, else 0 and 1 for
    each; and codes, of the columns of more categories. A category that was not in `of` has 0 in all
    columns, or the code 0.

    Parameters
    ----------
    n_numbers : int
        The first columns are numbers.
    has_gaps : ndarray of int
        The columns of numbers with a column for their gaps.
    places : list of ndarray of int
        For each column of categories the number of each code among those that rows have, from 1 on;
        0 for others.
    most_one_hot : int
        Most categories of a column that has columns of 0 and 1; the others are codes.
    normalizer : RobustNormalizer or QuantileNormalizer
        Of as many of the first columns as it was fitted to.
    """

    n_numbers: int
    has_gaps: Array
    places: Sequence[Array]
    most_one_hot: int
    normalizer: Any

    @classmethod
    def of(
        cls,
        encoded: Array,
        n_numbers: int,
        cardinalities: Sequence[int],
        *,
        most_one_hot: int,
        by_ranks: bool = False,
    ) -> Self:
        """Fit to the rows to train on.

        Parameters
        ----------
        encoded : ndarray of shape (n_samples, columns)
            Of `TableEncoder`.
        n_numbers, cardinalities
            Its attributes.
        most_one_hot : int
        by_ranks : bool
            Whether numbers become normal by their quantiles; else all columns but codes are scaled by
            their quartiles and squeezed.
        """
        gaps = np.flatnonzero(np.isnan(encoded[:, :n_numbers]).any(axis=0))
        places = []
        for i, count in enumerate(cardinalities, n_numbers):
            there = np.bincount(encoded[:, i].astype(np.intp), minlength=count) > 0
            there[0] = False  # rare ones and unknown ones
            places.append(np.where(there, np.cumsum(there), 0))
        normalizer = QuantileNormalizer(noise=1e-3) if by_ranks else RobustNormalizer()
        made = cls(n_numbers, gaps, places, most_one_hot, normalizer)
        dense = encoded[:, :n_numbers] if by_ranks else made._dense(encoded)
        if dense.shape[1]:
            normalizer.fit(np.ascontiguousarray(dense, np.float64))
        return made

    def state(self) -> dict[str, Any]:
        """Return it as plain data, of which ``Preparation(**state)`` makes it again."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def blocks(self) -> list[int]:
        """Columns, but for codes, that belong together: of one feature each."""
        ones = [1] * (self.n_numbers + len(self.has_gaps))
        return ones + [_width(count) for count in self._counts if count <= self.most_one_hot]

    @property
    def cardinalities(self) -> list[int]:
        """Number of codes of each of the last columns."""
        return [count + 1 for count in self._counts if count > self.most_one_hot]

    @property
    def width(self) -> int:
        """Columns of the result."""
        return sum(self.blocks) + len(self.cardinalities)

    @property
    def _counts(self) -> list[int]:
        return [int(own.max()) for own in self.places]

    def __call__(self, encoded: Array) -> Array:
        """Make the input of these rows, in float32 and without gaps."""
        x = np.empty((len(encoded), self.width), np.float32)
        for begin in range(0, len(encoded), _ROWS):
            rows = encoded[begin : begin + _ROWS]
            own = x[begin : begin + _ROWS]
            dense = self._dense(rows)
            scaled = sum(self.blocks) if self._scales_all else self.n_numbers
            if scaled:
                dense[:, :scaled] = self.normalizer.transform(
                    np.ascontiguousarray(dense[:, :scaled])
                )
            np.nan_to_num(dense, copy=False, nan=0.0)
            own[:, : dense.shape[1]] = dense
            for i, codes in enumerate(self._codes(rows), dense.shape[1]):
                own[:, i] = codes
        return x

    @property
    def _scales_all(self) -> bool:
        return isinstance(self.normalizer, RobustNormalizer)

    def pieces(self, encoded: Array) -> Iterator[Array]:
        """Make the input some rows at a time."""
        for begin in range(0, len(encoded), _ROWS):
            yield self(encoded[begin : begin + _ROWS])

    def _dense(self, encoded: Array) -> Array:
        """Return all columns but the codes, in float64, before they are scaled."""
        dense = np.zeros((len(encoded), sum(self.blocks)))
        numbers = encoded[:, : self.n_numbers]
        dense[:, : self.n_numbers] = numbers
        begin = self.n_numbers + len(self.has_gaps)
        dense[:, self.n_numbers : begin] = np.isnan(numbers[:, self.has_gaps])
        rows = np.arange(len(encoded))
        for own, count in self._numbered(encoded):
            if count > self.most_one_hot:
                continue
            if count <= 2:
                dense[:, begin] = np.array([0.0, 1.0, -1.0])[own]
            else:
                known = own > 0
                dense[rows[known], begin + own[known] - 1] = 1
            begin += _width(count)
        return dense

    def _codes(self, encoded: Array) -> Iterator[Array]:
        return (own for own, count in self._numbered(encoded) if count > self.most_one_hot)

    def _numbered(self, encoded: Array) -> Iterator[tuple[Array, int]]:
        """Give the numbers of the categories of each column, and how many there are."""
        for i, (places, count) in enumerate(
            zip(self.places, self._counts, strict=True), self.n_numbers
        ):
            yield places[encoded[:, i].astype(np.intp)], count


def _width(count: int) -> int:
    return 1 if count <= 2 else count
