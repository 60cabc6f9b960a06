"""Models as plain data: a layer is the name of its class and the options of its constructor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn._layers import LAYERS, Layer, Linear, known_class
from dlcore.nn._parallel import Branches
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array

# What a layer has beside its options and what a class of the user's own adds.
_OF_THE_MODEL = {"_arrays", "_model", "_is_bound", "_is_input_major", "_own_shapes"}


def describe_model(model: Sequential) -> dict[str, Any]:
    """Return a model as dicts, lists, numbers and arrays: `model_of` makes it again.

    Beside its layers, dtype, frozen parameters and the key of what `Dropout` draws there are the
    arrays of ``state_dict``, under their names.
    """
    return {**describe_architecture(model), **model._named_arrays()}


def model_of(state: Mapping[str, Any], classes: Mapping[str, type] | None = None) -> Sequential:
    """Make a model of what `describe_model` gave.

    Parameters
    ----------
    state : mapping
        Copied; it may come from a file of whatever origin.
    classes : mapping of str to class, optional
        Subclasses of layers by their names.

    Raises
    ------
    ValueError, TypeError
        Something in it is not as it should be, such as a layer that is unknown or an array that is
        missing or has another shape or dtype; the message names it.
    """
    architecture = {name: state.get(name) for name in ("layers", "dtype", "frozen", "key")}
    arrays = {name: value for name, value in state.items() if name not in architecture}
    return make_model(architecture, arrays, classes or {})


def describe_architecture(model: Sequential) -> dict[str, Any]:
    """Return all of a model but its arrays."""
    layers = [_describe(layer) for layer in model.layers]
    return {
        "layers": layers,
        "dtype": str(model.dtype),
        "frozen": sorted(model.frozen),
        "key": model._draws,
    }


def make_model(
    architecture: Mapping[str, Any], arrays: Mapping[str, Array], classes: Mapping[str, type]
) -> Sequential:
    """Make a model of its architecture and the arrays of its ``state_dict``."""
    layers, dtype = architecture["layers"], architecture["dtype"]
    frozen, key = architecture["frozen"], architecture["key"]
    if dtype not in ("float32", "float64"):
        raise TypeError(f"the model's dtype is {dtype!r:.50}, not float32 or float64")
    if not isinstance(frozen, list) or not all(isinstance(name, str) for name in frozen):
        raise TypeError(f"what is frozen are names, not {frozen!r:.50}")
    if type(key) is not int or not 0 <= key < 2**64:
        raise ValueError(f"the key of what layers draw is {key!r:.50}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name:.50} is no array, but {array!r:.50}")
    return Sequential._of_arrays(layers_of(layers, classes), dtype, arrays, frozen, key)


def layers_of(described: Any, classes: Mapping[str, type]) -> tuple[Layer, ...]:
    """Make the layers of what `describe_architecture` says of them."""
    if not isinstance(described, list):
        raise TypeError(f"the model has no list of layers, but {described!r:.50}")
    return tuple(_layer_of(i, layer, classes) for i, layer in enumerate(described))


def _describe(layer: Layer) -> dict[str, Any]:
    known = known_class(layer) or Layer
    described: dict[str, Any] = {"class": type(layer).__name__, "options": layer._options}
    if isinstance(layer, Branches):
        described["branches"] = [
            [*map(_describe, own)] if isinstance(own, list) else _describe(own)
            for own in layer._given_branches
        ]
    if getattr(layer, "_is_input_major", False):
        described["input_major"] = True
    if type(layer) is not known:
        own = known(**layer._options)
        kept = _OF_THE_MODEL | vars(own).keys()
        attributes = {name: value for name, value in vars(layer).items() if name not in kept}
        _check_attributes(known, type(layer).__name__, attributes)
        described |= {"base": known.__name__, "attributes": attributes}
    return described


def _layer_of(i: int, described: Any, classes: Mapping[str, type]) -> Layer:
    """Make a layer; one of the user's own class without its constructor, as a copy is made."""
    parts = {"class", "options", "branches", "input_major", "base", "attributes"}
    if not isinstance(described, dict) or not {"class", "options"} <= described.keys() <= parts:
        raise TypeError(f"layer {i} is no class with options, but {described!r:.50}")
    name, options, base = described["class"], described["options"], described.get("base")
    known = LAYERS.get(name if base is None else base) if isinstance(name, str) else None
    if base == "Layer":
        known = Layer
    if known is None:
        raise ValueError(
            f"layer {i} is a {base or name!r:.50}, which this version does not have: it has "
            f"{', '.join(LAYERS)}"
        )
    branches = [
        list(layers_of(own, classes)) if isinstance(own, list) else _layer_of(i, own, classes)
        for own in described.get("branches", ())
    ]
    try:
        layer = known(*branches, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {i}, a {known.__name__}, has wrong options: {error}") from None
    if layer._options != options:
        raise ValueError(f"layer {i}, a {known.__name__}, has wrong options: {options!r:.100}")
    if base is not None:
        layer = _of_own_class(i, layer, name, classes, described.get("attributes"))
    if described.get("input_major") is True and isinstance(layer, Linear):
        layer._is_input_major = True
    return layer


def _of_own_class(
    i: int, layer: Layer, name: str, classes: Mapping[str, type], attributes: Any
) -> Layer:
    known = type(layer)
    kind = classes.get(name)
    if kind is None:
        raise ValueError(
            f"layer {i} is a {name:.50}, a {known.__name__} of your own class: hand the class over, "
            f"with classes=[{name:.50}]"
        )
    if not issubclass(kind, known):
        raise TypeError(f"layer {i} is a {known.__name__}, but {name:.50} is no subclass of it")
    if not isinstance(attributes, dict) or not all(isinstance(n, str) for n in attributes):
        raise TypeError(f"layer {i}, a {name:.50}, has the attributes {attributes!r:.50}")
    _check_attributes(known, name, attributes)
    own: Layer = kind.__new__(kind)
    vars(own).update(vars(layer) | attributes)
    return own


def _check_attributes(known: type[Layer], name: str, attributes: Mapping[str, Any]) -> None:
    """Make sure that attributes of a class of the user's own hide nothing of the layer's."""
    for own in attributes:
        is_width = known is Layer and own in ("in_features", "out_features")
        if own in _OF_THE_MODEL or (hasattr(known, own) and not is_width):
            raise TypeError(
                f"a {name:.50} has an attribute {own:.50} of its own, which hides one of {known.__name__}"
            )
