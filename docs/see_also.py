"""A Sphinx extension: entries of the API reference link to the guide, by the rows of the glossary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import desc, desc_content, desc_signature, pending_xref, seealso

import glossary

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_GRADIENT = re.compile(r"_(and_grad|backward)$")  # is told with the function


def link(section: glossary.Section, docname: str) -> pending_xref:
    """Return a link to a section, as a page in Markdown would have it."""
    target = {"refdomain": "doc", "reftarget": section.page, "reftargetid": section.anchor}
    reference = pending_xref("", **target, reftype="myst", refdoc=docname, refexplicit=True)
    reference += nodes.inline("", section.title, classes=["std", "std-doc"])
    return reference


def link_guide(app: Sphinx, doctree: nodes.document) -> None:
    """Add a See Also to the entries of a page, before their members."""
    docname = app.env.docname
    sections = glossary.sections()
    for entry in list(doctree.findall(desc)):
        name = next((name for s in entry.findall(desc_signature) for name in s["ids"]), "")
        of_name = sections.get(_GRADIENT.sub("", name), [])
        content = next(iter(entry.findall(desc_content)), None)
        if not of_name or content is None:
            continue
        app.env.note_dependency(str(glossary.GLOSSARY))
        line = nodes.paragraph("", "In the guide: ")
        for i, section in enumerate(of_name):
            line += [nodes.Text(", " if i else ""), link(section, docname)]
        members = [i for i, node in enumerate(content) if next(iter(node.findall(desc)), None)]
        content.insert(min(members, default=len(content)), seealso("", line))


def setup(app: Sphinx) -> dict[str, bool]:
    """Add it to Sphinx."""
    app.connect("doctree-read", link_guide)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
