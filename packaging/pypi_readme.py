"""The README as the page on PyPI, which knows no files: the build calls `dynamic_metadata`.

Links to files of the repository become absolute where ``[project.urls]`` has its address as
``Source``. Until then their texts stay, with the names of the files beside them, and pictures go.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?://)([^)#]+)([^)]*)\)")


def page(text: str, version: str, source: str | None) -> str:
    """Return a text in Markdown without relative links."""

    def link(match: re.Match[str]) -> str:
        picture, label, path, anchor = match.groups()
        if source is not None:
            kind = "raw" if picture else "blob"
            return f"{picture}[{label}]({source}/{kind}/v{version}/{path}{anchor})"
        if picture:
            return ""
        return f"`{path}`" if label == path else f"{label} (`{path}`)"

    return LINK.sub(link, text)


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the distribution says of itself, as scikit-build-core asks for it."""
    if settings:
        raise ValueError(f"this provider has no settings, got {dict(settings)!r}")
    text = Path("README.md").read_text(encoding="utf-8")
    source = project.get("urls", {}).get("Source")
    text = page(text, project["version"], source)
    return {"readme": {"content-type": "text/markdown", "text": text}}
