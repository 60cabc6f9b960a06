"""Metrics of rows that come some at a time."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dlcore._common.protocols import Metric
    from dlcore._common.typing import Array


@dataclass(frozen=True)
class AccumulatedMetric:
    """A metric whose value follows from what is kept of the rows, some of them after the other.

    Parameters
    ----------
    begin : callable
        ``begin(y_true, outputs, weights or None) -> state`` of some rows; None for no row.
    merge : callable
        ``merge(state, state) -> state`` of both, in the order of the rows.
    compute : callable
        ``compute(state) -> float``.
    """

    begin: Callable[[Array, Array, Array | None], Any]
    merge: Callable[[Any, Any], Any]
    compute: Callable[[Any], float]

    def __call__(
        self, y_true: Array, outputs: Array, weight: Array | None = None, *, comm: Any = None
    ) -> float:
        """Compute the metric of all rows at once, those of all ranks of a communicator; NaN of none."""
        if comm is None:
            return self.of_state(self.begin(y_true, outputs, weight))
        ranks = Ranks(comm)
        with raised_on_all(ranks):
            state = self.begin(y_true, outputs, weight)
        return self.of_state(ranks.merged(state, self.join))

    def join(self, state: Any, following: Any) -> Any:
        """Merge two states, each of which may be None."""
        if state is None or following is None:
            return following if state is None else state
        return self.merge(state, following)

    def of_state(self, state: Any) -> float:
        """Compute the metric of what is kept; NaN of no rows."""
        return float("nan") if state is None else self.compute(state)


class Measurement:
    """The metrics of rows that come some at a time.

    Parameters
    ----------
    metrics : mapping of str to callable
        By name. Of one that is no `AccumulatedMetric` all outputs are kept.
    """

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self._metrics = {name: as_accumulated(metric) for name, metric in metrics.items()}
        self._states: dict[str, Any] = dict.fromkeys(metrics)

    def add(self, y_true: Array, outputs: Array, weight: Array | None) -> None:
        """Take further rows."""
        for name, metric in self._metrics.items():
            state = metric.begin(y_true, outputs, weight)
            self._states[name] = metric.join(self._states[name], state)

    def merge(self, ranks: Ranks) -> None:
        """Take the rows of all ranks, in their order, in the place of those of this one."""

        def join(states: dict[str, Any], following: dict[str, Any]) -> dict[str, Any]:
            return {
                name: metric.join(states[name], following[name])
                for name, metric in self._metrics.items()
            }

        self._states = ranks.merged(self._states, join)

    @property
    def has_rows(self) -> bool:
        """Whether there is a metric of any row."""
        return any(state is not None for state in self._states.values())

    def values(self) -> dict[str, float]:
        """Return the value of each metric for all rows so far."""
        return {name: metric.of_state(self._states[name]) for name, metric in self._metrics.items()}


def as_accumulated(metric: Metric) -> AccumulatedMetric:
    """Return a metric as one of rows that come some at a time."""
    if isinstance(metric, AccumulatedMetric):
        return metric
    return of_all_rows(metric)


def of_all_rows(
    metric: Callable[[Array, Array, Array | None], float],
    reduce: Callable[[Array], Array] = lambda outputs: outputs,
) -> AccumulatedMetric:
    """Make an accumulated metric of one that needs all rows, which are kept.

    ``reduce(outputs)`` is what it needs of the outputs.
    """

    def begin(y_true: Array, outputs: Array, weight: Array | None) -> list[Any]:
        return [(y_true, reduce(outputs), weight)]

    def compute(parts: list[Any]) -> float:
        true, outputs, weights = zip(*parts, strict=True)
        return float(metric(_joined(true), _joined(outputs), _joined_weights(weights, true)))

    return AccumulatedMetric(begin, operator.iadd, compute)


def of_loss(loss: Any) -> AccumulatedMetric:
    """Return a loss as a metric, by its ``means``."""

    def begin(y: Array, outputs: Array, weight: Array | None) -> list[tuple[Array, Array]] | None:
        means, weights = loss.means(outputs, y, weight)
        return [(means, weights)] if weights.any() else None

    def compute(state: list[tuple[Array, Array]]) -> float:
        if len(state) == 1:
            return float(state[0][0].sum())
        means, weights = map(np.array, zip(*state, strict=True))
        total = weights.sum(0)
        sums = np.multiply(means, weights, out=np.zeros_like(means), where=weights > 0).sum(0)
        return float(np.divide(sums, total, out=np.zeros_like(sums), where=total > 0).sum())

    return AccumulatedMetric(begin, operator.iadd, compute)


def _joined(parts: tuple[Array, ...]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined_weights(weights: tuple[Array | None, ...], of: Iterable[Array]) -> Array | None:
    """Join the weights of parts, 1 where a part has none; None where none has any."""
    if all(weight is None for weight in weights):
        return None
    pairs = zip(weights, of, strict=True)
    return _joined(tuple(np.ones(len(y)) if w is None else w for w, y in pairs))
