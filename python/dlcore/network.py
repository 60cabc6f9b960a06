"""The training step of a feed-forward network, made of the kernels.

All that touches the numbers of a network is here: the pass forward, the pass backward and the
update. Buffers are allocated once, for the largest batch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from . import activations
from .layers import Activation, Layer, Linear
from .optimizers import clip_grad_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._typing import Array
    from .objectives import Loss

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
        """Names of the parameters to leave as they are."""

    def split(self, flat: Array) -> dict[str, Array]:
        """Split an array laid out as ``flat`` into a view for each parameter."""


class Optimizer(Protocol):
    """What updates parameters; `dlcore.Adam` is one."""

    lr: float

    def step(self, grads: Sequence[Any]) -> None:
        """Update the parameters in place."""


@_quiet
def infer(layers: Sequence[Layer], x: Array) -> Array:
    """Compute the outputs of the layers for x of shape (N, features), in a new array."""
    y = x
    for layer in layers:
        if isinstance(layer, Linear):
            y = y @ layer.weight.T
            if layer.bias is not None:
                y += layer.bias
        elif isinstance(layer, Activation):
            kernel = getattr(activations, layer.kernel)
            y = kernel(y, out=None if y is x else y, **layer.options)
    return y


def trained_names(model: Network, optimizer: Optimizer) -> list[str]:
    """Name the parameters that the optimizer holds, in its order.

    Raises ValueError if it holds an array that is no parameter of the model.
    """
    own = {_place(array): name for name, array in model.split(model.flat).items()}
    held = [
        _place(array) for array in getattr(optimizer, "params", model.split(model.flat).values())
    ]
    if not own.keys() >= set(held):
        raise ValueError(
            "the optimizer holds an array that is no parameter of this model; "
            "make it of model.parameters()"
        )
    return [own[place] for place in held]


class TrainingStep:
    """Mini-batch after mini-batch: forward, loss, backward, update.

    Parameters
    ----------
    model : Network
        Its parameters are updated in place, but for those that are frozen now.
    loss : Loss
        What to minimise.
    optimizer : Optimizer
        What updates the parameters.
    batch_size : int
        Most rows of a batch.
    accumulate : bool
        Whether an update may take several batches.
    max_norm : float, optional
        Largest norm of the gradients of an update.
    """

    def __init__(
        self,
        model: Network,
        loss: Loss,
        optimizer: Optimizer,
        *,
        batch_size: int,
        accumulate: bool = False,
        max_norm: float | None = None,
    ) -> None:
        names = trained_names(model, optimizer)
        if model.frozen.issuperset(names):
            raise ValueError("there is nothing to train: all that the optimizer holds is frozen")
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._max_norm = max_norm
        self._grad = np.zeros_like(model.flat)  # of a batch
        self._total = np.zeros_like(model.flat) if accumulate else self._grad  # of an update
        self._pending = False  # whether _total holds the gradients of any batch
        self._before = np.empty_like(model.flat)  # the parameters before the update
        totals, before, now = map(model.split, (self._total, self._before, model.flat))
        self._grads = [totals[name] for name in names]
        self._frozen = [(now[name], before[name]) for name in model.frozen]
        trained = {n: g for n, g in model.split(self._grad).items() if n not in model.frozen}
        self._passes = _passes(model, trained, batch_size)
        self.width = self._passes[-1].outputs.shape[1]  # features of the outputs
        self._grad_outputs = np.empty((batch_size, self.width), model.flat.dtype)

    @_quiet
    def __call__(
        self,
        x: Array,
        y: Array,
        *,
        weight: Array | None = None,
        share: float = 1.0,
        update: bool = True,
    ) -> tuple[float, Array]:
        """Learn from one batch.

        Parameters
        ----------
        x, y : ndarray
            The batch.
        weight : ndarray of shape (N,), optional
            The loss is ``sum(weight * losses of the rows)``; by default it is the mean.
        share : float
            Share of the batch in the update; with 0 it is passed over.
        update : bool
            Whether this batch completes an update.

        Returns
        -------
        loss : float
        outputs : ndarray of shape (N, out_features)
            Of this batch, before the update; overwritten by the next batch.

        Raises
        ------
        FloatingPointError
            The loss, the gradient or the updated parameters are not finite. The parameters are
            those from before the update.
        """
        outputs = x
        for layer in self._passes:
            outputs = layer.forward(outputs)
        loss = 0.0
        if share > 0:
            loss, grad = self._loss_and_grad(outputs, y, weight)
            if share != 1:
                grad *= grad.dtype.type(share)
            self._backward(grad)
        if update and self._pending:
            self._update()
        return loss, outputs

    def _loss_and_grad(self, outputs: Array, y: Array, weight: Array | None) -> tuple[float, Array]:
        out = self._grad_outputs[: len(outputs)]
        if weight is None:
            mean, grad = self._loss.value_and_grad(outputs, y, out=out)
            loss = float(mean)
        else:
            losses, grad = self._loss.value_and_grad(outputs, y, reduction="none", out=out)
            values_of_row = losses.size // len(losses)
            grad *= (weight / values_of_row).astype(grad.dtype)[:, np.newaxis]
            loss = float(weight @ losses.reshape(len(losses), -1).mean(1, dtype=np.float64))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        return loss, grad

    def _backward(self, grad: Array) -> None:
        for layer in reversed(self._passes):
            if not layer.needed:
                break
            grad = layer.backward(grad)
        if self._total is not self._grad:
            self._total += self._grad
        self._pending = True

    def _update(self) -> None:
        if self._max_norm is not None:
            clip_grad_norm(self._grads, self._max_norm)
        if not _is_finite(self._total):
            raise FloatingPointError("the gradient is not finite")
        parameters = self._model.flat
        np.copyto(self._before, parameters)
        try:
            self._optimizer.step(self._grads)
            for now, before in self._frozen:
                np.copyto(now, before)
            if not _is_finite(parameters):
                raise FloatingPointError("the updated parameters are not finite")
        except BaseException:  # Ctrl-C as well: an update is made whole or not at all
            np.copyto(parameters, self._before)
            raise
        if self._total is not self._grad:
            self._total.fill(0)
        self._pending = False


class _LinearPass:
    """``y = x @ weight.T + bias`` and its gradients."""

    def __init__(
        self, layer: Linear, outputs: Array, grads: tuple[Array | None, Array | None], below: bool
    ) -> None:
        self.outputs = outputs
        self.weight, self.bias = layer.weight, layer.bias
        self.grad_weight, self.grad_bias = grads
        self.needed = below or any(grad is not None for grad in grads)
        shape = (len(outputs), layer.in_features)
        self.grad_inputs = np.empty(shape, outputs.dtype) if below else None

    def forward(self, x: Array) -> Array:
        self.x = x
        y = np.matmul(x, self.weight.T, out=self.outputs[: len(x)])
        if self.bias is not None:
            y += self.bias
        return y

    def backward(self, dy: Array) -> Array:
        if self.grad_weight is not None:
            np.matmul(dy.T, self.x, out=self.grad_weight)
        if self.grad_bias is not None:
            dy.sum(axis=0, out=self.grad_bias)
        if self.grad_inputs is None:
            return dy  # nothing below learns
        return np.matmul(dy, self.weight, out=self.grad_inputs[: len(dy)])


class _ActivationPass:
    """An activation and its backward, which works in place."""

    def __init__(self, layer: Activation, outputs: Array, below: bool) -> None:
        self.outputs = outputs
        self.needed = below
        self.kernel = partial(getattr(activations, layer.kernel), **layer.options)
        backward = getattr(activations, f"{layer.kernel}_backward")
        self.kernel_backward = partial(backward, **layer.options)

    def forward(self, x: Array) -> Array:
        self.x = x
        y: Array = self.kernel(x, out=self.outputs[: len(x)])
        return y

    def backward(self, dy: Array) -> Array:
        dx: Array = self.kernel_backward(dy, self.x, out=dy)
        return dx


def _passes(
    model: Network, grads: dict[str, Array], batch_size: int
) -> list[_LinearPass | _ActivationPass]:
    """One pass for each layer, which writes the gradients of its parameters among ``grads``."""
    passes: list[_LinearPass | _ActivationPass] = []
    width = model.in_features
    below = False  # whether a layer below learns
    for i, layer in enumerate(model.layers):
        width = layer.out_features or width
        assert width is not None  # a model that learns has a Linear
        outputs = np.empty((batch_size, width), model.flat.dtype)
        if isinstance(layer, Linear):
            own = (grads.get(f"{i}.weight"), grads.get(f"{i}.bias"))
            passes.append(_LinearPass(layer, outputs, own, below))
        elif isinstance(layer, Activation):
            passes.append(_ActivationPass(layer, outputs, below))
        below = passes[-1].needed
    return passes


def _place(array: Array) -> tuple[int, tuple[int, ...]]:
    return array.ctypes.data, array.shape


def _is_finite(a: Array) -> bool:
    """Whether all elements are finite; the sum of squares, which may overflow, is the fast test."""
    return bool(np.isfinite(np.dot(a, a)) or np.isfinite(a).all())
