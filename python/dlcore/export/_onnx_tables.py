"""The rows that a network takes of a table, in ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export._onnx_nodes import cast
from dlcore.export._onnx_steps import Steps

if TYPE_CHECKING:
    from dlcore.export._description import Table, TableColumn
    from dlcore.export._onnx_nodes import Nodes

# What texts are looked up by is not of ai.onnx.
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 2
_WIDE = np.dtype(np.float64)


def inputs_of(table: Table) -> dict[str, tuple[np.dtype[Any], int]]:
    """Return the dtype and the columns of each input, by its name."""
    if table.is_matrix:
        return {"X": (table.dtype, len(table.columns))}
    return {
        own.name: (table.dtype if own.categories is None else np.dtype(np.str_), 1)
        for own in table.columns
        if not own.is_empty
    }


def rows_of(nodes: Nodes, table: Table, dtype: np.dtype[Any]) -> str:
    """Write what makes the rows; its inputs are those of `inputs_of`."""
    steps = Steps(nodes, _WIDE)
    if table.is_matrix:
        encoded = "X" if table.dtype == _WIDE else cast(nodes, "X", _WIDE)
        there = [i for i, own in enumerate(table.columns) if not own.is_empty]
        if len(there) < len(table.columns):
            encoded = nodes.add("Gather", encoded, nodes.constant(np.array(there)), axis=1)
    else:
        own = [column for column in table.columns if not column.is_empty]
        numbers = [column.name for column in own if column.categories is None]
        numbers = [cast(nodes, name, _WIDE) for name in numbers]
        codes = [_codes(nodes, column) for column in own if column.categories is not None]
        encoded = nodes.add("Concat", *numbers, *codes, axis=1)
    rows = steps.in_a_row(encoded, table.steps)
    return rows if dtype == _WIDE else cast(nodes, rows, dtype)


def _codes(nodes: Nodes, column: TableColumn) -> str:
    named = [(text, code) for code, text in enumerate(column.categories or (), 1)]
    codes = {"": next((code for text, code in named if text is None), 0)}
    codes |= {text: code for text, code in named if text is not None}
    found = nodes.add(
        "LabelEncoder",
        column.name,
        domain=ML_DOMAIN,
        keys_strings=[*codes],
        values_int64s=[*codes.values()],
        default_int64=0,
    )
    return cast(nodes, found, _WIDE)
