"""What `TabularClassifier` and `TabularRegressor` take, and what they say of what they do not take."""

import datetime as dt
import warnings
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from dlcore.sklearn import TabularClassifier, TabularRegressor

RNG = np.random.default_rng(5)
ROWS = 60
FRAME = pd.DataFrame({
    "a": RNG.normal(size=ROWS), "k": RNG.choice(list("xyz"), ROWS), "b": RNG.choice([True, False], ROWS)
})  # fmt: skip
LABELS = np.where(FRAME["a"] > 0, "p", "q")
THREE = np.where(FRAME["a"] > 1, "r", LABELS)
VALUES = 2 * FRAME["a"].to_numpy()


def classifier(**options):
    return TabularClassifier(**{"max_epochs": 1, "random_state": 0} | options)


def regressor(**options):
    return TabularRegressor(**{"max_epochs": 1, "random_state": 0} | options)


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(FRAME, LABELS)


# ---- what is refused -----------------------------------------------------------------------------


def weighted(weight):
    return lambda: classifier().fit(FRAME, LABELS, sample_weight=weight)


def of_x(X):
    return lambda: classifier().fit(X, LABELS)


def of_labels(y):
    return lambda: classifier().fit(FRAME, y)


def of_values(y):
    return lambda: regressor().fit(FRAME, y)


def validated(*data):
    return lambda: regressor().fit(FRAME, VALUES, validation_data=data)


REFUSED = {
    "members": (lambda: classifier(members=2.0).fit(FRAME, LABELS), "'members'.*2.0"),
    "recipe": (lambda: classifier(recipe="mlp").fit(FRAME, LABELS), "'recipe'.*tabm.*'mlp'"),
    "time": (lambda: classifier(time_limit=-1).fit(FRAME, LABELS), "'time_limit'.*-1"),
    "weights of other rows": (weighted(np.ones(3)), r"sample_weight.*\(3,\).*\(60,\)"),
    "a negative weight": (weighted(-np.ones(ROWS)), r"sample_weight.*\s.*-1.0 at sample_weight\[0\]"),
    "no weight": (weighted(np.zeros(ROWS)), "non-zero|no row counts"),
    "weights of texts": (weighted(["much"] * ROWS), "sample_weight must hold numbers.*'much'"),
    "no class has a weight": (
        lambda: classifier(class_weight={"p": 0, "q": 0}).fit(FRAME, LABELS), "no row counts",
    ),
    "nothing but gaps": (of_x(FRAME[["a"]] * np.nan), "X has no column with a value"),
    "two columns of a name": (of_x(pd.concat([FRAME, FRAME], axis=1)), "X has 2 columns.*'a'"),
    "two columns of a name in Arrow": (
        of_x(pa.Table.from_arrays([pa.array(VALUES)] * 2, ["u", "u"])), "X has 2 columns.*'u'",
    ),
    "names of texts and numbers": (of_x(FRAME.set_axis(["a", 1, 2], axis=1)), "string names"),
    "a lazy frame": (of_x(pl.from_pandas(FRAME).lazy()), r"X is a LazyFrame.*X\.collect"),
    "dicts": (of_x([{"a": 1.0}] * ROWS), "X is a list of dicts.*DataFrame"),
    "lists in a column": (of_x(FRAME.assign(a=[[1, 2]] * ROWS)), "column 'a'.*not a list"),
    "structs": (of_x(pl.DataFrame({"s": [{"u": 1}] * ROWS})), "column 's'.*not a dict"),
    "an infinity": (of_x(FRAME.assign(a=np.inf)), "infinity.*'a', row 0"),
    "labels without one": (of_labels([None, *LABELS[1:]]), r"y contains None, at y\[0\]"),
    "labels with NA": (
        of_labels(pd.Series([*LABELS[1:], pd.NA], dtype="string")), r"y contains <NA>, at y\[59\]",
    ),
    "labels with NaN": (of_labels(np.r_[np.nan, np.ones(ROWS - 1)]), "y contains NaN"),
    "labels of two types": (of_labels(["p", 1] * (ROWS // 2)), r"y holds.*\(int, str\)"),
    "columns of two types": (
        of_labels(pd.DataFrame({"u": LABELS, "v": np.arange(ROWS) % 3})), r"y holds.*\(int, str\)",
    ),
    "dates for labels": (
        of_labels(np.array([dt.date(2020, 1, 1), dt.date(2021, 1, 1)] * (ROWS // 2))),
        "y must hold numbers, booleans or texts, not date objects",
    ),
    "intervals for labels": (of_labels(pd.cut(FRAME["a"], 3)), "y must hold .*, not Interval objects"),
    "one column of several labels to validate on": (
        lambda: classifier().fit(FRAME, np.eye(ROWS, 2, dtype=int), validation_data=(FRAME, LABELS)),
        "validation_data: y must have 2 columns of 0 and 1",
    ),
    "numbers for labels": (of_labels(VALUES), "Unknown label type: continuous"),
    "labels of other rows": (of_labels(LABELS[:3]), r"inconsistent.*\[60, 3\]"),
    "texts for numbers": (of_values(LABELS), "y must hold numbers"),
    "numbers with NaN": (of_values(np.r_[VALUES[1:], np.nan]), "y contains NaN"),
    "numbers with NA": (
        of_values(pd.Series([1] * (ROWS - 1) + [None], dtype="Int64")), r"y contains NaN, at y\[59\]",
    ),
    "numbers with None in columns": (
        of_values([[1.0, 2.0]] * (ROWS - 1) + [[3.0, None]]), r"y contains None, at y\[59, 1\]",
    ),
    "other columns to validate on": (validated(FRAME[["a"]], VALUES), "validation_data: The feature"),
    "columns in other order to validate on": (
        validated(FRAME[["k", "a", "b"]], VALUES), "validation_data: .*\\s.*same order",
    ),
    "no row to validate on": (validated(FRAME[:0], VALUES[:0]), "validation_data: .* 0 sample"),
    "two columns to validate on": (
        validated(FRAME, np.stack([VALUES] * 2, axis=1)), "validation_data: y must have 1 columns, got 2",
    ),
    "far away to validate on": (validated(FRAME, VALUES + 1e300), r"y: 1e\+300 lies .* too large"),
    "weights of 0 to validate on": (validated(FRAME, VALUES, np.zeros(ROWS)), "validation_data: .*weight"),
    "columns in other order": (
        lambda: classifier().fit(FRAME, LABELS).predict(FRAME[["k", "a", "b"]]), "same order",
    ),
    "a missing column": (
        lambda: classifier().fit(FRAME, LABELS).predict(FRAME[["a", "b"]]), "missing:\\s- k",
    ),
    "too few columns": (
        lambda: classifier().fit(FRAME.to_numpy(), LABELS).predict([[1.0, "x"]]),
        "X has 2 features, but TabularClassifier is expecting 3",
    ),
    "no rows": (lambda: classifier().fit(FRAME, LABELS).predict(FRAME[:0]), "0 sample.*TabularClassifier"),
    "quantiles of texts": (
        lambda: regressor().fit(FRAME, VALUES).predict_quantiles(FRAME, ["low"]),
        "quantiles must hold numbers.*'low'",
    ),
    "a score of no targets": (lambda: regressor().fit(FRAME, VALUES).score(FRAME, None), "requires y"),
    "a score of rows without a target": (
        lambda: classifier().fit(FRAME, LABELS).score(FRAME, [None, *LABELS[1:]]), r"y contains None, at y\[0\]",
    ),
    "a score of other columns": (
        lambda: classifier().fit(FRAME, np.stack([LABELS, THREE], axis=1)).score(FRAME, LABELS),
        r"y must have the shape \(60, 2\), got \(60,\)",
    ),
    "weights of texts for a score": (
        lambda: classifier().fit(FRAME, LABELS).score(FRAME, LABELS, ["much"] * ROWS),
        "sample_weight must hold numbers.*'much'",
    ),
    "a negative weight for importances": (
        lambda: regressor().fit(FRAME, VALUES).permutation_importance(
            FRAME, VALUES, sample_weight=-np.ones(ROWS)
        ),
        r"sample_weight.*\s.*-1.0 at sample_weight\[0\]",
    ),
    "no repeats": (
        lambda: classifier().fit(FRAME, LABELS).permutation_importance(FRAME, LABELS, n_repeats=0),
        "n_repeats must be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    call, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize("made", [classifier, regressor])
def test_nothing_is_predicted_before_a_fit_or_after_one_that_failed(made):
    y = LABELS if made is classifier else VALUES
    for method in ("predict", "prepare"):
        with pytest.raises(NotFittedError):
            getattr(made(), method)(FRAME)
    estimator = made().fit(FRAME, y)
    before = estimator.predict(FRAME)
    with pytest.raises(ValueError, match="inconsistent"):
        estimator.fit(FRAME[["a"]], y[:3])
    np.testing.assert_array_equal(estimator.predict(FRAME), before)  # nothing was changed
    with pytest.raises(ValueError, match="validation_data"):
        estimator.fit(FRAME[["a"]], y, validation_data=(FRAME, y))
    with pytest.raises(
        NotFittedError
    ):  # not a network of the one with the codes of the other table
        estimator.predict(FRAME[["a"]])


# ---- what is taken -------------------------------------------------------------------------------

N = ROWS // 2
HOURS = pd.date_range("2024-01-01", periods=ROWS, freq="h")
TABLES = {
    "objects of many types": pd.DataFrame({"m": [1, "a", 2.5, None, True, dt.date(2020, 1, 1)] * 10}),
    "dates with time zones": pd.DataFrame({"t": HOURS.tz_localize("Europe/Oslo")}),
    "booleans with gaps": pd.DataFrame({"b": [True, None] * N}),
    "nullable booleans": pd.DataFrame({"b": pd.array([True, None] * N, dtype="boolean")}),
    "nullable numbers": pd.DataFrame({"n": pd.array([7, None] * N, dtype="Int64")}),
    "unused levels": pd.DataFrame({"c": pd.Categorical(["a", "b"] * N, categories=list("dcba"))}),
    "an interval": pd.DataFrame({"i": pd.cut(FRAME["a"], 3)}),
    "numbers as names": FRAME.set_axis([0, 1, 2], axis=1),
    "a constant column": FRAME.assign(same=3.0),
    "only constant columns": pd.DataFrame({"n": [3.0] * ROWS, "c": ["u"] * ROWS}),
    "an empty column": FRAME.assign(none=np.nan),
    "large numbers": FRAME.assign(a=FRAME["a"] * 1e300),
    "equal in float64": pd.DataFrame({"n": [2**62 + i for i in range(ROWS)]}),
    "half precision": np.ones((ROWS, 2), np.float16),
    "polars with nulls": pl.DataFrame({"n": [1.0, None] * N, "k": [None, "x"] * N}),
    "Arrow with nulls": pa.table({"n": [1.0, None] * N, "k": [None, "x"] * N}),
    "Arrow's dictionary": pa.table({"k": pa.array(["x", None] * N).dictionary_encode()}),
    "decimals": pa.table({"n": pa.array([Decimal("1.5"), None] * N)}),
    "times and durations": pl.DataFrame({"t": [dt.time(1), None] * N, "d": [None, dt.timedelta(1)] * N}),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_tables_that_are_taken(name, recipe, monkeypatch):
    monkeypatch.setattr("dlcore.sklearn._recipes.TabM.width", 8)
    X = TABLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = classifier(recipe=recipe).fit(X, LABELS).predict_proba(X)
        predicted = regressor(recipe=recipe).fit(X, VALUES).predict(X)
        one = classifier(recipe=recipe).fit(X, LABELS).predict_proba(X[:1])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert np.isfinite(predicted).all()
    assert one.shape == (1, 2)
    np.testing.assert_allclose(one, p[:1], atol=1e-6)
    if "only constant" in name or name in ("equal in float64", "half precision"):
        assert (np.abs(p - 0.5) < 0.3).all()  # nothing is known, and nothing is sure


@pytest.mark.parametrize(
    "y",
    [
        list(LABELS),
        pd.Series(LABELS, dtype="category"),
        pd.Series(LABELS, dtype="string"),
        LABELS.astype(object),
        pl.Series(LABELS),
        pa.array(LABELS),
        pa.chunked_array([LABELS.tolist()]),
    ],
    ids=lambda y: type(y).__module__ + "." + type(y).__name__,
)
def test_labels_that_are_taken(y, fitted):
    estimator = classifier().fit(FRAME, y)
    assert estimator.predict(FRAME).tolist() == fitted.predict(FRAME).tolist()
    assert estimator.score(FRAME, y) == fitted.score(FRAME, LABELS)


def test_objects_that_are_integers_are_labels():
    labels = (FRAME["a"] > 0).astype(int)
    estimator = classifier().fit(FRAME, labels.astype(object))
    assert estimator.classes_.dtype.kind == "i"
    expected = classifier().fit(FRAME, labels).predict(FRAME)
    np.testing.assert_array_equal(estimator.predict(FRAME), expected)
    right = np.mean(expected == labels)
    for y in (labels, labels.astype(object), labels.astype("Int64"), labels.to_frame()):
        assert estimator.score(FRAME, y) == pytest.approx(right)
        options = {"n_repeats": 2, "random_state": 0}
        found = estimator.permutation_importance(FRAME, y, **options).importances
        plain = estimator.permutation_importance(FRAME, labels, **options).importances
        np.testing.assert_array_equal(found, plain)


def test_booleans_for_labels_and_numbers():
    above = FRAME["a"] > 0
    for y in (above, above.tolist(), above.astype(object), above.astype("boolean")):
        estimator = classifier().fit(FRAME, y)
        assert estimator.classes_.dtype == bool
        assert estimator.predict(FRAME).dtype == bool
        assert np.isfinite(regressor().fit(FRAME, y).predict(FRAME)).all()


def test_an_unseen_category_and_a_level_that_was_unused_are_one():
    levels = pd.CategoricalDtype(list("abcd"))
    frame = pd.DataFrame({"c": pd.Series(["a", "b"] * N, dtype=levels)})
    estimator = classifier().fit(frame, LABELS)
    unused = estimator.predict_proba(pd.DataFrame({"c": pd.Series(["d"], dtype=levels)}))
    np.testing.assert_array_equal(unused, estimator.predict_proba(pd.DataFrame({"c": ["other"]})))


def test_rows_of_other_kinds_are_said_to_be_so(fitted):
    with pytest.warns(UserWarning, match="TabularClassifier was fitted with feature names"):
        found = fitted.predict(FRAME.to_numpy())
    np.testing.assert_array_equal(found, fitted.predict(pl.from_pandas(FRAME)))


def test_tools_of_scikit_learn(fitted):
    same = clone(fitted)
    assert same.get_params() == fitted.get_params()
    assert not hasattr(same, "models_")
    found = GridSearchCV(classifier(), {"members": [1, 2]}, cv=2).fit(FRAME, LABELS)
    assert found.best_params_["members"] in (1, 2)
    tables = [FRAME, pl.from_pandas(FRAME)]
    if not sklearn.__version__.startswith("1.6."):  # which takes no rows of an Arrow table
        tables.append(pa.Table.from_pandas(FRAME))
    for X in tables:
        assert cross_val_score(regressor(), X, VALUES, cv=2).shape == (2,)
    refitted = classifier().fit(FRAME, LABELS).set_params(num_embeddings=None, members=2)
    before = refitted.predict(FRAME)  # of the fit
    np.testing.assert_array_equal(before, fitted.predict(FRAME))
    assert len(refitted.fit(FRAME, LABELS).models_) == 2
    assert len(classifier(members=True).fit(FRAME, LABELS).models_) == 1
