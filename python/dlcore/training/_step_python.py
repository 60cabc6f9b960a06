"""The training step with a loss or an optimizer of the user's own.

It is plain Python between native passes forward and backward, which also bring what follows an
update: limits on the norms of weights and running averages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from dlcore._common.agreement import agree_on
from dlcore.functional._clipping import clip_grad_norm, clip_grad_value
from dlcore.nn._codes import check_codes
from dlcore.optim._optimizer import NativeOptimizer, set_lrs
from dlcore.training._rows import dense

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore._native import _core
    from dlcore._native.specs import CompressedRowsSpec, ParameterSpec
    from dlcore.training._batches import BatchPlan

# What can go wrong with the numbers of a step, and what is said of it.
FAULTS = {
    "loss": "the loss is {}",
    "gradient": "the gradient is not finite",
    "parameters": "the updated parameters are not finite",
}


class Diverged(FloatingPointError):
    """What happened in which batch."""

    def __init__(self, batch: int, what: str) -> None:
        super().__init__(what)
        self.batch = batch


def raise_bad_code(layers: Sequence[Any], plan: BatchPlan, batch: int) -> NoReturn:
    """Raise the IndexError that names the value of a batch that is no category."""
    rows, indices = plan.rows, plan.indices(batch)
    check_codes(layers, dense(rows.x[indices]), f"{rows.prefix}x", indices)
    raise AssertionError("all values are categories")


class PythonStep:
    """Mini-batch after mini-batch, with the loss and the optimizer called in Python.

    Parameters
    ----------
    native : _core.TrainingStep
        The passes forward and backward,
    layers : sequence of Layer
        through these.
    flat : ndarray
        All parameters in one array.
    frozen : sequence of ndarray
        The parameters in it that stay as they are, whatever the optimizer does.
    gradient : ndarray
        The gradient, laid out as ``flat``.
    loss : Loss
    optimizer : Optimizer
    grads : sequence of ndarray
        The gradients in ``gradient`` of the parameters that the optimizer holds, in its order; None
        of one that is frozen.
    width : int
        Features of the outputs.
    members : int
        Rows of the outputs for each row, one for each member of an ensemble.
    """

    def __init__(
        self,
        native: _core.TrainingStep,
        layers: Sequence[Any],
        *,
        flat: Array,
        frozen: Sequence[Array],
        gradient: Array,
        loss: Any,
        optimizer: Any,
        grads: Sequence[Array | None],
        width: int,
        members: int,
    ) -> None:
        self._native, self._layers = native, layers
        self._flat, self._frozen = flat, frozen
        self._gradient, self._grads = gradient, grads
        self._loss, self._optimizer = loss, optimizer
        self._width, self._members = width, members

    def forget(self) -> None:
        """Forget gradients that wait for an update."""
        self._native.forget()

    def run(
        self,
        plan: BatchPlan,
        x: Array | CompressedRowsSpec,
        *,
        parameters: tuple[ParameterSpec, ...],
        max_norm: float | None,
        clip_value: float | None,
        average_decay: float,
        losses: Array,
        squares: Array | None,
        lrs: Array | None,
        outputs: Array | None,
        between: Callable[[int], object],
    ) -> int:
        """Learn from the batches of an epoch; return how many updates were made."""
        updates = 0
        for batch in range(len(plan)):
            updated = False
            # A network that diverges is found by its loss, not by a warning from inside a step.
            with np.errstate(all="ignore"):
                try:
                    if plan.ranks is None:
                        losses[batch], of_batch = self.compute_gradient(plan, x, batch)
                        has_gradient = self._native.is_pending
                    else:
                        losses[batch], of_batch, has_gradient = self._compute_together(
                            plan, x, batch
                        )
                    if plan.completes_update(batch) and has_gradient:
                        if plan.ranks is not None:
                            self._sum_gradient(plan)
                        if plan.gradient_scale != 1:
                            self._gradient *= self._gradient.dtype.type(plan.gradient_scale)
                        self._clip(max_norm, clip_value)
                        own = self._add_penalty(float(plan.normalizers[batch]))
                        if squares is not None:
                            squares[batch] = own
                        if lrs is not None:
                            set_lrs(self._optimizer, lrs[updates])
                        self._update(parameters, average_decay)
                        updated = True
                except FloatingPointError as error:
                    self._native.undo()
                    raise Diverged(batch, str(error)) from None
                except BaseException:  # Ctrl-C in the middle of a pass as well
                    self._native.undo()
                    self.forget()
                    raise
            if outputs is not None:
                members = of_batch.reshape(-1, self._members, self._width)
                outputs[plan.offsets[batch] : plan.offsets[batch + 1]] = members.mean(1)
            updates += updated
            between(batch + 1)
        return updates

    def _compute_together(
        self, plan: BatchPlan, x: Array | CompressedRowsSpec, batch: int
    ) -> tuple[float, Array, bool]:
        """Compute the gradient of the own rows of a batch.

        Return the loss of the batch on all ranks, the own outputs, and whether a gradient waits on
        any rank.
        """
        assert plan.ranks is not None
        error, loss, outputs = None, 0.0, np.empty((0, self._width), self._flat.dtype)
        try:
            loss, outputs = self.compute_gradient(plan, x, batch)
        except Exception as caught:  # noqa: BLE001 - raised on all ranks
            error = caught
        own = [loss, error is not None, self._native.is_pending]
        loss, failures, waiting = plan.ranks.sum(np.array(own, np.float64)).tolist()
        if failures:
            agree_on(plan.ranks, error)
        return loss, outputs, waiting > 0

    def _sum_gradient(self, plan: BatchPlan) -> None:
        """Add the gradients of all ranks, of which some may have no row of an update."""
        assert plan.ranks is not None
        if not self._native.is_pending:
            self._gradient[...] = 0
        self._gradient[...] = plan.ranks.sum(self._gradient)

    def compute_gradient(
        self, plan: BatchPlan, x: Array | CompressedRowsSpec, batch: int
    ) -> tuple[float, Array]:
        """Return the loss of a batch and its outputs; the gradient is added to those that wait."""
        indices = plan.indices(batch)
        outputs = np.empty((len(indices) * self._members, self._width), self._flat.dtype)
        if len(indices) == 0:  # all of its rows were left out
            return 0.0, outputs
        if not self._native.forward(x, indices, outputs, plan.key_of(batch)):
            raise_bad_code(self._layers, plan, batch)
        if not plan.accumulation_weights[batch] > 0:
            return 0.0, outputs
        weight = plan.rows.weight
        if weight is not None:
            weight = weight[indices] / plan.normalizers[batch]
        elif plan.ranks is not None:  # other rows of the batch are elsewhere
            weight = np.full(len(indices), 1 / plan.normalizers[batch])
        y = plan.rows.y[indices]
        if self._members > 1:
            y = np.repeat(y, self._members, axis=0)
            weight = None if weight is None else np.repeat(weight, self._members) / self._members
        if plan.factors is None:
            loss, grad = self._loss_and_grad(outputs, y, weight)
        else:  # some targets are missing
            of_rows = np.full(len(y), 1 / len(y)) if weight is None else weight
            loss, grad = self._loss_and_grad(outputs, y, of_rows, factors=plan.factors[batch])
        if plan.accumulation_weights[batch] != 1:
            grad = grad * grad.dtype.type(plan.accumulation_weights[batch])
        self._native.backward(_checked(grad, outputs))
        return loss, outputs

    def _loss_and_grad(
        self, outputs: Array, y: Array, weight: Array | None, **options: Any
    ) -> tuple[float, Array]:
        if weight is None:
            mean, grad = self._loss.value_and_grad(outputs, y)
            loss = float(mean)
        else:
            losses, grad = self._loss.value_and_grad(outputs, y, reduction="none", **options)
            values_of_row = losses.size // len(losses)
            grad = grad * (weight / values_of_row).astype(grad.dtype)[:, np.newaxis]
            loss = float(weight @ losses.reshape(len(losses), -1).mean(1, dtype=np.float64))
        if not np.isfinite(loss):
            raise FloatingPointError(FAULTS["loss"].format(loss))
        return loss, grad

    def _clip(self, max_norm: float | None, clip_value: float | None) -> None:
        if max_norm is not None:
            clip_grad_norm(self._grads, max_norm)
        if clip_value is not None:
            clip_grad_value(self._grads, clip_value)
        if not np.isfinite(self._gradient).all():
            raise FloatingPointError(FAULTS["gradient"])

    def _add_penalty(self, normalizer: float) -> float:
        """Add what an L2 penalty in the loss of a batch adds; return the squared norm it is of."""
        if not isinstance(self._optimizer, NativeOptimizer):
            return 0.0
        return self._optimizer._add_penalty(self._grads, normalizer)

    def _update(self, parameters: tuple[ParameterSpec, ...], average_decay: float) -> None:
        before = self._flat.copy()
        kept = [array.copy() for array in self._frozen]
        try:
            self._optimizer.step(self._grads)
            for array, old in zip(self._frozen, kept, strict=True):
                np.copyto(array, old)
            if not np.isfinite(self._flat).all():
                raise FloatingPointError(FAULTS["parameters"])
        except BaseException:  # Ctrl-C as well: an update is made whole or not at all
            np.copyto(self._flat, before)
            raise
        self._native.finish_update(parameters, average_decay)
        self.forget()


def _checked(grad: Array, outputs: Array) -> Array:
    """Make a gradient of the user's own what the native step takes."""
    if np.shape(grad) != outputs.shape:
        raise ValueError(
            f"value_and_grad: the gradient must have the shape of the outputs, "
            f"{outputs.shape}, got {np.shape(grad)}"
        )
    return np.ascontiguousarray(grad, outputs.dtype)
