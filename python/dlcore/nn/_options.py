"""Attributes of layers that may be assigned: options that are checked, arrays that are filled in."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from dlcore._common.arrays import as_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from dlcore._common.typing import Array

T = TypeVar("T")


class Changes:
    """Counts what native objects cannot see: options of layers that are set, and the like.

    What was described before the last of them has to be looked at again.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count one; of two threads that do so at once, each is counted."""
        with self._lock:
            self.count += 1


changes = Changes()


class Attribute(ABC, Generic[T]):
    """An attribute of layers, under the name that it has in their class."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: object, owner: type) -> T: ...
    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else self._of(layer)

    @abstractmethod
    def _of(self, layer: Any) -> T:
        """Return what a layer has."""


class Option(Attribute[T]):
    """An option of a layer, checked whenever it is set; training and inference follow.

    Parameters
    ----------
    check : callable
        ``check(name, value)`` returns the value as what it is from then on, or raises an error.
    """

    def __init__(self, check: Callable[[str, Any], T]) -> None:
        self._check = check

    def _of(self, layer: Any) -> Any:
        if self._name not in layer.__dict__:
            raise AttributeError(self._name)
        return layer.__dict__[self._name]

    def __set__(self, layer: Any, value: T) -> None:
        is_new = self._name not in layer.__dict__
        layer.__dict__[self._name] = self._check(f"{type(layer).__name__}: {self._name}", value)
        if not is_new:
            changes.add()
            layer._tell_model()


class Fixed(Option[T]):
    """An option that cannot change once the layer is part of a model, whose arrays have its size."""

    def __set__(self, layer: Any, value: T) -> None:
        if layer._is_bound and layer.__dict__.get(self._name) != value:
            raise AttributeError(
                f"{type(layer).__name__}: {self._name} cannot be changed once the layer is part of "
                f"a model: make another model"
            )
        super().__set__(layer, value)


class ArrayAttribute(Attribute[T]):
    """An array that a layer has in its model; what is assigned is filled in where it is.

    Parameters
    ----------
    doc : str
        What it is.
    or_none : bool
        Whether it is None in a layer that is made without it.
    """

    def __init__(self, doc: str, *, or_none: bool = False) -> None:
        self.__doc__ = doc
        self._or_none = or_none

    def _of(self, layer: Any) -> Any:
        if self._or_none and self._name not in layer._parameter_shapes:
            return None
        arrays = layer._bound
        if self._name not in arrays:
            raise AttributeError(f"{layer!r} has no {self._name}")
        return arrays[self._name]

    def __set__(self, layer: Any, values: Any) -> None:
        layer._fill_in(self._name, values)


def options_of(layer: Any) -> dict[str, Any]:
    """Return the options of a layer that can be set while it is part of a model."""
    return {name: getattr(layer, name) for name in _names(layer)}


def set_options(layer: Any, options: Mapping[str, Any]) -> None:
    """Set those that have other values now."""
    for name in _names(layer):
        if name in options and getattr(layer, name) != options[name]:
            setattr(layer, name, options[name])


def _names(layer: Any) -> list[str]:
    every = {name: item for kind in type(layer).__mro__[::-1] for name, item in vars(kind).items()}
    return [n for n, item in every.items() if isinstance(item, Option) and type(item) is not Fixed]


def fill_in(array: Array, name: str, values: Any) -> None:
    """Give an array of a model other values, of its shape and dtype, where it is.

    Raises
    ------
    TypeError
        They are no array, or have another dtype.
    ValueError
        They have another shape.
    """
    given = as_array(values, name)
    if given.dtype != array.dtype:
        raise TypeError(f"{name} is {given.dtype}, the model {array.dtype}")
    if given.shape != array.shape:
        raise ValueError(f"{name} must have shape {array.shape}, not {given.shape}")
    if given is not array:  # as after layer.weight *= 2
        np.copyto(array, given)
