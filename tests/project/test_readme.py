"""The README's Python examples run as they are printed, each by itself, and print what is shown."""

from pathlib import Path

import pytest

import run_pages

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("block", run_pages.blocks(README), ids=lambda block: f"line {block.line}")
def test_example_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where an example may write
    exec(compile(block.code, str(README), "exec"), {})  # noqa: S102
    assert run_pages.agree(block.output, capsys.readouterr().out)
