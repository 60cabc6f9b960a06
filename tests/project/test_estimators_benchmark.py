"""The comparison with scikit-learn runs, and says what it says it says."""

import json
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest

ESTIMATORS = Path(__file__).parents[2] / "benchmarks" / "estimators"

pytestmark = pytest.mark.skipif(
    not ESTIMATORS.exists(), reason="tests without the benchmarks beside them"
)
pytest.importorskip("sklearn")


def run(mode, path, *arguments):
    result = subprocess.run(
        [sys.executable, ESTIMATORS, mode, "--json", path, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads(path.read_text())["cases"]


@pytest.mark.parametrize(
    ("dtype", "only", "cases"), [("float32", "", 18), ("float64", "20-64-64-2", 3)]
)
def test_speed(tmp_path, dtype, only, cases):
    arguments = ["--rounds", "1", "--quick", "--dtype", dtype, "--only", only]
    printed, (*rows, layer) = run("speed", tmp_path / "figures.json", *arguments)
    assert printed.count("\n| `") == len(rows) == cases
    for row in rows:
        assert ("float64" in row["case"]) == (dtype == "float64")
        assert row["seconds"]["dlcore"] > 0
        assert row["ratio"] > 0
        assert row["quartiles"] == pytest.approx([row["ratio"]] * 2)  # of one round
    assert "\nOverhead of the estimator" in printed
    assert layer["seconds"].keys() == {"dlcore", "trainer"}


def test_quality(tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "quality.png"
    arguments = ["--seeds", "2", "--only", "wine", "--plot", picture]
    printed, (row,) = run("quality", figures, *arguments)
    assert printed.count("\n| wine | accuracy | float") == 2
    assert row["scores"].keys() == {"scikit-learn", "dlcore", "dlcore, float32"}
    assert all(min(scores) > 0.8 for scores in row["scores"].values())
    # From the same seeds the same networks.
    assert row["compared"]["dlcore"]["verdict"] == "the same"
    assert picture.read_bytes()[1:4] == b"PNG"


@pytest.fixture
def judgment():
    spec = util.spec_from_file_location("judgment", ESTIMATORS / "judgment.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_other_results_are_found(judgment):
    figures = {"dlcore": [1.0, 200.0], "sklearn": [1.001, 200.1], "trainer": [1.0, 200.0]}
    judgment.check_same("a case", figures, 1e-3)
    with pytest.raises(ValueError, match=r"a case: dlcore and sklearn differ by 0\.1"):
        judgment.check_same("a case", figures, 1e-4)
    with pytest.raises(ValueError, match="differ by nan"):
        judgment.check_same("a case", {"dlcore": [np.nan], "sklearn": [1.0]}, 1e-3)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([1e-9, -1e-8, 0], "the same"),
        ([0.01, 0.02, -0.01], "no lower"),
        ([0.01, 0.01, -0.03], "no lower"),  # by less than the standard error
        ([-0.02, -0.01, -0.03], "lower by 3.5 errors"),
        ([-0.01, -0.01], "lower by more than 9 errors"),
    ],
)
def test_verdict(judgment, differences, verdict):
    scores = np.array([0.5, 0.7, 0.9])[: len(differences)]
    compared = judgment.compare(scores + differences, scores)
    assert compared["verdict"] == verdict
    assert compared["difference"] == pytest.approx(np.mean(differences))
