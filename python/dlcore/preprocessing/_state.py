"""Normalizers as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.functional._column_stats import ColumnExtremes, ColumnStats, Moments
from dlcore.preprocessing._piecewise import Bins, PiecewiseLinearEncoding
from dlcore.preprocessing._quantile import QuantileNormalizer, Quantiles
from dlcore.preprocessing._robust import Quartiles, RobustNormalizer
from dlcore.preprocessing._scaling import MinMaxNormalizer, ZScoreNormalizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array

_OPTIONS = {
    MinMaxNormalizer: ("feature_range", "clip"),
    PiecewiseLinearEncoding: ("n_bins", "tree_kwargs", "regression"),
    QuantileNormalizer: ("n_quantiles", "output_distribution", "noise", "seed"),
    RobustNormalizer: ("smooth_clip",),
    ZScoreNormalizer: ("with_mean", "with_std"),
}
NORMALIZERS: dict[str, Any] = {kind.__name__: kind for kind in _OPTIONS}


def describe_normalizer(normalizer: Any) -> dict[str, Any]:
    """Return a normalizer as dicts, numbers and arrays: `normalizer_of` makes it again."""
    names = _OPTIONS[type(normalizer)]
    state: dict[str, Any] = {"options": {name: getattr(normalizer, name) for name in names}}
    if hasattr(normalizer, "stats_"):
        columns = _describe_columns(normalizer.stats_)
        state |= {"rows": int(normalizer.n_samples_seen_), "columns": columns}
    return state


def normalizer_of(name: str, state: Any) -> Any:
    """Make a normalizer of its class's name and what `describe_normalizer` gave.

    Raises
    ------
    ValueError, TypeError
        Something in it is not as it should be; the message names it.
    """
    if not isinstance(state, dict) or state.keys() not in (
        {"options"},
        {"options", "rows", "columns"},
    ):
        raise TypeError(f"{name} has no options and columns, but {state!r:.50}")
    options, kind = state["options"], NORMALIZERS[name]
    if not isinstance(options, dict) or set(options) != set(_OPTIONS[kind]):
        raise TypeError(f"{name} has the options {options!r:.50}")
    normalizer = kind(**options)
    if any(getattr(normalizer, own) != value for own, value in options.items()):
        raise ValueError(f"{name} has the options {options!r:.50}")
    if "columns" in state:
        rows, columns = state["rows"], state["columns"]
        if type(rows) is not int or rows < 1:
            raise ValueError(f"{name} has seen {rows!r:.50} rows")
        normalizer._take(_columns_of(kind, columns), rows)
    return normalizer


def _describe_columns(stats: Any) -> dict[str, Any]:
    described: dict[str, Any] = (
        describe_stats(stats) if isinstance(stats, ColumnStats) else stats._asdict()
    )
    return described


def _columns_of(kind: type, state: Any) -> Any:
    """Make what a normalizer of this class knows of columns of `_describe_columns`."""
    if kind is ZScoreNormalizer:
        return stats_of_state(state)
    if kind is QuantileNormalizer:
        return _quantiles_of(state)
    if kind is PiecewiseLinearEncoding:
        return _bins_of(state)
    own: Any = ColumnExtremes if kind is MinMaxNormalizer else Quartiles
    return own(**_columns(state, dict.fromkeys(own._fields, "f8")))


def _quantiles_of(state: Any) -> Quantiles:
    values = state.get("values") if isinstance(state, dict) and len(state) == 1 else None
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype != "f8":
        raise TypeError(
            f"quantiles are an array of float64 for levels and columns, not {state!r:.50}"
        )
    if not len(values) or not np.isfinite(values).all() or (np.diff(values, axis=0) < 0).any():
        raise ValueError("quantiles are not finite numbers that increase")
    return Quantiles(values)


def _bins_of(state: Any) -> Bins:
    if not isinstance(state, dict) or set(state) != {"edges", "counts"}:
        raise TypeError(f"of bins there are edges, counts, not {state!r:.50}")
    bins = Bins(
        **_columns({"edges": state["edges"]}, {"edges": "f8"}),
        **_columns({"counts": state["counts"]}, {"counts": "i8"}),
    )
    if (bins.counts < 1).any() or bins.counts.sum() != len(bins.edges):
        raise ValueError("counts of the bins are not those of their edges")
    if not all(np.isfinite(own).all() and (np.diff(own) > 0).all() for own in bins.columns()):
        raise ValueError("edges of the bins are not finite numbers that increase")
    return bins


def describe_stats(stats: ColumnStats) -> dict[str, Any]:
    """Return statistics of columns as a dict of arrays: `stats_of_state` makes them again."""
    names = ("count", "mean", "var", "min", "max")
    state: dict[str, Any] = {name: getattr(stats, name) for name in names}
    state["count"] = state["count"].astype(np.int64)
    state["mean_low"] = np.broadcast_to(stats._mean_low, stats.mean.shape)
    if stats._scaled is not None:
        moments = stats._scaled._asdict()
        state["scaled"] = moments | {"exponent": moments["exponent"].astype(np.int64)}
    return state


def stats_of_state(state: Any) -> ColumnStats:
    """Make the statistics of columns of what `describe_stats` gave, which is checked."""
    scaled = state.get("scaled") if isinstance(state, dict) else None
    plain = {n: v for n, v in state.items() if n != "scaled"} if scaled is not None else state
    dtypes = {"count": "i8", "mean": "f8", "var": "f8", "min": "f8", "max": "f8", "mean_low": "f8"}
    own = _columns(plain, dtypes)
    moments = None
    if scaled is not None:
        of_scaled = {"mean": "f8", "low": "f8", "var": "f8", "exponent": "i8"}
        parts = _columns(scaled, of_scaled, len(own["mean"]))
        moments = Moments(**parts | {"exponent": parts["exponent"].astype(np.int32)})
    count, mean, var, least, largest, low = own.values()
    return ColumnStats(count, mean, var, least, largest, low, moments)


def _columns(state: Any, dtypes: Mapping[str, str], count: int | None = None) -> dict[str, Array]:
    """Check that these arrays are there, with an element for each column; return them in order."""
    if not isinstance(state, dict) or set(state) != set(dtypes):
        raise TypeError(f"of columns there are {', '.join(dtypes)}, not {state!r:.50}")
    for name, dtype in dtypes.items():
        array = state[name]
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
            raise TypeError(f"{name} of the columns is no array of {np.dtype(dtype)}")
        count = len(array) if count is None else count
        if len(array) != count:
            raise ValueError(f"{name} is of {len(array)} columns, not of {count}")
    return {name: state[name] for name in dtypes}
