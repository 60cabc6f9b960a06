"""The list of bugs that tests have to catch keeps to the sources and to the tests."""

import pytest

from plant_bugs import ROOT, TESTS, planted, read_bugs

BUGS = read_bugs()


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_has_its_place(name):
    bug = BUGS[name]
    text = (ROOT / bug["file"]).read_text("utf-8")
    assert planted(bug) != text
    paths = [test.partition("::")[0] for test in bug["tests"] if not test.startswith("-")]
    assert paths
    assert all((TESTS / path).is_file() for path in paths)
    assert bug["kind"]


def test_a_text_that_is_not_there_once_is_an_error():
    bug = {"name": "two", "file": "cpp/kernels/gemm.cpp", "before": "vec<T>", "after": ""}
    with pytest.raises(ValueError, match=r"two: cpp/kernels/gemm\.cpp has its text \d+ times"):
        planted(bug)
