"""Squares and differences over the whole range of the dtype: statistics, scalers, normalizations.

The plain way over- or underflows where the right result is an ordinary number.
"""

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference
from support.layouts import LAYOUTS

F32, F64 = np.float32, np.float64
INF, NAN = np.inf, np.nan
LARGEST = float(np.finfo(F64).max)
UNIT = np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.5)  # 1, 2, 3 with mean 0 and deviation 1
SCALES = [
    1e-320,
    2.3e-308,
    1e-300,
    1e-200,
    1e-170,
    1e-154,
    1e-30,
    1.0,
    1e30,
    1e154,
    1e170,
    1e300,
    5e307,
]
NORMALIZERS = pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])


def column(*values, dtype=F64):
    return np.array(values, dtype)[:, np.newaxis]


# ---- column statistics


@pytest.mark.parametrize("scale", SCALES)
def test_the_deviation_of_any_scale(scale, isa):
    x = column(1.0, 2.0, 3.0) * scale
    stats, expected = dl.column_stats(x), reference.column_stats(x)
    np.testing.assert_allclose(stats.mean, expected.mean, rtol=1e-15)
    np.testing.assert_allclose(stats.std, expected.std, rtol=1e-15)
    if 1e-150 < scale < 1e150:
        np.testing.assert_allclose(stats.var, expected.var, rtol=1e-15)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_merged_parts_of_any_scale_are_the_whole(parts, isa):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (60, len(SCALES))) * [min(s, 1e306) for s in SCALES]
    x[rng.random(x.shape) < 0.1] = NAN
    whole = dl.column_stats(x)
    first, *rest = map(dl.column_stats, np.array_split(x, parts))
    for part in rest:
        first = first.merge(part)
    np.testing.assert_array_equal(first.count, whole.count)
    np.testing.assert_allclose(first.mean, whole.mean, rtol=1e-13)
    assert (first.std > 0).all()
    assert np.isfinite(first.std).all()
    np.testing.assert_allclose(first.std[1:], whole.std[1:], rtol=1e-13)
    np.testing.assert_allclose(whole.std, reference.column_stats(x).std, rtol=1e-13)


def test_merged_parts_of_different_scales():
    tiny, large = column(1e-200, 3e-200), column(1e200, 3e200)
    for a, b in ((tiny, large), (large, tiny), (column(-LARGEST), column(LARGEST, LARGEST))):
        both = dl.column_stats(a).merge(dl.column_stats(b))
        expected = reference.column_stats(np.concatenate((a, b)))
        np.testing.assert_allclose(both.std, expected.std, rtol=1e-14)
        np.testing.assert_allclose(both.mean, expected.mean, rtol=1e-14)
    constant = dl.column_stats(column(1e-200, 1e-200)).merge(dl.column_stats(column(1e-200)))
    assert constant.std == 0


def test_columns_of_all_scales_in_one_array_do_not_disturb_each_other(isa):
    x = np.random.default_rng(0).normal(size=(500, 3))
    mixed = np.hstack((x, x * 1e-200, x * 1e200))
    stats, own = dl.column_stats(mixed), dl.column_stats(x)
    for name in ("count", "mean", "var", "min", "max", "std"):
        np.testing.assert_allclose(getattr(stats, name)[:3], getattr(own, name), rtol=1e-11)
    np.testing.assert_allclose(
        stats.std, np.concatenate((own.std, own.std * 1e-200, own.std * 1e200)), rtol=1e-14
    )


def test_infinities_in_column_stats_are_arithmetic():
    stats = dl.column_stats(column(1.0, INF))
    assert stats.mean == INF
    assert np.isnan(stats.var)
    assert np.isnan(stats.std)


# ---- scalers of columns


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("partial", [False, True])
def test_a_column_of_any_scale_is_scaled(scale, partial, isa):
    """scikit-learn#19726: columns of small units were left as they are."""
    x = column(1.0, 2.0, 3.0) * scale
    rtol = 1e-10 if scale > 1e-310 else 1e-2  # subnormal numbers have few digits
    z, m = dl.ZScoreNormalizer(), dl.MinMaxNormalizer((-1, 3))
    for normalizer in (z, m):
        if partial:
            for row in x:
                normalizer.partial_fit(row[np.newaxis])
        else:
            normalizer.fit(x)
        back = normalizer.inverse_transform(normalizer.transform(x))
        np.testing.assert_allclose(back, x, rtol=1e-14, atol=5e-324)
    np.testing.assert_allclose(
        z.transform(x).ravel(), UNIT, rtol=rtol, atol=1e-2 if rtol > 1e-9 else 1e-14
    )
    np.testing.assert_allclose(m.transform(x).ravel(), [-1, 1, 3], rtol=rtol)
    with np.errstate(all="raise"):
        z.transform(x)
        m.transform(x)


@NORMALIZERS
def test_what_is_scaled_does_not_depend_on_the_other_columns(name, isa):
    x = np.random.default_rng(0).normal(size=(300, 4))
    x = np.hstack((x, x * 1e-320, x * 1e-305, x * 1e307))
    fitted = getattr(dl, name)().fit(x)
    alone = getattr(dl, name)().fit(x[:, :4].copy())
    np.testing.assert_array_equal(fitted.transform(x)[:, :4], alone.transform(x[:, :4].copy()))
    expected = getattr(reference, name)().fit(x).transform(x)
    np.testing.assert_allclose(fitted.transform(x)[:, 8:], expected[:, 8:], rtol=1e-13, atol=1e-13)
    assert np.ptp(fitted.transform(x)[:, 4:8], axis=0).min() > 0.9
    for layout in LAYOUTS.values():
        np.testing.assert_array_equal(fitted.transform(layout(x)), fitted.transform(x))
    given = x.copy()
    assert fitted.transform(given, out=given) is given
    np.testing.assert_array_equal(given, fitted.transform(x))
    with dl.num_threads(2):
        np.testing.assert_array_equal(given, fitted.transform(x))


def test_a_range_beyond_the_largest_number(isa):
    x = column(-LARGEST, 0.0, LARGEST / 2, LARGEST)
    m = dl.MinMaxNormalizer().fit(x)
    np.testing.assert_allclose(m.transform(x).ravel(), [0, 0.5, 0.75, 1], rtol=1e-15)
    # Without a multiply-add of one rounding the way there and back is off by an ULP.
    np.testing.assert_allclose(m.inverse_transform(m.transform(x)), x, rtol=4e-16)
    z = dl.ZScoreNormalizer().fit(x)
    y = z.transform(x)
    assert abs(y.mean()) < 1e-15
    assert y.std() == pytest.approx(1, rel=1e-14)
    x = column(-3.4e38, 0, 3.4e38, dtype=F32)
    np.testing.assert_array_equal(dl.MinMaxNormalizer().fit(x).transform(x).ravel(), [0, 0.5, 1])
    np.testing.assert_allclose(dl.ZScoreNormalizer().fit(x).transform(x).ravel(), UNIT, rtol=1e-6)


@pytest.mark.parametrize("feature_range", [(0, 1), (-1, 1), (0, 255), (0.1, 0.9), (-1e300, 1e300)])
def test_a_fitted_column_stays_in_its_range(feature_range, isa):
    """NRCan/geo-deep-learning#562: 1 + 2^-52 is outside of [0, 1]."""
    low, high = feature_range
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 3000)) * 10.0 ** rng.integers(-300, 300, 3000)
    x[:, ::2] += rng.normal(size=1500) * 10.0 ** rng.integers(-8, 8, 1500)
    y = dl.MinMaxNormalizer(feature_range).fit(x).transform(x)
    varying = np.ptp(x, axis=0) > 0
    assert (y.min(0) == low).all()
    assert (y.max(0) <= high).all()
    reached = y.max(0)[varying]
    assert (reached >= high - 2 * np.spacing(max(abs(low), abs(high)))).all()
    assert (reached == high).mean() > 0.4
    parts = dl.MinMaxNormalizer(feature_range)
    for row in x:
        parts.partial_fit(row[np.newaxis])
    np.testing.assert_array_equal(parts.transform(x), y)


def test_only_equal_values_are_constant(isa):
    x = 1e16 + column(0.0, 2.0, 4.0)
    z = dl.ZScoreNormalizer().fit(x)
    np.testing.assert_allclose(z.transform(x).ravel(), UNIT, rtol=1e-12)
    np.testing.assert_array_equal(dl.MinMaxNormalizer().fit(x).transform(x).ravel(), [0, 0.5, 1])
    # The mean is between two doubles here.
    x = 1e16 + column(0.0, 2.0, 2.0)
    y = dl.ZScoreNormalizer().fit(x).transform(x)
    assert abs(y.mean()) < 1e-14
    assert y.std() == pytest.approx(1, rel=1e-14)
    for value in (0.1, 5e-324, 1e-310, -1e300, LARGEST):
        x = np.full((1000, 1), value)
        assert not dl.ZScoreNormalizer().fit(x).transform(x).any()
        assert not dl.MinMaxNormalizer().fit(x).transform(x).any()
        parts = dl.ZScoreNormalizer().partial_fit(x).partial_fit(x[:7])
        assert not parts.transform(x).any()
        assert parts.scale_ == 1


@NORMALIZERS
@DTYPES
@pytest.mark.parametrize("value", [INF, -INF])
def test_an_infinity_is_an_error_that_says_where(name, dtype, value):
    """scikit-learn#31816: one infinity made a whole column 0 or NaN."""
    good = np.arange(12, dtype=dtype).reshape(4, 3)
    bad = good.copy()
    bad[2, 1] = value
    bad[0, 0] = NAN
    fitted = getattr(dl, name)().fit(good)
    before = fitted.transform(good)
    match = rf"{name}\.partial_fit: x must be finite .* got {value} in column 1 \(first in row 2\)"
    with pytest.raises(ValueError, match=match):
        fitted.partial_fit(bad)
    np.testing.assert_array_equal(fitted.transform(good), before)
    assert fitted.n_samples_seen_ == 4
    with pytest.raises(ValueError, match=rf"{name}\.fit: .* column 1"):
        getattr(dl, name)().fit(bad)
    bad[2, 1] = NAN
    assert np.isfinite(getattr(dl, name)().fit(bad).transform(good)).all()


@pytest.mark.parametrize("feature_range", [(0, INF), (-INF, 1), (-1.7e308, 1.7e308), (NAN, 1)])
def test_a_range_must_be_finite(feature_range):
    with pytest.raises(ValueError, match="feature_range must be"):
        dl.MinMaxNormalizer(feature_range)


# ---- normalizations


ROWS = np.random.default_rng(0).normal(1, 2, (9, 21))
BEYOND = {F32: [1e20, 3e36, 1e38 / 6], F64: [1e170, 1e300, 1e307]}
BELOW = {F32: [1e-25, 1e-36], F64: [1e-170, 1e-300]}


def functions(x, dy, eps):
    weight = np.linspace(0.5, 2, x.shape[1]).astype(x.dtype)
    return [
        dl.layer_norm(x, weight, eps=eps),
        *dl.layer_norm_backward(dy, x, weight, eps=eps),
        dl.rms_norm(x, weight, eps=eps),
        *dl.rms_norm_backward(dy, x, weight, eps=eps),
        dl.batch_norm(x, weight=weight, training=True, eps=eps),
        *dl.batch_norm_backward(dy, x, weight=weight, training=True, eps=eps),
    ]


@DTYPES
def test_normalizations_of_any_scale(dtype, isa):
    """Without eps the unit does not matter, but that the gradient of x has its inverse."""
    rng = np.random.default_rng(1)
    dy = rng.normal(size=ROWS.shape).astype(dtype)
    x = ROWS.astype(dtype)
    plain = functions(x, dy, 0.0)
    tol = 1e-4 if dtype == F32 else 1e-12
    for scale in BEYOND[dtype] + BELOW[dtype]:
        power = 2.0 ** np.round(np.log2(scale))  # exact, so that all bits stay
        for i, (own, other) in enumerate(
            zip(functions(x * dtype(power), dy, 0.0), plain, strict=True)
        ):
            if i in (1, 5, 8):  # dx
                np.testing.assert_allclose(own.astype(F64) * power, other, rtol=1e-3, atol=tol)
            else:
                np.testing.assert_allclose(own, other, rtol=tol, atol=tol)


@DTYPES
def test_normalizations_with_eps_equal_the_reference(dtype, isa):
    wide = F64 if dtype == F32 else np.longdouble
    dy = np.random.default_rng(1).normal(size=ROWS.shape).astype(dtype)
    for scale in BEYOND[dtype] + BELOW[dtype]:
        x = (ROWS * scale).astype(dtype)
        for eps in (1e-5, float(np.finfo(dtype).tiny) * 100):
            for name, args in (("layer_norm", ()), ("rms_norm", ())):
                own = getattr(dl, name)(x, *args, eps=eps)
                expected = getattr(reference, name)(x.astype(wide), *args, eps=eps)
                np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-30)
                assert own.any()
            own = dl.batch_norm(x, training=True, eps=eps)
            expected = reference.batch_norm(x.astype(wide), training=True, eps=eps)
            np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-30)
            np.testing.assert_allclose(
                dl.layer_norm_backward(dy, x, eps=eps)[1],
                reference.layer_norm_backward(dy.astype(wide), x.astype(wide), eps=eps)[1],
                rtol=1e-3,
                atol=1e-5,
            )


@DTYPES
def test_a_row_and_a_column_whose_range_is_beyond_the_dtype(dtype, isa):
    largest = np.finfo(dtype).max
    x = np.array([[-largest, largest], [largest, -largest], [1, 3]], dtype)
    np.testing.assert_allclose(dl.layer_norm(x), [[-1, 1], [1, -1], [-1, 1]], rtol=1e-5)
    np.testing.assert_allclose(dl.rms_norm(x)[:2], [[-1, 1], [1, -1]], rtol=1e-6)
    y = dl.batch_norm(x, training=True)
    np.testing.assert_allclose(
        y, np.sqrt(1.5) * np.array([[-1, 1], [1, -1], [0, 0]]), rtol=1e-5, atol=1e-30
    )


@DTYPES
def test_large_rows_leave_the_bits_of_the_others(dtype, isa):
    x = ROWS.astype(dtype)
    scale = BEYOND[dtype][0]
    for function, axis in (
        (dl.layer_norm, 0),
        (dl.rms_norm, 0),
        (lambda x: dl.batch_norm(x, training=True), 1),
    ):
        mixed = x.copy()
        mixed[(3, ...) if axis == 0 else (..., 3)] *= dtype(scale)
        others = np.delete(function(mixed), 3, axis)
        np.testing.assert_array_equal(others, np.delete(function(x), 3, axis))
        assert np.isfinite(function(mixed)).all()


@DTYPES
def test_running_statistics_of_large_features(dtype, isa):
    scale = BEYOND[dtype][0]
    x = (ROWS * scale).astype(dtype)
    mean, var = np.zeros(21, dtype), np.ones(21, dtype)
    for _ in range(3):
        dl.batch_norm(x, mean, var, training=True)
    assert (var <= np.finfo(dtype).max).all()
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.longdouble) * (1 - 0.9**3), rtol=1e-4)
    y = dl.batch_norm(x, mean, var)
    assert np.isfinite(y).all()
    assert (np.abs(y).max(0) > 0).all()
    # A difference from the running mean that is beyond the dtype.
    largest = np.finfo(dtype).max
    ends = np.array([[largest], [-largest]], dtype)
    mean, var = np.array([-largest], dtype), np.array([largest], dtype)
    expected = [[2 * np.sqrt(F64(largest))], [0]]
    np.testing.assert_allclose(dl.batch_norm(ends, mean, var), expected, rtol=1e-6)
    np.testing.assert_allclose(reference.batch_norm(ends, mean, var), expected, rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("layer", ["BatchNorm1d", "LayerNorm", "RMSNorm"])
def test_a_network_of_large_features_learns(layer, dtype):
    scale = BEYOND[dtype][0]
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 4)) * scale).astype(dtype)
    y = (x[:, 0] > 0).astype(np.int64)
    model = dl.Sequential(
        getattr(dl, layer)(4), dl.Linear(4, 16), dl.ReLU(), dl.Linear(16, 2), dtype=dtype, seed=0
    )
    adam = dl.Adam(model.parameters(), lr=0.02)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=adam, metrics=["accuracy"], seed=0)
    history = trainer.fit(x, y, epochs=20, batch_size=20, verbose=0)
    assert history["loss"][-1] < 0.4
    outputs = model(x)
    assert np.isfinite(outputs).all()
    if layer != "BatchNorm1d":
        np.testing.assert_allclose(outputs, model((x / scale).astype(dtype)), rtol=1e-2, atol=1e-3)
        assert trainer.evaluate(x, y)["accuracy"] > 0.8


def test_recomputed_running_statistics_stay_finite():
    x = (np.random.default_rng(0).normal(size=(50, 2)) * 1e30).astype(F32)
    model = dl.Sequential(dl.BatchNorm1d(2), dtype=F32)
    dl.update_batch_norm(model, x)
    assert (model[0].running_var == np.finfo(F32).max).all()
    assert model(x).any()


def test_weights_that_are_limited_do_not_become_0():
    model = dl.Sequential(dl.Linear(3, 2, max_norm=1.0), dtype=F64, seed=0)
    x, y = np.zeros((4, 3)), np.zeros((4, 2))
    model[0].weight[...] = [[3e200, 4e200, 0], [3e-200, 4e-200, 0]]
    sgd = dl.SGD(model.parameters(), lr=0.0)
    dl.Trainer(model, loss="mse", optimizer=sgd).fit(x, y, epochs=1, verbose=0)
    np.testing.assert_allclose(model[0].weight, [[0.6, 0.8, 0], [3e-200, 4e-200, 0]], rtol=1e-14)


# ---- the references


@DTYPES
def test_the_references_are_right_over_the_whole_range(dtype):
    x = ROWS.astype(dtype)
    for scale in BEYOND[dtype] + BELOW[dtype]:
        power = dtype(2.0 ** np.round(np.log2(scale)))
        for function in (
            lambda x: reference.layer_norm(x, eps=0.0),
            lambda x: reference.rms_norm(x, eps=0.0),
            lambda x: reference.batch_norm(x, training=True, eps=0.0),
        ):
            np.testing.assert_allclose(function(x * power), function(x), rtol=1e-4, atol=1e-5)
