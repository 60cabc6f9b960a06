"""Run the Python blocks of the pages: they are tests, and they draw the pages' pictures.

What a block prints stands in a block of ``text`` right below it. ``python docs/run_pages.py`` draws all
pictures anew and writes the outputs that are no longer so, ``python docs/run_pages.py PAGE...`` those
of some pages, also of README.md.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"

BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e[+-]?\d+)?")
_PICTURE = re.compile(r"pictures/([\w.-]+)")


def pages() -> list[Path]:
    """List all pages."""
    return sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)


class Block(NamedTuple):
    """A Python block of a page: the number of its first line, its code and the output below it."""

    line: int
    code: str
    output: str


class Run(NamedTuple):
    """What came of a page: the names that its blocks define, and what each block printed."""

    names: dict[str, Any]
    printed: list[str]


def blocks(path: Path) -> list[Block]:
    """List the Python blocks of a page."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, m.start(1)) + 1, m[1], m[2] or "") for m in BLOCK.finditer(text)
    ]


def pictures(path: Path) -> set[str]:
    """Name the files in ``docs/pictures`` that a page shows."""
    return set(_PICTURE.findall(path.read_text(encoding="utf-8")))


def run(path: Path, folder: Path = PICTURES) -> Run:
    """Run a page's blocks in order, in one namespace, with ``folder`` as current directory.

    Tracebacks show the page and its line.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    with contextlib.chdir(folder), warnings.catch_warnings():
        for block in blocks(path):
            lines = "\n" * (block.line - 1) + block.code
            code = compile(lines, str(path), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, names)  # noqa: S102
            printed.append(re.sub(r"[ \t]+$", "", output.getvalue(), flags=re.MULTILINE))
    return Run(names, printed)


def agree(shown: str, printed: str) -> bool:
    """Whether two outputs are the same but for spaces and for what rounding makes of a training.

    Numbers may be off by a third, or by 0.05: on another instruction set a training of many epochs ends
    elsewhere.
    """
    if _NUMBER.sub("0", shown).split() != _NUMBER.sub("0", printed).split():
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(printed), strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=1 / 3, abs_tol=0.05) for a, b in pairs)


def show(path: Path, printed: list[str]) -> None:
    """Write below each block what it printed, where the page shows anything else."""
    outputs = iter(printed)

    def shown(found: re.Match[str]) -> str:
        output = next(outputs)
        if agree(found[2] or "", output):
            return found[0]
        return f"```python\n{found[1]}```" + (f"\n\n```text\n{output}```" if output else "")

    text = path.read_text(encoding="utf-8")
    path.write_text(BLOCK.sub(shown, text), encoding="utf-8")


def is_drawn(path: Path) -> bool:
    """Whether a page's pictures are there, none older than the page."""
    made = [PICTURES / name for name in pictures(path)]
    return all(p.exists() and p.stat().st_mtime >= path.stat().st_mtime for p in made)


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        print(f"---- {page.relative_to(DOCS.parent)}")
        show(page, run(page).printed)
