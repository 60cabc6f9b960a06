"""`TableEncoder`: the same codes whatever library the table is of, and what tables may hold."""

import builtins
import datetime as dt
import pickle
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", "1.6")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

from sklearn.base import clone

import dlcore as dl
from dlcore.sklearn import TableEncoder
from support.sklearn_suite import lenient, parametrize_with_checks

UTC = dt.UTC
COLUMNS = {
    "whole": [3, None, -1, 7],
    "real": [0.5, float("nan"), None, 1e30],
    "text": ["b", None, "a", "b"],
    "flag": [True, None, False, True],
    "when": [dt.datetime(2020, 2, 29, 12), None, dt.datetime(1969, 7, 20, 20, 17), None],
    "day": [dt.date(2024, 12, 31), dt.date(2024, 1, 1), None, dt.date(1900, 1, 1)],
    "took": [dt.timedelta(hours=1), None, dt.timedelta(days=2), dt.timedelta(0)],
    "clock": [dt.time(1, 2, 3), None, dt.time(0), dt.time(23, 59)],
    "price": [Decimal("1.25"), None, Decimal(-3), Decimal(0)],
    "nothing": [None, None, None, None],
}


def frames(columns):
    """Return the same table in each library."""
    objects = np.array([list(row) for row in zip(*columns.values(), strict=True)], dtype=object)
    return {
        "pandas": pd.DataFrame(columns),
        "pandas of objects": pd.DataFrame(
            {n: pd.Series(v, dtype=object) for n, v in columns.items()}
        ),
        "pandas of Arrow": pd.DataFrame(
            {n: pd.Series(v, dtype=pd.ArrowDtype(pa.array(v).type)) for n, v in columns.items()}
        ),
        "polars": pl.DataFrame(columns, strict=False),
        "polars, categorical": pl.DataFrame(columns, strict=False).with_columns(
            pl.col(pl.String).cast(pl.Categorical)
        ),
        "arrow": pa.table(columns),
        "arrow, dictionaries": pa.table(
            {
                n: pa.array(v).dictionary_encode() if isinstance(v[0], str) else pa.array(v)
                for n, v in columns.items()
            }
        ),
        "array": objects,
    }


class Stream:
    """What has an Arrow stream and nothing else."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


@parametrize_with_checks([TableEncoder(max_categories=2)])
@lenient
def test_estimator_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_table_has_one_encoding(dtype):
    tables = frames(COLUMNS)
    tables["stream"] = Stream(tables["arrow"])
    encoder = TableEncoder(dtype=dtype).fit(tables["polars"])
    expected = encoder.transform(tables["polars"])
    assert expected.dtype == dtype
    for library, table in tables.items():
        own = TableEncoder(dtype=dtype).fit(table)
        assert own.kinds_ == encoder.kinds_, library
        assert own.categories_ == encoder.categories_, library
        assert own.transform(table).tobytes() == expected.tobytes(), library
        assert own.fit_transform(table).tobytes() == expected.tobytes(), library
        if library != "array":  # which has no names
            assert encoder.transform(table).tobytes() == expected.tobytes(), library


def test_what_columns_become():
    encoder = TableEncoder(dtype="float64")
    encoded = encoder.fit_transform(pl.DataFrame(COLUMNS, strict=False))
    names = encoder.get_feature_names_out().tolist()
    assert names[-2:] == ["text", "flag"]
    assert encoder.n_numbers_ == len(names) - 2
    of = dict(zip(names, encoded.T, strict=True))
    nan = np.nan
    np.testing.assert_array_equal(of["whole"], [3, nan, -1, 7])
    np.testing.assert_array_equal(of["real"], [0.5, nan, nan, 1e30])
    np.testing.assert_array_equal(of["text"], [2, 3, 1, 2])
    np.testing.assert_array_equal(of["flag"], [2, 3, 1, 2])
    np.testing.assert_array_equal(of["when_days"][[0, 1]], [18321.5, nan])
    np.testing.assert_array_equal(of["when_hour"], [12, nan, 20 + 17 / 60, nan])
    np.testing.assert_array_equal(of["when_weekday"], [5, nan, 6, nan])
    np.testing.assert_array_equal(of["day_day_of_year"], [365, 0, nan, 0])
    np.testing.assert_array_equal(of["took"], [3600, nan, 172800, 0])
    np.testing.assert_array_equal(of["clock"], [3723, nan, 0, 86340])
    np.testing.assert_array_equal(of["price"], [1.25, nan, -3, 0])
    assert "day_hour" not in of  # the same for all
    assert not [name for name in names if name.startswith("nothing")]
    assert encoder.kinds_[-1] == "empty"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(max_size=3)), st.one_of(st.none(), st.floats(-9, 9))
        ),
        min_size=1,
        max_size=12,
    )
)
def test_texts_and_numbers_of_any_table(rows):
    texts, numbers = map(list, zip(*rows, strict=True))
    columns = {"t": texts, "x": numbers}
    tables = {
        "pandas": pd.DataFrame(
            {"t": pd.Series(texts, dtype=object), "x": pd.Series(numbers, dtype=float)}
        ),
        "polars": pl.DataFrame(columns, schema={"t": pl.String, "x": pl.Float64}),
        "arrow": pa.table(columns, schema=pa.schema({"t": pa.string(), "x": pa.float64()})),
    }
    results = {
        library: TableEncoder(dtype="float64").fit_transform(table)
        for library, table in tables.items()
    }
    there = sorted({text for text in texts if text is not None})
    codes = [len(there) + 1 if text is None else there.index(text) + 1 for text in texts]
    expected = [column for column in (numbers, codes) if any(v is not None for v in column)]
    if not there:
        expected = expected[:-1]
    expected = np.array([[np.nan if v is None else v for v in own] for own in expected])
    for library, result in results.items():
        np.testing.assert_array_equal(result, expected.reshape(-1, len(rows)).T, library)


def test_unknown_and_missing_categories():
    encoder = TableEncoder().fit(pd.DataFrame({"a": ["x", "y", None], "b": ["u", "v", "v"]}))
    assert encoder.categories_ == [["x", "y", None], ["u", "v"]]
    assert encoder.cardinalities_ == [4, 3]
    unseen = pd.DataFrame({"a": ["z", None, "y"], "b": [None, "w", "v"]})
    assert encoder.transform(unseen).tolist() == [[0, 0], [3, 0], [2, 2]]
    nothing = pd.DataFrame({"a": [None, None], "b": [None, None]})
    assert encoder.transform(nothing).tolist() == [[3, 0], [3, 0]]


def test_a_category_is_its_text():
    whole = pd.DataFrame({"c": pd.Categorical([1, 2, 1])})
    encoder = TableEncoder().fit(whole)
    assert encoder.categories_ == [["1", "2"]]
    for same in ([1, 2, 1], [1.0, 2.0, 1.0], ["1", "2", "1"], np.array([1, 2, 1], np.uint8)):
        assert encoder.transform(pd.DataFrame({"c": same})).tolist() == [[1], [2], [1]]
    mixed = np.array([[1, "a"], [True, b"a"], [1.5, "1"]], dtype=object)
    assert TableEncoder().fit(mixed).kinds_ == ["number", "category"]


def test_numbers_may_be_categories():
    x = np.array([[5, 1.0], [3, 2.0], [5, np.nan]])
    for chosen in ([0], [True, False], [-2]):
        encoder = TableEncoder(categorical_features=chosen).fit(x)
        np.testing.assert_array_equal(encoder.transform(x), [[1, 2], [2, 1], [np.nan, 2]])
    frame = pd.DataFrame(x, columns=["kind", "size"])
    encoder = TableEncoder(categorical_features=["kind", "size"]).fit(frame)
    assert encoder.categories_ == [["3", "5"], ["1", "2", None]]
    for wrong in ([2], ["other"], [True], ["kind", 1.5]):
        with pytest.raises(ValueError, match="categorical_features"):
            TableEncoder(categorical_features=wrong).fit(frame)


def test_rare_categories_share_a_code():
    column = ["a"] * 2 + ["b"] * 3 + ["c"] + ["d"] * 2
    encoder = TableEncoder(max_categories=2).fit(pl.DataFrame({"t": column}))
    assert encoder.categories_ == [["a", "b"]]  # a and d are as frequent
    assert encoder.transform(pl.DataFrame({"t": ["a", "b", "c", "d"]})).ravel().tolist() == [
        1,
        2,
        0,
        0,
    ]


def test_what_a_column_holds_is_decided_in_fit():
    frame = pd.DataFrame({"n": [1.0, 2], "t": ["a", "b"], "d": pd.to_datetime(["2020", "2021"])})
    encoder = TableEncoder().fit(frame)
    texts = pd.DataFrame({"n": ["3", "4.5"], "t": ["a", "b"], "d": [None, None]})
    assert encoder.transform(texts)[:, 0].tolist() == [3, 4.5]
    flags = frame.assign(n=[True, False])
    assert encoder.transform(flags)[:, 0].tolist() == [1, 0]
    for name, values, words in (
        ("n", ["many", "few"], "held numbers in fit, and holds 'many' now"),
        ("n", frame["d"], "held numbers in fit, and holds dates now"),
        ("d", [1, 2], "held dates in fit, and holds numbers now"),
        ("t", frame["d"], "held categories in fit, and holds dates now"),
    ):
        with pytest.raises(ValueError, match=words):
            encoder.transform(frame.assign(**{name: values}))
    with pytest.raises(ValueError, match="feature names"):
        encoder.transform(frame[["t", "n", "d"]])
    with pytest.raises(ValueError, match="feature names"):
        encoder.transform(pl.from_pandas(frame).rename({"n": "m"}))
    with pytest.raises(ValueError, match="2 features, but TableEncoder is expecting 3"):
        TableEncoder().fit(frame.to_numpy()).transform(frame.to_numpy()[:, :2])


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (pd.DataFrame({"a": [1.0, np.inf]}), ValueError, "infinity: inf in column 'a', row 1"),
        (np.array([[1.0, -np.inf]]), ValueError, "infinity: -inf in column 'x1', row 0"),
        (pd.DataFrame({"a": [[1], [2]]}), TypeError, "column 'a'.* not a list"),
        (pa.table({"s": [{"a": 1}]}), TypeError, "column 's'.* not a dict"),
        (pd.DataFrame({"z": [1j, 2j]}), ValueError, "column 'z'.*[Cc]omplex"),
        (np.array([[1e300]]), ValueError, "too large for dtype.'float32'"),
        (np.ma.masked_array([[1.0]], [[True]]), TypeError, "mask"),
        ("text", TypeError, "frame or an array"),
        (pd.DataFrame({"a": []}), ValueError, "0 sample"),
        (pl.DataFrame(), ValueError, "0 sample"),
        (np.ones(3), ValueError, "Expected 2D array"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_refused(table, error, words):
    with pytest.raises(error, match=words):
        TableEncoder().fit_transform(table)


def test_large_numbers_keep_their_digits_in_float64():
    x = np.array([[2**53 - 1], [2**53 - 3]])
    assert TableEncoder(dtype="float64").fit_transform(x).ravel().tolist() == x.ravel().tolist()


def test_saved_encoders_have_the_same_codes(tmp_path):
    frame = frames(COLUMNS)["arrow"]
    encoder = TableEncoder(max_categories=5).fit(frame)
    expected = encoder.transform(frame).tobytes()
    dl.save(encoder, tmp_path / "encoder.safetensors")
    for same in (dl.load(tmp_path / "encoder.safetensors"), pickle.loads(pickle.dumps(encoder))):
        assert same.transform(frame).tobytes() == expected
        assert same.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
        assert clone(same).get_params() == encoder.get_params()


def test_no_library_is_imported_for_arrays(monkeypatch):
    imports = builtins.__import__

    def without_libraries(name, *args, **kwargs):
        assert name.partition(".")[0] not in ("pandas", "polars", "pyarrow")
        return imports(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_libraries)
    TableEncoder().fit_transform(np.array([[1, "a"], [2, None]], object))
