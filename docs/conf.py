"""Sphinx: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``."""

import sys
import traceback
from importlib import resources
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

import dlcore

sys.path.insert(0, str(Path(__file__).parent))
import run_pages

logger = logging.getLogger(__name__)

project = "dlcore"
author = "the dlcore developers"
version = release = dlcore.__version__
extensions = [
    "myst_parser",
    "notebooks",
    "numpydoc",
    "public_names",
    "see_also",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "pictures"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# In docstrings, `name` is a link where there is something of that name, and code where not.
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings tell the types
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autosummary_generate = False
numpydoc_show_class_members = False
add_module_names = False

html_theme = "furo"
html_title = f"dlcore {version}"
html_copy_source = False
html_show_copyright = False
pygments_dark_style = "monokai"
# MathJax lies beside the pages, so that they can be read without a network: one file, which draws
# SVG and so needs no fonts. (MathML made at build time would need no script, but the converters to
# it in Python fail on aligned equations, and Chrome shows it poorly where no math font is installed.)
html_static_path = [
    "_static",
    str(resources.files("sphinx-mathjax-offline") / "static/mathjax/tex-svg.js"),
]
mathjax_path = "tex-svg.js"
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"  # not for outputs
html_css_files = ["custom.css"]


def draw_pictures(app: Sphinx) -> None:  # noqa: ARG001
    """Run the pages whose pictures are missing or older than the page."""
    for page in run_pages.pages():
        if not run_pages.is_drawn(page):
            try:
                run_pages.run(page)
            except Exception:  # noqa: BLE001
                name = page.relative_to(run_pages.DOCS).with_suffix("").as_posix()
                logger.warning("%s", traceback.format_exc(limit=-2), location=(name, None))


def setup(app: Sphinx) -> None:
    """Draw the pictures before the pages are read."""
    app.connect("builder-inited", draw_pictures)
