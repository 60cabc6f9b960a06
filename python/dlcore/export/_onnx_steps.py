"""The steps of a description in ONNX."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export import _steps as kinds
from dlcore.export._onnx_activations import Activations
from dlcore.export._onnx_nodes import cast
from dlcore.export._onnx_quantiles import QuantileNodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore._common.typing import Array


class Steps(Activations):
    """Writes steps: of rows of shape (N, features), of those of members of shape (k, N, features)."""

    _is_of_members = False

    def in_a_row(self, x: str, steps: Iterable[kinds.Step]) -> str:
        """Write steps one after the other."""
        for step in steps:
            x = self.step(x, step)
        return x

    def step(self, x: str, step: kinds.Step) -> str:
        """Write one step."""
        if isinstance(step, kinds.Activation):
            return self.activation(x, step)
        write: Any = getattr(self, _METHODS[type(step)])
        written: str = write(x, step)
        return written

    def _linear(self, x: str, step: kinds.Linear) -> str:
        if not self._is_of_members:
            return self.add("Gemm", x, self.number(step.weight), self.number(step.bias), transB=1)
        x = self.add("MatMul", x, self.number(np.swapaxes(step.weight, -1, -2)))
        return self._plus(x, step.bias)

    def _affine(self, x: str, step: kinds.Affine) -> str:
        return self._scaled(x, step.weight, step.bias)

    def columns(self, x: str, step: kinds.Columns) -> str:
        """Map columns in float64, rounded once, as a normalizer does."""
        add, constant = self.add, self.nodes.constant
        y = self._widened(x)
        if step.subtract.any():
            y = add("Sub", y, constant(step.subtract))
        y = add("Mul", y, constant(step.multiply))
        if step.add.any():
            y = add("Add", y, constant(step.add))
        for operator, bound in (("Max", step.low), ("Min", step.high)):
            if np.isfinite(bound).all():
                y = add(operator, y, constant(np.asarray(bound, np.float64)))
        return self._narrowed(y)

    def _smooth_clip(self, x: str, step: kinds.SmoothClip) -> str:
        bound = self.nodes.constant(np.asarray(step.bound, np.float64))
        z = self.add("Div", self._widened(x), bound)
        for operator, far in (("Max", -1e100), ("Min", 1e100)):  # whose squares are numbers
            z = self.add(operator, z, self.nodes.constant(np.asarray(far)))
        one = self.nodes.constant(np.asarray(1.0))
        root = self.add("Sqrt", self.add("Add", self.add("Mul", z, z), one))
        return self._narrowed(self.add("Mul", self.add("Div", z, root), bound))

    def _quantiles(self, x: str, step: kinds.Quantiles) -> str:
        return self._narrowed(QuantileNodes(self.nodes, step.values).normal(self._widened(x)))

    # ---- normalizations ----

    def _batch_norm(self, x: str, step: kinds.BatchNorm) -> str:
        # Not BatchNormalization, which runtimes compute as x * a + b: that loses the digits of a
        # feature whose mean is large.
        x = self.add("Sub", x, self.number(step.mean))
        return self._scaled(x, step.scale * step.weight, step.bias)

    def _row_norm(self, x: str, step: kinds.RowNorm) -> str:
        if step.is_centered:
            x = self.add("Sub", x, self._reduced("ReduceMean", x, -1))
        square = self._reduced("ReduceMean", self.add("Mul", x, x), -1)
        root = self.add("Sqrt", self.add("Add", square, self.number(step.eps)))
        return self._scaled(self.add("Div", x, root), step.weight, step.bias)

    # ---- functions with a parameter of each feature ----

    def _parametric(self, x: str, step: kinds.Parametric) -> str:
        y = self.activation(x, step.activation)
        between = self.add("Mul", self.add("Sub", y, x), self.number(step.weight))
        # An infinity less itself is NaN.
        return self.add("Where", self.add("Equal", x, y), x, self.add("Add", x, between))

    def _prelu(self, x: str, step: kinds.PReLU) -> str:
        return self._where_positive(x, x, self.add("Mul", x, self.number(step.weight)))

    # ---- categories and embeddings of numbers ----

    def _categories(self, x: str, step: kinds.Categories) -> str:
        """Read rows of tables; any value that is no category is beyond the last row."""
        add, constant = self.add, self.nodes.constant
        parts = [self.number(step.bias)] if step.bias is not None else []
        if step.numbers:
            parts.append(add("Gather", x, constant(np.array(step.numbers, np.int64)), axis=-1))
        for column, table in zip(step.columns, step.tables, strict=True):
            code = add("Gather", x, constant(np.array(column, np.int64)), axis=-1)
            size = len(table) - step.has_missing
            is_low = add("Less", code, self.number(0))
            is_high = add("Greater", code, self.number(size - 1))
            code = add("Where", add("Or", is_low, is_high), self.number(len(table)), code)
            if step.has_missing:
                code = add("Where", add("IsNaN", code), self.number(size), code)
            index = cast(self.nodes, code, np.int64)
            parts.append(add("Gather", self.number(table), index, axis=0))
        if step.bias is None:
            return add("Concat", *parts, axis=-1)
        return functools.reduce(functools.partial(add, "Add"), parts)

    def _feature_linear(self, x: str, step: kinds.FeatureLinear) -> str:
        n, (own, d_in, d_out) = step.n_features, step.weight.shape
        x = self._reshaped(x, n, d_in)
        if d_in == 1:
            x = self.add("Mul", x, self.number(step.weight[:, 0]))
        elif own == 1:
            x = self.add("MatMul", x, self.number(step.weight[0]))
        else:  # a product of matrices for each feature
            axes = [0, 2, 1, 3] if self._is_of_members else [1, 0, 2]
            x = self.add("MatMul", self.add("Transpose", x, perm=axes), self.number(step.weight))
            x = self.add("Transpose", x, perm=axes)
        x = self.add("Add", x, self.number(step.bias)) if step.bias.any() else x
        return self._reshaped(x, n * d_out)

    def _periodic(self, x: str, step: kinds.Periodic) -> str:
        """Take whole turns away before the angle is rounded: of products of float32 in float64."""
        add, constant = self.add, self.nodes.constant
        n, k = step.weight.shape
        x = self._reshaped(x, n, 1)
        turns = add("Mul", self._widened(x), constant(step.weight.astype(np.float64)))
        if step.bias is not None:
            turns = add("Add", turns, constant(step.bias.astype(np.float64) / (2 * np.pi)))
        turns = add("Sub", turns, add("Round", turns))
        angle = self._narrowed(add("Mul", turns, constant(np.asarray(2 * np.pi))))
        waves = add("Cos", angle)
        if step.bias is None:
            waves = add("Concat", waves, add("Sin", angle), axis=-1)
        return self._reshaped(waves, n * k * (1 if step.bias is not None else 2))

    def _piecewise(self, x: str, step: kinds.Piecewise) -> str:
        n, bins = step.lower.shape
        x = self.add("Sub", self._reshaped(x, n, 1), self.number(step.lower))
        x = self.add("Mul", x, self.number(step.scale))
        x = self.add("Max", x, self.number(step.low))
        return self._reshaped(self.add("Min", x, self.number(step.high)), n * bins)

    def _take(self, x: str, step: kinds.Take) -> str:
        return self.add("Gather", x, self._axes(*step.columns), axis=-1)

    def _missing(self, x: str, step: kinds.Missing) -> str:
        is_missing = self.add("IsNaN", x)
        if step.indicates:
            return cast(self.nodes, is_missing, self.dtype)
        return self.add("Where", is_missing, self.number(0), x)

    # ---- branches and members ----

    def _branches(self, x: str, step: kinds.Branches) -> str:
        results = []
        for branch in step.branches:
            columns = x if branch.columns is None else self._sliced(x, *branch.columns)
            results.append(self.in_a_row(columns, branch.steps))
        if step.join == "sum":
            return functools.reduce(functools.partial(self.add, "Add"), results)
        if step.join == "concat":
            return self.add("Concat", *results, axis=-1)
        apart = [self.add("Unsqueeze", own, self._axes(0)) for own in results]
        x = self.add("Concat", *apart, axis=0)
        ends = np.cumsum(step.widths).tolist()
        parts = [self._sliced(x, *pair) for pair in pairwise([0, *ends])] or [x]
        means = [self._mean_of_members(part, step.join) for part in parts]
        return self.add("Squeeze", self.add("Concat", *means, axis=-1), self._axes(0))

    def _members(self, x: str, step: kinds.Members) -> str:
        is_within, self._is_of_members = self._is_of_members, True
        if not is_within:
            x = self.add("Unsqueeze", x, self._axes(0))
        x = self.in_a_row(x, step.steps)
        x = self._mean_of_members(x, step.mean_of)
        self._is_of_members = is_within
        return x if is_within else self.add("Squeeze", x, self._axes(0))

    def _mean_of_members(self, x: str, of: str) -> str:
        if of == "outputs":
            return self._reduced("ReduceMean", x, 0)
        if of == "softmax":
            return self._log_of_mean(self.add("LogSoftmax", x, axis=-1))
        if of == "exp":
            return self._log_of_mean(x)
        minus = self.add("Neg", x)
        yes = self._log_of_mean(self.add("Neg", self._smooth(minus)))
        return self.add("Sub", yes, self._log_of_mean(self.add("Neg", self._smooth(x))))

    def _log_of_mean(self, x: str) -> str:
        """Write the logarithm of the mean over members of what has these logarithms."""
        largest = self._reduced("ReduceMax", x, 0)
        share = self.add("Exp", self.add("Sub", x, largest))
        mean = self._reduced("ReduceMean", share, 0)
        return self.add("Add", largest, self.add("Log", mean))

    # ---- parts of steps ----

    def _widened(self, x: str) -> str:
        return x if self._is_double else cast(self.nodes, x, np.float64)

    def _narrowed(self, x: str) -> str:
        return x if self._is_double else cast(self.nodes, x, np.float32)

    def _scaled(self, x: str, weight: Array, bias: Array) -> str:
        if (weight != 1).any():
            x = self.add("Mul", x, self._of_rows(weight))
        return self._plus(x, bias)

    def _plus(self, x: str, bias: Array) -> str:
        return self.add("Add", x, self._of_rows(bias)) if bias.any() else x

    def _of_rows(self, values: Array) -> str:
        """Add numbers of each feature, or of each feature of each member, the same for all rows."""
        is_by_member = self._is_of_members and values.ndim == 2
        return self.number(values[:, np.newaxis] if is_by_member else values)

    def _reduced(self, operator: str, x: str, axis: int) -> str:
        if self.nodes.opset < 18:
            return self.add(operator, x, axes=[axis], keepdims=1)
        return self.add(operator, x, self._axes(axis), keepdims=1)

    def _axes(self, *axes: int) -> str:
        return self.nodes.constant(np.array(axes, np.int64))

    def _reshaped(self, x: str, *last: int) -> str:
        """Give the last axes other lengths; those of members and rows stay."""
        return self.add("Reshape", x, self._axes(*[0] * (1 + self._is_of_members), *last))

    def _sliced(self, x: str, start: int, stop: int) -> str:
        return self.add("Slice", x, self._axes(start), self._axes(stop), self._axes(-1))


_METHODS: dict[Any, str] = {
    kinds.Linear: "_linear",
    kinds.Affine: "_affine",
    kinds.Columns: "columns",
    kinds.SmoothClip: "_smooth_clip",
    kinds.Quantiles: "_quantiles",
    kinds.Take: "_take",
    kinds.BatchNorm: "_batch_norm",
    kinds.RowNorm: "_row_norm",
    kinds.Parametric: "_parametric",
    kinds.PReLU: "_prelu",
    kinds.Categories: "_categories",
    kinds.FeatureLinear: "_feature_linear",
    kinds.Periodic: "_periodic",
    kinds.Piecewise: "_piecewise",
    kinds.Missing: "_missing",
    kinds.Branches: "_branches",
    kinds.Members: "_members",
}
