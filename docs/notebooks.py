"""A Sphinx extension: each page of the guide as a notebook, with a link to it at the page's end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import run_pages

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

_FIGURE = re.compile(
    r"^```\{figure\} \S*?([\w.-]+)\n:alt: ([^\n]*)\n(?::[^\n]*\n)*(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[([^]]*)\]\((?!\w+://)[^)\s]*\)")  # to other pages, which are not there
_METADATA = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def has_notebook(page: Path) -> bool:
    """Whether a page is one of the guide, and has code."""
    return page.parent.name == "guide" and bool(run_pages.blocks(page))


def pages() -> list[Path]:
    """List the pages that have notebooks."""
    return list(filter(has_notebook, run_pages.pages()))


def notebook(page: Path) -> nbformat.NotebookNode:
    """Make a notebook of a page: its text, its Python blocks and what they print.

    Pictures are the files that the blocks draw beside the notebook.
    """
    cells, begin = [], 0

    def write(text: str) -> None:
        text = _FIGURE.sub(r"![\2](\1)\n\n\3", _LINK.sub(r"\1", text)).strip()
        if text:
            cells.append(new_markdown_cell(text, id=f"cell-{len(cells)}"))

    text = page.read_text(encoding="utf-8")
    for found in run_pages.BLOCK.finditer(text):
        write(text[begin : found.start()])
        outputs = [new_output("stream", text=found[2])] if found[2] else []
        code = found[1].rstrip("\n")
        cells.append(new_code_cell(code, outputs=outputs, id=f"cell-{len(cells)}"))
        begin = found.end()
    write(text[begin:])
    return new_notebook(cells=cells, metadata=_METADATA)


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Link to a page's notebook at its end."""
    from docutils import nodes

    page = Path(app.env.doc2path(app.env.docname))
    if app.builder.format == "html" and has_notebook(page):
        name = f"{page.stem}.ipynb"
        reference = nodes.reference("", name, refuri=f"../notebooks/{name}")
        line = nodes.paragraph("", "This page as a notebook: ", classes=["notebook"])
        line += reference
        doctree[-1].append(line)


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Write the notebooks beside the pages that were built."""
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir) / "notebooks"
        folder.mkdir(exist_ok=True)
        for page in pages():
            nbformat.write(notebook(page), folder / f"{page.stem}.ipynb")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add it to Sphinx."""
    app.connect("doctree-read", link)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
