"""The steps that fitted normalizers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dlcore.export import _steps as kinds
from dlcore.preprocessing._quantile import QuantileNormalizer
from dlcore.preprocessing._robust import RobustNormalizer
from dlcore.preprocessing._scaling import MinMaxNormalizer, ZScoreNormalizer

if TYPE_CHECKING:
    # What may be put before a network.
    Map = kinds.Columns | kinds.SmoothClip | kinds.Quantiles


def of_normalizer(function: str, normalizer: Any) -> tuple[Map, ...]:
    """Describe a fitted normalizer."""
    known = MinMaxNormalizer | ZScoreNormalizer | RobustNormalizer | QuantileNormalizer
    if not isinstance(normalizer, known):
        raise TypeError(
            f"{function}: before a network go MinMaxNormalizer, ZScoreNormalizer, RobustNormalizer "
            f"and QuantileNormalizer, not {type(normalizer).__name__}; apply it to the rows before"
        )
    name = type(normalizer).__name__
    if not hasattr(normalizer, "stats_"):
        raise ValueError(f"{function}: the {name} is not fitted yet; call fit first")
    own: Any = normalizer._maps()[0]
    about = f"{function}: the {name}"
    if isinstance(normalizer, QuantileNormalizer):
        if not own.is_normal:
            raise TypeError(f"{about} has an export for a normal distribution alone")
        if own.exponent is not None:
            raise kinds.beyond_float64(about)
        return (kinds.Quantiles(own.values),)
    if isinstance(normalizer, RobustNormalizer):
        columns = kinds.Columns.of(own.columns, about)
        return (columns, kinds.SmoothClip(own.bound)) if own.bound else (columns,)
    return (kinds.Columns.of(own, about),)


def first_columns(steps: tuple[Map, ...], count: int) -> tuple[Map, ...]:
    """Return steps over the first columns alone."""
    made: list[Map] = []
    for step in steps:
        if isinstance(step, kinds.Columns):
            subtract, multiply, add = (
                own[:count] for own in (step.subtract, step.multiply, step.add)
            )
            made.append(kinds.Columns(subtract, multiply, add, step.low, step.high))
        elif isinstance(step, kinds.Quantiles):
            made.append(kinds.Quantiles(step.values[:, :count]))
        else:
            made.append(step)
    return tuple(made)


def width_of(step: Map) -> int | None:
    """Return the columns that a step is of; None for any number."""
    if isinstance(step, kinds.Columns):
        return len(step.add)
    return step.values.shape[1] if isinstance(step, kinds.Quantiles) else None
