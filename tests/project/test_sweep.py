"""The sweep over sizes runs, and finds what is wrong with figures."""

import json
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

SWEEP = Path(__file__).parents[2] / "benchmarks" / "sweep"

pytestmark = pytest.mark.skipif(
    not SWEEP.exists(), reason="tests without the benchmarks beside them"
)


def run(*arguments):
    result = subprocess.run(
        [sys.executable, SWEEP, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_sweep(tmp_path):
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    quick = ["--only", "^relu$|softmax x10$", "--sizes", "10,1000", "--rounds", "1"]
    printed = run(*quick, "--json", figures, "--chart", chart)
    assert "## Two threads slower than one" in printed
    records = json.loads(figures.read_text())["records"]
    assert {r["kernel"] for r in records} == {"relu", "softmax x10"}
    assert len(records) == 2 * 2 * 2 * 4 * 2  # kernels, sizes, dtypes, ways, threads
    assert all(r["seconds"] > 0 for r in records)
    assert chart.read_bytes()[1:4] == b"PNG"
    assert run("--read", figures).startswith("\n## Two threads slower than one")


def findings_of(**times):
    """Return the findings where a call takes so many microseconds at 1, 2, ... million elements."""
    spec = util.spec_from_file_location("findings", SWEEP / "findings.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.caches = lambda: [10**6]
    records = []
    for series, microseconds in times.items():
        dtype, way, threads = series.split("_")
        records += [
            {
                "kernel": "f",
                "dtype": dtype,
                "way": way,
                "threads": int(threads),
                "n": i * 10**6,
                "seconds": 1e-6 * time,
            }
            for i, time in enumerate(microseconds, 1)
        ]
    report = {"records": records, "moved": {"f": 2}}
    return {title.split(",")[0]: list(lines) for title, lines in module.findings(report)}


def test_findings():
    found = findings_of(
        float32_out_1=[100, 200, 300, 200],
        float32_out_2=[110, 120, 180, 120],
        float32_new_1=[150, 480, 480, 400],
        float32_strided_1=[200, 300, 400, 500],
        float32_copied_1=[100, 200, 390, 490],
        float64_out_1=[150, 400, 700, 850],
    )
    assert found == {
        "Two threads slower than one": ["f, float32, out, 2 threads: 1.10 at 1M"],
        "Two threads": ["1.67  f, float32, out, 2 threads at 4M"],
        "Cliffs": [
            "f, float32, out, 1 thread: 300 µs at 3M, 200 at 4M",
            "f, float32, out, 2 threads: 180 µs at 3M, 120 at 4M",
            "f, float32, new, 1 thread: 0.15 ns an element at 1M, 0.24 at 2M; 480 µs at 3M, 400 at 4M",
        ],
        "float64 more than 2.3 times float32": [
            "f, float64, out, 1 thread: 2.33 at 3M, 4.25 at 4M"
        ],
        "Without out= more than 2 times with it": ["f, float32, new, 1 thread: 2.40 at 2M"],
        "Strided more than 1.3 times a copy first": [
            "f, float32, strided, 1 thread: 2.00 at 1M, 1.50 at 2M"
        ],
    }
