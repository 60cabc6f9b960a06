"""Quantiles in ONNX: the place of a value among those of its column, and the normal distribution's."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common import normal
from dlcore.preprocessing._quantile import NEAREST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.export._onnx_nodes import Nodes


class QuantileNodes:
    """Writes what `QuantileNormalizer` computes, of columns of float64.

    Parameters
    ----------
    nodes : Nodes
    values : ndarray of shape (levels, columns)
        The quantiles of evenly spaced levels.
    """

    def __init__(self, nodes: Nodes, values: Array) -> None:
        self._nodes, self._add, self._levels = nodes, nodes.add, len(values)
        # A power of 2 less 1 of each column, so that each bit of a place may be tried.
        self._size = 1 << (len(values)).bit_length()
        padded = np.full((self._size, values.shape[1]), np.inf)
        padded[: len(values)] = values
        self._quantiles = nodes.constant(padded.T.ravel())
        self._least, self._largest = nodes.constant(values[0]), nodes.constant(values[-1])
        self._columns = values.shape[1]

    def normal(self, x: str) -> str:
        """Write the number that has the same share of the normal distribution below it."""
        add, number = self._add, self._number
        least = NEAREST - np.spacing(1.0)
        share = add("Max", add("Min", self._shares(x), number(1 - least)), number(least))
        return self._normal_quantile(share)

    def _shares(self, x: str) -> str:
        add, number = self._add, self._number
        last = number(self._levels - 1)
        up_to, below = self._count("LessOrEqual", x), self._count("Less", x)
        # The last quantile that is not above x, and the first one that is not below it.
        before = add(
            "Sub", add("Min", add("Max", up_to, number(1)), number(self._levels)), number(1)
        )
        after = add("Min", below, last)
        low, high = self._quantile(before), self._quantile(after)
        lacks = add("Greater", high, low)
        width = add("Where", lacks, add("Sub", high, low), number(1))
        part = add("Div", add("Sub", x, low), width)
        middle = add("Mul", add("Add", before, after), number(0.5))
        place = add("Where", lacks, add("Add", before, part), middle)
        share = add("Div", place, last) if self._levels > 1 else add("Mul", place, number(0))
        share = add("Where", add("GreaterOrEqual", x, self._largest), number(1), share)
        share = add("Where", add("LessOrEqual", x, self._least), number(0), share)
        is_constant = add("Equal", self._least, self._largest)
        share = add("Where", is_constant, number(0.5), share)
        return add("Where", add("IsNaN", x), x, share)

    def _count(self, comparison: str, x: str) -> str:
        """Write how many quantiles are below x, bit by bit."""
        count = self._add("Mul", x, self._number(0))
        count = self._add("Where", self._add("IsNaN", count), self._number(0), count)
        bit = self._size // 2
        while bit:
            tried = self._add("Add", count, self._number(bit))
            quantile = self._quantile(self._add("Sub", tried, self._number(1)))
            count = self._add("Where", self._add(comparison, quantile, x), tried, count)
            bit //= 2
        return count

    def _quantile(self, place: str) -> str:
        first = self._nodes.constant(np.arange(self._columns, dtype=np.float64) * self._size)
        index = self._add("Cast", self._add("Add", place, first), to=7)  # int64
        return self._add("Gather", self._quantiles, index, axis=0)

    def _normal_quantile(self, p: str) -> str:
        """Write the inverse of the distribution function, as `normal_quantile`, of no tiny shares."""
        add, number = self._add, self._number
        q = add("Sub", p, number(0.5))
        center = add("Sub", number(0.180625), add("Mul", q, q))
        near = add("Mul", q, self._ratio(normal.CENTER, center))
        tail = add("Min", p, add("Sub", number(1), p))
        root = add("Sqrt", add("Neg", add("Log", tail)))
        size = self._ratio(normal.TAIL, add("Sub", root, number(1.6)))
        far = add("Mul", add("Sign", q), size)
        is_near = add("LessOrEqual", add("Abs", q), number(0.425))
        return add("Where", is_near, near, far)

    def _ratio(self, coefficients: tuple[Sequence[float], Sequence[float]], x: str) -> str:
        return self._add("Div", *(self._polynomial(own, x) for own in coefficients))

    def _polynomial(self, coefficients: Sequence[float], x: str) -> str:
        add, number = self._add, self._number

        def further(value: str, coefficient: float) -> str:
            return add("Add", add("Mul", value, x), number(coefficient))

        return functools.reduce(further, coefficients[1:], number(coefficients[0]))

    def _number(self, value: Any) -> str:
        return self._nodes.constant(np.asarray(value, np.float64))
