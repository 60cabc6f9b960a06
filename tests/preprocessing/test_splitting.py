"""`train_val_test_split`: no row lost or doubled, classes and groups kept, sizes met."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore.preprocessing._splitting import Split, train_val_test_split

pytest.importorskip("sklearn")


def numbered(n, classes=3, seed=0):
    """Rows that tell their numbers, and their classes."""
    x = np.arange(2.0 * n).reshape(n, 2)
    return x, np.random.default_rng(seed).integers(0, classes, n)


def numbers(part):
    return (part[:, 0] / 2).astype(int)


def check(split, x, y):
    """Every row is in exactly one part, beside its own y."""
    rows = [numbers(part) for part in split[:3]]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(x)))
    for own_x, own_y in zip(split[:3], split[3:], strict=True):
        np.testing.assert_array_equal(own_x, x[numbers(own_x)])
        np.testing.assert_array_equal(own_y, y[numbers(own_x)])
        assert own_x.dtype == x.dtype
        assert own_y.dtype == y.dtype
    return rows


@settings(max_examples=60, deadline=None)
@given(
    st.integers(3, 200),
    st.sampled_from(
        [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.2, 0), (0.8, 0, 0.2), (1, 0, 0.0)]
    ),
    st.integers(0, 1000),
)
def test_shares_of_the_rows(n, sizes, seed):
    x, y = numbered(n)
    train, val, test = check(train_val_test_split(x, y, sizes, seed=seed), x, y)
    for rows, size in ((val, sizes[1]), (test, sizes[2])):
        assert len(rows) == (max(1, round(size * n)) if size else 0)
    assert len(train) == n - len(val) - len(test)


def test_names_and_order():
    x, y = numbered(10)
    split = train_val_test_split(x, y, (5, 3, 2))
    assert isinstance(split, Split)
    x_train, x_val, x_test, y_train, y_val, y_test = split
    assert [len(part) for part in split] == [5, 3, 2, 5, 3, 2]
    assert (x_train, x_val, x_test) == (split.x_train, split.x_val, split.x_test)
    assert (y_train, y_val, y_test) == (split.y_train, split.y_val, split.y_test)
    check(split, x, y)


def test_the_seed_draws_the_parts():
    x, y = numbered(50)
    groups = np.arange(50) // 2
    for options in (
        {},
        {"groups": groups},
        {"groups": groups, "stratify": True},
        {"sizes": (50, 0, 0)},
    ):
        a, b, c = (train_val_test_split(x, y, seed=seed, **options) for seed in (1, 1, 2))
        assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
        assert not np.array_equal(a.x_train, c.x_train)


def test_the_rows_are_shuffled():
    x, y = numbered(100)
    for sizes in ((60, 20, 20), (100, 0, 0)):
        train = numbers(train_val_test_split(x, y, sizes).x_train)
        assert (np.diff(train) < 0).any()


@pytest.mark.parametrize("y_is_it", [True, False])
def test_stratified_parts_have_the_classes_of_the_whole(y_is_it):
    classes = np.repeat([0, 1, 2], [100, 60, 40])
    x, _ = numbered(200)
    y = classes if y_is_it else np.zeros(200)
    stratify = True if y_is_it else classes
    split = train_val_test_split(x, y, (0.6, 0.2, 0.2), stratify=stratify, seed=3)
    for rows, expected in zip(
        check(split, x, y), [(60, 36, 24), (20, 12, 8), (20, 12, 8)], strict=True
    ):
        np.testing.assert_array_equal(np.bincount(classes[rows]), expected)


def test_without_stratify_the_classes_are_not_kept():
    x, _ = numbered(200)
    y = np.repeat([0, 1], 100)
    counts = [np.bincount(train_val_test_split(x, y, seed=s).y_test)[0] for s in range(10)]
    assert len(set(counts)) > 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_no_group_comes_into_two_parts(seed, stratified):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 600)
    x, y = numbered(600, 2, seed)
    options = {"stratify": True} if stratified else {}
    split = train_val_test_split(x, y, (0.6, 0.2, 0.2), groups=groups, seed=seed, **options)
    rows = check(split, x, y)
    parts = [set(groups[part]) for part in rows]
    assert sum(map(len, parts)) == len(np.unique(groups))
    assert [len(part) / 600 for part in rows] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    if stratified:
        for part in rows:
            assert y[part].mean() == pytest.approx(y.mean(), abs=0.06)


def test_groups_of_unequal_sizes_come_near_to_the_sizes():
    # One group has a third of the rows: it can only be trained on.
    groups = np.concatenate([np.zeros(50, int), np.repeat(np.arange(1, 21), 5)])
    x, y = numbered(150)
    for seed in range(5):
        split = train_val_test_split(x, y, (100, 25, 25), groups=groups, seed=seed)
        assert [len(part) for part in split[:3]] == [100, 25, 25]


def test_groups_may_be_names():
    x, y = numbered(9)
    groups = np.repeat(["anna", "ben", "eva"], 3)
    split = train_val_test_split(x, y, (3, 3, 3), groups=groups)
    assert [len(set(groups[numbers(part)])) for part in split[:3]] == [1, 1, 1]
    check(split, x, y)


@pytest.mark.parametrize("options", [{}, {"stratify": True}, {"groups": np.arange(40) // 2}])
@pytest.mark.parametrize("sizes", [(0.8, 0.2, 0), (0.8, 0, 0.2), (1.0, 0.0, 0.0)])
def test_parts_of_no_rows_are_empty_arrays(options, sizes):
    x, y = numbered(40)
    split = train_val_test_split(x, y, sizes, **options)
    check(split, x, y)
    for part, size in zip(split[:3], sizes, strict=True):
        assert part.shape[1:] == (2,)
        assert (len(part) == 0) == (size == 0)


def test_the_parts_are_copies():
    x, y = numbered(10)
    split = train_val_test_split(x, y)
    for part in split:
        assert not np.shares_memory(part, x)
        assert not np.shares_memory(part, y)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.zeros(9)}, ValueError, "x has 10 rows, y 9"),
        ({"x": [[1.0]] * 10}, TypeError, "train_val_test_split: x must be an array"),
        ({"y": np.float64(1.0)}, ValueError, "y must have rows"),
        ({"sizes": (0.7, 0.3)}, ValueError, "sizes must be three numbers"),
        ({"sizes": (0.9, 0.2, -0.1)}, ValueError, "sizes must be three numbers of at least 0"),
        ({"sizes": (0.7, 0.2, 0.2)}, ValueError, "sizes must add up to 1"),
        ({"sizes": (6, 2, 3)}, ValueError, "add up to 11 rows, x has 10"),
        ({"sizes": (0, 5, 5)}, ValueError, "leave none of 10 rows to train on"),
        ({"sizes": (0.02, 0.49, 0.49)}, ValueError, "leave none of 10 rows to train on"),
        ({"stratify": np.zeros(9)}, ValueError, r"stratify must have shape \(10,\)"),
        ({"y": np.zeros((10, 2)), "stratify": True}, ValueError, r"stratify=True, must have shape"),
        ({"y": np.arange(10), "stratify": True}, ValueError, "cannot be stratified"),
        ({"groups": np.zeros((10, 2))}, ValueError, r"groups must have shape \(10,\)"),
        ({"groups": np.arange(10) % 2}, ValueError, "at least 3 groups, there are 2"),
        (
            {"groups": np.arange(10) // 3, "stratify": True},
            ValueError,
            "at least 5 groups, there are 4",
        ),
        ({"groups": np.arange(10), "stratify": True}, ValueError, "class 0 has only 4 rows"),
    ],
)
def test_wrong_arguments(changes, error, message):
    given = {"x": numbered(10)[0], "y": np.repeat([0, 1], [4, 6])} | changes
    with pytest.raises(error, match=message):
        train_val_test_split(**given)


def test_without_scikit_learn_the_error_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    with pytest.raises(ImportError, match=r"pip install 'dlcore-kernels\[sklearn\]'"):
        train_val_test_split(*numbered(10))


def frames():
    """A frame and a series of each library that is there."""
    for name, frame, series in (
        ("pandas", "DataFrame", "Series"),
        ("polars", "DataFrame", "Series"),
        ("pyarrow", "table", "array"),
    ):
        try:
            module = __import__(name)
        except ImportError:
            continue
        yield getattr(module, frame), getattr(module, series)


def test_frames_with_text_are_split_as_frames():
    columns = {"number": np.arange(20), "text": list("abcdefghijklmnopqrst")}
    labels = np.array(["no", "yes"])[np.arange(20) % 2]
    expected = dl.train_val_test_split(columns["number"], labels, stratify=True, seed=3)
    for frame, series in frames():
        x, y = frame(columns), series(labels)
        parts = dl.train_val_test_split(x, y, stratify=True, seed=3)
        for part, numbers, own in zip(parts[:3], expected[:3], parts[3:], strict=True):
            assert type(part) is type(x)
            assert type(own) is type(y)
            np.testing.assert_array_equal(np.asarray(part["number"]), numbers)
            text = [columns["text"][i] for i in numbers]
            assert np.asarray(part["text"]).tolist() == text
            assert np.asarray(own).tolist() == labels[numbers].tolist()
        by_group = dl.train_val_test_split(x, y, groups=series(np.arange(20) // 2), seed=3)
        assert sum(len(part) for part in by_group[:3]) == 20


def test_sparse_rows_are_split():
    sparse = pytest.importorskip("scipy.sparse")
    x, y = np.eye(20), np.arange(20)
    parts = dl.train_val_test_split(sparse.csc_array(x), y, seed=1)
    for part, own in zip(parts[:3], parts[3:], strict=True):
        np.testing.assert_array_equal(part.toarray(), x[own])
