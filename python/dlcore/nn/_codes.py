"""Which columns of x hold the codes of categories, and what is wrong with those that do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.nn._embeddings import CategoryLayer
from dlcore.nn._parallel import Branches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer

__all__: list[str] = []


def code_columns(layers: Iterable[Layer]) -> list[tuple[int, int, CategoryLayer]]:
    """Return each column of x that holds codes: its number, the categories, and who reads it.

    Raises a ValueError for a layer that reads codes which other layers have computed.
    """
    return [*_of_row(layers, 0)]


def _of_row(layers: Iterable[Layer], begin: int | None) -> Iterator[tuple[int, int, CategoryLayer]]:
    """Go through layers whose first one reads the columns of x from `begin` on, None for no columns."""
    for layer in layers:
        if isinstance(layer, CategoryLayer):
            if begin is None:
                raise ValueError(
                    f"{layer!r} takes columns of x: it can only be the first layer, or the first of "
                    f"a branch over columns of x"
                )
            for i, size in enumerate(layer._sizes):
                yield begin + i, size, layer
        elif isinstance(layer, Branches):
            for first, _, own in layer._branches(layer.in_features or 0):
                yield from _of_row(own.values(), None if begin is None else begin + first)
        begin = None


def check_sizes(layers: Iterable[Layer], dtype: np.dtype[Any]) -> None:
    """Raise a ValueError for more categories than the dtype of x has integers in a row."""
    most = 2 ** (np.finfo(dtype).nmant + 1)
    for _, size, layer in code_columns(layers):
        if size > most:
            raise ValueError(f"{layer!r} has more categories than {dtype} has codes for, {most:,}")


def check_codes(
    layers: Iterable[Layer], x: Array, name: str = "x", rows: Array | Sequence[int] | None = None
) -> None:
    """Raise an error that names the first value that is no category.

    Parameters
    ----------
    layers : iterable of Layer
    x : ndarray of shape (N, features)
    name : str
        What x is called.
    rows : sequence of int, optional
        What its rows are called, by default 0, 1, ...

    Raises
    ------
    IndexError
        A code is not one of the categories.
    ValueError
        A value is no integer, or NaN where that is no category.
    """
    for column, size, layer in code_columns(layers):
        codes = x[:, column]
        is_fine = (codes >= 0) & (codes < size) & (codes == np.trunc(codes))
        if layer.missing != "error":
            is_fine |= np.isnan(codes)
        if is_fine.all():
            continue
        row = int(np.argmin(is_fine))
        value = codes[row]
        number = row if rows is None else rows[row]
        where = f"{name}[{number}, {column}] is {value:g}"
        if np.isnan(value):
            raise ValueError(
                f'{where}, a missing category, of which {layer!r} knows nothing: missing="category" '
                f"makes a category of it"
            )
        wanted = f"{layer!r} takes the codes 0 to {size - 1} there"
        raise (IndexError if value == np.trunc(value) else ValueError)(f"{where}, but {wanted}")
