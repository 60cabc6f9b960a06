"""What ties the copies of a model and of its optimizer together, as the two themselves are.

An optimizer holds arrays that are views of a model's memory. A copy of an array, by `copy.deepcopy`,
`pickle` or joblib, knows nothing of the memory that it shared, and joblib not even that an array was
met before. So the two name the memory by an object that copies know as the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from dlcore._common.arrays import as_writeable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.protocols import Model
    from dlcore._common.typing import Array

_ties: WeakValueDictionary[int, Tie] = WeakValueDictionary()


class Place(NamedTuple):
    """Where an array lies in the memory of a model."""

    offset: int  # bytes from the beginning
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Tie:
    """The memory of a model, by name; its copy is where the copies of those who share it meet."""

    def __init__(self) -> None:
        self._low = self._high = 0
        self._models: list[tuple[Model, int]] = []
        self._holders: list[tuple[Any, Sequence[Place]]] = []
        _ties[id(self)] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return Tie, ()

    def cover(self, flat: Array) -> None:
        """Name the memory of this array."""
        self._low, self._high = np.lib.array_utils.byte_bounds(flat)

    def places_of(self, arrays: Sequence[Array]) -> list[Place] | None:
        """Return where arrays lie in the memory; None if one lies elsewhere."""
        bounds = [np.lib.array_utils.byte_bounds(array) for array in arrays]
        if not all(self._low <= low and high <= self._high for low, high in bounds):
            return None
        return [Place(address(a) - self._low, a.shape, a.strides) for a in arrays]

    def bring_model(self, model: Model, offset: int) -> None:
        """Have the copies of optimizers update this copy of a model, whose memory begins there."""
        self._models.append((model, offset))
        self._bind()

    def bring_holder(self, holder: Any, places: Sequence[Place]) -> None:
        """Have this copy of an optimizer hold the arrays at these places of the model's copy."""
        self._holders.append((holder, places))
        self._bind()

    def _bind(self) -> None:
        # A part of a model is copied as a model of its own: the whole one comes first.
        for model, start in sorted(self._models, key=lambda item: -item[0].flat.nbytes):
            rest = []
            for holder, places in self._holders:
                end = start + model.flat.nbytes
                if all(start <= place.offset < end for place in places):
                    model._make_writeable()
                    holder._bind([_view(model.flat, start, place) for place in places])
                else:
                    rest.append((holder, places))
            if not rest:
                return


def tied(arrays: Sequence[Array]) -> tuple[Tie, list[Place]] | None:
    """Return what ties arrays to the model that they are parameters of, and where they are in it."""
    for reference in _ties.valuerefs():
        tie = reference()
        places = None if tie is None or not arrays else tie.places_of(arrays)
        if tie is not None and places is not None:
            return tie, places
    return None


def address(array: Array) -> int:
    """Return where the first element of an array lies."""
    where: int = array.__array_interface__["data"][0]
    return where


def owned(arrays: Sequence[Array]) -> list[Array]:
    """Return plain arrays that can be written, copies where they are maps of a file."""
    return [as_writeable(array) for array in arrays]


def _view(flat: Array, start: int, place: Place) -> Array:
    return np.ndarray(place.shape, flat.dtype, flat, place.offset - start, place.strides)
