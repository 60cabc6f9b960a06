"""Converters of skl2onnx for dlcore's estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import (
    BooleanTensorType,
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
    guess_proto_type,
)
from skl2onnx.proto import onnx_proto

from dlcore import sklearn as estimators
from dlcore.export._estimators import of_estimator, of_scaler
from dlcore.export._onnx_nodes import Nodes, cast, onnx_type
from dlcore.export._onnx_writer import Writer, shape_of, write

if TYPE_CHECKING:
    from dlcore._common.typing import Array

_FUNCTION = "skl2onnx.to_onnx"


class _Nodes(Nodes):
    """Nodes and constants of the graph that skl2onnx makes."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self.opset = container.target_opset_any_domain("")

    def constant(self, value: Array) -> str:
        """Add a constant."""
        name: str = self._scope.get_unique_variable_name("constant")
        is_text = value.dtype.kind == "U"
        values = [text.encode() for text in value.ravel()] if is_text else value.ravel()
        self._container.add_initializer(name, onnx_type(value.dtype), list(value.shape), values)
        return name

    def _add(
        self, operator: str, inputs: tuple[str, ...], count: int, attributes: dict[str, Any]
    ) -> list[str]:
        unique = self._scope.get_unique_variable_name
        results = [unique(operator.lower()) for _ in range(count)]
        name = self._scope.get_unique_operator_name(operator)
        self._container.add_node(operator, list(inputs), results, name=name, **attributes)
        return results

    def rename(self, result: str, name: str) -> None:
        """Give a result the name that the graph has for it."""
        self._container.add_node(
            "Identity", [result], [name], name=self._scope.get_unique_operator_name("Identity")
        )


def _dtype(operator: Any) -> np.dtype[Any]:
    """Return what an operator computes in: that of its input, float32 for integers."""
    is_double = guess_proto_type(operator.inputs[0].type) == onnx_proto.TensorProto.DOUBLE
    return np.dtype(np.float64 if is_double else np.float32)


def _rows(operator: Any, nodes: _Nodes, dtype: np.dtype[Any]) -> str:
    name: str = operator.inputs[0].full_name
    is_float = isinstance(operator.inputs[0].type, FloatTensorType | DoubleTensorType)
    return name if is_float else cast(nodes, name, dtype)


def _convert_network(scope: Any, operator: Any, container: Any) -> None:
    nodes, dtype = _Nodes(scope, container), _dtype(operator)
    described = of_estimator(_FUNCTION, operator.raw_operator, folds=False)
    assert described is not None
    results = write(nodes, _rows(operator, nodes, dtype), described.of_dtype(dtype))
    for result, variable in zip(results.values(), operator.outputs, strict=True):
        nodes.rename(result, variable.full_name)


def _convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    nodes, dtype = _Nodes(scope, container), _dtype(operator)
    step = of_scaler(_FUNCTION, operator.raw_operator, dtype, None)
    mapped = Writer(nodes, dtype).columns(_rows(operator, nodes, dtype), step)
    nodes.rename(mapped, operator.outputs[0].full_name)


def _tensor_type(dtype: np.dtype[Any], shape: list[int | None]) -> Any:
    types = {"b": BooleanTensorType, "i": Int64TensorType, "U": StringTensorType}
    if dtype.kind in types:
        return types[dtype.kind](shape)
    return (DoubleTensorType if dtype == np.float64 else FloatTensorType)(shape)


def _regressor_shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    width = operator.raw_operator.n_outputs_
    operator.outputs[0].type = _tensor_type(_dtype(operator), [rows, width])


def _scaler_shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    width = operator.raw_operator.n_features_in_
    operator.outputs[0].type = _tensor_type(_dtype(operator), [rows, width])


def _classifier_shapes(operator: Any) -> None:
    described = of_estimator(_FUNCTION, operator.raw_operator, folds=False)
    assert described is not None
    output, width = described.output, described.out_features
    if len(output.classes) > 1:
        raise TypeError(
            f"{_FUNCTION}: a classifier of several columns of classes has no export by skl2onnx: "
            f"call dlcore.to_onnx"
        )
    rows = operator.inputs[0].get_first_dimension()
    label = output.classes[0].dtype if output.classes else np.dtype(np.int64)
    types = {"label": label, "probabilities": _dtype(operator)}
    for (name, dtype), variable in zip(types.items(), operator.outputs, strict=True):
        variable.type = _tensor_type(dtype, [rows, *shape_of(name, output, width)])


def register() -> None:
    """Register the converters of all four estimators."""
    options = {
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [False, True],
    }
    update_registered_converter(
        estimators.MLPClassifier,
        "DlcoreMLPClassifier",
        _classifier_shapes,
        _convert_network,
        options=options,
    )
    update_registered_converter(
        estimators.MLPRegressor, "DlcoreMLPRegressor", _regressor_shapes, _convert_network
    )
    for scaler in (estimators.StandardScaler, estimators.MinMaxScaler):
        alias = f"Dlcore{scaler.__name__}"
        update_registered_converter(scaler, alias, _scaler_shapes, _convert_scaler)
