"""The training step of a feed-forward network, which run in C++.

Here layers, losses and optimizers are described to the native code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dlcore._native import dispatch
from dlcore.functional._clipping import clip_grad_norm, clip_grad_value
from dlcore.nn._inference import describe
from dlcore.nn._layers import Layer, Linear
from dlcore.nn._losses import native_loss
from dlcore.optim._adam import Adam
from dlcore.optim._optimizer import set_lrs
from dlcore.optim._sgd import SGD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.training._batches import BatchPlan
    from dlcore.training._dataset import Dataset

# A network that diverges is found by its loss, not by a warning from the middle of a step.
_quiet = np.errstate(all="ignore")


class Network(Protocol):
    """What a step needs of a model; `dlcore.Sequential` is one."""

    layers: tuple[Layer, ...]
    flat: Array

    @property
    def in_features(self) -> int | None:
        """Features of x."""

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the parameters and running statistics to leave as they are."""

    def _split(self, flat: Array) -> dict[str, Array]:
        """Split an array laid out as ``flat`` into a view for each parameter."""


class Optimizer(Protocol):
    """What updates parameters; `dlcore.Adam` is one."""

    lr: float

    def step(self, grads: Sequence[Any]) -> None:
        """Update the parameters in place."""


def trained_names(model: Network, optimizer: Optimizer) -> list[str]:
    """Name the parameters that the optimizer holds, in its order.

    Raises ValueError if it holds an array that is no parameter of the model.
    """
    own = {_place(array): name for name, array in model._split(model.flat).items()}
    held = [
        _place(array) for array in getattr(optimizer, "params", model._split(model.flat).values())
    ]
    if not own.keys() >= set(held):
        raise ValueError(
            "the optimizer holds an array that is no parameter of this model; "
            "make it of model.parameters()"
        )
    return [own[place] for place in held]


class TrainingStep:
    """Mini-batch after mini-batch: forward, loss, backward, update, without returning to Python.

    A loss or an optimizer of the user's own is called between native passes forward and backward.

    Parameters
    ----------
    model : Network
        Its parameters are updated in place, but for those that are frozen now.
    loss : Loss
        What to minimize.
    optimizer : Optimizer
        What updates the parameters.
    accumulate : bool
        Whether an update may take several batches.
    max_norm : float, optional
        Largest norm of the gradients of an update,
    clip_value : float, optional
        or largest absolute value of their elements.
    average : (ndarray, float), optional
        Where running averages of the parameters go, laid out as ``model.flat``, and their decay:
        after each update ``average = decay * average + (1 - decay) * parameters``.
    """

    def __init__(
        self,
        model: Network,
        loss: Loss,
        optimizer: Optimizer,
        *,
        accumulate: bool = False,
        max_norm: float | None = None,
        clip_value: float | None = None,
        average: tuple[Array, float] | None = None,
    ) -> None:
        names = trained_names(model, optimizer)
        if model.frozen.issuperset(names):
            raise ValueError("there is nothing to train: all that the optimizer holds is frozen")
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._max_norm, self._clip_value = max_norm, clip_value
        self._average: Array | None = None
        self._decay = 0.0
        if average is not None:
            self._average, self._decay = average
        averages = {} if self._average is None else model._split(self._average)
        self._grad = np.zeros_like(model.flat)
        grads = model._split(self._grad)
        self._grads = [grads[name] for name in names]
        groups = (
            optimizer._parameter_groups()
            if hasattr(optimizer, "_parameter_groups")
            else [0] * len(names)
        )
        self._trained = [
            (i, *_position(name), groups[i], averages.get(name))
            for i, name in enumerate(names)
            if name not in model.frozen
        ]
        self._learning = {name: grads[name] for name in names if name not in model.frozen}
        self._accumulate = accumulate
        self._native: Any = None
        self._made_for: tuple[Any, ...] = ()
        self._capacity = 0  # most rows of a batch
        self._is_native = False
        self._pending = False  # whether gradients wait for an update

    def width_of(self, rows: Dataset) -> int:
        """Return the number of features of the outputs."""
        return _last_width(self._model, rows.x.shape[1])

    @property
    def gradient(self) -> Array:
        """The gradient of the last `compute_gradient`, laid out as ``model.flat``."""
        return self._grad

    @_quiet
    def compute_gradient(self, plan: BatchPlan) -> Array:
        """Compute the loss of each batch and the sum of their gradients, without an update.

        Needs ``accumulate``. Raises FloatingPointError for a loss that is not finite.
        """
        self._make_native(plan)
        self._native.forget()
        try:
            return np.array([self._go_forth_and_back(plan, i)[0] for i in range(len(plan))])
        finally:
            self._native.forget()
            self._pending = False

    def _make_native(self, plan: BatchPlan) -> None:
        """Make the native step, for batches such as these, unless it is there."""
        rows, model = plan.rows, self._model
        made_for = (rows.x.shape[1], rows.y.ndim, rows.y.dtype.kind)
        if made_for == self._made_for and plan.batch_size <= self._capacity:
            return
        loss = native_loss(self._loss, self.width_of(rows), rows.y, model.flat.dtype)
        self._is_native = loss is not None and type(self._optimizer).step in _NATIVE_STEPS
        self._native = dispatch.core.TrainingStep(
            model.flat.dtype == np.float64,
            describe(model.layers, rows.x.shape[1], model.frozen),
            [
                tuple(self._learning.get(f"{i}.{name}") for name in layer._parameter_shapes)
                for i, layer in enumerate(model.layers)
            ],
            plan.batch_size,
            loss,
            self._accumulate,
        )
        self._made_for, self._capacity = made_for, plan.batch_size

    def run(
        self,
        plan: BatchPlan,
        *,
        losses: Array,
        squares: Array | None = None,
        lrs: Array | None = None,
        seen: Array | None,
        seconds: float,
        between: Callable[[int], object],
    ) -> int:
        """Learn from the batches of an epoch; return how many updates were made.

        Parameters
        ----------
        plan : BatchPlan
            The batches.
        losses : ndarray of float64, shape (batches,)
            Where the loss of each batch goes.
        squares : ndarray of float64, shape (batches,), optional
            Where the sum of the squares goes of all parameters with a penalty, before each batch.
        lrs : ndarray of float64, shape (updates, groups), optional
            The learning rates of each update; by default those of the optimizer.
        seen : ndarray of shape (rows, out_features), optional
            Where the outputs go that each batch had before its update.
        seconds : float
            How often to look at Python between two batches.
        between : callable
            Is called then with the number of batches that are done; the model must not be touched.
            What it raises ends the run after these batches, as Ctrl-C does.

        Raises
        ------
        FloatingPointError
            The loss, the gradient or the updated parameters are not finite. The parameters are
            those from before that step.
        IndexError
            A label is out of range.
        """
        self._make_native(plan)
        if not self._is_native:
            updates = 0
            for batch in range(len(plan)):
                if lrs is not None:
                    set_lrs(self._optimizer, lrs[updates])
                losses[batch] = self._run_one(plan, batch, seen)
                updates += plan.completes_update(batch) and not self._pending
                between(batch + 1)
            return updates
        optimizer: Any = self._optimizer
        state = optimizer.state_arrays()
        trained = [
            (*described, *(arrays[i] for arrays in state.values()))
            for i, *described in self._trained
        ]
        done = np.zeros(2, np.int64)  # the next batch, and the updates that were made
        try:
            fault = self._native.run(
                {
                    "x": _native_rows(plan.rows.x),
                    "y": plan.rows.y,
                    "weight": plan.rows.weight,
                    "order": plan.order,
                    "batch_size": plan.batch_size,
                    "masses": plan.normalizers,
                    "shares": plan.accumulation_weights,
                    "factors": plan.factors,
                    "accumulate": plan.accumulate,
                    "key": plan.key,
                    "rules": optimizer.rules(),
                    "trained": trained,
                    "lrs": lrs,
                    "max_norm": self._max_norm or 0.0,
                    "clip_value": self._clip_value or 0.0,
                    "decay": self._decay,
                    "seen": seen,
                    "losses": losses,
                    "squares": squares,
                    "done": done,
                    "seconds": seconds,
                    "between": between,
                }
            )
        finally:  # Ctrl-C comes up as soon as Python goes on
            following, updates = done.tolist()
            optimizer._advance(updates, state)
        if fault == "label":
            raise IndexError(f"a label of step {following + 1} is out of range")
        if fault:
            raise Diverged(following, _FAULTS[fault].format(losses[following]))
        return int(updates)

    @_quiet
    def _run_one(self, plan: BatchPlan, batch: int, seen: Array | None) -> float:
        try:
            loss, outputs = self._go_forth_and_back(plan, batch)
            if plan.completes_update(batch) and self._pending:
                self._update()
        except FloatingPointError as error:
            self._native.undo()
            raise Diverged(batch, str(error)) from None
        if seen is not None:
            start = batch * plan.batch_size
            seen[start : start + len(outputs)] = outputs
        return loss

    def _go_forth_and_back(self, plan: BatchPlan, batch: int) -> tuple[float, Array]:
        """Return the loss of a batch and the outputs, with the gradient in ``_grad``."""
        numbers = plan.indices(batch)
        outputs = np.empty((len(numbers), self.width_of(plan.rows)), self._model.flat.dtype)
        key = (plan.key + batch * 0x9E3779B97F4A7C15) % 2**64
        self._native.forward(_native_rows(plan.rows.x), numbers, outputs, key)
        if not plan.accumulation_weights[batch] > 0:
            return 0.0, outputs
        weight = plan.rows.weight
        if weight is not None:
            weight = weight[numbers] / plan.normalizers[batch]
        y = plan.rows.y[numbers]
        if plan.factors is None:
            loss, grad = self._loss_and_grad(outputs, y, weight)
        else:  # some targets are missing
            of_rows = np.full(len(y), 1 / len(y)) if weight is None else weight
            loss, grad = self._loss_and_grad(outputs, y, of_rows, factors=plan.factors[batch])
        if plan.accumulation_weights[batch] != 1:
            grad = grad * grad.dtype.type(plan.accumulation_weights[batch])
        self._native.backward(self._checked(grad, outputs))
        self._pending = True
        return loss, outputs

    @staticmethod
    def _checked(grad: Array, outputs: Array) -> Array:
        """Make a gradient of the user's own what the native step takes."""
        if np.shape(grad) != outputs.shape:
            raise ValueError(
                f"value_and_grad: the gradient must have the shape of the outputs, "
                f"{outputs.shape}, got {np.shape(grad)}"
            )
        return np.ascontiguousarray(grad, outputs.dtype)

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
            raise FloatingPointError(_FAULTS["loss"].format(loss))
        return loss, grad

    def _update(self) -> None:
        if self._max_norm is not None:
            clip_grad_norm(self._grads, self._max_norm)
        if self._clip_value is not None:
            clip_grad_value(self._grads, self._clip_value)
        if not np.isfinite(self._grad).all():
            raise FloatingPointError(_FAULTS["gradient"])
        parameters = self._model.flat
        before = parameters.copy()
        own, old = self._model._split(parameters), self._model._split(before)
        try:
            self._optimizer.step(self._grads)
            for name in self._model.frozen & own.keys():
                np.copyto(own[name], old[name])
            self._keep_max_norms()
            if not np.isfinite(parameters).all():
                raise FloatingPointError(_FAULTS["parameters"])
        except BaseException:  # Ctrl-C as well: an update is made whole or not at all
            np.copyto(parameters, before)
            raise
        if self._average is not None:
            averages = self._model._split(self._average)
            for name in self._learning:  # the others keep every bit, that of -0.0 as well
                averages[name] += (own[name] - averages[name]) * (1 - self._decay)
        self._native.forget()
        self._pending = False

    def _keep_max_norms(self) -> None:
        for i, layer in enumerate(self._model.layers):
            if isinstance(layer, Linear) and layer.max_norm and f"{i}.weight" in self._learning:
                norms = np.linalg.norm(layer.weight.astype(np.float64), axis=1, keepdims=True)
                layer.weight[...] *= np.where(norms > layer.max_norm, layer.max_norm / norms, 1.0)


# The updates that native steps know; a class of the user's own may make another one.
_NATIVE_STEPS = (SGD.step, Adam.step)


_FAULTS = {
    "loss": "the loss is {}",
    "gradient": "the gradient is not finite",
    "parameters": "the updated parameters are not finite",
}


class Diverged(FloatingPointError):
    """What happened in which batch."""

    def __init__(self, batch: int, what: str) -> None:
        super().__init__(what)
        self.batch = batch


def _position(name: str) -> tuple[int, int]:
    """Split the name of a parameter into its layer and its place among the layer's."""
    layer, _, kind = name.partition(".")
    return int(layer), ("weight", "bias").index(kind)


def _native_rows(x: Any) -> Any:
    """Return rows as native steps take them: an array, or the parts of a sparse matrix."""
    return x if isinstance(x, np.ndarray) else (x.data, x.indices, x.indptr, x.shape[1])


def _last_width(model: Network, width: int) -> int:
    widths = (layer.out_features for layer in reversed(model.layers))
    return next((w for w in widths if w is not None), width)


def _place(array: Array) -> tuple[int, tuple[int, ...]]:
    return array.ctypes.data, array.shape
