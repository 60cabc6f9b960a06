"""The quantile normalizer: columns become normal, whatever their distribution is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dlcore._common.checks import check_choice, check_int, check_not_negative, check_positive_int
from dlcore._common.normal import normal_cdf, normal_quantile
from dlcore.preprocessing._column_map import far_exponent
from dlcore.preprocessing._normalizer import (
    ColumnwiseNormalizer,
    InvertibleNormalizer,
    Map,
    copied,
    quantiles_of,
    size_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array

__all__ = ["QuantileNormalizer"]

# Shares nearer to 0 or 1 are taken for it, as in scikit-learn: infinities would be no numbers to learn
# from.
NEAREST = 1e-7
_LOW, _HIGH = normal_quantile(
    np.array([NEAREST - np.spacing(1.0), 1 - (NEAREST - np.spacing(1.0))])
).tolist()


class Quantiles(NamedTuple):
    """Quantiles of the columns of a 2-D array, NaN left out, from the minimum to the maximum.

    They have shape (levels, columns), and are those of evenly spaced levels from 0 to 1.
    """

    values: Array

    @property
    def levels(self) -> Array:
        """The shares of the rows that are below the quantiles."""
        return np.linspace(0, 1, len(self.values))


class QuantileNormalizer(ColumnwiseNormalizer, InvertibleNormalizer):
    """Maps each column by its quantiles to a normal distribution, or to a uniform one.

    The share of the rows of `fit` that are below a value, interpolated between the quantiles, becomes
    the value of the distribution that has this share below. Order is all that remains of a column:
    outliers and skewness do not matter. What is beyond the rows of `fit` becomes ±5.2, or 0 and 1; a
    constant column, or one of NaN alone, becomes 0, or 0.5.

    Parameters
    ----------
    n_quantiles : int, optional
        How many are kept; at most the number of rows. By default a thirtieth of the rows, but at least
        10 and at most 1000, as in the recipes of TabM and its predecessors.
    output_distribution : {"normal", "uniform"}
    noise : float, default 1e-5
        Standard deviation, in those of the column, of normal noise that is added to what is fitted (and
        never to what is transformed): values that appear often then have a range of quantiles of their
        own, in whose middle they end. 0 adds nothing.
    seed : int, default 0
        Of the noise.

    Attributes
    ----------
    n_quantiles_ : int
        How many were kept.
    quantiles_ : ndarray of float64, shape (k, columns)
    references_ : ndarray of float64, shape (k,)
        The shares of the rows that are below the quantiles.
    stats_ : Quantiles
    n_samples_seen_ : int

    Raises
    ------
    ValueError
        If an option is not as described.

    Notes
    -----
    Without noise the result is that of scikit-learn's QuantileTransformer with ``subsample=None``, with
    two exceptions: values within 1e-7 of the ends count as the ends there, whatever the unit of the
    column, and constant columns become -5.2.

    There is no ``partial_fit``: quantiles of parts do not give those of all rows. A `fit` of the rows of
    several ranks gathers them, one column at a time, which must fit the memory of each, and has the bits
    of one of all rows, in the order of the ranks.

    References
    ----------
    Gorishniy, Rubachev, Khrulkov, Babenko: Revisiting deep learning models for tabular data, NeurIPS
    2021, appendix (quantiles to a normal distribution, with noise).

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> x = np.array([[1.0], [10.0], [100.0], [1000.0], [10000.0]])
    >>> normalizer = dl.QuantileNormalizer(5, noise=0).fit(x)
    >>> normalizer.transform(x).round(2).ravel().tolist()
    [-5.2, -0.67, 0.0, 0.67, 5.2]
    """

    _stats: Quantiles

    def __init__(
        self,
        n_quantiles: int | None = None,
        *,
        output_distribution: Literal["normal", "uniform"] = "normal",
        noise: float = 1e-5,
        seed: int = 0,
    ) -> None:
        name = "QuantileNormalizer"
        self.n_quantiles = (
            None if n_quantiles is None else check_positive_int(f"{name}: n_quantiles", n_quantiles)
        )
        self.output_distribution = check_choice(
            f"{name}: output_distribution", output_distribution, ("normal", "uniform")
        )
        self.noise = check_not_negative(f"{name}: noise", noise)
        self.seed = check_int(f"{name}: seed", seed, 0)

    def _of_columns(self, rows: int, columns: Iterator[Array]) -> Quantiles:
        wanted = max(min(rows // 30, 1000), 10) if self.n_quantiles is None else self.n_quantiles
        levels = np.linspace(0, 1, min(wanted, rows))
        rng = np.random.default_rng(self.seed)
        found = [quantiles_of(self._noisy(own, rng), levels) for own in columns]
        return Quantiles(np.reshape(found, (len(found), len(levels))).T.copy())

    def _noisy(self, values: Array, rng: np.random.Generator) -> Array:
        if not self.noise or not len(values):
            return values
        size = int(size_of(values.min(), values.max()))
        # At the scale of 1: squares of deviations are numbers there.
        values = np.ldexp(values, -size)
        values = values + self.noise * values.std() * rng.standard_normal(len(values))
        with np.errstate(over="ignore"):
            most = np.finfo(np.float64).max
            return np.clip(np.ldexp(values, size), -most, most)

    @property
    def quantiles_(self) -> Array:
        """Quantiles of each column."""
        return self._stats.values

    @property
    def references_(self) -> Array:
        """The shares of the rows that are below the quantiles."""
        return self._stats.levels

    @property
    def n_quantiles_(self) -> int:
        """The number of quantiles that are kept."""
        return len(self._stats.values)

    def _maps(self) -> tuple[Map, ...]:
        values, levels = self._stats.values, self._stats.levels
        is_normal = self.output_distribution == "normal"
        exponent = far_exponent(size_of(values[0], values[-1]))
        if exponent is not None:
            values = np.ldexp(values, -exponent)
        return (
            _ToShares(values, levels, is_normal, exponent),
            _FromShares(values, levels, is_normal, exponent),
        )


class _ToShares(NamedTuple):
    """Values to what has the same share of a distribution below it."""

    values: Array  # times 2 ** -exponent
    levels: Array
    is_normal: bool
    exponent: Array | None

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        y = copied(function, x, self.values.shape[1], out)
        for j, quantiles in enumerate(self.values.T):
            column = y[:, j].astype(np.float64)
            if self.exponent is not None:
                column = np.ldexp(column, -self.exponent[j])
            share = self._shares(column, quantiles)
            if self.is_normal:
                share = np.clip(normal_quantile(share), _LOW, _HIGH)
            y[:, j] = share
        return y if out is None else out

    def _shares(self, column: Array, quantiles: Array) -> Array:
        least, largest = quantiles[0], quantiles[-1]
        if least == largest:
            return np.where(np.isnan(column), np.nan, 0.5)
        # A value that several quantiles are equal to has the share in the middle of theirs.
        above = np.interp(column, quantiles, self.levels)
        below = np.interp(-column, -quantiles[::-1], -self.levels[::-1])
        share: Array = 0.5 * (above - below)
        share[column >= largest] = 1
        share[column <= least] = 0
        share[np.isnan(column)] = np.nan
        return share


class _FromShares(NamedTuple):
    """The inverse of `_ToShares`."""

    values: Array
    levels: Array
    is_normal: bool
    exponent: Array | None

    def __call__(self, function: str, x: Any, out: Any = None) -> Any:
        y = copied(function, x, self.values.shape[1], out)
        for j, quantiles in enumerate(self.values.T):
            share = y[:, j].astype(np.float64)
            missing = np.isnan(share)
            if self.is_normal:
                share = normal_cdf(share)
                share[share < NEAREST] = 0
                share[share > 1 - NEAREST] = 1
            column = np.interp(share, self.levels, quantiles)
            if self.exponent is not None:
                column = np.ldexp(column, self.exponent[j])
            column[missing] = np.nan
            y[:, j] = column
        return y if out is None else out
