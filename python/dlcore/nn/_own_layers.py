"""Layers of the user's own, which compiled code calls back for: what they must be, and the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_stored
from dlcore._native.specs import OwnLayerSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer


def describe_own(layer: Layer, name: str, width: int, grads: Mapping[str, Array]) -> OwnLayerSpec:
    """Describe a layer of the user's own to the native network.

    ``grads`` are those of the parameters that are trained, by their names in the model.
    """
    trained = [grads.get(f"{name}.{own}") for own in layer._parameter_shapes]
    calls = _Calls(layer, width)
    return OwnLayerSpec(
        width,
        calls.out_features,
        calls.forward,
        calls.backward,
        parameters=tuple(as_stored(array) for array in layer.parameters.values()),
        grads=tuple(None if grad is None else as_stored(grad) for grad in trained),
    )


class _Calls:
    """Calls the methods of a layer, and looks at what they return."""

    def __init__(self, layer: Layer, width: int) -> None:
        self._layer, self._width = layer, width
        self.out_features = width if layer.out_features is None else layer.out_features
        self._name = type(layer).__name__

    def forward(self, x: Array) -> Array:
        """Return the outputs for rows x."""
        layer: Any = self._layer
        y = layer.forward(x)
        return self._checked("forward", y, (len(x), self.out_features), x.dtype)

    def backward(self, dy: Array, x: Array) -> tuple[Array | None, ...]:
        """Return the gradient of x, and of each parameter."""
        layer: Any = self._layer
        shapes = self._layer._parameter_shapes
        made = layer.backward(dy, x)
        dx, grads = made if shapes and isinstance(made, tuple) and len(made) == 2 else (made, {})
        if not isinstance(grads, dict) or grads.keys() != shapes.keys():
            raise TypeError(
                f"{self._name}.backward must return the gradient of x, and a dict of those of its "
                f"parameters, {', '.join(shapes)}"
            )
        of_x = self._checked("backward", dx, x.shape, x.dtype)
        return of_x, *(
            self._checked(f"backward: {name}", grads[name], shape, x.dtype)
            for name, shape in shapes.items()
        )

    def _checked(
        self, what: str, given: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Array:
        array = np.asarray(given)
        if array.shape != shape or array.dtype.kind not in "fiub":
            raise ValueError(
                f"{self._name}.{what} must return real numbers of shape {shape}, got "
                f"{type(given).__name__ if array.dtype == object else array.dtype} of shape "
                f"{array.shape}"
            )
        return np.ascontiguousarray(array, dtype)
