"""Normalizers in files: they transform and go on to the same bits."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlcore as dl
from dlcore._common.tree import write_tree

MAKE = {
    "minmax": lambda: dl.MinMaxNormalizer((-1, 2), clip=True),
    "zscore": lambda: dl.ZScoreNormalizer(),
    "no mean": lambda: dl.ZScoreNormalizer(with_mean=False),
    "no std": lambda: dl.ZScoreNormalizer(with_std=False),
}
# Those of quantiles: no statistics of parts give theirs.
MAKE_WHOLE = {
    "robust": lambda: dl.RobustNormalizer(),
    "not squeezed": lambda: dl.RobustNormalizer(smooth_clip=False),
    "bound": lambda: dl.RobustNormalizer(2.5),
    "quantiles": lambda: dl.QuantileNormalizer(),
    "uniform": lambda: dl.QuantileNormalizer(7, output_distribution="uniform", noise=0, seed=3),
    "bins": lambda: dl.PiecewiseLinearEncoding(5),
}
OPTIONS = {
    "MinMaxNormalizer": {"feature_range": (0, 1), "clip": False},
    "ZScoreNormalizer": {"with_mean": True, "with_std": True},
    "RobustNormalizer": {"smooth_clip": True},
    "QuantileNormalizer": {
        "n_quantiles": None,
        "output_distribution": "normal",
        "noise": 0.0,
        "seed": 0,
    },
    "PiecewiseLinearEncoding": {"n_bins": 3, "tree_kwargs": None, "regression": None},
}


def rows(seed, scale=1.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 3, (40, 4)) * scale
    x[3, 1] = np.nan
    x[:, 2] = 7 * scale
    return x.astype(dtype)


def same(a, b, x):
    for method in ("transform", "inverse_transform"):
        if not hasattr(a, method):
            continue
        assert getattr(a, method)(x).tobytes() == getattr(b, method)(x).tobytes()
    assert a.n_samples_seen_ == b.n_samples_seen_


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e250, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKE)
def test_transforms_and_later_rows(tmp_path, name, dtype, scale):
    scale = scale if dtype == np.float64 else 1.0
    normalizer = MAKE[name]().fit(rows(0, scale, dtype))
    dl.save(normalizer, tmp_path / "a", metadata={"columns": ["a", "b", "c", "d"]})
    loaded = dl.load(tmp_path / "a")
    assert type(loaded) is type(normalizer)
    same(loaded, normalizer, rows(1, scale, dtype))
    for each in (loaded, normalizer):
        each.partial_fit(rows(2, scale, dtype))
    same(loaded, normalizer, rows(1, scale, dtype))
    assert dl.load_metadata(tmp_path / "a") == {"columns": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MAKE_WHOLE)
def test_those_of_quantiles(tmp_path, name, dtype):
    normalizer = MAKE_WHOLE[name]().fit(rows(0, 1.0, dtype))
    dl.save(normalizer, tmp_path / "a", metadata={"own": normalizer})
    loaded = dl.load(tmp_path / "a")
    assert type(loaded) is type(normalizer)
    same(loaded, normalizer, rows(1, 1.0, dtype))
    same(dl.load_metadata(tmp_path / "a")["own"], normalizer, rows(1, 1.0, dtype))
    same(pickle.loads(pickle.dumps(normalizer)), normalizer, rows(1, 1.0, dtype))


def test_bins_of_trees(tmp_path):
    x, tree = rows(0), {"min_samples_leaf": 5}
    encoding = dl.PiecewiseLinearEncoding(4, tree_kwargs=tree, regression=True).fit(x, x[:, 0])
    dl.save(encoding, tmp_path / "a")
    loaded = dl.load(tmp_path / "a")
    same(loaded, encoding, rows(1))
    assert loaded.tree_kwargs == tree


@given(st.integers(0, 99), st.floats(1e-300, 1e300), st.sampled_from(sorted({*MAKE, *MAKE_WHOLE})))
def test_any_scale(tmp_path_factory, seed, scale, name):
    normalizer = (MAKE | MAKE_WHOLE)[name]().fit(rows(seed, scale))
    path = tmp_path_factory.getbasetemp() / "normalizer"
    dl.save(normalizer, path)
    same(dl.load(path), normalizer, rows(seed + 1, scale))


@pytest.mark.parametrize("name", sorted({*MAKE, *MAKE_WHOLE}))
def test_before_a_fit(tmp_path, name):
    make = (MAKE | MAKE_WHOLE)[name]
    dl.save(make(), tmp_path / "a")
    loaded = dl.load(tmp_path / "a")
    assert vars(loaded) == vars(make())
    with pytest.raises(ValueError, match="nothing fitted yet"):
        loaded.transform(rows(0))


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("MinMaxNormalizer", [], "no options and columns"),
        ("MinMaxNormalizer", {"options": {}}, "has the options"),
        (
            "MinMaxNormalizer",
            {"options": {"feature_range": (2, 1), "clip": True}},
            "feature_range must",
        ),
        ("ZScoreNormalizer", {"options": {"with_mean": 2, "with_std": True}}, "with_mean must be"),
        ("ZScoreNormalizer", {"rows": 0, "columns": {}}, "has seen 0 rows"),
        ("ZScoreNormalizer", {"rows": 1, "columns": {}}, "of columns there are count, mean"),
        (
            "MinMaxNormalizer",
            {"rows": 1, "columns": {"min": np.zeros(1), "max": 3}},
            "max of the columns",
        ),
        (
            "MinMaxNormalizer",
            {"rows": 1, "columns": {"min": np.zeros(1), "max": np.zeros(2)}},
            "max is of 2 columns, not of 1",
        ),
        ("RobustNormalizer", {"rows": 1, "columns": {}}, "of columns there are min, q25"),
        ("QuantileNormalizer", {"rows": 1, "columns": {"values": np.zeros(2)}}, "quantiles are"),
        (
            "QuantileNormalizer",
            {"rows": 1, "columns": {"values": np.array([[2.0], [1.0]])}},
            "quantiles are not finite numbers that increase",
        ),
        ("PiecewiseLinearEncoding", {"rows": 1, "columns": {}}, "of bins there are edges"),
        (
            "PiecewiseLinearEncoding",
            {"rows": 1, "columns": {"edges": np.zeros(2), "counts": np.array([3])}},
            "counts of the bins",
        ),
        (
            "PiecewiseLinearEncoding",
            {"rows": 1, "columns": {"edges": np.zeros(2), "counts": np.array([2])}},
            "edges of the bins are not",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, state, message):
    if isinstance(state, dict) and "options" not in state:
        state = {"options": OPTIONS[name], **state}

    class Kind:
        pass

    write_tree(tmp_path / "file", "normalizer", Kind(), describe=lambda _: (name, state))
    with pytest.raises(ValueError, match=f"file: .*{message}"):
        dl.load(tmp_path / "file")
