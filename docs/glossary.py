"""Read glossary.md: its rows, and by them the sections of the guide that belong to a name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

GLOSSARY = Path(__file__).with_suffix(".md")

_NAME = re.compile(r"`dl(?:core)?\.([\w.]+)")
_LINK = re.compile(r"\[([^]]+)\]\(([\w/]+)\.md#([\w-]+)\)")


class Row(NamedTuple):
    """A row of the glossary, as it is written."""

    term: str
    meaning: str
    function: str
    example: str
    test: str


class Section(NamedTuple):
    """A section of the guide: its title, its page without ``.md``, and its anchor."""

    title: str
    page: str
    anchor: str


def rows() -> list[Row]:
    """List the rows of all tables."""
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(*row) for row in cells if row[0] != "Term" and set(row[0]) - set("-: ")]


def sections() -> dict[str, list[Section]]:
    """Map the names of rows, such as ``dlcore.relu``, to the sections that show them."""
    found: dict[str, list[Section]] = {}
    for row in rows():
        for name in _NAME.findall(row.function):
            of_name = found.setdefault(f"dlcore.{name}", [])
            of_name += [
                s for s in map(Section._make, _LINK.findall(row.example)) if s not in of_name
            ]
    return found
