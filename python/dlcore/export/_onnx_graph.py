"""A model of ONNX from a description, by `onnx.helper`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dlcore._native import dispatch
from dlcore.export._onnx_nodes import Nodes, onnx_type
from dlcore.export._onnx_tables import ML_DOMAIN, ML_OPSET, inputs_of
from dlcore.export._onnx_writer import shape_of, write
from dlcore.export._steps import arrays_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore._common.typing import Array
    from dlcore.export._description import Description

# What Protocol Buffers can hold, less something for the nodes.
MOST_BYTES = 2**31 - 2**20

_ROWS = "batch"


class Graph(Nodes):
    """Nodes and constants of a graph."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Array) -> str:
        """Add a constant."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(tensor(value, name))
        return name

    def _add(
        self, operator: str, inputs: tuple[str, ...], count: int, attributes: dict[str, Any]
    ) -> list[str]:
        name = f"{operator}_{len(self.nodes)}"
        results = [name, *(f"{name}_{i}" for i in range(1, count))]
        self.nodes.append(helper.make_node(operator, list(inputs), results, name, **attributes))
        return results

    def rename(self, result: str, name: str) -> None:
        """Give a result the name that the graph has for it."""
        self.nodes.append(helper.make_node("Identity", [result], [name], name))


def tensor(value: Array, name: str) -> onnx.TensorProto:
    """Make a tensor of an array, of text as well."""
    if value.dtype.kind == "U":
        texts = [text.encode() for text in value.ravel().tolist()]
        return helper.make_tensor(name, onnx_type(value.dtype), value.shape, texts)
    return numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)


def to_model(described: Description, opset: int) -> onnx.ModelProto:
    """Make the model."""
    size = sum(
        array.size * described.dtype.itemsize
        for array in arrays_of((described.steps, described.table))
    )
    if size > MOST_BYTES:
        raise ValueError(
            f"to_onnx: the parameters take {size:,} bytes, but a file of ONNX holds less than 2 GiB"
        )
    graph = Graph(opset)
    results = write(graph, "X", described)
    output, outputs = described.output, []
    for name, result in results.items():
        graph.rename(result, name)
        dtype = described.dtype
        if name == "label":
            dtype = output.classes[0].dtype if output.classes else np.dtype(np.int64)
        shape = shape_of(name, output, described.out_features)
        outputs.append(helper.make_tensor_value_info(name, onnx_type(dtype), [_ROWS, *shape]))
    given: dict[str, tuple[Any, int | None]] = {"X": (described.dtype, described.in_features)}
    imports = [helper.make_opsetid("", opset)]
    if described.table is not None:
        given = {**inputs_of(described.table)}
        _check_names(given, graph)
        if not described.table.is_matrix:
            imports.append(helper.make_opsetid(ML_DOMAIN, ML_OPSET))
    inputs = [
        helper.make_tensor_value_info(name, onnx_type(dtype), [_ROWS, width])
        for name, (dtype, width) in given.items()
    ]
    version = str(dispatch.core.version)
    model = helper.make_model(
        helper.make_graph(graph.nodes, "dlcore", inputs, outputs, graph.constants),
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
        producer_name="dlcore",
        producer_version=version,
    )
    properties = {"dlcore.version": version, "dlcore.output": output.kind}
    if described.feature_names:
        properties["dlcore.feature_names"] = "\n".join(described.feature_names)
    helper.set_model_props(model, properties)
    return model


def _check_names(given: Iterable[str], graph: Graph) -> None:
    """Raise a ValueError for a column that is called as something else in the graph."""
    taken = {result for node in graph.nodes for result in node.output}
    taken |= {constant.name for constant in graph.constants}
    for name in given:
        if name in taken:
            raise ValueError(
                f"to_onnx: a column is called {name!r}, as a result of the graph is: rename it"
            )
