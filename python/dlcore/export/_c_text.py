"""C as text: arrays, strings, the frame of a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._native import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dlcore._common.typing import Array

_WIDTH = 96

_FRAME = """\
/* {title}
 *
 * Made by dlcore {version}. {about}
 */
#ifndef {NAME}_H_INCLUDED
#define {NAME}_H_INCLUDED

#include <stdint.h>

{macros}

/* Defined as nothing, the functions are seen by other files and languages. */
#ifndef {NAME}_API
#if defined(__GNUC__)
#define {NAME}_API static inline __attribute__((unused))
#else
#define {NAME}_API static inline
#endif
#endif

#ifdef __cplusplus
extern "C" {{
#endif

{body}

#ifdef __cplusplus
}}
#endif

#endif
"""


def floats(values: Array, where: str) -> Array:
    """Round to float32; what is not finite then is an error."""
    with np.errstate(over="ignore"):
        rounded: Array = np.asarray(values).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError(f"to_c: {where} is not finite in float32")
    return rounded


def number(value: Any) -> str:
    """Return a float32 or a float64 as a literal, to its last bit."""
    return f"{value!s}f" if isinstance(value, np.float32) else repr(float(value))


def array(kind: str, name: str, values: Array) -> str:
    """Return the definition of a constant array of one or two dimensions."""
    values = np.asarray(values)
    show = number if values.dtype.kind == "f" else str
    sizes = "".join(f"[{size}]" for size in values.shape)
    if values.ndim == 1:
        return f"static const {kind} {name}{sizes} = {{\n{wrapped(map(show, values), '    ')}\n}};"
    rows = (f"    {{\n{wrapped(map(show, row), '        ')}\n    }}" for row in values)
    text = ",\n".join(rows)
    return f"static const {kind} {name}{sizes} = {{\n{text}\n}};"


def wrapped(items: Iterable[str], indent: str) -> str:
    """Return items side by side in lines."""
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) > _WIDTH:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return "\n".join([*lines, line.rstrip().removesuffix(",")])


def string(text: str) -> str:
    """Return a literal of the bytes of UTF-8, in which nothing has a meaning of its own."""
    plain = (
        chr(b) if (chr(b).isalnum() and b < 128) or b in b" _-.,:;+()/" else f"\\{b:03o}"
        for b in text.encode()
    )
    return f'"{"".join(plain)}"'


def header(name: str, about: str, macros: dict[str, Any], parts: Iterable[str]) -> str:
    """Return the header of the parts."""
    defined = [f"#define {name.upper()}_{macro} {value}" for macro, value in macros.items()]
    return _FRAME.format(
        title=f"{name}: a neural network",
        version=dispatch.core.version,
        about=about,
        NAME=name.upper(),
        macros="\n".join(defined),
        body="\n\n".join(parts),
    )
