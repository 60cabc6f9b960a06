"""The comparison of training runs, and says what it says it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).parents[2] / "benchmarks" / "training"

pytestmark = pytest.mark.skipif(
    not TRAINING.exists(), reason="tests without the benchmarks beside them"
)


def run(path, *arguments):
    quick = ["--peers", "dlcore,numpy", "--rounds", "1", "--json", path]
    result = subprocess.run(
        [sys.executable, TRAINING, *quick, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads(path.read_text())["cases"]


def test_training(tmp_path):
    arguments = ["--more", "--cases", "20-64-64-2 batch 1", "--busy"]
    printed, (row,) = run(tmp_path / "figures.json", *arguments)
    assert "| `20-64-64-2 batch 1` |" in printed
    assert row["best_peer"] == "numpy"
    assert row["ratio"] > 0
    assert row["flops"] > 0
    assert row["slowdown"]["dlcore"] > 0
    # The same network and data; the order of the rows is each library's own.
    assert row["loss"]["dlcore"] == pytest.approx(row["loss"]["numpy"], rel=0.2)


def test_inference(tmp_path):
    printed, rows = run(tmp_path / "figures.json", "--inference", "--cases", "20-64-64-2 ")
    assert printed.count("| `20-64-64-2 rows 1") == len(rows) == 2
    for row in rows:
        assert row["ratio"] > 0
        assert max(row["error"].values()) < 1e-5


def test_products(tmp_path):
    arguments = ["--products", "--cases", "64-64 ", "--peers", ""]
    printed, rows = run(tmp_path / "figures.json", *arguments)
    assert printed.count("| `64-64 rows 32") == len(rows) == 2
    for row in rows:
        assert row["seconds"]["dlcore"] > 0
        assert row["peak"] > 0
        assert row["error"]["dlcore"] < 1e-5
