"""Inference of a feed-forward network, which runs in C++, and the description of its layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_matrix
from dlcore._native import dispatch
from dlcore._native.specs import (
    ActivationSpec,
    BatchNormSpec,
    DropoutSpec,
    LayerNormSpec,
    LinearSpec,
)
from dlcore.nn._layers import Activation, BatchNorm1d, Dropout, LayerNorm, Linear, RMSNorm

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dlcore._common.typing import Array
    from dlcore._native.specs import LayerSpec
    from dlcore.nn._layers import Layer


def describe(
    layers: Sequence[Layer],
    width: int,
    frozen: Collection[str] = (),
    grads: Mapping[str, Array] | None = None,
) -> tuple[LayerSpec, ...]:
    """Describe layers to the native network.

    Parameters
    ----------
    layers : sequence of Layer
    width : int
        Features that they take.
    frozen : collection of str
        Names of the parameters and running statistics that training leaves as they are.
    grads : mapping of str to ndarray, optional
        Where the gradients of the parameters go that are trained, by their names.
    """
    specs: list[LayerSpec] = []
    for i, layer in enumerate(layers):
        weight_grad, bias_grad = (
            (None, None) if grads is None else (grads.get(f"{i}.weight"), grads.get(f"{i}.bias"))
        )
        if isinstance(layer, Linear):
            specs.append(
                LinearSpec(
                    layer.in_features,
                    layer.out_features,
                    layer.weight,
                    layer.bias,
                    max_norm=layer.max_norm or 0.0,
                    weight_grad=weight_grad,
                    bias_grad=bias_grad,
                )
            )
            width = layer.out_features
        elif isinstance(layer, BatchNorm1d):
            specs.append(
                BatchNormSpec(
                    width,
                    layer.weight,
                    layer.bias,
                    eps=layer.eps,
                    momentum=layer.momentum,
                    running_mean=layer.running_mean,
                    running_var=layer.running_var,
                    num_batches_tracked=layer.num_batches_tracked,
                    # Inference reads the statistics, which may be those of a read-only file.
                    is_frozen=grads is None or f"{i}.running_mean" in frozen,
                    weight_grad=weight_grad,
                    bias_grad=bias_grad,
                )
            )
        elif isinstance(layer, LayerNorm | RMSNorm):
            specs.append(
                LayerNormSpec(
                    width,
                    layer.weight,
                    layer.bias,
                    eps=layer.eps,
                    is_centered=isinstance(layer, LayerNorm),
                    weight_grad=weight_grad,
                    bias_grad=bias_grad,
                )
            )
        elif isinstance(layer, Dropout):
            specs.append(DropoutSpec(width, layer.p, stream=len(specs)))
        elif isinstance(layer, Activation):
            specs.append(_describe_activation(layer, width))
    return tuple(specs)


def _describe_activation(layer: Activation, width: int) -> ActivationSpec:
    options = dict(layer.options)
    tanh = options.pop("approximate", "none") == "tanh"
    kernel = f"{layer.kernel}_tanh" if tanh else layer.kernel
    return ActivationSpec(width, kernel, tuple(map(float, options.values())))


class Inference:
    """Computes the outputs of layers, block by block of rows, each through all layers.

    Parameters
    ----------
    layers : sequence of Layer
    dtype : dtype
    width : int
        Features of x.
    is_fixed : bool
        Whether the parameters stay as they are, and can be kept in the order in which products read
        them.
    """

    def __init__(
        self, layers: Sequence[Layer], dtype: np.dtype[Any], width: int, is_fixed: bool = False
    ) -> None:
        self.width = width
        # f(x, finite=False): the outputs, or None unless x is an array as it should be, and finite
        # if that is asked for. It is a single call, since checks in Python take longer than all
        # that there is to do for a single row.
        self.try_call: Callable[..., Array | None] = dispatch.core.Network(
            dtype == np.float64, describe(layers, width), is_fixed
        ).infer

    def __call__(self, x: Array) -> Array:
        """Compute the outputs for x of shape (N, features), in a new array."""
        y = self.try_call(np.asarray(x))  # without its class, such as that of a memmap
        if y is None:
            y = self.try_call(np.array(x, order="C", subok=False))
        assert y is not None
        return y


class Snapshot:
    """The outputs of a model as it was when this was made, whatever becomes of it.

    `Sequential.snapshot` makes one. It can be called by several threads at once, and pickled.

    Attributes
    ----------
    dtype : dtype
        Of x and of the outputs.
    in_features, out_features : int or None
        As those of the model.
    """

    def __init__(self, model: Any) -> None:
        self._model = copy.deepcopy(model)
        self.dtype: np.dtype[Any] = model.dtype
        self.in_features: int | None = model.in_features
        self.out_features: int | None = model.out_features
        self._inference: Inference | None = None
        if self.in_features is not None:
            self._inference = self._infer(self.in_features)

    def _infer(self, width: int) -> Inference:
        return Inference(self._model.layers, self.dtype, width, is_fixed=True)

    def __call__(self, x: Any) -> Array:
        """Compute the outputs for x of shape (N, in_features) and the model's dtype."""
        inference = self._inference
        if inference is not None:
            y = inference.try_call(x)
            if y is not None:
                return y
        x = as_matrix(x, "x", self.dtype, self.in_features)
        if inference is None or inference.width != x.shape[1]:
            inference = self._inference = self._infer(x.shape[1])
        return inference(x)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._model,)
