"""Columns to a normal distribution by their quantiles."""

import math
import statistics
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import QuantileTransformer

import dlcore as dl
from dlcore._common.normal import normal_cdf, normal_quantile

DTYPES = [np.float32, np.float64]


def rows(seed=0, count=3000, dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.lognormal(size=(count, 4))
    x[:, 1] = np.round(x[:, 1])
    x[::7, 2] = np.nan
    x[:, 3] = rng.integers(0, 2, count)
    return x.astype(dtype)


def sklearn_of(x, count, distribution):
    peer = QuantileTransformer(n_quantiles=count, output_distribution=distribution, subsample=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peer.fit(x)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("count", [1, 2, 10, 1000])
def test_is_that_of_scikit_learn(count, distribution):
    x, new = rows(0), np.concatenate([rows(1), rows(0)])
    own = dl.QuantileNormalizer(count, output_distribution=distribution, noise=0).fit(x)
    if count == 1:
        assert (own.transform(new)[:, 0] == (0.5 if distribution == "uniform" else 0)).all()
        return
    peer = sklearn_of(x, count, distribution)
    np.testing.assert_allclose(own.quantiles_, peer.quantiles_, rtol=1e-13)
    np.testing.assert_array_equal(own.references_, peer.references_)
    got, want = own.transform(new), peer.transform(new)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        own.inverse_transform(got), peer.inverse_transform(want), rtol=1e-11, atol=1e-12
    )


def test_the_default_number_of_quantiles():
    counts = {50: 10, 5: 5, 600: 20, 60_000: 1000}
    for count, quantiles in counts.items():
        x = np.arange(count, dtype=np.float64)[:, np.newaxis]
        assert dl.QuantileNormalizer().fit(x).n_quantiles_ == quantiles


def test_noise_gives_what_appears_often_a_range_of_its_own():
    x = rows(0)
    without = dl.QuantileNormalizer(100, noise=0).fit(x).transform(x)
    noisy = dl.QuantileNormalizer(100).fit(x)
    got = noisy.transform(x)
    zeros = x[:, 3] == 0
    assert (without[zeros, 3] < -5).all()  # the minimum is the end
    middle = statistics.NormalDist().inv_cdf(zeros.mean() / 2)
    assert np.abs(got[zeros, 3] - middle).max() < 0.1
    # Of the others it is no more than itself.
    np.testing.assert_allclose(got[:, 0], without[:, 0], atol=0.02)
    # It is drawn from the seed, in standard deviations of the column: the unit does not matter.
    assert dl.QuantileNormalizer(100).fit(x).transform(x).tobytes() == got.tobytes()
    assert dl.QuantileNormalizer(100, seed=1).fit(x).transform(x).tobytes() != got.tobytes()
    charges = x * 2.0**-60
    assert dl.QuantileNormalizer(100).fit(charges).transform(charges).tobytes() == got.tobytes()


def test_noise_is_that_of_the_recipe():
    x = rows(3)[:, :2]
    rng = np.random.default_rng(0)
    noise = np.stack([rng.standard_normal(len(x)) for _ in range(2)], axis=1)
    peer = sklearn_of(x + 1e-3 * x.std(axis=0) * noise, 100, "normal")
    own = dl.QuantileNormalizer(100, noise=1e-3).fit(x)
    np.testing.assert_allclose(own.transform(x), peer.transform(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_layouts_and_in_place(dtype):
    x = rows(2, 300, dtype)
    normalizer = dl.QuantileNormalizer().fit(x)
    want = normalizer.transform(x)
    assert want.dtype == dtype
    wide = normalizer.transform(x.astype(np.float64))
    np.testing.assert_array_equal(want, wide.astype(dtype))  # rounded once
    assert normalizer.transform(np.asfortranarray(x)).tobytes() == want.tobytes()
    out = np.empty_like(x)
    assert normalizer.transform(x, out=out) is out
    assert out.tobytes() == want.tobytes()
    own = x.copy()
    assert normalizer.transform(own, out=own) is own
    assert own.tobytes() == want.tobytes()
    for method in (normalizer.transform, normalizer.inverse_transform):
        with pytest.raises(TypeError, match="out"):
            method(x, out=np.empty(x.shape, np.int64))
        with pytest.raises(ValueError, match="x must have 4 columns"):
            method(x[:, :3])


def test_infinities_and_what_is_constant():
    inf, nan = np.inf, np.nan
    normalizer = dl.QuantileNormalizer().fit(np.array([[1.0, 5, nan], [2, 5, nan], [30, 5, nan]]))
    got = normalizer.transform(np.array([[inf, inf, 2], [-inf, -inf, -inf], [nan, nan, nan]]))
    np.testing.assert_allclose(
        got, [[5.199337, 0, 0], [-5.199337, 0, 0], [nan, nan, nan]], rtol=1e-6
    )
    back = normalizer.inverse_transform(got)
    np.testing.assert_array_equal(back[:, 1:], [[5, 0], [5, 0], [nan, nan]])
    with pytest.raises(ValueError, match=r"QuantileNormalizer\.fit: x must be finite"):
        normalizer.fit(np.array([[inf]]))
    with pytest.raises(ValueError, match="at least one row"):
        normalizer.fit(np.empty((0, 2)))


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e290, 5e307])
def test_the_unit_does_not_matter(unit):
    x = np.array([[0.0], [1.0], [2.0], [3.0], [-3.0]])
    for distribution in ("normal", "uniform"):
        plain, own = (
            dl.QuantileNormalizer(4, output_distribution=distribution).fit(x * s) for s in (1, unit)
        )
        want = plain.transform(x)
        np.testing.assert_allclose(own.transform(x * unit), want, atol=1e-12)
        np.testing.assert_allclose(
            own.inverse_transform(want) / unit, plain.inverse_transform(want), atol=1e-11
        )


@given(arrays(np.float64, (12, 1), elements=st.floats(-1e300, 1e300)), st.integers(1, 20))
def test_keeps_order(x, count):
    y = dl.QuantileNormalizer(count).fit(x).transform(x)
    assert (np.abs(y) < 5.2).all()
    assert (np.diff(y[np.argsort(x[:, 0], kind="stable"), 0]) >= 0).all()


@pytest.mark.parametrize(
    "options",
    [{"n_quantiles": 0}, {"output_distribution": "gamma"}, {"noise": -1.0}, {"seed": -1}],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"QuantileNormalizer: {next(iter(options))}"):
        dl.QuantileNormalizer(**options)


# The normal distribution. Wichura's algorithm stands in Python's statistics, a number at a time.


def test_the_inverse_within_4_ulp():
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(5000), 10.0 ** -np.arange(1, 308), 1 - 2.0 ** -np.arange(1, 54)])
    inverse = statistics.NormalDist().inv_cdf
    want = np.array([inverse(share) for share in p.tolist()])
    assert (np.abs(normal_quantile(p) - want) <= 4 * np.spacing(np.abs(want))).all()


def test_the_inverse_inverts():
    # p changes by density(x) * error of x.
    p = np.concatenate([10.0 ** -np.arange(1.0, 300), np.linspace(0.001, 0.999, 999)])
    x = normal_quantile(p)
    back = normal_cdf(x)
    assert (np.abs(back / p - 1) <= 4 * np.finfo(float).eps * (1 + x * x)).all()
    assert normal_quantile(1 - p[p > 1e-3]) == pytest.approx(-x[p > 1e-3], rel=1e-12)


def test_ends_of_the_inverse():
    got = normal_quantile(np.array([0, 0.5, 1, math.nan, 5e-324]))
    np.testing.assert_array_equal(got[:4], [-math.inf, 0, math.inf, math.nan])
    assert got[4] == pytest.approx(-38.467405617144344, rel=1e-15)
