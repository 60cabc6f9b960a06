"""The nodes of ONNX that a description becomes, for whoever makes the graph."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from dlcore.export import _description as description
from dlcore.reference._activations import SELU_ALPHA, SELU_SCALE

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Writer:
    """Writes a description as nodes.

    Parameters
    ----------
    nodes : Nodes
    dtype : dtype
        Of what is computed.
    """

    def __init__(self, nodes: Nodes, dtype: np.dtype[Any]) -> None:
        self.nodes, self.dtype = nodes, dtype
        self.add = nodes.add
        self._is_double = dtype == np.float64

    def number(self, value: Any) -> str:
        """Add a number or an array of the dtype."""
        return self.nodes.constant(np.asarray(value, self.dtype))

    # ---- steps ----

    def step(self, x: str, step: description.Step) -> str:
        """Write one step."""
        if isinstance(step, description.Linear):
            return self.add("Gemm", x, self.number(step.weight), self.number(step.bias), transB=1)
        if isinstance(step, description.Columns):
            return self.columns(x, step)
        if isinstance(step, description.BatchNorm):
            # Not BatchNormalization, which runtimes compute as x * a + b: that loses the digits of
            # a feature whose mean is large.
            x = self.add("Sub", x, self.number(step.mean))
            return self._affine(x, step.scale * step.weight, step.bias)
        if isinstance(step, description.RowNorm):
            return self._row_norm(x, step)
        if isinstance(step, description.Categories):
            return self._categories(x, step)
        return self._activation(x, step)

    def _categories(self, x: str, step: description.Categories) -> str:
        """Read rows of tables; any value that is no category is beyond the last row."""
        add, constant = self.add, self.nodes.constant
        parts = [self.number(step.bias)] if step.bias is not None else []
        if step.numbers:
            parts.append(add("Gather", x, constant(np.array(step.numbers, np.int64)), axis=1))
        for column, table in zip(step.columns, step.tables, strict=True):
            code = add("Gather", x, constant(np.array(column, np.int64)), axis=1)
            size = len(table) - step.has_missing
            is_low = add("Less", code, self.number(0))
            is_high = add("Greater", code, self.number(size - 1))
            code = add("Where", add("Or", is_low, is_high), self.number(len(table)), code)
            if step.has_missing:
                code = add("Where", add("IsNaN", code), self.number(size), code)
            index = cast(self.nodes, code, np.int64)
            parts.append(add("Gather", self.number(table), index, axis=0))
        if step.bias is None:
            return add("Concat", *parts, axis=1)
        return functools.reduce(functools.partial(add, "Add"), parts)

    def columns(self, x: str, step: description.Columns) -> str:
        """Map columns in float64, rounded once, as a normalizer does."""
        add, constant = self.add, self.nodes.constant
        y = x if self._is_double else cast(self.nodes, x, np.float64)
        if step.subtract.any():
            y = add("Sub", y, constant(step.subtract))
        y = add("Mul", y, constant(step.multiply))
        if step.add.any():
            y = add("Add", y, constant(step.add))
        for operator, bound in (("Max", step.low), ("Min", step.high)):
            if math.isfinite(bound):
                y = add(operator, y, constant(np.asarray(bound, np.float64)))
        return y if self._is_double else cast(self.nodes, y, np.float32)

    def _affine(self, x: str, weight: Array, bias: Array) -> str:
        if (weight != 1).any():
            x = self.add("Mul", x, self.number(weight))
        return self.add("Add", x, self.number(bias)) if bias.any() else x

    def _row_norm(self, x: str, step: description.RowNorm) -> str:
        if step.is_centered:
            x = self.add("Sub", x, self._mean_of_rows(x))
        square = self._mean_of_rows(self.add("Mul", x, x))
        root = self.add("Sqrt", self.add("Add", square, self.number(step.eps)))
        return self._affine(self.add("Div", x, root), step.weight, step.bias)

    def _mean_of_rows(self, x: str) -> str:
        if self.nodes.opset < 18:
            return self.add("ReduceMean", x, axes=[1], keepdims=1)
        axes = self.nodes.constant(np.array([1], np.int64))
        return self.add("ReduceMean", x, axes, keepdims=1)

    # ---- activations ----

    def _activation(self, x: str, step: description.Activation) -> str:
        write = getattr(self, f"_{step.kernel}", None)
        if write is None:
            raise TypeError(f"to_onnx: the activation {step.kernel} has no export")
        written: str = write(x, **step.options)
        return written

    def _where_positive(self, x: str, positive: str, otherwise: str) -> str:
        return self.add("Where", self.add("Greater", x, self.number(0)), positive, otherwise)

    def _relu(self, x: str) -> str:
        return self.add("Relu", x)

    def _leaky_relu(self, x: str, negative_slope: float) -> str:
        if not self._is_double:
            return self.add("LeakyRelu", x, alpha=float(negative_slope))
        return self._where_positive(x, x, self.add("Mul", x, self.number(negative_slope)))

    def _elu(self, x: str, alpha: float) -> str:
        if not self._is_double:
            return self.add("Elu", x, alpha=float(alpha))
        e = self.add("Exp", self.add("Min", x, self.number(0)))
        below = self.add("Mul", self.add("Sub", e, self.number(1)), self.number(alpha))
        return self._where_positive(x, x, below)

    def _gelu(self, x: str, approximate: str) -> str:
        if approximate == "tanh":
            cube = self.add("Mul", self.add("Mul", x, x), x)
            inner = self.add("Add", x, self.add("Mul", cube, self.number(0.044715)))
            inner = self.add("Mul", inner, self.number(math.sqrt(2 / math.pi)))
            bend = self.add("Tanh", inner)
        elif self._is_double:
            raise TypeError(
                "to_onnx: GELU of float64 has no export, since ONNX Runtime has no error function of "
                'float64; pass dtype="float32", or train with GELU("tanh")'
            )
        else:
            bend = self.add("Erf", self.add("Mul", x, self.number(math.sqrt(0.5))))
        half = self.add("Mul", x, self.number(0.5))
        return self.add("Mul", half, self.add("Add", bend, self.number(1)))

    def _silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def _mish(self, x: str) -> str:
        e, is_positive = self._exp_negative(x)
        two = self.number(2)
        right = self.add("Add", self.add("Mul", e, two), self.number(1))
        of_tanh = self.add("Where", is_positive, right, self.add("Mul", e, self.add("Add", e, two)))
        square = self.add("Mul", self.add("Mul", e, e), two)
        rest = self.add("Where", is_positive, square, two)
        return self.add("Mul", x, self.add("Div", of_tanh, self.add("Add", of_tanh, rest)))

    def _selu(self, x: str) -> str:
        if not self._is_double:
            return self.add("Selu", x)
        e = self.add("Exp", self.add("Min", x, self.number(0)))
        below = self.add("Sub", e, self.number(1))
        below = self.add("Mul", below, self.number(SELU_SCALE * SELU_ALPHA))
        return self._where_positive(x, self.add("Mul", x, self.number(SELU_SCALE)), below)

    def _sigmoid(self, x: str) -> str:
        return self.add("Sigmoid", x)

    def _tanh(self, x: str) -> str:
        return self.add("Tanh", x)

    def _softplus(self, x: str, beta: float, threshold: float) -> str:
        z = x if beta == 1 else self.add("Mul", x, self.number(beta))
        smooth = self._smooth(z)
        if beta != 1:
            smooth = self.add("Div", smooth, self.number(beta))
        if not self._is_double and threshold >= 20:  # from there on they are equal
            return smooth
        return self.add("Where", self.add("Greater", z, self.number(threshold)), x, smooth)

    def _log_sigmoid(self, x: str) -> str:
        return self.add("Neg", self._smooth(self.add("Neg", x)))

    def _smooth(self, x: str) -> str:
        """Write ``log(1 + exp(x))``."""
        if not self._is_double:
            return self.add("Softplus", x)
        e, _ = self._exp_negative(x)
        log = self.add("Log", self.add("Add", e, self.number(1)))
        return self.add("Add", self.add("Max", x, self.number(0)), log)

    def _exp_negative(self, x: str) -> tuple[str, str]:
        """Write ``e ** -abs(x)`` and whether x is positive."""
        e = self.add("Exp", self.add("Neg", self.add("Abs", x)))
        return e, self.add("Greater", x, self.number(0))

    # ---- what the outputs mean ----

    def outputs(self, x: str, output: description.Output) -> dict[str, str]:
        """Write what the outputs mean: labels and probabilities, or values."""
        if output.is_class:
            return getattr(self, f"_{output.kind}_output")(x, output)  # type: ignore[no-any-return]
        if output.kind == "exp":
            x = self.add("Exp", x)
        elif output.places is not None:
            count = self.nodes.constant(np.array([len(output.places)], np.int64))
            x = self.nodes.first_of_two("TopK", x, count, axis=1, largest=0, sorted=1)
            x = self.add("Gather", x, self.nodes.constant(output.places), axis=1)
        return {"variable": x if output.restore is None else self.columns(x, output.restore)}

    def _softmax_output(self, x: str, output: description.Output) -> dict[str, str]:
        if len(output.classes) == 1:
            label = self.add("ArgMax", x, axis=1, keepdims=0)
            label = self._gather(output.classes[0], label)
            return {"label": label, "probabilities": self.add("Softmax", x, axis=1)}
        labels, probabilities, start = [], {}, 0
        for i, classes in enumerate(output.classes):
            places = np.arange(start, start + len(classes))
            own = self.add("Gather", x, self.nodes.constant(places), axis=1)
            number = self.add("ArgMax", own, axis=1, keepdims=1)
            labels.append(self._gather(classes, number))
            probabilities[f"probabilities_{i}"] = self.add("Softmax", own, axis=1)
            start += len(classes)
        return {"label": self.add("Concat", *labels, axis=1), **probabilities}

    def _parts_of_sigmoid(self, x: str) -> tuple[str, str, str]:
        """Write the larger and the smaller of p and 1 - p, and whether p is the larger one.

        Sigmoid of runtimes has lost the digits of a small p.
        """
        e, is_positive = self._exp_negative(x)
        both = self.add("Add", e, self.number(1))
        larger = self.add("Div", self.number(1), both)
        return larger, self.add("Div", e, both), is_positive

    def _binary_output(self, x: str, output: description.Output) -> dict[str, str]:
        larger, smaller, is_positive = self._parts_of_sigmoid(x)
        no = self.add("Where", is_positive, smaller, larger)
        yes = self.add("Where", is_positive, larger, smaller)
        decided = cast(self.nodes, self.add("Greater", yes, self.number(0.5)), np.int64)
        decided = self.add("Reshape", decided, self.nodes.constant(np.array([-1], np.int64)))
        probabilities = self.add("Concat", no, yes, axis=1)
        return {"label": self._gather(output.classes[0], decided), "probabilities": probabilities}

    def _sigmoid_output(self, x: str, output: description.Output) -> dict[str, str]:  # noqa: ARG002
        larger, smaller, is_positive = self._parts_of_sigmoid(x)
        p = self.add("Where", is_positive, larger, smaller)
        label = cast(self.nodes, self.add("Greater", p, self.number(0.5)), np.int64)
        return {"label": label, "probabilities": p}

    def _gather(self, labels: Array, numbers: str) -> str:
        if np.array_equal(labels, np.arange(len(labels))) and labels.dtype == np.int64:
            return numbers
        return self.add("Gather", self.nodes.constant(labels), numbers, axis=0)


def write(nodes: Nodes, x: str, described: description.Description) -> dict[str, str]:
    """Write a description of rows ``x``; return the names of what it gives, by what it is."""
    writer = Writer(nodes, described.dtype)
    for step in described.steps:
        x = writer.step(x, step)
    return writer.outputs(x, described.output)


def shape_of(name: str, output: description.Output, width: int | None) -> Sequence[int | None]:
    """Return the shape of an output, without the rows."""
    targets = len(output.classes)
    if name == "label":
        return [] if targets == 1 else [targets or width]
    if name.startswith("probabilities_"):
        return [len(output.classes[int(name.rpartition("_")[2])])]
    return [2 if output.kind == "binary" else width]
