"""The steps of a description as statements in C, of float32.

Values lie in arrays: the row x, which stays as it is, and buffers, of which those are not written to
that hold what is still needed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export import _steps as kinds
from dlcore.export._c_functions import FUNCTIONS
from dlcore.export._c_text import array, floats, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore._common.typing import Array

# Outputs are padded to a multiple of this, and inputs are taken as many at a time.
_VECTOR, _GROUP = 4, 8
# As in cpp/kernels/gemm.hpp: as many terms at most are added up before the sum is added to others.
_TERMS = 256


class Statements:
    """Writes the statements of steps, and remembers what they need.

    Parameters
    ----------
    name : str
        What names of constants and functions begin with.
    width : int
        Numbers of a row.
    """

    def __init__(self, name: str, width: int) -> None:
        self._name = name
        self._arrays: list[str] = []
        self._used: set[str] = set()
        self._lines: list[str] = []
        self._numbers: set[str] = set()
        self._indices: set[str] = set()
        self._buffers: set[str] = set()
        # Those that are not to be written to, and the numbers of the members that steps are of.
        self._kept = frozenset("x")
        self._of_members: list[str] = []
        # Where the values are, how many, and how many there are with what they are padded by.
        self._at, self._width = "x", width
        self._padded = width
        self._largest = 1
        self._count = 0

    def write(self, steps: Iterable[kinds.Step]) -> None:
        """Write steps one after the other."""
        for step in steps:
            i, self._count = self._count, self._count + 1
            self._step(i, step)

    def _step(self, i: int, step: kinds.Step) -> None:
        if isinstance(step, kinds.Linear):
            self._linear(i, step)
        elif isinstance(step, kinds.Columns):
            self._columns(i, step, f"{self._at}[j]")
        elif isinstance(step, kinds.SmoothClip):
            self._used.add("smooth_clip")
            bound = number(np.float32(step.bound))
            self._elementwise(f"{self._name}_smooth_clip({self._at}[j], {bound})")
        elif isinstance(step, kinds.Take):
            self._take(i, step)
        elif isinstance(step, kinds.Affine):
            self._scaled(f"{self._at}[j]", i, step.weight, step.bias)
        elif isinstance(step, kinds.BatchNorm):
            mean = self._of_each(f"mean_{i}", step.mean, "a running mean")
            scale = self._of_each(f"scale_{i}", step.scale, "the scale of a BatchNorm1d")
            self._scaled(f"({self._at}[j] - {mean}) * {scale}", i, step.weight, step.bias)
        elif isinstance(step, kinds.RowNorm):
            self._row_norm(i, step)
        elif isinstance(step, kinds.Activation):
            self._elementwise(self._activated(step, f"{self._at}[j]"))
        elif isinstance(step, kinds.Parametric):
            self._parametric(i, step)
        elif isinstance(step, kinds.PReLU):
            x, w = f"{self._at}[j]", np.broadcast_to(step.weight, self._width)
            slope = self._of_each(f"weight_{i}", w, "a weight")
            self._elementwise(f"{x} > 0.0f ? {x} : {x} * {slope}")
        elif isinstance(step, kinds.Missing):
            there, missing = ("0.0f", "1.0f") if step.indicates else (f"{self._at}[j]", "0.0f")
            self._elementwise(f"{self._at}[j] == {self._at}[j] ? {there} : {missing}")
        elif isinstance(step, kinds.Categories):
            self._categories(i, step)
        elif isinstance(step, kinds.FeatureLinear):
            self._feature_linear(i, step)
        elif isinstance(step, kinds.Periodic):
            self._periodic(i, step)
        elif isinstance(step, kinds.Piecewise):
            self._piecewise(i, step)
        elif isinstance(step, kinds.Branches):
            self._branches(step)
        else:
            assert isinstance(step, kinds.Members)
            self._members(step)

    # ---- constants and buffers ----

    def _constant(self, name: str, values: Array, where: str) -> str:
        """Add an array of one or two dimensions."""
        full = f"{self._name}_{name}"
        self._arrays.append(array("float", full, floats(values, where)))
        return full

    def _of_each(self, name: str, values: Array, where: str) -> str:
        """Add a number of each value, or of each of each member; return the one at j."""
        full = self._constant(name, self._pad(values), where)
        return f"{full}[j]" if values.ndim == 1 else f"{full}[{self._of_members[-1]}][j]"

    def _free(self, *others: str) -> str:
        """Return a buffer that holds nothing that is needed."""
        names = itertools.chain("ab", (f"v{i}" for i in itertools.count()))
        return next(n for n in names if n not in self._kept and n not in others)

    def _next(self) -> str:
        """Return a buffer for what is computed of the values."""
        return self._free(_base(self._at))

    def _holds(self, buffer: str, width: int, padded: int) -> None:
        """Say that the values are in a buffer now."""
        self._at, self._width, self._padded = buffer, width, padded
        self._buffers.add(buffer)
        self._largest = max(self._largest, padded)

    def _each(self, to: str, expression: str, count: int) -> None:
        self._lines.append(f"    for (j = 0; j < {count}; ++j) {to}[j] = {expression};")

    def _pad(self, values: Array) -> Array:
        assert values.shape[-1] == self._width
        rows = [(0, 0)] * (values.ndim - 1)
        return np.pad(values, [*rows, (0, self._padded - values.shape[-1])])

    # ---- steps ----

    def _elementwise(self, expression: str) -> None:
        """Compute each element, in place where what was there is not needed."""
        to = self._next() if _base(self._at) in self._kept else self._at
        self._each(to, expression, self._padded)
        self._holds(to, self._width, self._padded)

    def _linear(self, i: int, step: kinds.Linear) -> None:
        *members, outputs, inputs = step.weight.shape
        padded = _padded(outputs)
        weight = np.swapaxes(step.weight, -1, -2).reshape(-1, outputs)
        w = self._constant(
            f"weight_{i}", np.pad(weight, ((0, 0), (0, padded - outputs))), "a weight"
        )
        w = f"({w} + {self._of_members[-1]} * {inputs})" if members else w
        x, y = self._at, self._next()
        self._holds(y, outputs, padded)
        chunk = -(-inputs // -(-inputs // _TERMS))
        for start in range(0, inputs, chunk):
            end = min(inputs, start + chunk)
            self._sum(x, w, y if start == 0 else "s", start, end)
            if start == 0 and step.bias.any():
                bias = self._of_each(f"bias_{i}", step.bias, "a bias")
                self._elementwise(f"{y}[j] + {bias}")
            elif start > 0:
                self._buffers.add("s")
                self._elementwise(f"{y}[j] + s[j]")

    def _sum(self, x: str, w: str, y: str, start: int, end: int) -> None:
        """Sum the products of some inputs."""
        loop = f"for (j = 0; j < {self._padded}; ++j) {y}[j] ="
        first = min(start + _GROUP, end)
        whole = start + (end - start) // _GROUP * _GROUP
        # The first terms are not added to zeros, which compilers would fill in by calling memset.
        self._lines.append(f"    {loop} {self._terms(x, w, range(start, first))};")
        if whole > first:
            self._indices.add("i")
            group = ("i", *(f"i + {k}" for k in range(1, _GROUP)))
            self._lines += [
                f"    for (i = {first}; i < {whole}; i += {_GROUP})",
                f"        {loop} {self._terms(x, w, group, f'{y}[j]')};",
            ]
        if first < end and whole < end:
            self._lines.append(f"    {loop} {self._terms(x, w, range(whole, end), f'{y}[j]')};")

    def _terms(self, x: str, w: str, inputs: Any, added: str = "") -> str:
        for i in inputs:
            operands = f"{x}[{i}], {w}[{i}][j]"
            added = self._fma(operands, added) if added else f"{x}[{i}] * {w}[{i}][j]"
        return added

    def _fma(self, operands: str, added: str) -> str:
        return f"{self._name.upper()}_FMA({operands}, {added})"

    def _scaled(self, x: str, i: int, weight: Array, bias: Array) -> None:
        """Scale and shift each feature."""
        if (weight == 1).all() and not bias.any():
            self._elementwise(x)
            return
        w = self._of_each(f"weight_{i}", weight, "a weight")
        if bias.any():
            shift = self._of_each(f"bias_{i}", bias, "a bias")
            self._elementwise(self._fma(f"{x}, {w}", shift))
        else:
            self._elementwise(f"{x} * {w}")

    def _columns(self, i: int, step: kinds.Columns, x: str, to: str = "") -> None:
        """Map columns in float64, rounded once, as a normalizer does."""

        def named(name: str, values: Array) -> str:
            padded = values if to else self._pad(values)
            full = f"{self._name}_{name}_{i}"
            self._arrays.append(array("double", full, padded.astype(np.float64)))
            return f"{full}[j]"

        mapped = x
        if step.subtract.any():
            mapped = f"({mapped} - {named('subtract', step.subtract)})"
        mapped = f"{mapped} * {named('multiply', step.multiply)}"
        if step.add.any():
            mapped += f" + {named('add', step.add)}"
        self._store(f"(float)({mapped})", to)
        for comparison, kind, bound in (("<", "low", step.low), (">", "high", step.high)):
            if np.isfinite(bound).all():
                place = f"{to or self._at}[j]"
                if isinstance(bound, np.ndarray):
                    limit = f"{self._constant(f'{kind}_{i}', bound, 'a bound')}[j]"
                else:
                    limit = number(np.float32(bound))
                self._store(f"{place} {comparison} {limit} ? {limit} : {place}", to)

    def _store(self, expression: str, to: str) -> None:
        if to:
            self._lines.append(f"    for (j = 0; j < {self._width}; ++j) {to}[j] = {expression};")
        else:
            self._elementwise(expression)

    def _take(self, i: int, step: kinds.Take) -> None:
        places, x, y = f"{self._name}_columns_{i}", self._at, self._next()
        self._arrays.append(array("int", places, np.array(step.columns)))
        width = len(step.columns)
        self._each(y, f"{x}[{places}[j]]", width)
        self._holds(y, width, width)

    def _row_norm(self, i: int, step: kinds.RowNorm) -> None:
        n, name, add = number(np.float32(self._width)), self._name, self._lines.append
        sum_of = f"{name}_sum({{}}, {self._width}) / {n}"
        self._used |= {"square_sum", "inverse_root"}
        self._numbers.add("scale")
        if step.is_centered:
            self._used.add("sum")
            self._numbers.add("mean")
            add(f"    mean = {sum_of.format(self._at)};")
            self._elementwise(f"{self._at}[j] - mean")
            # What the mean lost by rounding.
            add(f"    mean = {sum_of.format(self._at)};")
            self._elementwise(f"{self._at}[j] - mean")
        squares = f"{name}_square_sum({self._at}, {self._width}) / {n}"
        add(f"    scale = {name}_inverse_root({squares} + {number(np.float32(step.eps))});")
        self._scaled(f"{self._at}[j] * scale", i, step.weight, step.bias)

    def _activated(self, step: kinds.Activation, x: str) -> str:
        options: dict[str, Any] = dict(step.options)
        kernel = step.kernel
        if options.pop("approximate", "none") == "tanh":
            kernel = f"{kernel}_tanh"
        if options.get("negative_slope") == 0:  # which times an infinity would be NaN
            kernel, options = "relu", {}
        if kernel not in FUNCTIONS:
            raise TypeError(f"to_c: the activation {kernel} has no export")
        self._used.add(kernel)
        arguments = ", ".join([x, *map(_option, options.values())])
        return f"{self._name}_{kernel}({arguments})"

    def _parametric(self, i: int, step: kinds.Parametric) -> None:
        x, w = self._at, self._of_each(f"weight_{i}", step.weight, "a weight")
        f = self._next()
        self._each(f, self._activated(step.activation, f"{x}[j]"), self._padded)
        between = self._fma(f"{w}, {f}[j] - {x}[j]", f"{x}[j]")
        self._each(f, f"{f}[j] == {x}[j] ? {x}[j] : {between}", self._padded)
        self._holds(f, self._width, self._padded)

    # ---- categories and embeddings of numbers ----

    def _categories(self, i: int, step: kinds.Categories) -> None:
        """Write rows of tables by their codes; a code that is none gives NaN."""
        self._used |= {"code", "nan"}
        self._indices.add("i")
        x, y, name = self._at, self._next(), self._name
        self._lines += [f"    {y}[{to}] = {x}[{column}];" for to, column in enumerate(step.numbers)]
        begin = len(step.numbers)
        for n, (column, table) in enumerate(zip(step.columns, step.tables, strict=True)):
            size, width = len(table) - step.has_missing, table.shape[1]
            t = self._constant(f"table_{i}_{n}", table, "an embedding")
            missing = size if step.has_missing else -1
            self._lines.append(f"    i = {name}_code({x}[{column}], {size}, {missing});")
            row = f"i < 0 ? {name}_nan() : {t}[i][j]"
            if step.bias is None:
                self._each(f"({y} + {begin})" if begin else y, row, width)
                begin += width
            else:
                added = self._constant(f"bias_{i}", step.bias, "a bias") if n == 0 else y
                self._each(y, f"{added}[j] + ({row})", width)
                begin = width
        self._holds(y, begin, begin)

    def _of_features(self, features: int, width: int, lines: Iterable[str], **parts: Any) -> None:
        """Write a loop over features, each of which becomes so many values at y."""
        y = self._next()
        self._indices.add("i")
        self._lines.append(f"    for (i = 0; i < {features}; ++i) {{")
        parts |= {"x": self._at, "at": f"{y}[i * {width} + j]"}
        self._lines += [f"        {line.format(**parts)}" for line in lines]
        self._lines.append("    }")
        self._holds(y, features * width, features * width)

    def _feature_linear(self, i: int, step: kinds.FeatureLinear) -> None:
        n, (own, d_in, d_out) = step.n_features, step.weight.shape
        w = self._constant(f"weight_{i}", step.weight.reshape(-1, d_out), "a weight")
        first = "0" if own == 1 else f"i * {d_in}"
        loop = f"for (j = 0; j < {d_out}; ++j) {{at}} ="
        product = f"{{x}}[i * {d_in}] * {w}[{first}][j]"
        lines = [f"{loop} {product};"]
        if d_in > 1:
            self._indices.add("k")
            more = self._fma(f"{{x}}[i * {d_in} + k], {w}[{first} + k][j]", "{at}")
            lines += [f"for (k = 1; k < {d_in}; ++k)", f"    {loop} {more};"]
        if step.bias.any():
            bias = self._constant(f"bias_{i}", step.bias, "a bias")
            lines.append(f"{loop} {{at}} + {bias}[{'0' if own == 1 else 'i'}][j];")
        self._of_features(n, d_out, lines)

    def _periodic(self, i: int, step: kinds.Periodic) -> None:
        self._used |= {"turn", "cosine"}
        name, (n, k) = self._name, step.weight.shape
        w = self._constant(f"weight_{i}", step.weight, "a weight")
        turns = f"(double){{x}}[i] * {w}[i][j]"
        if step.bias is not None:
            phase = f"{name}_phase_{i}"
            self._arrays.append(array("double", phase, step.bias.astype(np.float64) / (2 * np.pi)))
            turns += f" + {phase}[i][j]"
        loop = f"for (j = 0; j < {k}; ++j) {{at}} = {name}_cosine({name}_turn({turns}), "
        lines, width = [f"{loop}0);"], k
        if step.bias is None:
            sines = loop.replace("{at}", "{sine}")
            lines, width = [*lines, f"{sines}1);"], 2 * k
        self._of_features(n, width, lines, sine=f"{self._next()}[i * {width} + {k} + j]")

    def _piecewise(self, i: int, step: kinds.Piecewise) -> None:
        n, bins = step.lower.shape
        most = float(np.finfo(np.float32).max)
        lower, scale, low, high = (
            self._constant(f"{part}_{i}", np.clip(getattr(step, part), -most, most), "an edge")
            for part in ("lower", "scale", "low", "high")
        )
        loop = f"for (j = 0; j < {bins}; ++j) {{at}} ="
        lines = [
            f"{loop} ({{x}}[i] - {lower}[i][j]) * {scale}[i][j];",
            f"{loop} {{at}} < {low}[i][j] ? {low}[i][j] : {{at}};",  # NaN stays
            f"{loop} {{at}} > {high}[i][j] ? {high}[i][j] : {{at}};",
        ]
        self._of_features(n, bins, lines)

    # ---- branches and members ----

    def _branches(self, step: kinds.Branches) -> None:
        given, kept = (self._at, self._width, self._padded), self._kept
        is_mean = step.join not in ("concat", "sum")
        to, *rest = self._sums(step.join if is_mean else "")
        self._kept = kept | {_base(self._at), to, *rest}
        begin = 0
        for i, branch in enumerate(step.branches):
            self._at, self._width, self._padded = given
            if branch.columns is not None:
                start, stop = branch.columns
                self._at = f"({self._at} + {start})" if start else self._at
                self._width = self._padded = stop - start
            self.write(branch.steps)
            if is_mean:
                if i == 0:
                    begin = self._width
                    self._begin_mean(step.join, [to, *rest])
                self._add_member(step.join, [to, *rest], step.widths)
            elif step.join == "sum" and i:
                self._each(to, f"{to}[j] + {self._at}[j]", self._width)
            else:
                self._used.add("copy")
                place = f"{to} + {begin}" if begin else to
                self._lines.append(f"    {self._name}_copy({place}, {self._at}, {self._width});")
                begin += self._width
        self._kept = kept
        self._holds(to, begin, begin)
        if is_mean:
            self._end_mean(step.join, [to, *rest], len(step.branches))

    def _members(self, step: kinds.Members) -> None:
        """Write a loop over members, whose results are added up."""
        kept, lines = self._kept, self._lines
        sums = self._sums(step.mean_of)
        self._kept = kept | {_base(self._at), *sums}
        index = f"m{len(self._of_members)}"
        self._indices.add(index)
        self._of_members.append(index)
        self._lines = []
        self.write(step.steps)
        self._add_member(step.mean_of, sums)
        inner, self._lines = self._lines, lines
        self._of_members.pop()
        self._begin_mean(step.mean_of, sums)
        self._lines.append(f"    for ({index} = 0; {index} < {step.k}; ++{index}) {{")
        self._lines += [f"    {line}" for line in inner]
        self._lines.append("    }")
        self._kept = kept
        self._end_mean(step.mean_of, sums, step.k)

    def _sums(self, mean_of: str) -> list[str]:
        """Return the buffers in which members are added up: two for yes and no."""
        first = self._next()
        return [first, self._free(_base(self._at), first)] if mean_of == "sigmoid" else [first]

    def _begin_mean(self, mean_of: str, sums: list[str]) -> None:
        self._used.add("fill")
        zero = "0.0f" if mean_of == "outputs" else "-3.4028235e38f"
        self._lines += [f"    {self._name}_fill({own}, {zero}, {self._width});" for own in sums]

    def _add_member(self, mean_of: str, sums: list[str], widths: tuple[int, ...] = ()) -> None:
        """Add outputs of a member, or add up what its logarithms of probabilities stand for."""
        at, name, width = self._at, self._name, self._width
        if mean_of == "outputs":
            self._each(sums[0], f"{sums[0]}[j] + {at}[j]", width)
            return
        self._used.add("log_add")
        if mean_of == "softmax":
            self._used.add("log_sum")
            self._numbers.add("total")
            ends = np.cumsum(widths or (width,)).tolist()
            for start, stop in itertools.pairwise([0, *ends]):
                own, to = (f"({array} + {start})" if start else array for array in (at, sums[0]))
                self._lines.append(f"    total = {name}_log_sum({own}, {stop - start});")
                self._each(to, f"{name}_log_add({to}[j], {own}[j] - total)", stop - start)
            return
        logarithms = [f"{at}[j]"]
        if mean_of == "sigmoid":
            self._used.add("log_sigmoid")
            logarithms = [f"{name}_log_sigmoid({sign}{at}[j])" for sign in ("", "-")]
        for to, logarithm in zip(sums, logarithms, strict=True):
            self._each(to, f"{name}_log_add({to}[j], {logarithm})", width)

    def _end_mean(self, mean_of: str, sums: list[str], count: int) -> None:
        to, *rest = sums
        for own in (*rest, to):
            self._holds(own, self._width, self._width)
        if mean_of == "outputs":
            self._elementwise(f"{to}[j] / {number(np.float32(count))}")
        elif mean_of == "sigmoid":
            self._elementwise(f"{to}[j] - {rest[0]}[j]")
        else:
            self._elementwise(f"{to}[j] - {number(np.float32(np.log(count)))}")


def _base(at: str) -> str:
    """Return the array that a place is in, such as "a" of "(a + 3)"."""
    return at.lstrip("(").partition(" ")[0].rstrip(")")


def _padded(width: int) -> int:
    whole = -(-width // _VECTOR) * _VECTOR
    return whole if whole - width <= width // 4 else width


def _option(value: float) -> str:
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    # The thresholds of softplus alone may be infinite.
    return number(np.clip(rounded, -np.finfo(np.float32).max, np.finfo(np.float32).max))
