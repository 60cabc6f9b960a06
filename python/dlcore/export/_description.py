"""What every exporter reads: a pipeline as a list of steps, and what its outputs mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dlcore.export._normalizers import width_of
from dlcore.export._steps import with_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from dlcore._common.typing import Array
    from dlcore.export._normalizers import Map
    from dlcore.export._steps import Columns, Step


@dataclass(frozen=True)
class TableColumn:
    """A column of a table: of numbers, or of texts, each with a code, in their order from 1 on.

    All else has the code 0. A text that is None is missing, which is written as an empty text.
    """

    name: str
    categories: tuple[str | None, ...] | None = None
    is_empty: bool = False


@dataclass(frozen=True)
class Table:
    """The columns of a table, and what the rows that a network takes are made by.

    Attributes
    ----------
    columns : tuple of TableColumn
    steps : tuple of Step
        Of float64, whose rows are all numbers and then all codes.
    dtype : dtype
        Of the numbers.
    """

    columns: tuple[TableColumn, ...]
    steps: tuple[Step, ...]
    dtype: np.dtype[Any]

    @property
    def is_matrix(self) -> bool:
        """Whether all columns are numbers."""
        return all(column.categories is None for column in self.columns)


@dataclass(frozen=True)
class Output:
    """What the outputs of the network mean.

    Attributes
    ----------
    kind : str
        "identity" and "exp" are values; "quantiles" are values that are sorted; "softmax" is one of
        several classes, "binary" one of two, "sigmoid" so many yes-or-no questions.
    classes : tuple of ndarray
        The labels of each target of a softmax or of a binary one.
    places : ndarray, optional
        Where each of the sorted quantiles goes.
    restore : Columns, optional
        Brings values back to the scale of the targets.
    """

    kind: str = "identity"
    classes: tuple[Array, ...] = ()
    places: Array | None = None
    restore: Columns | None = None

    @property
    def is_class(self) -> bool:
        """Whether it has labels and probabilities."""
        return self.kind in ("softmax", "binary", "sigmoid")


@dataclass(frozen=True)
class Description:
    """A pipeline that computes, on rows of a dtype, one step after the other.

    ``in_features`` is None for layers that take any number.
    """

    steps: tuple[Step, ...]
    dtype: np.dtype[Any]
    in_features: int | None
    out_features: int | None
    output: Output
    feature_names: tuple[str, ...] = ()
    table: Table | None = None

    def of_encoded_rows(self) -> Description:
        """Take the numbers and codes of a table for the rows, where this is of one."""
        if self.table is None:
            return self
        width = sum(not column.is_empty for column in self.table.columns)
        steps = (*self.table.steps, *self.steps)
        return replace(self, steps=steps, in_features=width, table=None)

    def of_dtype(self, dtype: np.dtype[Any]) -> Description:
        """Round the parameters to another dtype."""
        steps = with_arrays(self.steps, lambda array: array.astype(dtype))
        table = None if self.table is None else replace(self.table, dtype=dtype)
        return replace(self, dtype=dtype, steps=steps, table=table)


def after(maps: Sequence[Map], described: Description, function: str) -> Description:
    """Put maps of columns before the steps."""
    width = described.in_features
    for step in maps:
        own = width_of(step)
        if own is None:
            continue
        if width is not None and own != width:
            raise ValueError(
                f"{function}: a normalizer has {own} columns, but what follows takes {width} features"
            )
        width = own
    out = described.out_features
    return replace(
        described,
        steps=(*maps, *described.steps),
        in_features=width,
        out_features=width if out is None else out,
    )
