"""Nodes of ONNX, for whoever makes the graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from dlcore._common.typing import Array


class Nodes(ABC):
    """What adds nodes and constants to a graph, and gives the names of their results.

    Attributes
    ----------
    opset : int
        Version of the operators.
    """

    opset: int

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one result."""
        return self._add(operator, inputs, 1, attributes)[0]

    def first_of_two(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of two results, of which the second is not used."""
        return self._add(operator, inputs, 2, attributes)[0]

    @abstractmethod
    def constant(self, value: Array) -> str:
        """Add a constant."""

    @abstractmethod
    def rename(self, result: str, name: str) -> None:
        """Give a result the name that the graph has for it."""

    @abstractmethod
    def _add(
        self, operator: str, inputs: tuple[str, ...], count: int, attributes: dict[str, Any]
    ) -> list[str]:
        """Add a node of so many results; return their names."""


def onnx_type(dtype: Any) -> int:
    """Return ONNX's number of a dtype of NumPy."""
    dtype = np.dtype(dtype)
    if dtype.kind == "U":
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(dtype))


def cast(nodes: Nodes, x: str, dtype: Any) -> str:
    """Convert to a dtype of NumPy."""
    return nodes.add("Cast", x, to=onnx_type(dtype))
