"""A description in ONNX: its steps, and what its outputs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlcore.export._onnx_nodes import cast
from dlcore.export._onnx_steps import Steps
from dlcore.export._onnx_tables import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dlcore._common.typing import Array
    from dlcore.export._description import Description, Output
    from dlcore.export._onnx_nodes import Nodes


class Writer(Steps):
    """Writes a description as nodes."""

    def outputs(self, x: str, output: Output) -> dict[str, str]:
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

    def _softmax_output(self, x: str, output: Output) -> dict[str, str]:
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

    def _binary_output(self, x: str, output: Output) -> dict[str, str]:
        larger, smaller, is_positive = self._parts_of_sigmoid(x)
        no = self.add("Where", is_positive, smaller, larger)
        yes = self.add("Where", is_positive, larger, smaller)
        decided = cast(self.nodes, self.add("Greater", yes, self.number(0.5)), np.int64)
        decided = self.add("Reshape", decided, self.nodes.constant(np.array([-1], np.int64)))
        probabilities = self.add("Concat", no, yes, axis=1)
        return {"label": self._gather(output.classes[0], decided), "probabilities": probabilities}

    def _sigmoid_output(self, x: str, output: Output) -> dict[str, str]:  # noqa: ARG002
        larger, smaller, is_positive = self._parts_of_sigmoid(x)
        p = self.add("Where", is_positive, larger, smaller)
        label = cast(self.nodes, self.add("Greater", p, self.number(0.5)), np.int64)
        return {"label": label, "probabilities": p}

    def _gather(self, labels: Array, numbers: str) -> str:
        if np.array_equal(labels, np.arange(len(labels))) and labels.dtype == np.int64:
            return numbers
        return self.add("Gather", self.nodes.constant(labels), numbers, axis=0)


def write(nodes: Nodes, x: str, described: Description) -> dict[str, str]:
    """Write a description of rows ``x``; return the names of what it gives, by what it is.

    Those of a table are the inputs that it has.
    """
    writer = Writer(nodes, described.dtype)
    if described.table is not None:
        x = rows_of(nodes, described.table, described.dtype)
    return writer.outputs(writer.in_a_row(x, described.steps), described.output)


def shape_of(name: str, output: Output, width: int | None) -> Sequence[int | None]:
    """Return the shape of an output, without the rows."""
    targets = len(output.classes)
    if name == "label":
        return [] if targets == 1 else [targets or width]
    if name.startswith("probabilities_"):
        return [len(output.classes[int(name.rpartition("_")[2])])]
    return [2 if output.kind == "binary" else width]
