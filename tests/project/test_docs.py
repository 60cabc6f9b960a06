"""The pages of the documentation: they run, draw what they show, and name what there is."""

import doctest
import importlib
import inspect
import pkgutil
import re
from functools import reduce
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

import dlcore
import glossary
import notebooks
import run_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = run_pages.pages()


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


@each([page for page in PAGES if run_pages.blocks(page)])
def test_page_runs_prints_and_draws_what_it_shows(page, tmp_path):
    printed = run_pages.run(page, tmp_path).printed
    for block, output in zip(run_pages.blocks(page), printed, strict=True):
        assert run_pages.agree(block.output, output), f"{page}:{block.line} prints\n{output}"
    made = {p.name for p in tmp_path.iterdir()}
    assert run_pages.pictures(page) <= made
    assert all((tmp_path / name).stat().st_size > 5000 for name in run_pages.pictures(page))


@each([*PAGES, ROOT / "README.md"])
def test_blocks_compile(page):
    for line, code, _ in run_pages.blocks(page):
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


@each(notebooks.pages())
def test_a_notebook_has_the_blocks_of_its_page(page):
    made = notebooks.notebook(page)
    nbformat.validate(made)
    code = [(c.source, [o.text for o in c.outputs]) for c in made.cells if c.cell_type == "code"]
    blocks = [(b.code.rstrip("\n"), [b.output] * bool(b.output)) for b in run_pages.blocks(page)]
    assert code == blocks
    text = "\n".join(c.source for c in made.cells if c.cell_type == "markdown")
    assert text.startswith("# ")
    assert "{figure}" not in text
    assert "../" not in text
    assert all(f"]({name})" in text for name in run_pages.pictures(page))


PRINTS = "# Title\n\n```python\nprint('loss', 0.5)\n```\n{}\nText\n\n```python\nx = 1\n```\n"


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("loss 0.512\n", "loss  0.533\n", True),  # what rounding makes of a training
        ("loss 0.512\n", "loss 0.833\n", False),
        ("epoch 30\n", "epoch 31\n", True),
        ("epoch 3\n", "epoch 5\n", False),
        ("loss 0.5\n", "val_loss 0.5\n", False),
        ("loss 0.5\n", "loss 0.5 0.5\n", False),
        ("loss 0.5\n", "loss -0.5\n", False),
        ("loss 0.5\n", "loss nan\n", False),
        ("", "loss 0.5\n", False),
        ("loss 0.5\n", "", False),
    ],
)
def test_outputs_agree_but_for_rounding(shown, printed, same):
    assert run_pages.agree(shown, printed) == same


@pytest.mark.parametrize("output", ["", "\n```text\nlos 0.5\n```\n"], ids=["none", "stale"])
def test_outputs_are_written_below_their_block(output, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PRINTS.format(output), "utf-8")
    run_pages.show(page, run_pages.run(page, tmp_path).printed)
    assert page.read_text("utf-8") == PRINTS.format("\n```text\nloss 0.5\n```\n")
    assert [block.output for block in run_pages.blocks(page)] == ["loss 0.5\n", ""]


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
    rows = glossary.rows()
    assert len(rows) > 80
    assert [row for row in rows if not all(row)] == []
    terms = [row[0] for row in rows]
    assert len(set(terms)) == len(terms)


def test_the_glossary_names_functions_examples_and_tests():
    wrong = []
    for term, _, function, example, test in glossary.rows():
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


def test_names_of_the_glossary_lead_to_the_guide():
    sections = glossary.sections()
    assert sections["dlcore.relu"] == [("ReLU", "guide/activations", "relu")]
    assert ("Elastic net", "guide/regularization", "elastic-net") in sections["dlcore.Adam"]
    assert "dlcore.sklearn.TabularClassifier" in sections


BRITISH = re.compile(
    r"\b\w*(?:(?:learnt|colour|favour|behaviour|neighbour|tumour|grey|centre|licence)\w*"
    r"|(?:al|im|it|ar|er|or|ly|an|gn)(?:ise[ds]?|ising|isation)|analyse[ds]?)\b",
    re.IGNORECASE,
)


def test_spelling_is_american():
    files = [*PAGES, *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING"))]
    files += [*(ROOT / "python").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    wrong = [
        f"{file.relative_to(ROOT)}: {word}"
        for file in files
        for word in set(BRITISH.findall(file.read_text(encoding="utf-8")))
    ]
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
