"""Functions in C for what the outputs of a network mean: classes and their names, sorted values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlcore.export._c_text import string

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.export._description import Output


def class_names(name: str, output: Output) -> str:
    """Return the functions that give the labels of the classes as text."""
    functions = []
    for t, classes in enumerate(output.classes):
        names = ",\n        ".join(string(str(label)) for label in classes.tolist())
        functions.append(f"    static const char *const names_{t}[] = {{\n        {names}\n    }};")
    if len(functions) == 1:
        head, choice = f"{name}_class_name(int32_t c)", ["    return names_0[c];"]
    else:
        head = f"{name}_class_name(int32_t t, int32_t c)"
        cases = [f"    if (t == {t}) return names_{t}[c];" for t in range(len(functions) - 1)]
        choice = [*cases, f"    return names_{len(functions) - 1}[c];"]
    api = f"{name.upper()}_API"
    return "\n".join([f"{api} const char *{head} {{", *functions, *choice, "}"])


def decision(name: str, output: Output, outputs: int, kind: str) -> str:
    """Return the function that decides for a class, or for one of each target."""
    api, zero = f"{name.upper()}_API", "0.0f" if kind == "float" else "0"
    x = "float" if kind == "float" else "int8_t"
    call = [f"    {kind} y[{outputs}];", "    int32_t c = 0;", "    int j;"]
    if len(output.classes) == 1:
        head = [
            "/* The place of the most probable class. */",
            f"{api} int32_t {name}_class(const {x} *x) {{",
        ]
        if output.kind == "binary":
            body = [call[0], f"    {name}_logits(x, y);", f"    return y[0] > {zero};"]
            return "\n".join([*head, *body, "}"])
        pick = f"    for (j = 1; j < {outputs}; ++j) if (y[j] > y[c]) c = j;"
        return "\n".join([*head, *call, f"    {name}_logits(x, y);", pick, "    return c;", "}"])
    head = [
        "/* The place of the most probable class of each target, or 0 and 1. */",
        f"{api} void {name}_classes(const {x} *x, int32_t *c) {{",
        call[0],
    ]
    if output.kind == "sigmoid":
        decide = [f"    for (j = 0; j < {outputs}; ++j) c[j] = y[j] > {zero};"]
    else:
        decide = []
        for t, (start, end) in enumerate(parts_of(output)):
            decide.append(f"    c[{t}] = 0;")
            better = f"y[j] > y[{start} + c[{t}]]"
            loop = f"for (j = {start + 1}; j < {end}; ++j)"
            decide.append(f"    {loop} if ({better}) c[{t}] = j - {start};")
    return "\n".join([*head, "    int j;", f"    {name}_logits(x, y);", *decide, "}"])


def parts_of(output: Output) -> list[tuple[int, int]]:
    """Return the first output of each target, and that after its last one."""
    ends = np.cumsum([len(classes) for classes in output.classes]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def sorted_lines(name: str, places: Array, kind: str) -> list[str]:
    """Return the statements that give the outputs sorted, each at its place."""
    outputs = len(places)
    listed = ", ".join(map(str, places.tolist()))
    return [
        f"    static const int places[{outputs}] = {{{listed}}};",
        f"    {kind} s[{outputs}], v;",
        "    int i, j;",
        f"    {name}_logits(x, y);",
        f"    for (i = 0; i < {outputs}; ++i) {{",
        "        v = y[i];",
        "        for (j = i; j > 0 && s[j - 1] > v; --j) s[j] = s[j - 1];",
        "        s[j] = v;",
        "    }",
        f"    for (j = 0; j < {outputs}; ++j) y[j] = s[places[j]];",
    ]
