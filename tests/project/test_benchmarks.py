"""The benchmarks run, and say what they say they say."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.processes import mpiexec

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="tests without the benchmarks beside them"
)
sys.path.append(str(ROOT))


def run(*arguments, status=0):
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result.stdout


def measured(path, *arguments):
    """Return what a suite prints, and its rows as {name: {library: row}}."""
    printed = run(*arguments, "--json", path)
    report = json.loads(path.read_text())
    assert report["suite"] == arguments[0]
    assert report["machine"]["processor"]
    assert report["machine"]["versions"].keys() >= {"dlcore"}
    names = {}
    for row in report["rows"]:
        low, high = row["quartiles"]
        assert low <= row["median"] <= high
        assert row["ratio"] > 0
        names.setdefault(row["name"], {})[row["library"]] = row
    return printed, names


QUICK = ("--rounds", 1, "--peers", "dlcore,numpy")


def test_kernels(tmp_path):
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    printed, names = measured(figures, "kernels", "--only", "relu 1000$", *QUICK, "--chart", chart)
    assert "| `relu 1000` |" in printed
    (rows,) = names.values()
    assert rows.keys() == {"dlcore", "numpy"}
    assert rows["dlcore"]["ratio"] == 1
    assert rows["numpy"]["ulp"] == 0
    assert chart.read_bytes()[1:4] == b"PNG"
    assert run("kernels", "--read", figures).startswith("| case |")


def test_kernels_of_the_registry(tmp_path):
    arguments = ["--registry", "--only", "^relu 1000 ", "--rounds", 1]
    printed, names = measured(tmp_path / "figures.json", "kernels", *arguments)
    assert printed.count("| `relu 1000 float") == 2
    for rows in names.values():
        assert rows.keys() == {"dlcore", "reference"}
        assert rows["dlcore"]["ulp"] == 0


def test_another_build(tmp_path):
    """The same package by way of another folder stands for another build."""
    import dlcore

    other = tmp_path / "other"
    other.mkdir()
    (other / "dlcore").symlink_to(Path(dlcore.__file__).parent, target_is_directory=True)
    arguments = ["--only", "relu 1000$", "--peers", "dlcore", "--quick", "--against", other]
    tolerant = [*arguments, "--tolerance", 100]
    printed, names = measured(tmp_path / "figures.json", "kernels", *tolerant)
    assert names["relu 1000"].keys() == {"dlcore", "against"}
    assert "slower by more than 10000% in 0" in printed
    # A tolerance so small that all is slower.
    assert "in 1." in run("kernels", *arguments, "--tolerance", -0.99, status=1)
    run("kernels", "--against", tmp_path, status=2)


def test_training(tmp_path):
    arguments = ["--more", "--only", "^20-64-64-2 batch 1$", "--busy", *QUICK]
    printed, names = measured(tmp_path / "figures.json", "training", *arguments)
    assert "| `20-64-64-2 batch 1` |" in printed
    ((ours, theirs),) = ((rows["dlcore"], rows["numpy"]) for rows in names.values())
    assert ours["flops"] > 0
    assert ours["slowdown"] > 0
    # The same network and data; the order of the rows is each library's own.
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.2)


def test_ranks(tmp_path):
    mpiexec()
    arguments = ["--only", "^784-256", "--rounds", 1, "--quick"]
    printed, names = measured(tmp_path / "figures.json", "ranks", *arguments)
    alone, exact, averaging = (rows["dlcore"] for rows in names.values())
    assert [row["ranks"] for row in (alone, exact, averaging)] == [1, 2, 2]
    assert alone["loss"] == exact["loss"]
    assert averaging["rows_a_second"] > 0
    assert printed.count("| `784-256-128-10 batch 512` |") == 3


def test_many(tmp_path):
    arguments = ["--rounds", 1, "--peers", ""]
    printed, names = measured(tmp_path / "figures.json", "many", *arguments)
    assert "folds of" in printed
    assert len(names) == 4
    assert all(rows["dlcore"]["median"] > 0 for rows in names.values())


def test_inference(tmp_path):
    arguments = ["--only", "^20-64-64-2 ", *QUICK]
    printed, names = measured(tmp_path / "figures.json", "inference", *arguments)
    assert printed.count("| `20-64-64-2 rows 1") == len(names) == 4  # two of them of snapshots
    for rows in names.values():
        assert rows.keys() == {"dlcore", "numpy"}
        assert max(row["error"] for row in rows.values()) < 1e-5


def test_products(tmp_path):
    arguments = ["--only", "^64-64 ", "--rounds", 1, "--peers", ""]
    printed, names = measured(tmp_path / "figures.json", "products", *arguments)
    assert printed.count("| `64-64 rows 32") == len(names) == 2
    for rows in names.values():
        assert rows["dlcore"]["median"] > 0
        assert rows["dlcore"]["peak"] > 0
        assert rows["dlcore"]["error"] < 1e-5


def test_members(tmp_path):
    arguments = ["--only", "^k 16", "--rounds", 1, "--quick", "--peers", ""]
    printed, names = measured(tmp_path / "figures.json", "members", *arguments)
    assert printed.count("| `k 16, 20-128x128-10 batch 256` |") == len(names) == 1
    ((ours,),) = (rows.values() for rows in names.values())
    assert ours["flops"] > 0
    assert 0 < ours["loss"] < 3


def test_options(tmp_path):
    printed, names = measured(
        tmp_path / "figures.json", "options", "--rounds", 1, "--quick", "--more"
    )
    assert "batches grow the memory by" in printed
    assert len(names) == 3 * 8 + 2 * 2 + 13
    assert all(rows["dlcore"]["of_plain"] > 0 for rows in names.values())


@pytest.mark.parametrize(
    ("dtype", "only", "cases"),
    [
        ("float32", "^(?!text)", 23),
        ("float64", "20-64-64-2", 6),
        ("float32", "^(text predict_proba.*rows 1 |layer)", 1),
    ],
)
def test_estimators(tmp_path, dtype, only, cases):
    pytest.importorskip("sklearn")
    arguments = ["--rounds", 1, "--quick", "--few-rows", "--dtype", dtype, "--only", only]
    printed, names = measured(tmp_path / "figures.json", "estimators", *arguments)
    *names_beside, layer = names
    assert printed.count("\n| `") == len(names) == cases + 1
    for name in names_beside:
        row = names[name]["sklearn"]
        assert ("float64" in name) == (dtype == "float64")
        assert names[name]["dlcore"]["median"] > 0
        assert row["ratio_quartiles"] == pytest.approx([row["ratio"]] * 2)  # of one round
    assert "\nOverhead of the estimator" in printed
    assert names[layer].keys() == {"dlcore", "trainer"}


def test_quality(tmp_path):
    pytest.importorskip("sklearn")
    figures, picture = tmp_path / "figures.json", tmp_path / "quality.png"
    arguments = ["--seeds", 2, "--only", "wine", "--chart", picture]
    printed, names = measured(figures, "quality", *arguments)
    assert printed.count("\n| `wine float") == 2
    assert names.keys() == {"wine float64", "wine float32"}
    for rows in names.values():
        assert rows.keys() == {"dlcore", "sklearn"}
        assert all(min(row["rounds"]) > 0.8 for row in rows.values())
    # From the same seeds the same networks.
    assert names["wine float64"]["dlcore"]["compared"]["verdict"] == "the same"
    assert picture.read_bytes()[1:4] == b"PNG"


def test_sizes(tmp_path):
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    quick = ["--only", r"^relu \d|softmax x10 ", "--sizes", "10,1000", "--rounds", 1]
    printed, names = measured(figures, "sizes", *quick, "--chart", chart)
    assert "## Two threads slower than one" in printed
    rows = [rows["dlcore"] for rows in names.values()]
    assert {row["kernel"] for row in rows} == {"relu", "softmax x10"}
    assert len(rows) == 2 * 2 * 2 * 4 * 2  # kernels, sizes, dtypes, ways, threads
    assert all(row["median"] > 0 for row in rows)
    assert chart.read_bytes()[1:4] == b"PNG"
    assert run("sizes", "--read", figures).startswith("\n## Two threads slower than one")


@pytest.mark.parametrize(
    ("arguments", "heading"),
    [
        (["--by-classes", "--only", "softmax x2 "], "| columns | softmax |"),
        (["--busy", "--only", "relu", "--sizes", "1000"], "| kernel | elements | idle, 1 |"),
        (["--subnormals", "--only", "^relu$"], "| kernel | ns | normal, times 3 |"),
    ],
)
def test_other_sizes(arguments, heading):
    assert heading in run("sizes", "--rounds", 1, *arguments)


def findings_of(findings, **times):
    """Return the findings where a call takes so many microseconds at 1, 2, ... million elements."""
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
                "median": 1e-6 * time,
                "moved": 2,
            }
            for i, time in enumerate(microseconds, 1)
        ]
    return {title.split(",")[0]: list(lines) for title, lines in findings.findings(records)}


def test_findings(monkeypatch):
    from benchmarks.suites.sizes import findings

    monkeypatch.setattr(findings, "caches", lambda: [10**6])
    found = findings_of(
        findings,
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


def test_other_results_are_found():
    from benchmarks.suites.estimators import check_same

    figures = {"dlcore": [1.0, 200.0], "sklearn": [1.001, 200.1], "trainer": [1.0, 200.0]}
    check_same("a case", figures, 1e-3)
    with pytest.raises(ValueError, match=r"a case: dlcore and sklearn differ by 0\.1"):
        check_same("a case", figures, 1e-4)
    with pytest.raises(ValueError, match="differ by nan"):
        check_same("a case", {"dlcore": [np.nan], "sklearn": [1.0]}, 1e-3)


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
def test_verdict(differences, verdict):
    from benchmarks.suites.quality import paired

    scores = np.array([0.5, 0.7, 0.9])[: len(differences)]
    compared = paired(scores + differences, scores)
    assert compared["verdict"] == verdict
    assert compared["difference"] == pytest.approx(np.mean(differences))


def write_report(path, unit="s", suite="kernels", **medians):
    rows = [
        {"name": name, "library": library, "median": median}
        for key, median in medians.items()
        for library, name in [key.split("_")]
    ]
    path.write_text(json.dumps({"suite": suite, "unit": unit, "machine": {}, "rows": rows}))
    return path


def test_comparison_of_two_reports(tmp_path):
    old = write_report(tmp_path / "old.json", dlcore_f=1.0, dlcore_g=1.0, numpy_f=1.0, dlcore_h=1.0)
    new = write_report(tmp_path / "new.json", dlcore_f=1.02, dlcore_g=0.5, numpy_f=9.0)
    printed = run("compare", old, new)
    assert printed.index("`f`") < printed.index("`g`")  # the worst first
    assert "numpy takes 9.000 of its old time" in printed
    assert "Only in one of the reports: h." in printed
    assert "0 slower by more than 3%" in printed
    assert "1 slower by more than 1%" in run("compare", old, new, "--tolerance", 0.01, status=1)
    assert "1 slower" in run("compare", old, new, "--library", "numpy", status=1)
    nothing = write_report(tmp_path / "nothing.json")
    assert "no row of dlcore in common" in run("compare", old, nothing, status=2)


def test_a_lower_score_is_a_regression(tmp_path):
    old = write_report(tmp_path / "old.json", unit="score", dlcore_f=0.9)
    new = write_report(tmp_path / "new.json", unit="score", dlcore_f=0.8)
    run("compare", old, new, status=1)
    run("compare", new, old)
