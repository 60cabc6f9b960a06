"""Inference of a feed-forward network, which runs in C++, and the description of its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch
from dlcore.nn._layers import Activation, BatchNorm1d, Dropout, LayerNorm, Linear

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer


def describe(
    layers: Sequence[Layer], width: int, frozen: Collection[str] = ()
) -> list[tuple[Any, ...]]:
    """Describe layers that take ``width`` features to the native network."""
    described: list[tuple[Any, ...]] = []
    for i, layer in enumerate(layers):
        if isinstance(layer, Linear):
            shape = (layer.in_features, layer.out_features)
            described.append(("linear", *shape, layer.weight, layer.bias, layer.max_norm or 0.0))
            width = layer.out_features
        elif isinstance(layer, BatchNorm1d):
            momentum = -1.0 if layer.momentum is None else layer.momentum
            running = (layer.running_mean, layer.running_var, layer.num_batches_tracked)
            options = (layer.eps, momentum, *running, f"{i}.running_mean" in frozen)
            described.append(("batch_norm", width, layer.weight, layer.bias, *options))
        elif isinstance(layer, LayerNorm):
            described.append(("layer_norm", width, layer.weight, layer.bias, layer.eps))
        elif isinstance(layer, Dropout):
            described.append(("dropout", width, layer.p, len(described)))
        elif isinstance(layer, Activation):
            numbers = dict(layer.options)
            tanh = numbers.pop("approximate", "none") == "tanh"
            name = f"{layer.kernel}_tanh" if tanh else layer.kernel
            described.append((name, width, *map(float, numbers.values())))
    return described


class Inference:
    """Computes the outputs of layers, block by block of rows, each through all layers.

    Parameters
    ----------
    layers : sequence of Layer
    dtype : dtype
    width : int
        Features of x.
    """

    def __init__(self, layers: Sequence[Layer], dtype: np.dtype[Any], width: int) -> None:
        self.width = width
        # f(x, finite=False): the outputs, or None unless x is an array as it should be, and finite
        # if that is asked for. In a single call, since checks in Python take longer than all that
        # there is to do for a single row.
        self.try_call: Callable[..., Array | None] = dispatch.core.Network(
            dtype == np.float64, describe(layers, width)
        ).infer

    def __call__(self, x: Array) -> Array:
        """Compute the outputs for x of shape (N, features), in a new array."""
        y = self.try_call(np.asarray(x))  # without its class, such as that of a memmap
        if y is None:
            y = self.try_call(np.array(x, order="C", subok=False))
        assert y is not None
        return y
