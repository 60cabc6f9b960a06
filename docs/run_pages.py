"""Run the Python blocks of the pages: they are tests, and they draw the pages' pictures.

``python docs/run_pages.py`` draws all pictures anew, ``python docs/run_pages.py PAGE...`` those of
some pages.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(r"pictures/([\w.-]+)")


def pages() -> list[Path]:
    """List all pages."""
    return sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)


def blocks(path: Path) -> list[tuple[int, str]]:
    """List the Python blocks of a page, each with the number of its first line."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start(1)) + 1, m[1]) for m in _BLOCK.finditer(text)]


def pictures(path: Path) -> set[str]:
    """Name the files in ``docs/pictures`` that a page shows."""
    return set(_PICTURE.findall(path.read_text(encoding="utf-8")))


def run(path: Path, folder: Path = PICTURES) -> dict[str, Any]:
    """Run a page's blocks in order, in one namespace, with ``folder`` as current directory.

    Tracebacks show the page and its line. Returns the namespace.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder), warnings.catch_warnings():
        for line, code in blocks(path):
            lines = "\n" * (line - 1) + code
            exec(compile(lines, str(path), "exec", dont_inherit=True), namespace)  # noqa: S102
    return namespace


def is_drawn(path: Path) -> bool:
    """Whether a page's pictures are there, none older than the page."""
    made = [PICTURES / name for name in pictures(path)]
    return all(p.exists() and p.stat().st_mtime >= path.stat().st_mtime for p in made)


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]] or pages():
        print(f"---- {page.relative_to(DOCS)}")
        run(page)
