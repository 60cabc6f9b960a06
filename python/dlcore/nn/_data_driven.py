"""Initial weights and biases that depend on what the layers before them make of data."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from dlcore.nn._inference import Inference
from dlcore.nn._layers import Linear
from dlcore.nn._members import MemberLayer
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer
    from dlcore.nn._sequential import Sequential

# Those by which the weights are scaled.
_SCALING = ("lsuv", "unit_variance")


class Hinges:
    """Random means of a few outputs: of each output so many rows and their weights.

    Parameters
    ----------
    outputs : int
    rows : int
        Of which they are drawn.
    rng : Generator
    """

    _EACH = 5

    def __init__(self, outputs: int, rows: int, rng: np.random.Generator) -> None:
        self._rows = rng.integers(0, max(1, rows), (outputs, self._EACH))
        weights = rng.exponential(size=(outputs, self._EACH))
        self._weights = weights / weights.sum(1, keepdims=True)

    def biases(self, z: Array) -> Array:
        """Return the negative means of z of shape (rows, outputs)."""
        chosen = z[self._rows, np.arange(z.shape[1])[:, np.newaxis]]
        means: Array = (chosen * self._weights).sum(1)
        return -means


def of_data(
    model: Sequential,
    values: Mapping[str, Array],
    x: Array,
    method: str,
    hinges: Mapping[str, Hinges],
) -> dict[str, Array]:
    """Go through the layers with x; return the weights and biases that follow from it.

    Parameters
    ----------
    model : Sequential
        It stays as it is.
    values : mapping of str to ndarray
        Parameters that are set, by name: the weights are scaled.
    x : ndarray
        Of shape (N, in_features).
    method : str
        "lsuv" or "unit_variance" say how; others leave the weights as they are.
    hinges : mapping of str to Hinges
        What the biases are made of, by name.
    """
    name = method if method in _SCALING else "he+5"
    for layer in model.layers:
        _check_in_a_row(layer, name)
    model = copy.deepcopy(model)
    own = model.named_parameters()
    for parameter, value in values.items():
        own[parameter][...] = value
    found: dict[str, Array] = {}
    for i, layer in enumerate(model.layers):
        if isinstance(layer, Linear):
            found |= _of_layer(f"{i}", layer, values, x, method, hinges)
            for parameter in found:
                own[parameter][...] = found[parameter]
        x = Inference((layer,), model.dtype, x.shape[1])(x)
    return found


def _of_layer(
    i: str,
    layer: Linear,
    values: Mapping[str, Array],
    x: Array,
    method: str,
    hinges: Mapping[str, Hinges],
) -> dict[str, Array]:
    found = {}
    weight, bias = f"{i}.weight", f"{i}.bias"
    is_scaled = weight in values and method in _SCALING
    is_shifted = bias in values and bias in hinges
    if not is_scaled and not is_shifted:
        return {}
    own = values.get(weight, layer.weight.astype(np.float64))
    with np.errstate(all="ignore"):
        z = x.astype(np.float64) @ own.T * layer._factor
        if is_scaled:
            said = f"initialize: the outputs of layer {i}, {layer!r}, have"
            if method == "lsuv":
                spread = _spread_of_all(z, said)
            else:
                largest = np.abs(x).max(0, initial=0).astype(np.float64)
                spread = _spread_of_each(z, largest @ np.abs(own.T) * layer._factor, said)
            found[weight] = own / spread.T
            z /= spread
        if is_shifted:
            found[bias] = hinges[bias].biases(z) if len(z) else np.full(z.shape[1], np.nan)
            if not np.isfinite(found[bias]).all():
                raise ValueError(
                    f"initialize: layer {i}, {layer!r}, has no finite outputs for these x; 'he+5' "
                    f"needs some"
                )
    return found


def _spread_of_all(z: Array, said: str) -> Array:
    variance = float(np.var(z)) if len(z) else 0.0
    if not 0 < variance < np.inf:
        raise ValueError(
            f"{said} variance {variance} for these x; 'lsuv' needs a positive finite one"
        )
    return np.full((1, 1), math.sqrt(variance))


def _spread_of_each(z: Array, terms: Array, said: str) -> Array:
    spread: Array = z.std(0, keepdims=True) if len(z) else np.full((1, z.shape[1]), np.nan)
    if not np.isfinite(spread).all():
        raise ValueError(
            f"{said} no finite variance for these x; 'unit_variance' needs one of each output"
        )
    # Of equal rows there is nothing that the weights could be measured by but rounding.
    spread[:, np.ptp(z, axis=0) <= 1e-14 * terms] = 1
    return spread


def _check_in_a_row(layer: Layer, name: str) -> None:
    """Raise a ValueError for layers through which it is not known what a layer makes of x."""
    has_linear = isinstance(layer, Branches) and any(
        isinstance(leaf, Linear) for leaf in layer._leaves.values()
    )
    if has_linear or isinstance(layer, MemberLayer):
        raise ValueError(f"initialize: {name!r} goes through layers in a row, not {layer!r}")
