"""The comparison with other libraries runs, and says what it says it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMPARE = Path(__file__).parents[2] / "benchmarks" / "compare"


@pytest.mark.skipif(not COMPARE.exists(), reason="tests without the benchmarks beside them")
def test_comparison_with_numpy(tmp_path):
    path = tmp_path / "figures.json"
    arguments = ["--only", "relu 1000$", "--peers", "dlcore,numpy", "--rounds", "1"]
    result = subprocess.run(
        [sys.executable, COMPARE, *arguments, "--json", path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "| `relu 1000` |" in result.stdout
    (row,) = json.loads(path.read_text())["cases"]
    assert row["best_peer"] == "numpy"
    assert row["ratio"] > 0
