"""Normalizers in files: they transform and go on to the same bits."""

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


def rows(seed, scale=1.0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 3, (40, 4)) * scale
    x[3, 1] = np.nan
    x[:, 2] = 7 * scale
    return x.astype(dtype)


def same(a, b, x):
    for method in ("transform", "inverse_transform"):
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


@given(st.integers(0, 99), st.floats(1e-300, 1e300), st.sampled_from(sorted(MAKE)))
def test_any_scale(tmp_path_factory, seed, scale, name):
    normalizer = MAKE[name]().fit(rows(seed, scale))
    path = tmp_path_factory.getbasetemp() / "normalizer"
    dl.save(normalizer, path)
    same(dl.load(path), normalizer, rows(seed + 1, scale))


@pytest.mark.parametrize("name", MAKE)
def test_before_a_fit(tmp_path, name):
    dl.save(MAKE[name](), tmp_path / "a")
    loaded = dl.load(tmp_path / "a")
    assert vars(loaded) == vars(MAKE[name]())
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
        ("ZScoreNormalizer", {"options": {"with_mean": 2, "with_std": True}}, "has the options"),
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
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, state, message):
    if isinstance(state, dict) and "options" not in state:
        own = {"feature_range": (0, 1), "clip": False}
        own = own if name == "MinMaxNormalizer" else {"with_mean": True, "with_std": True}
        state = {"options": own, **state}

    class Kind:
        pass

    write_tree(tmp_path / "file", "normalizer", Kind(), describe=lambda _: (name, state))
    with pytest.raises(ValueError, match=f"file: .*{message}"):
        dl.load(tmp_path / "file")
