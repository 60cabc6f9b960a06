"""Bins of columns, and how far a number is in them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import dlcore as dl

DTYPES = [np.float32, np.float64]
TREE = {"min_samples_leaf": 20, "min_impurity_decrease": 1e-4}


def rows(seed=0, count=400, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=(count, 4))
    x[:, 1] = np.round(x[:, 1])
    x[::7, 2] = np.nan
    x[:, 3] = 4
    return x.astype(dtype)


def encoded(value, edges):
    """The definition, a bin at a time: Gorishniy et al. (2022), equation 1."""
    shares = []
    for i, (low, high) in enumerate(pairwise(edges)):
        share = (value - low) / (high - low)
        if i > 0:
            share = max(share, 0.0)
        if i < len(edges) - 2:
            share = min(share, 1.0)
        shares.append(share)
    return shares


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_bins", [2, 3, 48])
def test_is_the_definition(n_bins, dtype):
    encoding = dl.PiecewiseLinearEncoding(n_bins).fit(rows(0, dtype=dtype))
    x = np.concatenate([rows(1, 300, dtype), np.array([[-9, 90, -9, 90]], dtype)])
    got = encoding.transform(x)
    assert got.dtype == dtype
    assert got.shape == (301, encoding.n_features_out_)
    assert encoding.n_features_out_ == sum(len(own) - 1 for own in encoding.bins_)
    known = ~np.isnan(x).any(axis=1)
    want = [
        [s for v, own in zip(row, encoding.bins_, strict=True) for s in encoded(v, own)]
        for row in x[known].astype(np.float64).tolist()
    ]
    np.testing.assert_allclose(got[known], want, rtol=2 * np.finfo(dtype).eps)
    missing = np.isnan(got[~known])
    of_column = np.repeat(np.arange(4), [len(own) - 1 for own in encoding.bins_])
    assert (missing == (of_column == 2)).all()


def test_bins_are_quantiles_that_differ():
    x = rows(0)
    bins = dl.compute_bins(x, 10)
    for column, edges in zip(x.T, bins, strict=True):
        values = column[~np.isnan(column)]
        want = np.unique(np.quantile(values, np.linspace(0, 1, 11)))
        np.testing.assert_array_equal(edges, want)
    assert bins[3].tolist() == [4]
    assert dl.compute_bins(np.full((3, 1), np.nan))[0].tolist() == [0]


@pytest.mark.parametrize("regression", [True, False])
def test_bins_are_leaves_of_trees(regression):
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    x = rows(0)
    step = np.nan_to_num(x[:, 0]) > 1.5
    y = step + 0.1 * x[:, 1] if regression else step.astype(int)
    bins = dl.compute_bins(x, 8, tree_kwargs=TREE, y=y, regression=regression)
    kind = DecisionTreeRegressor if regression else DecisionTreeClassifier
    known = ~np.isnan(x[:, 2])
    tree = kind(max_leaf_nodes=8, **TREE).fit(x[known, 2:3], y[known]).tree_
    inner = tree.threshold[tree.children_left >= 0]
    ends = [np.nanmin(x[:, 2]), np.nanmax(x[:, 2])]
    np.testing.assert_array_equal(bins[2], np.unique([*ends, *inner]))
    assert np.abs(bins[0] - 1.5).min() < 0.05  # where the target changes
    assert bins[3].tolist() == [4]
    own = dl.PiecewiseLinearEncoding(8, tree_kwargs=TREE, regression=regression).fit(x, y)
    for a, b in zip(own.bins_, bins, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_and_layouts(dtype):
    x = rows(2, 300, dtype)
    encoding = dl.PiecewiseLinearEncoding(5).fit(x)
    want = encoding.transform(x)
    assert encoding.transform(np.asfortranarray(x)).tobytes() == want.tobytes()
    out = np.empty_like(want)
    assert encoding.transform(x, out=out) is out
    assert out.tobytes() == want.tobytes()
    with pytest.raises(ValueError, match="out"):
        encoding.transform(x, out=np.empty((300, 2), dtype))
    with pytest.raises(TypeError, match="out"):
        encoding.transform(x, out=np.empty(want.shape, np.int64))
    with pytest.raises(ValueError, match="x must have 4 columns"):
        encoding.transform(x[:, :2])
    assert encoding.transform(x[:0]).shape == (0, want.shape[1])


def test_infinities_and_a_column_of_one_value():
    encoding = dl.PiecewiseLinearEncoding(2).fit(np.array([[1.0, 5], [2, 5], [3, 5]]))
    x = np.array([[np.inf, 1], [-np.inf, 2], [np.nan, 3]])
    want = [[1, np.inf], [-np.inf, 0], [np.nan, np.nan]]
    np.testing.assert_array_equal(encoding.transform(x), want)
    alone = dl.PiecewiseLinearEncoding().fit(np.ones((3, 1)))
    assert alone.transform(np.zeros((7, 1))).shape == (7, 0)
    with pytest.raises(ValueError, match=r"PiecewiseLinearEncoding\.fit: x must be finite"):
        encoding.fit(np.array([[np.inf]]))


@given(arrays(np.float64, (9, 1), elements=st.floats(-1e308, 1e308)), st.integers(2, 9))
def test_shares_are_passed_in_order(x, n_bins):
    y = dl.PiecewiseLinearEncoding(n_bins).fit(x).transform(x)
    assert ((y >= 0) & (y <= 1)).all()
    if y.shape[1]:
        # A bin begins where the one before is passed; the sum is how many are passed.
        assert ((y[:, 1:] == 0) | (y[:, :-1] == 1)).all()
        assert (np.diff(y.sum(axis=1)[np.argsort(x[:, 0], kind="stable")]) >= -1e-12).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bins": 1}, "n_bins must be an integer and at least 2"),
        ({"tree_kwargs": {}}, "go together"),
        ({"regression": True}, "go together"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=f"PiecewiseLinearEncoding: .*{message}"):
        dl.PiecewiseLinearEncoding(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": np.zeros(400)}, "tree_kwargs is None"),
        ({"tree_kwargs": {}, "y": np.zeros(400)}, "y and regression must be given"),
        ({"tree_kwargs": {}, "y": np.zeros(3), "regression": True}, r"shape \(400,\), got \(3,\)"),
        (
            {"tree_kwargs": {"max_leaf_nodes": 3}, "y": np.zeros(400), "regression": True},
            "max_leaf_nodes",
        ),
    ],
)
def test_wrong_targets(options, message):
    with pytest.raises(ValueError, match=f"compute_bins: .*{message}"):
        dl.compute_bins(rows(0), **options)
