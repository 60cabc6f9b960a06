"""Weights of Keras."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.checks import check_instance
from dlcore._common.optional import require
from dlcore.nn._layers import BatchNorm1d, LayerNorm, Linear, known_class
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer

__all__ = ["load_keras_weights"]

# What Keras calls the layers with weights, and the order of these.
_KERAS: dict[type, tuple[str, tuple[str, ...]]] = {
    Linear: ("dense", ("weight", "bias")),
    BatchNorm1d: ("batch_normalization", ("weight", "bias", "running_mean", "running_var")),
    LayerNorm: ("layer_normalization", ("weight", "bias")),
}
# Where the layers are: in Keras 3, and in its first versions.
_ROOTS = ("layers", "_layer_checkpoint_dependencies")


def load_keras_weights(path: str | PathLike[str], model: Sequential) -> dict[str, Array]:
    """Read the weights of a stack of Keras' layers, for a model of the same layers.

    Parameters
    ----------
    path : str or path
        The ``.weights.h5`` that ``save_weights`` of Keras 3 wrote, or the ``.h5`` of Keras 2.
    model : Sequential
        Layers with weights are matched by kind, in order: `Linear` is ``Dense``, `BatchNorm1d`
        ``BatchNormalization`` (whose ``epsilon`` is 1e-3 in Keras), `LayerNorm`
        ``LayerNormalization``. It stays as it is.

    Returns
    -------
    dict of str to ndarray
        The arrays for ``model.load_state_dict``, matrices turned to (out, in). They have the dtype of
        the file.

    Raises
    ------
    ImportError
        The package h5py is not installed.
    ValueError
        The file is none of Keras, or has other layers or other weights than the model; the message
        names them.

    Notes
    -----
    ``model.load_state_dict(dl.load_keras_weights("net.weights.h5", model))`` takes the weights over.
    """
    h5py = require("h5py", "load_keras_weights()")
    check_instance("load_keras_weights: model", model, Sequential)
    where = f"load_keras_weights: {path}"
    try:
        with h5py.File(path, "r") as file:
            found = _read(h5py, file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{where} is no HDF5 file: {error}") from error
    if found is None:
        raise ValueError(f"{where} is no file of Keras' weights: it has no layers")
    return _matched(where, found, model)


def _read(h5py: Any, file: Any) -> dict[str, list[list[Array]]] | None:
    """Return for each kind of layer the weights of each, in order; None if there are no layers."""
    layers: dict[str, list[list[Array]]] = {}
    if "layer_names" in file.attrs:  # Keras 2
        for group in (file[_text(name)] for name in file.attrs["layer_names"]):
            weights = [np.asarray(group[_text(n)]) for n in group.attrs.get("weight_names", ())]
            if weights:
                layers.setdefault(_kind_of(weights), []).append(weights)
        return layers
    root = next((file[name] for name in _ROOTS if isinstance(file.get(name), h5py.Group)), None)
    if root is None:
        return None
    for name in sorted(root, key=_place):
        group = root[name].get("vars") if isinstance(root[name], h5py.Group) else None
        if group is not None and len(group):
            weights = [np.asarray(group[key]) for key in sorted(group, key=_place)]
            layers.setdefault(re.sub(r"_\d+$", "", name), []).append(weights)
    return layers


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _kind_of(weights: list[Array]) -> str:
    """Tell the kind of a layer that is called as its user liked, by its weights."""
    if weights[0].ndim == 2:
        return "dense"
    return "batch_normalization" if len(weights) > 2 else "layer_normalization"


def _place(name: str) -> tuple[str, int]:
    """Sort "dense_2" before "dense_10", and after "dense"."""
    kind, number = re.fullmatch(r"(.*?)_?(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    return kind, int(number or 0)


def _matched(
    where: str, found: dict[str, list[list[Array]]], model: Sequential
) -> dict[str, Array]:
    state: dict[str, Array] = {}
    left = {kind: iter(weights) for kind, weights in found.items()}
    for i, layer in enumerate(model.layers):
        if not layer._parameter_shapes and not layer._buffer_shapes:
            continue
        known = known_class(layer)
        if known not in _KERAS or getattr(layer, "_is_ntk", False):
            raise ValueError(f"{where}: layer {i}, {layer!r}, is no layer of Keras")
        kind, _ = _KERAS[known]
        weights = next(left.get(kind, iter(())), None)
        if weights is None:
            raise ValueError(
                f"{where} has no {kind} for layer {i}, {layer!r}; it has {_counts(found)}"
            )
        names = [name for name, _ in _names_of(layer)]
        if len(weights) != len(names):
            raise ValueError(
                f"{where}: layer {i}, {layer!r}, has {', '.join(names)}, but the {kind} of the file "
                f"{len(weights)} arrays, of shapes {', '.join(str(w.shape) for w in weights)}"
            )
        for (name, shape), array in zip(_names_of(layer), weights, strict=True):
            own = np.ascontiguousarray(array.T)
            if own.shape != shape:
                raise ValueError(
                    f"{where}: {i}.{name} has shape {shape}, that of the {kind} of the file is "
                    f"{own.shape}"
                )
            state[f"{i}.{name}"] = own
        if "num_batches_tracked" in layer._buffer_shapes:  # which Keras does not count
            state[f"{i}.num_batches_tracked"] = np.array(0, np.int64)
    rest = [kind for kind, weights in left.items() if next(weights, None) is not None]
    if rest:
        raise ValueError(f"{where} has more layers than the model: {_counts(found)}")
    return state


def _names_of(layer: Layer) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give the name and shape of each array of a layer that Keras has, in Keras' order."""
    known = known_class(layer)
    assert known is not None
    shapes = layer._parameter_shapes | layer._buffer_shapes
    for name in _KERAS[known][1]:
        if name in shapes:
            yield name, shapes[name]


def _counts(found: dict[str, list[list[Array]]]) -> str:
    return ", ".join(f"{len(weights)} {kind}" for kind, weights in found.items()) or "no weights"
