"""What scikit-learn's perceptrons learn from: rows, their batches, and the loss of these."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse

from dlcore._native.compressed_rows import CompressedRows, as_compressed_rows
from dlcore.nn._layers import Linear
from dlcore.optim._sgd import SGD
from dlcore.training import _batches as batches
from dlcore.training._dataset import Dataset, all_loss_weights
from dlcore.training._interruption import look_up
from dlcore.training._rows import dense, rows_at_once
from dlcore.training._step import TrainingStep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential
    from dlcore.training._batches import BatchPlan

# Rows that go through the network at once for lbfgs, and their values.
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

    def rows(self, outputs: Array, targets: Array) -> Array:
        """Compute the loss of each row, in float64."""
        losses = self.loss.value(outputs, targets, reduction="none").reshape(len(targets), -1)
        rows: Array = losses.mean(1, dtype=np.float64) * self.value_scale
        if self.constant is not None:
            rows += self.constant(targets)
        return rows


def as_rows(X: Any, targets: Array, weight: Array | None, dtype: np.dtype[Any]) -> Dataset:
    """Return rows as native steps take them."""
    if scipy.sparse.issparse(X):
        X = compressed(X, dtype)
    else:
        X = np.asarray(X, dtype)
        if not X.flags.aligned:
            X = X.copy()
    return Dataset(X, targets, None if weight is None else weight.astype(np.float64))


def compressed(X: Any, dtype: np.dtype[Any]) -> CompressedRows:
    """Return a sparse X as native steps take it."""
    X = X if X.dtype == dtype else X.astype(dtype)
    return as_compressed_rows(X, "X", dtype, None)


def is_plain_csr(X: Any, model: Sequential) -> bool:
    """Whether X is a CSR matrix to which scikit-learn's checks, most of a call, have nothing to say."""
    return bool(
        type(X) in (scipy.sparse.csr_array, scipy.sparse.csr_matrix)
        and X.dtype == model.dtype
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == model.in_features
        and np.isfinite(X.data).all()
    )


class ScaledBatches(batches.Batches):
    """Mini-batches whose losses and gradients are scaled as scikit-learn's are."""

    _lengths: Array  # places of rows in each batch

    def _begin(self, loss: ScaledLoss, rows: Dataset, index: Array | None) -> None:
        self._given = np.arange(rows.x.shape[0]) if index is None else index
        self._loss = loss
        self._constant: Array | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self._lengths.sum())

    @property
    def normalizer(self) -> float:
        """The weight of all rows."""
        return float(
            np.add.reduceat(
                all_loss_weights(self._loss.loss, self._rows)[self._index], self._starts
            ).sum()
        )

    def inputs(self) -> Iterator[Array]:
        """Give X of all rows, some at a time."""
        x: Any = self._rows.x
        step = rows_at_once(x, _ROWS_AT_ONCE)
        for start in range(0, len(self._given), step):
            yield dense(x[self._given[start : start + step]])

    def _draw_order(self, rng: Any) -> Array:
        """Shuffle the order of the epoch before, as scikit-learn does."""
        if rng is not None:
            places = np.arange(len(self._index))
            rng.shuffle(places)
            self._index = self._index[places]
        return self._index

    def epoch(self, rng: Any, key: int) -> Iterator[BatchPlan]:
        """Draw the batches of an epoch, whose gradients are scaled as scikit-learn's are."""
        for plan in super().epoch(rng, key):
            plan.accumulation_weights = self._loss.gradient_scale * plan.accumulation_weights
            yield plan

    def all_rows(self) -> BatchPlan:
        """Return the batches of one update by all rows."""
        plan = next(super().epoch(None, 0))
        parts = plan.normalizers / float(plan.normalizers.sum())
        scaled = self._loss.gradient_scale * parts * (plan.normalizers > 0)
        return replace(plan, accumulation_weights=scaled)

    def scaled_losses(self, plan: BatchPlan, losses: Array) -> Array:
        """Return the mean loss of each batch as scikit-learn scales it."""
        scaled: Array = losses * self._loss.value_scale
        if self._loss.constant is None:
            return scaled
        if self._constant is None:
            self._constant = self._loss.constant(self._rows.y)
        values: Array = self._constant
        if self._rows.weight is not None:
            values = values * self._rows.weight
        sums = plan.sums(values[plan.order])
        if plan.ranks is not None:
            sums = plan.ranks.sum(sums)
        return scaled + sums / np.where(plan.normalizers > 0, plan.normalizers, 1)

    def sum_of_losses(
        self, plan: BatchPlan, losses: Array, squares: Array | None, alpha: float
    ) -> tuple[float, float]:
        """Return the sum over rows of the losses of batches, the L2 penalty included, and the rows.

        The batches are those of an epoch or, where ranks learn apart, some of this rank's.
        """
        if len(losses) < len(plan):  # a callback has stopped the fit
            plan = next(plan.parts(len(losses)))
            squares = squares if squares is None else squares[: len(losses)]
        losses = self.scaled_losses(plan, losses)
        if squares is not None:
            losses += (
                0.5 * alpha * squares / np.where(plan.normalizers > 0, plan.normalizers, np.inf)
            )
        sizes = np.diff(plan.offsets).astype(np.float64)
        if not self.is_apart:
            sizes = self._lengths[: len(losses)]
        return float(losses @ sizes), float(sizes.sum())


class Batches(ScaledBatches):
    """Mini-batches in scikit-learn's order, with its mean of their losses; of ``index`` or all rows."""

    def __init__(
        self, loss: ScaledLoss, rows: Dataset, batch_size: int, index: Array | None = None
    ) -> None:
        self._begin(loss, rows, index)
        super().__init__(loss.loss, rows, self._given, int(batch_size), 1)
        self._lengths = np.diff(self._starts, append=len(self._index)).astype(np.float64)


class FullBatch:
    """The loss of all rows, with its L2 penalty, and its gradient."""

    def __init__(self, model: Sequential, rows: Dataset, loss: ScaledLoss, alpha: float) -> None:
        self._model = model
        most = _ROWS_AT_ONCE
        if isinstance(rows.x, np.ndarray):
            most = max(1, min(most, _VALUES_AT_ONCE // rows.x.shape[1]))
        self._batches = Batches(loss, rows, min(most, rows.x.shape[0]))
        self._factor = alpha / self._batches.normalizer
        self._step = TrainingStep(model, loss.loss, SGD(model.parameters()), accumulate=True)
        gradients = model._split(self._step.gradient)
        self._weights = [
            (layer.weight, gradients[f"{i}.weight"])
            for i, layer in enumerate(model)
            if isinstance(layer, Linear)
        ]

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """Compute both for parameters laid out as ``model.flat``."""
        look_up()
        self._model.flat[...] = parameters
        try:
            plan = self._batches.all_rows()
            losses = self._batches.scaled_losses(plan, self._step.compute_gradient(plan))
        except FloatingPointError:
            return math.inf, np.zeros(parameters.shape)
        loss = float(losses @ plan.normalizers / plan.normalizers.sum())
        for weight, gradient in self._weights:
            gradient += weight.dtype.type(self._factor) * weight
            values = weight.ravel(order="K")
            loss += 0.5 * self._factor * float(np.vdot(values, values))
        return loss, self._step.gradient.astype(np.float64)
