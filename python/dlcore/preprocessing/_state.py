"""Normalizers as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.functional._column_stats import ColumnExtremes, ColumnStats, Moments
from dlcore.preprocessing._scaling import MinMaxNormalizer, ZScoreNormalizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array

NORMALIZERS: dict[str, Any] = {kind.__name__: kind for kind in (MinMaxNormalizer, ZScoreNormalizer)}
_OPTIONS = {
    "MinMaxNormalizer": ("feature_range", "clip"),
    "ZScoreNormalizer": ("with_mean", "with_std"),
}


def describe_normalizer(normalizer: Any) -> dict[str, Any]:
    """Return a normalizer as dicts, numbers and arrays: `normalizer_of` makes it again."""
    names = _OPTIONS[type(normalizer).__name__]
    state: dict[str, Any] = {"options": {name: getattr(normalizer, name) for name in names}}
    if hasattr(normalizer, "stats_"):
        stats = normalizer.stats_
        of = describe_stats if isinstance(stats, ColumnStats) else ColumnExtremes._asdict
        state |= {"rows": int(normalizer.n_samples_seen_), "columns": of(stats)}
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
    if not isinstance(options, dict) or set(options) != set(_OPTIONS[name]):
        raise TypeError(f"{name} has the options {options!r:.50}")
    normalizer = kind(**options)
    if any(getattr(normalizer, own) != value for own, value in options.items()):
        raise ValueError(f"{name} has the options {options!r:.50}")
    if "columns" in state:
        rows, columns = state["rows"], state["columns"]
        if type(rows) is not int or rows < 1:
            raise ValueError(f"{name} has seen {rows!r:.50} rows")
        if kind is ZScoreNormalizer:
            stats: Any = stats_of_state(columns)
        else:
            stats = ColumnExtremes(*_columns(columns, {"min": "f8", "max": "f8"}).values())
        normalizer._take(stats, rows)
    return normalizer


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
