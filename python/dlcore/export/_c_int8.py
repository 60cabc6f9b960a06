"""The header of int8: integers alone, of 8 bits between the layers, summed in 32.

A value is ``scale * (q - zero)`` for an integer q; weights have a scale for each output and no zero.
What comes out of a layer is brought to the next scale by an integer product and a shift.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export import _description as description
from dlcore.export import _steps as kinds
from dlcore.export._c_meaning import class_names, decision, sorted_lines
from dlcore.export._c_text import array, floats, header
from dlcore.export._calibration import (
    LEAST,
    MOST,
    Quantized,
    check_calibration,
    computed,
    values_after,
)

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# Of sums in 32 bits: 2^15 products of 8 bits take 2^29, and as much is left for the bias and for
# the zero of the inputs each.
_MOST_INPUTS = 2**15
_LARGEST_BIAS = 2**29

# Bits of what a row is divided by in a normalization, after the point, and of the quotient.
_ROOT_BITS, _NORMAL_BITS = 8, 12

_SCALED = """\
/* x m / 2^s, rounded, within 30 bits. */
static inline int32_t @_scaled(int32_t x, int32_t m, int s) {
    const int64_t y = ((int64_t)x * m + ((int64_t)1 << (s - 1))) >> s;
    const int64_t most = (int64_t)1 << 30;
    return (int32_t)(y > most ? most : (y < -most ? -most : y));
}"""

_CLAMPED = """\
static inline int8_t @_clamped(int64_t x, int least, int most) {
    return (int8_t)(x < least ? least : (x > most ? most : x));
}"""

_ROOT = """\
/* The integer part of the square root. */
static inline int64_t @_root(int64_t x) {
    int64_t r = 0, bit = (int64_t)1 << 62;
    while (bit > x) bit >>= 2;
    for (; bit > 0; bit >>= 2) {
        if (x >= r + bit) {
            x -= r + bit;
            r = (r >> 1) + bit;
        } else {
            r >>= 1;
        }
    }
    return r;
}"""


def header_of_integers(described: description.Description, name: str, calibration: Any) -> str:
    """Return the header."""
    rows = check_calibration(calibration, described.in_features or 0)
    return _Header(_restored(described), name, rows).text()


def _restored(described: description.Description) -> description.Description:
    """Make what brings values back to the scale of the targets a part of the last layer."""
    output = described.output
    restore = output.restore
    if restore is None:
        return described
    if np.isfinite(restore.low).any():
        raise TypeError("to_c: clip_outputs=True has no export to int8; use float32")
    *before, last = described.steps
    if not isinstance(last, kinds.Linear) or output.kind == "exp":
        raise TypeError(
            'to_c: TransformedTargetRegressor with loss="poisson" has no export to int8; use float32'
        )
    factor = restore.multiply
    weight = last.weight * factor[:, np.newaxis]
    bias = (last.bias - restore.subtract) * factor + restore.add
    steps = (*before, kinds.Linear(weight, bias))
    return replace(described, steps=steps, output=replace(output, restore=None))


# What it writes.
STEPS: tuple[type, ...] = (
    kinds.Linear,
    kinds.Affine,
    kinds.Columns,
    kinds.BatchNorm,
    kinds.RowNorm,
    kinds.Activation,
)


class _Header:
    """Writes the statements of the steps."""

    def __init__(self, described: description.Description, name: str, rows: Array) -> None:
        self._described, self._name = described, name
        self._api = f"{name.upper()}_API"
        steps = list(described.steps)
        before = 0
        while before < len(steps) and isinstance(steps[before], kinds.Columns):
            before += 1
        self._columns, self._steps = steps[:before], steps[before:]
        for step in self._columns:
            rows = computed(step, rows)
        self._values = values_after(self._steps, rows)
        self._input = self._now = Quantized.of(rows)
        self._arrays: list[str] = []
        self._lines: list[str] = []
        self._functions = {"scaled": _SCALED, "clamped": _CLAMPED}
        self._declared = ["int j;"]
        self._at, self._width = "x", described.in_features or 0
        self._largest = 1

    def text(self) -> str:
        """Return the header."""
        described, name = self._described, self._name
        i, unit = 0, None
        while i < len(self._steps):
            step = self._steps[i]
            if isinstance(step, kinds.Linear):
                if i == len(self._steps) - 1:
                    unit = self._last(i, step)
                    break
                i += self._linear(i, step)
            elif isinstance(step, kinds.Affine):
                self._affine(i, step.weight.astype(np.float64), step.bias)
            elif isinstance(step, kinds.BatchNorm):
                factor = step.scale.astype(np.float64) * step.weight
                self._affine(i, factor, step.bias - step.mean * factor)
            elif isinstance(step, kinds.RowNorm):
                self._row_norm(i, step)
            elif isinstance(step, kinds.Activation):
                self._table(i, step)
            i += 1
        if unit is None:
            unit = self._now.scale
            minus = f" - {self._now.zero}" if self._now.zero else ""
            minus = minus.replace("- -", "+ ")
            self._lines.append(
                f"    for (j = 0; j < {self._width}; ++j) y[j] = {self._at}[j]{minus};"
            )
        output = described.output
        macros: dict[str, Any] = {
            "FEATURES": described.in_features,
            "OUTPUTS": self._width,
            "LOGIT_SCALE": f"{unit!r}",
        }
        if len(output.classes) == 1:
            macros["CLASSES"] = len(output.classes[0])
        elif output.is_class:
            macros["TARGETS"] = len(output.classes) or self._width
        quantizers = self._quantizers()
        functions = [text.replace("@", name) for text in self._functions.values()]
        parts = [*functions, *self._arrays, *quantizers, self._logits(), *self._meaning(output)]
        about = (
            f"Integers alone but for {name}_quantize, which {name.upper()}_NO_FLOAT leaves out; the "
            f"stack\n * holds some {2 * self._largest} bytes."
        )
        return header(name, about, macros, parts)

    def _logits(self) -> str:
        text = "\n".join(self._lines)
        arrays = [f"{name}[{self._largest}]" for name in "ab" if f"{name}[j] =" in text]
        buffers = [f"int8_t {', '.join(arrays)};"] if arrays else []
        declared = [f"    {line}" for line in (*buffers, *self._declared)]
        head = f"{self._api} void {self._name}_logits(const int8_t *x, int32_t *y) {{"
        about = f"/* The outputs of the network, in units of {self._name.upper()}_LOGIT_SCALE. */"
        return "\n".join([about, head, *declared, *self._lines, "}"])

    def _constant(self, kind: str, name: str, values: Array) -> str:
        full = f"{self._name}_{name}"
        self._arrays.append(array(kind, full, values))
        return full

    def _declare(self, line: str) -> None:
        if line not in self._declared:
            self._declared.append(line)

    def _next(self) -> str:
        """Return the array that the next values go to."""
        return "a" if self._at in ("x", "b") else "b"

    def _store(self, to: str, width: int, values: Quantized) -> None:
        self._at, self._width, self._now = to, width, values
        self._largest = max(self._largest, width)

    # ---- layers ----

    def _linear(self, i: int, step: kinds.Linear) -> int:
        """Write a linear layer that gives int8; return how many more steps are part of it."""
        following = self._steps[i + 1]
        is_relu = isinstance(following, kinds.Activation) and following.kernel == "relu"
        # Where a ReLU is the last step, its values are what is asked for.
        values = Quantized.of(self._values[i + is_relu])
        factors = self._sums(i, step)
        multiplier, shift = _fixed_point(factors / values.scale)
        m = self._constant("int32_t", f"multiplier_{i}", multiplier)
        s = self._constant("uint8_t", f"shift_{i}", shift)
        to = self._next()
        least = values.zero if is_relu else LEAST
        scaled = f"(int64_t){self._name}_scaled(sum, {m}[j], {s}[j]) + {values.zero}"
        self._lines += [
            f"        {to}[j] = {self._name}_clamped({scaled}, {least}, {MOST});",
            "    }",
        ]
        self._store(to, len(step.weight), values)
        return int(is_relu)

    def _last(self, i: int, step: kinds.Linear) -> float:
        """Write the last layer, which gives int32; return their unit, a power of 2."""
        largest = float(np.abs(self._values[i]).max()) or 1.0
        unit = 2.0 ** (math.frexp(largest)[1] - 24)
        multiplier, shift = _fixed_point(self._sums(i, step) / unit)
        m = self._constant("int32_t", f"multiplier_{i}", multiplier)
        s = self._constant("uint8_t", f"shift_{i}", shift)
        self._lines += [f"        y[j] = {self._name}_scaled(sum, {m}[j], {s}[j]);", "    }"]
        self._width = len(step.weight)
        return unit

    def _sums(self, i: int, step: kinds.Linear) -> Array:
        """Write the loop up to the sum of an output; return the unit of the sum of each."""
        outputs, inputs = step.weight.shape
        if inputs > _MOST_INPUTS:
            raise ValueError(
                f"to_c: a Linear layer of {inputs} inputs has no export to int8, whose sums take at "
                f"most {_MOST_INPUTS}; use float32"
            )
        weight, bias = step.weight.astype(np.float64), step.bias.astype(np.float64)
        scale: Array = np.abs(weight).max(axis=1) / MOST
        scale = np.maximum(scale, np.abs(bias) / (_LARGEST_BIAS * self._now.scale))
        scale[scale == 0] = 1.0
        integers = np.rint(weight / scale[:, np.newaxis]).astype(np.int64)
        units: Array = scale * self._now.scale
        start = np.rint(bias / units).astype(np.int64) - self._now.zero * integers.sum(axis=1)
        w = self._constant("int8_t", f"weight_{i}", integers)
        b = self._constant("int32_t", f"bias_{i}", start)
        self._declare("int i;")
        self._declare("int32_t sum;")
        self._lines += [
            f"    for (j = 0; j < {outputs}; ++j) {{",
            f"        sum = {b}[j];",
            f"        for (i = 0; i < {inputs}; ++i) sum += (int32_t){w}[j][i] * {self._at}[i];",
        ]
        return units

    def _table(self, i: int, step: kinds.Activation) -> None:
        values = Quantized.of(self._values[i])
        inputs = self._now.all_values()[:, np.newaxis]
        table = values.to_integers(computed(step, inputs)[:, 0])
        t = self._constant("int8_t", f"table_{i}", table)
        self._elementwise(f"{t}[{self._at}[j] + 128]", values)

    def _elementwise(self, expression: str, values: Quantized) -> None:
        to = "a" if self._at == "x" else self._at
        self._lines.append(f"    for (j = 0; j < {self._width}; ++j) {to}[j] = {expression};")
        self._store(to, self._width, values)

    def _affine(self, i: int, factor: Array, shift: Array) -> None:
        """Scale and shift each feature."""
        values = Quantized.of(self._values[i])
        minus = -self._now.zero
        self._scale_and_shift(
            i, f"({self._at}[j] + ({minus}))", factor * self._now.scale, shift, values
        )

    def _scale_and_shift(
        self, i: int, x: str, factor: Array, shift: Array, values: Quantized
    ) -> None:
        """Map integers by a factor and a shift of values, each feature by its own."""
        m, b, bits = _affine_integers(factor / values.scale, shift / values.scale + values.zero)
        factors = self._constant("int32_t", f"factor_{i}", m)
        shifts = self._constant("int64_t", f"shift_{i}", b)
        rounded = f"((int64_t){x} * {factors}[j] + {shifts}[j]) >> {bits}"
        self._elementwise(f"{self._name}_clamped({rounded}, {LEAST}, {MOST})", values)

    def _row_norm(self, i: int, step: kinds.RowNorm) -> None:
        """Divide a row by its root mean square, times its width, in whose units all are integers."""
        n, x = self._width, self._at
        self._functions["root"] = _ROOT
        for line in ("int32_t total;", "int64_t squares, root;"):
            self._declare(line)
        eps = round(step.eps * n * n / self._now.scale**2)
        add = self._lines.append
        if step.is_centered:
            add(f"    for (total = 0, j = 0; j < {n}; ++j) total += {x}[j];")
        else:
            add(f"    total = {n * self._now.zero};")
        difference = f"((int64_t){n} * {x}[j] - total)"
        add(f"    for (squares = 0, j = 0; j < {n}; ++j) squares += {difference} * {difference};")
        add(f"    squares = squares / {n} + {eps};")
        add(f"    root = {self._name}_root(squares * {4**_ROOT_BITS}) + (squares == 0);")
        normal = f"({difference} * {2 ** (_ROOT_BITS + _NORMAL_BITS)} / root)"
        unit = 2.0**-_NORMAL_BITS
        values = Quantized.of(self._values[i])
        self._scale_and_shift(i, normal, step.weight * unit, step.bias.astype(float), values)

    # ---- inputs and outputs ----

    def _quantizers(self) -> list[str]:
        """Return the functions that bring a row to int8: of floats, and of integers alone."""
        name, n = self._name, self._described.in_features or 0
        subtract, multiply, add, low, high = _composed(self._columns, n)
        factor = multiply / self._input.scale
        offset = add / self._input.scale + self._input.zero
        least, most = self._input.to_integers(low), self._input.to_integers(high)
        bounds = f"{LEAST}, {MOST}"
        if (least > LEAST).any() or (most < MOST).any():
            self._arrays.append(array("int8_t", f"{name}_least", least))
            self._arrays.append(array("int8_t", f"{name}_most", most))
            bounds = f"{name}_least[j], {name}_most[j]"
        m, b, shift = _input_integers(factor, offset - subtract * factor)
        arrays = [
            array("int32_t", f"{name}_input_factor", m),
            array("int64_t", f"{name}_input_offset", b),
            array("uint8_t", f"{name}_input_shift", shift),
        ]
        integers = "\n".join(
            [
                f"/* A row of {name.upper()}_FEATURES integers as int8. */",
                f"{self._api} void {name}_quantize_int(const int32_t *x, int8_t *q) {{",
                "    int j;",
                f"    for (j = 0; j < {n}; ++j)",
                f"        q[j] = {name}_clamped(((int64_t)x[j] * {name}_input_factor[j] +",
                f"                {name}_input_offset[j]) >> {name}_input_shift[j], {bounds});",
                "}",
            ]
        )
        where = "a column's scale"
        of_floats = [
            array("float", f"{name}_subtract", floats(subtract, where)),
            array("float", f"{name}_multiply", floats(factor, where)),
            array("float", f"{name}_add", floats(offset, where)),
        ]
        numbers = "\n".join(
            [
                f"#ifndef {name.upper()}_NO_FLOAT",
                *of_floats,
                "",
                "/* The same of floats. */",
                f"{self._api} void {name}_quantize(const float *x, int8_t *q) {{",
                "    float v;",
                "    int j;",
                f"    for (j = 0; j < {n}; ++j) {{",
                f"        v = (x[j] - {name}_subtract[j]) * {name}_multiply[j] + {name}_add[j];",
                "        v = v > -200.0f ? (v < 200.0f ? v : 200.0f) : -200.0f;",
                f"        q[j] = {name}_clamped((int)(v < 0.0f ? v - 0.5f : v + 0.5f), {bounds});",
                "    }",
                "}",
                "#endif",
            ]
        )
        return [*arrays, integers, numbers]

    def _meaning(self, output: description.Output) -> list[str]:
        name, width = self._name, self._width
        if output.is_class:
            names = [class_names(name, output)] if output.classes else []
            return [decision(name, output, width, "int32_t"), *names]
        if output.kind == "exp":
            return []
        lines = [f"    {name}_logits(x, y);"]
        if output.places is not None:
            lines = sorted_lines(name, output.places, "int32_t")
        head = f"{self._api} void {name}_predict(const int8_t *x, int32_t *y) {{"
        about = f"/* What is predicted, in units of {name.upper()}_LOGIT_SCALE. */"
        return ["\n".join([about, head, *lines, "}"])]


def _fixed_point(factors: Array) -> tuple[Array, Array]:
    """Return integers m of 31 bits and shifts s from 1 to 62 with factor = m / 2^s."""
    _fraction, exponent = np.frexp(factors)
    shift = np.clip(31 - exponent, 1, 62)
    m = np.rint(np.ldexp(factors, shift)).astype(np.int64)
    too_large = m >= 2**31
    return np.where(too_large, m // 2, m), np.where(too_large, shift - 1, shift)


def _affine_integers(factor: Array, shift: Array) -> tuple[Array, Array, int]:
    """Return m, b and bits with x factor + shift = (x m + b) / 2^bits, rounded by the half in b."""
    largest = float(np.abs(factor).max()) or 1.0
    bits = int(np.clip(30 - math.frexp(largest)[1], 1, 40))
    half = 1 << (bits - 1)
    b = np.rint(np.ldexp(np.clip(shift, -1e5, 1e5), bits)).astype(np.int64) + half
    return np.rint(np.ldexp(factor, bits)).astype(np.int64), b, bits


def _input_integers(factor: Array, offset: Array) -> tuple[Array, Array, Array]:
    """Return the same for the columns of a row, with as many bits for each as there are."""
    bits = 30 - np.frexp(np.where(factor == 0, 1.0, factor))[1]
    most = 60 - np.frexp(np.where(offset == 0, 1.0, offset))[1]
    bits = np.clip(np.minimum(bits, most), 1, 60)
    m = np.rint(np.ldexp(factor, bits)).astype(np.int64)
    if (np.abs(m) >= 2**31).any():
        raise ValueError("to_c: a column is too small or too large for int8; scale it before")
    b = np.rint(np.ldexp(offset, bits)).astype(np.int64) + (1 << (bits - 1))
    return m, b, bits


def _composed(steps: list[kinds.Step], columns: int) -> tuple[Array, Array, Array, Array, Array]:
    """Return all maps of columns as one: what is subtracted, multiplied by, added, and the bounds."""
    subtract, multiply, add = np.zeros(columns), np.ones(columns), np.zeros(columns)
    low, high = np.full(columns, -np.inf), np.full(columns, np.inf)
    for i, step in enumerate(steps):
        assert isinstance(step, kinds.Columns)
        if i == 0:
            subtract, multiply, add = step.subtract, step.multiply, step.add
        else:
            multiply, add = (
                multiply * step.multiply,
                (add - step.subtract) * step.multiply + step.add,
            )
        low = np.maximum((low - step.subtract) * step.multiply + step.add, step.low)
        high = np.minimum((high - step.subtract) * step.multiply + step.add, step.high)
    return subtract, multiply, add, low, high
