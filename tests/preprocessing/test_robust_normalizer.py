"""Columns by their quartiles, and outliers squeezed smoothly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import dlcore as dl

DTYPES = [np.float32, np.float64]


def recipe(train, x, bound=3.0):
    """RealMLP's, in its own order and in float64: center, scale, squeeze."""
    train, x = train.astype(np.float64), x.astype(np.float64)
    low, median, high = np.nanquantile(train, [0.25, 0.5, 0.75], axis=0)
    span = high - low
    span = np.where(span == 0, 0.5 * (np.nanmax(train, 0) - np.nanmin(train, 0)), span)
    z = (x - median) * np.where(span == 0, 0, 1 / np.where(span == 0, 1, span))
    return z / np.sqrt(1 + (z / bound) ** 2) if bound else z


def rows(seed=0, count=200, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.standard_t(2, (count, 5)) * [1, 1e-3, 1e4, 1, 1] + [0, 1, -3e4, 0, 0]
    x[:, 3] = rng.random(count) < 0.1  # quartiles are the same
    x[:, 4] = 7
    x[::5, 0] = np.nan
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [True, False, 1.0, 10])
def test_is_the_recipe(clip, dtype):
    train, x = rows(0, dtype=dtype), rows(1, 1000, dtype)
    normalizer = dl.RobustNormalizer(smooth_clip=clip).fit(train)
    want = recipe(train, x, 3.0 if clip is True else clip)
    tolerance = 4 * np.finfo(dtype).eps
    got = normalizer.transform(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    want = np.nanmedian(train.astype(np.float64), 0)
    np.testing.assert_allclose(normalizer.median_, want, rtol=1e-15)
    assert normalizer.scale_[4] == 0
    assert normalizer.scale_[3] == 2  # 2 / (max - min)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_layouts_and_in_place(dtype):
    x = rows(2, dtype=dtype)
    normalizer = dl.RobustNormalizer().fit(x)
    want = normalizer.transform(x)
    assert normalizer.transform(np.asfortranarray(x)).tobytes() == want.tobytes()
    assert normalizer.transform(np.repeat(x, 2, 0)[::2]).tobytes() == want.tobytes()
    out = np.empty_like(x)
    assert normalizer.transform(x, out=out) is out
    assert out.tobytes() == want.tobytes()
    own = x.copy()
    assert normalizer.transform(own, out=own) is own
    assert own.tobytes() == want.tobytes()
    with pytest.raises(ValueError, match="out"):
        normalizer.transform(x, out=np.empty((3, 3), dtype))
    assert normalizer.transform(x[:0]).shape == (0, 5)


def test_infinities_and_what_is_constant():
    train = np.array([[1.0, 5, np.nan], [2, 5, np.nan], [30, 5, np.nan]])
    normalizer = dl.RobustNormalizer().fit(train)
    inf, nan = np.inf, np.nan
    got = normalizer.transform(np.array([[inf, inf, 2], [-inf, -inf, -inf], [nan, nan, nan]]))
    np.testing.assert_array_equal(got, [[3, 0, 0], [-3, 0, 0], [nan, nan, nan]])
    assert not np.signbit(got[:, 1:][:2]).any()
    back = normalizer.inverse_transform(np.array([[3, 1, 1], [-4, 0, nan]]))
    np.testing.assert_array_equal(back, [[inf, 5, 0], [-inf, 5, nan]])
    with pytest.raises(ValueError, match=r"RobustNormalizer\.fit: x .*column 1 \(first in row 0\)"):
        normalizer.fit(np.array([[1.0, inf]]))


@pytest.mark.parametrize("unit", [1e-290, 5e-324, 1e-9, 1e9, 5e307])
def test_the_unit_does_not_matter(unit):
    x = np.array([[0.0], [1.0], [2.0], [3.0], [-3.0]])
    want = dl.RobustNormalizer().fit(x).transform(x)
    charges = dl.RobustNormalizer().fit(x * unit)
    np.testing.assert_allclose(charges.transform(x * unit), want, rtol=1e-14)
    np.testing.assert_allclose(
        charges.inverse_transform(want), x * unit, rtol=1e-13, atol=unit * 1e-13
    )


def test_a_factor_beyond_float64_squeezes_to_the_bound():
    x = np.array([[0.0], [1e-310], [2e-310], [3e-310], [1.0]])
    got = dl.RobustNormalizer().fit(x).transform(x)
    assert np.isfinite(got).all()
    assert got[-1] == 3
    assert (np.diff(got, axis=0) > 0).all()


@given(
    arrays(np.float64, (7, 2), elements=st.floats(-1e300, 1e300)),
    st.floats(0.01, 100),
)
def test_keeps_order_within_the_bound(x, bound):
    got = dl.RobustNormalizer(smooth_clip=bound).fit(x).transform(x)
    assert (np.abs(got) <= bound).all()
    for column, own in zip(got.T, x.T, strict=True):
        assert (np.diff(column[np.argsort(own, kind="stable")]) >= 0).all()


@given(arrays(np.float64, (9, 1), elements=st.floats(-100, 100, width=16), unique=True))
def test_goes_there_and_back(x):
    normalizer = dl.RobustNormalizer().fit(x)
    # Near the bound digits are lost: the slope is (1 - (y / bound)**2)**1.5.
    y = normalizer.transform(x)
    lost = (1 - (y / 3) ** 2) ** -1.5 / normalizer.scale_
    assert (np.abs(normalizer.inverse_transform(y) - x) <= 1e-14 * lost + 1e-13 * np.abs(x)).all()


@pytest.mark.parametrize("clip", [0.0, -1, np.nan, np.inf, "yes", None])
def test_wrong_bound(clip):
    with pytest.raises(ValueError, match="RobustNormalizer: smooth_clip must be positive"):
        dl.RobustNormalizer(clip)
