"""The README's Python examples run as they are printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLE = re.compile(r"^## (.*?)\n\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(EXAMPLE.findall(README.read_text(encoding="utf-8")))


@pytest.mark.parametrize("title", [*EXAMPLES])
def test_example_runs(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where an example may write
    exec(compile(EXAMPLES[title], str(README), "exec"), {})  # noqa: S102
