"""Layers in a row: whether neighbors fit, what goes in and comes out, and what they are made of."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from dlcore.nn._layers import Layer, check_computable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


def leaves_of(layers: Sequence[Layer]) -> dict[str, Layer]:
    """Return the layers that compute, those of branches as well, by the name of their parameters."""
    return {
        f"{i}.{name}" if name else str(i): leaf
        for i, layer in enumerate(layers)
        for name, leaf in layer._leaves.items()
    }


def native_places(layers: Sequence[Layer]) -> dict[str, tuple[int, str]]:
    """Return the number of the native layer that has a parameter, and its name there, by its name."""
    places: dict[str, tuple[int, str]] = {}
    number = 0
    for start, leaf in leaves_of(layers).items():
        for own in leaf._native_names:
            places |= {
                f"{start}.{own[0]}": (number, "weight"),
                f"{start}.{own[1]}": (number, "bias"),
            }
            number += 1
    return places


def members_after(layers: Iterable[Layer], before: int = 1) -> int:
    """Return of how many members rows are after these layers."""
    for layer in layers:
        before = layer._members_after(before)
    return before


def members_in_training(layers: Iterable[Layer]) -> int:
    """Return how many members have a loss of their own."""
    most = members = 1
    for layer in layers:
        members = layer._members_after(members)
        most = max(most, members)
    return most


def widths_of(layers: Sequence[Layer]) -> tuple[int | None, int | None]:
    """Return the features that layers take and give, which stay as they are; None for any number."""
    taken = (n.in_features for n in layers if n.in_features is not None)
    given = (n.out_features for n in reversed(layers) if n.out_features is not None)
    return next(taken, None), next(given, None)


def check_layers(owner: str, layers: Sequence[Layer], shared: Collection[int] = ()) -> None:
    """Raise an error for layers that cannot be computed one after the other.

    ``shared`` are the places of layers that may be part of a model already.
    """
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"{owner} takes layers such as Linear(4, 3), not {layer!r}")
        check_computable(layer)
    leaves = [leaf for layer in layers for leaf in layer._leaves.values()]
    for i, layer in enumerate(layers):
        is_twice = any(
            leaf._parameter_shapes and sum(n is leaf for n in leaves) > 1
            for leaf in layer._leaves.values()
        )
        if (layer._is_bound and i not in shared) or is_twice:
            raise ValueError(f"{layer!r} is already part of a model; every place needs its own")
    check_neighbors(layers)


def check_neighbors(layers: Sequence[Layer]) -> None:
    """Raise a ValueError where a layer takes other features than the one before it gives."""
    of_fixed_width = [(i, n) for i, n in enumerate(layers) if n.in_features is not None]
    for (i, layer), (j, following) in pairwise(of_fixed_width):
        if layer.out_features != following.in_features:
            raise ValueError(
                f"layer {j}, {following!r}, takes {following.in_features} features, "
                f"but layer {i}, {layer!r}, gives {layer.out_features}"
            )
