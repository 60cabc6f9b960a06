"""The pages of the documentation: they run, draw what they show, and name what there is."""

import doctest
import importlib
import inspect
import pkgutil
import re
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest

import dlcore
import run_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = run_pages.pages()
GLOSSARY = DOCS / "glossary.md"


def each(pages):
    """Make a test one for each page."""
    return pytest.mark.parametrize("page", pages, ids=lambda p: p.relative_to(ROOT).as_posix())


each_page = each(PAGES)


def prose(page):
    """Return a page's text without its fenced code."""
    return re.sub(
        r"^```\w+\n.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def targets(page):
    """List the files and headings that a page links to, and the files that it shows."""
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    shown = re.findall(r"^[`:]{3,}\{(?:figure|image)\} (\S+)", prose(page), re.MULTILINE)
    return [t for t in links + shown if "://" not in t]


def slugs(page):
    """List the anchors of a page's headings, as GitHub and Sphinx make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings}


def glossary():
    """List the rows of the glossary's tables: term, function, example, test."""
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if row[0] != "Term" and set(row[0]) - set("-: ")]


@each([page for page in PAGES if run_pages.blocks(page)])
def test_page_runs_and_draws_its_pictures(page, tmp_path):
    run_pages.run(page, tmp_path)
    made = {p.name for p in tmp_path.iterdir()}
    assert run_pages.pictures(page) <= made
    assert all((tmp_path / name).stat().st_size > 5000 for name in run_pages.pictures(page))


@each([*PAGES, ROOT / "README.md"])
def test_blocks_compile(page):
    for line, code in run_pages.blocks(page):
        assert page.read_text(encoding="utf-8").splitlines()[line - 1] == code.splitlines()[0]
        compile(code, f"{page}:{line}", "exec")


def test_a_traceback_shows_the_line_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\nx = 1\n```\n\n```python\n\nassert x == 2\n```\n", "utf-8"
    )
    with pytest.raises(AssertionError) as error:
        run_pages.run(page, tmp_path)
    last = error.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (page, 9)


@each_page
def test_links_lead_somewhere(page):
    missing = []
    for target in targets(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if path.parent == run_pages.PICTURES:
            continue  # drawn by a page
        if not path.exists() or (anchor and anchor not in slugs(path)):
            missing.append(target)
    assert not missing, "\n".join(map(str, missing))


@each_page
def test_pictures_are_described(page):
    for figure in re.findall(
        r"^[`:]{3,}\{(?:figure|image)\} .*\n((?::.*\n)*)", prose(page), re.MULTILINE
    ):
        assert re.search(r"^:alt: \S", figure, re.MULTILINE)


@each_page
def test_formulas_are_paragraphs_of_their_own(page):
    lines = ["", *prose(page).splitlines()]
    inside = False
    for before, line in pairwise(lines):
        if line.startswith("$$"):
            assert inside or not before.strip(), f"no empty line before {line!r}"
        inside ^= line.count("$$") == 1


def find(name):
    """Return dl.name, where a name may go on with an attribute."""
    return reduce(getattr, name.split("."), dlcore)


@each_page
def test_names_exist(page):
    missing = set()
    for name, arguments in re.findall(r"`dl\.([\w.]+)(\([^`]*\))?", prose(page)):
        try:
            item = find(name)
        except AttributeError:
            missing.add(f"dl.{name}")
            continue
        for argument in re.findall(r"(\w+)=", arguments):
            if argument not in inspect.signature(item).parameters:
                missing.add(f"dl.{name}({argument}=)")
    assert not missing, "\n".join(map(str, missing))


def test_every_public_name_is_in_the_api_reference():
    text = "".join(p.read_text(encoding="utf-8") for p in sorted((DOCS / "api").glob("*.md")))
    modules = set(re.findall(r"\{public\} (\S+)", text))
    names = set(re.findall(r"^\.\. auto\w+:: (?:dlcore\.)?(\w+)$", text, re.MULTILINE))
    others = {name: getattr(dlcore, name) for name in set(dlcore.__all__) - names - {"__version__"}}
    submodules = {name for name, item in others.items() if inspect.ismodule(item)}
    missing = [name for name in submodules if f":: dlcore.{name}" not in text]
    homes = {name: others[name].__module__ for name in others.keys() - submodules}
    missing += [f"{name} of {home}" for name, home in homes.items() if home not in modules]
    assert not missing, "\n".join(missing)


def test_the_glossary_has_no_empty_cell():
    rows = glossary()
    assert len(rows) > 80
    assert [row for row in rows if len(row) != 4 or not all(row)] == []
    terms = [row[0] for row in rows]
    assert len(set(terms)) == len(terms)


def test_the_glossary_names_functions_examples_and_tests():
    wrong = []
    for row in glossary():
        term, function, example, test = row
        if "`dl" not in function:
            wrong.append(f"{term}: no function in {function!r}")
        if not re.search(r"\]\(guide/\w+\.md#[\w-]+\)", example):
            wrong.append(f"{term}: no section of the guide in {example!r}")
        tests = re.findall(r"\[`(test_\w+\.py)::(test_\w+)`\]\(\.\./tests/(\w+/\1)\)", test)
        if not tests:
            wrong.append(f"{term}: no test in {test!r}")
        for file, name, place in tests:
            path = ROOT / "tests" / place
            if not path.exists() or f"def {name}(" not in path.read_text(encoding="utf-8"):
                wrong.append(f"{term}: there is no {file}::{name}")
    assert not wrong, "\n".join(wrong)


MODULES = [
    module.name
    for module in pkgutil.walk_packages(dlcore.__path__, "dlcore.")
    if not module.name.rpartition(".")[2].startswith(("_core", "_cpu"))
]


def test_examples_in_docstrings_run():
    results = [doctest.testmod(importlib.import_module(name)) for name in MODULES]
    assert sum(result.attempted for result in results) > 10
    assert sum(result.failed for result in results) == 0
