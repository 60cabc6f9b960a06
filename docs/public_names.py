"""A Sphinx extension for the names that dlcore exports: their entries, and links to them."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

import dlcore

if TYPE_CHECKING:
    from types import ModuleType

    from sphinx.application import Sphinx

_CODE = re.compile(r"dl(?:core)?\.([a-zA-Z_]\w*(?:\.[a-zA-Z_]\w*)*)")
_MEMBERS = {
    "own": [":members:"],
    "none": [],
    "inherited": [":members:", ":inherited-members: dict"],
}


def exported_from(module: ModuleType) -> list[str]:
    """Names that dlcore exports from a module, in the order in which it defines them."""
    exported = vars(dlcore)
    return [
        name
        for name, item in vars(module).items()
        if name in dlcore.__all__
        and exported[name] is item
        and getattr(item, "__module__", "") == module.__name__
    ]


class Public(SphinxDirective):
    """What dlcore exports from a module: an overview, the module's docstring, each name in full.

    They stand under their public names, ``dlcore.relu`` and not by the module that defines them. The
    option ``members`` tells which methods of classes are shown: their own, none, or the inherited
    ones as well; ``except`` names what has an entry elsewhere.
    """

    required_arguments = 1
    option_spec: ClassVar = {
        "members": lambda given: directives.choice(given, tuple(_MEMBERS)),
        "except": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return the nodes that the directive stands for."""
        try:
            module = import_module(self.arguments[0])
        except ImportError as error:
            raise self.error(str(error)) from None
        elsewhere = self.options.get("except", "").split()
        names = [name for name in exported_from(module) if name not in elsewhere]
        if not names:
            raise self.error(f"dlcore exports nothing from {module.__name__}")
        summary, _, rest = (inspect.getdoc(module) or "").partition("\n\n")
        overview = [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)]
        if len(names) == 1:
            overview = []
        lines = [".. currentmodule:: dlcore", "", summary, "", *overview, "", *rest.splitlines()]
        for name in names:
            lines += ["", *self._entry(name, inspect.isclass(getattr(dlcore, name)))]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))

    def _entry(self, name: str, is_class: bool) -> list[str]:
        if not is_class:
            return [f".. autofunction:: {name}"]
        options = _MEMBERS[self.options.get("members", "own")]
        return [f".. autoclass:: {name}", *(f"   {option}" for option in options)]


def link_code(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Make ``dl.relu`` in the running text of a page a link to its entry in the API reference."""
    for code in list(doctree.findall(nodes.literal)):
        found = _CODE.match(code.astext())
        if found and not isinstance(code.parent, nodes.reference | nodes.title | pending_xref):
            link = pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"dlcore.{found[1]}",
                refexplicit=True,
                refwarn=False,
            )
            code.replace_self(link)
            link += code


def setup(app: Sphinx) -> dict[str, bool]:
    """Add both to Sphinx."""
    app.add_directive("public", Public)
    app.connect("doctree-read", link_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
