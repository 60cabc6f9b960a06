"""The list of bugs that tests have to catch keeps to the sources and to the tests."""

import re

import pytest

from plant_bugs import ROOT, TESTS, planted, read_bugs

BUGS = read_bugs()


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_has_its_place(name):
    bug = BUGS[name]
    name, text = planted(bug)
    assert text != (ROOT / name).read_text("utf-8")
    paths = [test.partition("::")[0] for test in bug["tests"] if not test.startswith("-")]
    assert paths
    assert all((TESTS / path).is_file() for path in paths)
    assert bug["kind"]


def test_a_text_that_is_not_there_once_is_an_error():
    bug = {"name": "two", "file": "cpp/kernels/gemm.cpp", "before": "vec<T>", "after": ""}
    with pytest.raises(ValueError, match=r"two: cpp/kernels/gemm\.cpp has its text \d+ times"):
        planted(bug)


def test_the_page_lists_all():
    page = (ROOT / "docs" / "planted_bugs.md").read_text("utf-8")
    listed = re.findall(r"^\| ([a-z0-9 ]+) \| ", page, re.MULTILINE)
    assert listed[1:] == [name.replace("-", " ") for name in BUGS]
