"""The header of float32.

A layer is a loop over its inputs, four at a time, and within it one over its outputs, of which the
weights lie side by side: a compiler makes vectors of it without being allowed to change the order of
sums. The outputs are padded to whole vectors where that costs little. Sums are in the order of
`cpp/kernels/gemm.hpp`, with the processor's multiply-add where it has one, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.export import _description as description
from dlcore.export import _steps as kinds
from dlcore.export._c_functions import FUNCTIONS, functions
from dlcore.export._c_meaning import class_names, decision, parts_of, sorted_lines
from dlcore.export._c_text import array, floats, header, number

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# What it writes.
STEPS = (
    kinds.Linear,
    kinds.Affine,
    kinds.Columns,
    kinds.BatchNorm,
    kinds.RowNorm,
    kinds.Activation,
)

# Outputs are padded to a multiple of this, and inputs are taken as many at a time.
_VECTOR, _GROUP = 4, 8
# As in cpp/kernels/gemm.hpp: as many terms at most are added up before the sum is added to others.
_TERMS = 256

_MULTIPLY_ADD = """\
/* x * y + z, rounded once where the processor does so. Nearly all of x86-64 do, but a compiler must
   not take it for granted: there the network is compiled twice, and asks. {NAME}_PLAIN prevents it. */
#if defined(__GNUC__) && defined(__FP_FAST_FMAF)
#define {NAME}_FMA(x, y, z) __builtin_fmaf(x, y, z)
#else
#define {NAME}_FMA(x, y, z) ((x) * (y) + (z))
#if defined(__GNUC__) && defined(__x86_64__) && !defined({NAME}_PLAIN)
#define {NAME}_ASKS
#endif
#endif"""

_LOGITS = """\
#ifdef {NAME}_ASKS
/* Whether the processor has multiply-adds, and the system keeps their registers. */
static inline int {name}_has_fma(void) {{
    static int known; /* 1 for no, 2 for yes */
    int answer = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (answer == 0) {{
        uint32_t a = 1, b, c = 0, d, kept = 0;
        const uint32_t bits = 1u << 12 | 1u << 27 | 1u << 28;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
        if ((c & bits) == bits) __asm__ volatile("xgetbv" : "=a"(kept), "=d"(d) : "c"(0));
        answer = (kept & 6) == 6 ? 2 : 1;
        __atomic_store_n(&known, answer, __ATOMIC_RELAXED);
    }}
    return answer == 2;
}}

__attribute__((target("fma"))) static void {name}_fused_logits(const float *x, float *y) {{
{fused}
}}
#endif

/* The outputs of the network for a row. */
{NAME}_API void {name}_logits(const float *x, float *y) {{
{declared}
#ifdef {NAME}_ASKS
    if ({name}_has_fma()) {{
        {name}_fused_logits(x, y);
        return;
    }}
#endif
{plain}
}}"""


def header_of_floats(described: description.Description, name: str) -> str:
    """Return the header."""
    return _Header(described, name).text()


def _padded(width: int) -> int:
    whole = -(-width // _VECTOR) * _VECTOR
    return whole if whole - width <= width // 4 else width


class _Header:
    """Writes the statements of the steps, and remembers what they need."""

    def __init__(self, described: description.Description, name: str) -> None:
        self._described, self._name = described, name
        self._api = f"{name.upper()}_API"
        self._arrays: list[str] = []
        self._used: set[str] = set()
        self._lines: list[str] = []
        self._numbers: set[str] = set()
        # Where the values are, how many, and how many there are with what they are padded by.
        self._at, self._width = "x", described.in_features or 0
        self._padded = self._width
        self._largest = 1

    def text(self) -> str:
        """Return the header."""
        described, name = self._described, self._name
        for i, step in enumerate(described.steps):
            self._step(i, step)
        output, outputs = described.output, self._width
        logits = self._function_of_logits()
        values = self._meaning(output)
        macros = {
            "FEATURES": described.in_features,
            "OUTPUTS": outputs,
            "VALUES": 2 if output.kind == "binary" else outputs,
        }
        if len(output.classes) == 1:
            macros["CLASSES"] = len(output.classes[0])
        elif output.is_class:
            macros["TARGETS"] = len(output.classes) or outputs
        fma = _MULTIPLY_ADD.format(NAME=name.upper())
        parts = [fma, *functions(name, self._used), *self._arrays, logits, *values]
        about = f"Numbers are float32; the stack holds some {8 * self._largest} bytes of them."
        return header(name, about, macros, parts)

    # ---- the network ----

    def _function_of_logits(self) -> str:
        copied = f"    for (j = 0; j < {self._width}; ++j) y[j] = {self._at}[j];"
        text = "\n".join(self._lines)
        arrays = [array for array in "abs" if f" {array}[" in text]
        declared = ", ".join(f"{array}[{self._largest}]" for array in arrays)
        declared = f"    float {declared};" if arrays else ""
        numbers = f"    float {', '.join(sorted(self._numbers))};" if self._numbers else ""
        index = "    int i, j;" if "(i = " in text else "    int j;"
        declared = "\n".join(filter(None, [declared, numbers, index]))
        plain = "\n".join([*self._lines, copied])
        fused = f"{declared}\n{plain}".replace(f"{self._name.upper()}_FMA(", "__builtin_fmaf(")
        return _LOGITS.format(
            NAME=self._name.upper(), name=self._name, declared=declared, plain=plain, fused=fused
        )

    def _constant(self, name: str, values: Array, where: str) -> str:
        full = f"{self._name}_{name}"
        self._arrays.append(array("float", full, floats(values, where)))
        return full

    def _step(self, i: int, step: kinds.Step) -> None:
        if isinstance(step, kinds.Linear):
            self._linear(i, step)
        elif isinstance(step, kinds.Columns):
            self._columns(i, step, f"{self._at}[j]")
        elif isinstance(step, kinds.Affine):
            self._scaled(f"{self._at}[j]", i, step.weight, step.bias)
        elif isinstance(step, kinds.BatchNorm):
            mean = self._constant(f"mean_{i}", self._pad(step.mean), "a running mean")
            scale = self._constant(
                f"scale_{i}", self._pad(step.scale), "the scale of a BatchNorm1d"
            )
            self._scaled(f"({self._at}[j] - {mean}[j]) * {scale}[j]", i, step.weight, step.bias)
        elif isinstance(step, kinds.RowNorm):
            self._row_norm(i, step)
        else:
            assert isinstance(step, kinds.Activation)
            self._elementwise(self._activated(step, f"{self._at}[j]"))

    def _pad(self, values: Array) -> Array:
        return np.pad(values, (0, self._padded - len(values)))

    def _elementwise(self, expression: str) -> None:
        """Compute each element, in place but for the input, which is not to be changed."""
        to = "a" if self._at == "x" else self._at
        self._lines.append(f"    for (j = 0; j < {self._padded}; ++j) {to}[j] = {expression};")
        self._at = to
        self._largest = max(self._largest, self._padded)

    def _linear(self, i: int, step: kinds.Linear) -> None:
        outputs, inputs = step.weight.shape
        padded = _padded(outputs)
        weight = np.pad(step.weight.T, ((0, 0), (0, padded - outputs)))
        w = self._constant(f"weight_{i}", weight, "a weight")
        x, y = self._at, "a" if self._at in ("x", "b") else "b"
        self._width, self._padded, self._at = outputs, padded, y
        self._largest = max(self._largest, padded)
        chunk = -(-inputs // -(-inputs // _TERMS))
        for start in range(0, inputs, chunk):
            end = min(inputs, start + chunk)
            self._sum(x, w, y if start == 0 else "s", start, end)
            if start == 0 and step.bias.any():
                bias = self._constant(f"bias_{i}", self._pad(step.bias), "a bias")
                self._elementwise(f"{y}[j] + {bias}[j]")
            elif start > 0:
                self._elementwise(f"{y}[j] + s[j]")

    def _sum(self, x: str, w: str, y: str, start: int, end: int) -> None:
        """Sum the products of some inputs."""
        loop = f"for (j = 0; j < {self._padded}; ++j) {y}[j] ="
        first = min(start + _GROUP, end)
        whole = start + (end - start) // _GROUP * _GROUP
        # The first terms are not added to zeros, which compilers would fill in by calling memset.
        self._lines.append(f"    {loop} {self._terms(x, w, range(start, first))};")
        if whole > first:
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
        w = self._constant(f"weight_{i}", self._pad(weight), "a weight")
        shift = self._constant(f"bias_{i}", self._pad(bias), "a bias")
        self._elementwise(self._fma(f"{x}, {w}[j]", f"{shift}[j]"))

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
        for comparison, bound in (("<", step.low), (">", step.high)):
            if np.isfinite(bound):
                place = f"{to or self._at}[j]"
                limit = number(np.float32(bound))
                self._store(f"{place} {comparison} {limit} ? {limit} : {place}", to)

    def _store(self, expression: str, to: str) -> None:
        if to:
            self._lines.append(f"    for (j = 0; j < {self._width}; ++j) {to}[j] = {expression};")
        else:
            self._elementwise(expression)

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

    # ---- what the outputs mean ----

    def _meaning(self, output: description.Output) -> list[str]:
        """Return the functions of values, probabilities and classes."""
        name, width = self._name, self._width
        about = "Probabilities" if output.is_class else "What is predicted"
        predict = "\n".join(
            [
                f"/* {about} for a row. */",
                f"{self._api} void {name}_predict(const float *x, float *y) {{",
                *self._predicted(output),
                "}",
            ]
        )
        if not output.is_class:
            return [predict]
        names = [class_names(name, output)] if output.classes else []
        return [predict, decision(name, output, width, "float"), *names]

    def _predicted(self, output: description.Output) -> list[str]:
        """Return the statements that make values or probabilities of the outputs."""
        name = self._name
        logits = f"    {name}_logits(x, y);"
        if output.kind == "binary":
            self._used |= {"sigmoid", "abs"}
            return [
                "    float logit, smaller;",
                f"    {name}_logits(x, &logit);",
                f"    smaller = {name}_sigmoid(-{name}_abs(logit));",
                "    y[0] = logit > 0.0f ? smaller : 1.0f - smaller;",
                "    y[1] = logit > 0.0f ? 1.0f - smaller : smaller;",
            ]
        if output.kind == "softmax":
            self._used.add("exp")
            parts = [line for part in parts_of(output) for line in _softmax(name, *part)]
            return ["    float largest, sum;", "    int j;", logits, *parts]
        if output.places is not None:
            lines = sorted_lines(name, output.places, "float")
        elif output.kind in ("sigmoid", "exp"):
            self._used.add(output.kind)
            loop = f"    for (j = 0; j < {self._width}; ++j) y[j] = {name}_{output.kind}(y[j]);"
            lines = ["    int j;", logits, loop]
        else:
            lines = ["    int j;" * (output.restore is not None), logits]
        if output.restore is not None:
            self._lines = []
            self._columns(len(self._described.steps), output.restore, "y[j]", to="y")
            lines += self._lines
        return [line for line in lines if line]


def _softmax(name: str, start: int, end: int) -> list[str]:
    loop = f"for (j = {start}; j < {end}; ++j)"
    return [
        f"    largest = y[{start}];",
        f"    {loop} largest = y[j] > largest ? y[j] : largest;",
        "    sum = 0.0f;",
        f"    {loop} sum += y[j] = {name}_exp(y[j] - largest);",
        "    sum = 1.0f / sum;",
        f"    {loop} y[j] *= sum;",
    ]


def _option(value: float) -> str:
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    # The thresholds of softplus alone may be infinite.
    return number(np.clip(rounded, -np.finfo(np.float32).max, np.finfo(np.float32).max))
