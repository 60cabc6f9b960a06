"""What scikit-learn's perceptrons learn from: rows, their batches, and the loss of these."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from dlcore.nn._layers import Linear
from dlcore.optim._sgd import SGD
from dlcore.training._batches import BatchPlan
from dlcore.training._dataset import Dataset
from dlcore.training._step import TrainingStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential
    from dlcore.training._learning_rate import ScheduledLearningRates

# Rows that go through the network at once where they are sparse, or for lbfgs, and their values.
_ROWS_AT_ONCE, _VALUES_AT_ONCE = 4096, 2**23


class Objective(NamedTuple):
    """What is minimized: a loss of outputs (N, k) and how scikit-learn scales it.

    ``targets(y)`` are what the loss takes for the y of ``_validate_input``, ``constant(targets)``
    what each row adds to the loss whatever the outputs are.
    """

    loss: Loss
    value_scale: float = 1.0
    gradient_scale: float = 1.0
    constant: Any = None

    def mean(self, outputs: Array, targets: Array, weight: Array | None) -> float:
        """Compute the mean loss of rows."""
        losses = self.loss.value(outputs, targets, reduction="none").reshape(len(targets), -1)
        rows = losses.mean(1, dtype=np.float64) * self.value_scale
        if self.constant is not None:
            rows += self.constant(targets)
        return float(np.average(rows, weights=weight))


def as_rows(X: Any, targets: Array, weight: Array | None, dtype: np.dtype[Any]) -> Dataset:
    """Return rows as native steps take them."""
    if scipy.sparse.issparse(X):
        X = X.tocsr().astype(dtype, copy=False)
    else:
        X = np.asarray(X, dtype)
        if not X.flags.aligned:
            X = X.copy()
    return Dataset(X, targets, None if weight is None else weight.astype(np.float64))


def rows_at_once(X: Any) -> int:
    return max(1, min(_ROWS_AT_ONCE, _VALUES_AT_ONCE // X.shape[1]))


class Batches:
    """Mini-batches in scikit-learn's order, and its mean of their losses; ``rows`` is their number."""

    def __init__(self, rows: Dataset, batch_size: int) -> None:
        self._rows, self._batch_size = rows, int(batch_size)
        n = self.rows = rows.x.shape[0]
        self._order = np.arange(n)
        self._starts = np.arange(0, n, self._batch_size)
        self._sizes = np.diff(self._starts, append=n).astype(np.float64)
        self._constant: Array | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def inputs(self) -> Iterator[Array]:
        """Give X of all rows, some at a time."""
        x: Any = self._rows.x
        step = rows_at_once(x)
        for start in range(0, x.shape[0], step):
            some = x[start : start + step]
            yield some.toarray() if scipy.sparse.issparse(some) else some

    @property
    def normalizer(self) -> float:
        """The weight of all rows."""
        return float(self._normalizers().sum())

    def _normalizers(self) -> Array:
        weight = self._rows.weight
        return self._sizes if weight is None else np.add.reduceat(weight[self._order], self._starts)

    def _plan(self, objective: Objective, key: int, total: float | None = None) -> BatchPlan:
        normalizers = self._normalizers()
        accumulation_weights = objective.gradient_scale * (
            np.ones_like(normalizers) if total is None else normalizers / total
        )
        return BatchPlan(
            self._rows,
            self._order,
            self._batch_size,
            normalizers,
            accumulation_weights * (normalizers > 0),
            1,
            key,
        )

    def _constants(self, objective: Objective, normalizers: Array) -> Array | float:
        """Compute what each batch's mean loss has more, whatever the outputs are."""
        if objective.constant is None:
            return 0.0
        if self._constant is None:
            self._constant = objective.constant(self._rows.y)
        values: Array = self._constant
        if self._rows.weight is not None:
            values = values * self._rows.weight
        return np.add.reduceat(values[self._order], self._starts) / np.where(
            normalizers > 0, normalizers, 1
        )

    def run(
        self,
        step: TrainingStep,
        objective: Objective,
        rng: np.random.RandomState | None,
        key: int,
        alpha: float,
        learning_rates: ScheduledLearningRates,
    ) -> float:
        """Learn from all batches; return the mean of their losses, the penalty included."""
        if rng is not None:
            places = np.arange(len(self._order))
            rng.shuffle(places)
            self._order = self._order[places]
        plan = self._plan(objective, key)
        losses = np.zeros(len(plan))
        squares = np.zeros(len(plan)) if alpha else None
        lrs = learning_rates.of_updates(len(plan))
        updates = step.run(
            plan,
            losses=losses,
            squares=squares,
            lrs=lrs,
            outputs=None,
            seconds=0.1,
            between=lambda _: None,
        )
        learning_rates.end_updates(updates, lrs)
        losses = losses * objective.value_scale + self._constants(objective, plan.normalizers)
        if squares is not None:
            losses += (
                0.5 * alpha * squares / np.where(plan.normalizers > 0, plan.normalizers, np.inf)
            )
        return float(losses @ self._sizes / self._sizes.sum())

    def compute_gradient(self, step: TrainingStep, objective: Objective) -> float:
        """Compute the loss of all rows, and its gradient in the step's memory."""
        normalizers = self._normalizers()
        total = float(normalizers.sum())
        losses = step.compute_gradient(self._plan(objective, 0, total))
        losses = losses * objective.value_scale + self._constants(objective, normalizers)
        return float(losses @ normalizers / total)


class FullBatch:
    """The loss of all rows, with its L2 penalty, and its gradient."""

    def __init__(
        self, model: Sequential, rows: Dataset, objective: Objective, alpha: float
    ) -> None:
        self._model, self._objective = model, objective
        self._batches = Batches(rows, min(rows_at_once(rows.x), rows.x.shape[0]))
        self._factor = alpha / self._batches.normalizer
        self._step = TrainingStep(model, objective.loss, SGD(model.parameters()), accumulate=True)
        slopes = model._split(self._step.gradient)
        self._weights = [
            (layer.weight, slopes[f"{i}.weight"])
            for i, layer in enumerate(model)
            if isinstance(layer, Linear)
        ]

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Compute both for parameters laid out as ``model.flat``."""
        self._model.flat[...] = parameters
        try:
            loss = self._batches.compute_gradient(self._step, self._objective)
        except FloatingPointError:
            return math.inf, np.zeros(parameters.shape)
        for weight, slope in self._weights:
            slope += weight.dtype.type(self._factor) * weight
            loss += 0.5 * self._factor * float(np.vdot(weight, weight))
        return loss, self._step.gradient.astype(np.float64)
