"""The header of float32.

A layer is a loop over its inputs, four at a time, and within it one over its outputs, of which the
weights lie side by side: a compiler makes vectors of it without being allowed to change the order of
sums. The outputs are padded to whole vectors where that costs little. Sums are in the order of
`cpp/kernels/gemm.hpp`, with the processor's multiply-add where it has one, as there.
"""

from __future__ import annotations

from dlcore.export import _description as description
from dlcore.export import _steps as kinds
from dlcore.export._c_functions import functions
from dlcore.export._c_meaning import class_names, decision, parts_of, sorted_lines
from dlcore.export._c_steps import Statements
from dlcore.export._c_text import header

# What it writes.
STEPS: tuple[type, ...] = (
    kinds.Linear,
    kinds.Affine,
    kinds.Columns,
    kinds.SmoothClip,
    kinds.BatchNorm,
    kinds.RowNorm,
    kinds.Activation,
    kinds.Parametric,
    kinds.PReLU,
    kinds.Categories,
    kinds.FeatureLinear,
    kinds.Periodic,
    kinds.Piecewise,
    kinds.Take,
    kinds.Missing,
    kinds.Branches,
    kinds.Members,
)

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


class _Header(Statements):
    """Writes the functions of a description."""

    def __init__(self, described: description.Description, name: str) -> None:
        super().__init__(name, described.in_features or 0)
        self._described = described
        self._api = f"{name.upper()}_API"

    def text(self) -> str:
        """Return the header."""
        described, name = self._described, self._name
        self.write(described.steps)
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
        size = 4 * self._largest * max(2, len(self._buffers))
        about = f"Numbers are float32; the stack holds some {size} bytes of them."
        return header(name, about, macros, parts)

    def _function_of_logits(self) -> str:
        copied = f"    for (j = 0; j < {self._width}; ++j) y[j] = {self._at}[j];"
        buffers = ", ".join(f"{buffer}[{self._largest}]" for buffer in sorted(self._buffers))
        declared = f"    float {buffers};" if buffers else ""
        numbers = f"    float {', '.join(sorted(self._numbers))};" if self._numbers else ""
        index = f"    int {', '.join(sorted({'j', *self._indices}))};"
        declared = "\n".join(filter(None, [declared, numbers, index]))
        plain = "\n".join([*self._lines, copied])
        fused = f"{declared}\n{plain}".replace(f"{self._name.upper()}_FMA(", "__builtin_fmaf(")
        return _LOGITS.format(
            NAME=self._name.upper(), name=self._name, declared=declared, plain=plain, fused=fused
        )

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
            self._columns(self._count, output.restore, "y[j]", to="y")
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
