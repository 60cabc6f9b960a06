"""What scikit-learn's perceptrons learn from: rows, their batches, and the loss of these."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from dlcore.nn._layers import Linear
from dlcore.optim._sgd import SGD
from dlcore.training._batches import Batches, BatchPlan
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


class ScaledLoss(NamedTuple):
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


class PerceptronBatches(Batches):
    """Mini-batches in scikit-learn's order, and its mean of their losses; ``rows`` is their number."""

    def __init__(self, rows: Dataset, batch_size: int) -> None:
        n = self.rows = rows.x.shape[0]
        super().__init__(rows, np.arange(n), int(batch_size), accumulate=1)
        self._sizes = np.diff(self._starts, append=n).astype(np.float64)
        self._constant: Array | None = None

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
        return float(self._plan(self._index, 0).normalizers.sum())

    def _scaled_plan(
        self, scaled_loss: ScaledLoss, key: int, total: float | None = None
    ) -> BatchPlan:
        """Plan an epoch whose batches weigh alike, or as much as their share of a total."""
        plan = self._plan(self._index, key)
        weights = np.ones(len(plan)) if total is None else plan.normalizers / total
        weights = scaled_loss.gradient_scale * weights * (plan.normalizers > 0)
        return plan._replace(accumulation_weights=weights)

    def _constants(self, scaled_loss: ScaledLoss, normalizers: Array) -> Array | float:
        """Compute what each batch's mean loss has more, whatever the outputs are."""
        if scaled_loss.constant is None:
            return 0.0
        if self._constant is None:
            self._constant = scaled_loss.constant(self._rows.y)
        values: Array = self._constant
        if self._rows.weight is not None:
            values = values * self._rows.weight
        return np.add.reduceat(values[self._index], self._starts) / np.where(
            normalizers > 0, normalizers, 1
        )

    def run(
        self,
        step: TrainingStep,
        scaled_loss: ScaledLoss,
        rng: np.random.RandomState | None,
        key: int,
        alpha: float,
        learning_rates: ScheduledLearningRates,
    ) -> float:
        """Learn from all batches; return the mean of their losses, the penalty included."""
        if rng is not None:
            places = np.arange(self.rows)
            rng.shuffle(places)
            self._index = self._index[places]
        plan = self._scaled_plan(scaled_loss, key)
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
        losses = losses * scaled_loss.value_scale + self._constants(scaled_loss, plan.normalizers)
        if squares is not None:
            losses += (
                0.5 * alpha * squares / np.where(plan.normalizers > 0, plan.normalizers, np.inf)
            )
        return float(losses @ self._sizes / self._sizes.sum())

    def compute_gradient(self, step: TrainingStep, scaled_loss: ScaledLoss) -> float:
        """Compute the loss of all rows, and its gradient in the step's memory."""
        normalizers = self._plan(self._index, 0).normalizers
        total = float(normalizers.sum())
        losses = step.compute_gradient(self._scaled_plan(scaled_loss, 0, total))
        losses = losses * scaled_loss.value_scale + self._constants(scaled_loss, normalizers)
        return float(losses @ normalizers / total)


class FullBatch:
    """The loss of all rows, with its L2 penalty, and its gradient."""

    def __init__(
        self, model: Sequential, rows: Dataset, scaled_loss: ScaledLoss, alpha: float
    ) -> None:
        self._model, self._scaled_loss = model, scaled_loss
        self._batches = PerceptronBatches(rows, min(rows_at_once(rows.x), rows.x.shape[0]))
        self._factor = alpha / self._batches.normalizer
        self._step = TrainingStep(model, scaled_loss.loss, SGD(model.parameters()), accumulate=True)
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
            loss = self._batches.compute_gradient(self._step, self._scaled_loss)
        except FloatingPointError:
            return math.inf, np.zeros(parameters.shape)
        for weight, slope in self._weights:
            slope += weight.dtype.type(self._factor) * weight
            loss += 0.5 * self._factor * float(np.vdot(weight, weight))
        return loss, self._step.gradient.astype(np.float64)
