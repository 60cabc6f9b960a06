"""dlcore.sklearn's scalers: scikit-learn's own tests of its classes, parity, exact values."""

import inspect
import pickle
import warnings
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from scipy import sparse
from sklearn import config_context
from sklearn import preprocessing as theirs
from sklearn.base import clone
from sklearn.utils._test_common.instance_generator import PER_ESTIMATOR_XFAIL_CHECKS

from dlcore import sklearn as ours
from support.layouts import LAYOUTS
from support.sklearn_suite import lenient, parametrize_with_checks, scikit_learns_tests
from support.ulp import ulp_distance

NAMES = ["StandardScaler", "MinMaxScaler"]
FLOATS = [np.float32, np.float64]
SETTINGS = [
    ("StandardScaler", {}),
    ("StandardScaler", {"with_mean": False}),
    ("StandardScaler", {"with_std": False}),
    ("StandardScaler", {"with_mean": False, "with_std": False}),
    ("StandardScaler", {"copy": False}),
    ("MinMaxScaler", {}),
    ("MinMaxScaler", {"feature_range": (-0.3, 0.7), "clip": True}),
    ("MinMaxScaler", {"copy": False}),
]
each_class = pytest.mark.parametrize("name", NAMES)
each_setting = pytest.mark.parametrize(("name", "params"), SETTINGS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", FLOATS)


# ---- scikit-learn's tests ------------------------------------------------------------------------


def expected_failures(scaler):
    """Return the checks that scikit-learn's class fails too."""
    failures = dict(PER_ESTIMATOR_XFAIL_CHECKS.get(type(scaler).__base__, {}))
    if getattr(scaler, "with_mean", False):  # which scikit-learn 1.6 tries nevertheless
        failures["check_sample_weight_equivalence_on_sparse_data"] = "sparse rows have no center"
    if not scaler.copy:
        failures["check_methods_sample_order_invariance"] = "the data change in place"
    return failures


@parametrize_with_checks(
    [getattr(ours, name)(**params) for name, params in SETTINGS],
    expected_failed_checks=expected_failures,
)
@lenient
def test_estimator_checks(estimator, check):
    strict = check.keywords.get("array_namespace") == "array_api_strict"
    if strict and not getattr(estimator, "with_mean", True) and not estimator.with_std:
        pytest.xfail("scikit-learn calls a method that array API arrays lack")
    check(estimator)


TESTS = scikit_learns_tests(
    "sklearn.preprocessing.tests.test_data", theirs, {name: getattr(ours, name) for name in NAMES}
)
globals().update(TESTS)


@pytest.fixture(autouse=True)
def array_api(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


def test_tests_are_those_of_our_classes():
    assert len(TESTS) >= 30
    for name in NAMES:
        assert TESTS["test_minmax_scaler_partial_fit"].__globals__[name] is getattr(ours, name)


# ---- parity --------------------------------------------------------------------------------------


def data(dtype, rows=203, nan=False, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 7)) * [1, 1e-3, 30, 5, 1e4, 0, 2] + [0, 5, -200, 1, 1e6, 3, 0]
    if nan:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x.astype(dtype)


def pair(name, params, *fits):
    """Return our scaler and scikit-learn's, fitted alike."""
    scalers = [getattr(library, name)(**params) for library in (ours, theirs)]
    for scaler in scalers:
        for x in fits:
            scaler.partial_fit(x.copy())
    return scalers


def state(scaler):
    return {k: v for k, v in vars(scaler).items() if k.endswith("_") and not k.startswith("_")}


def assert_same_state(a, b, rtol):
    assert state(a).keys() == state(b).keys()
    for key, value in state(b).items():
        own = state(a)[key]
        if value is None or own is None:
            assert own is value
            continue
        assert np.shape(own) == np.shape(value)
        if key not in ("n_samples_seen_", "feature_names_in_"):
            assert np.asarray(own).dtype == np.asarray(value).dtype, key
            # min_ is a difference: an error of its terms
            atol = rtol * np.nanmax(np.abs(value)) if key in ("min_", "var_") else 0
            np.testing.assert_allclose(own, value, rtol=rtol, atol=atol, err_msg=key)
        else:
            np.testing.assert_array_equal(own, value)


@each_setting
@each_dtype
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("layout", ["plain", "sliced", *LAYOUTS])
def test_is_scikit_learns(name, params, dtype, nan, layout):
    x = data(dtype, nan=nan)
    rtol = 2e-5 if dtype == np.float32 else 1e-9
    lay = {"plain": np.copy, "sliced": lambda x: np.hstack([x, x])[:, 2:9]}.get(
        layout, LAYOUTS.get(layout)
    )
    mine, other = pair(name, params, lay(x))
    assert_same_state(mine, other, rtol)
    for method in ("transform", "inverse_transform"):
        given = lay(x)
        kept = given.copy()
        result, expected = getattr(mine, method)(given), getattr(other, method)(lay(x))
        assert result.dtype == dtype
        size = np.nanmax(np.abs(expected))
        np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4 * size)
        assert result.flags.writeable
        assert np.isnan(result).sum() == np.isnan(x).sum()
        in_place = params.get("copy") is False and given.flags.writeable
        assert (result is given) == in_place or np.may_share_memory(result, given) == in_place
        np.testing.assert_array_equal(given, result if in_place else kept)
    if layout == "fortran":
        assert mine.transform(lay(x)).flags.f_contiguous


@each_class
@each_dtype
def test_long_columns_in_any_order_have_the_same_bits(name, dtype):
    x = data(dtype, rows=5000)
    scaler = getattr(ours, name)().fit(x)
    for method in (scaler.transform, scaler.inverse_transform):
        np.testing.assert_array_equal(method(np.asfortranarray(x)), method(x))


@each_setting
@each_dtype
@pytest.mark.parametrize("nan", [False, True])
@pytest.mark.parametrize("chunks", [[100], [1, 2, 3, 150], range(1, 203)])
@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")  # test_columns_of_nan
def test_chunks_are_one_fit(name, params, dtype, nan, chunks):
    x = data(dtype, nan=nan)
    whole = getattr(ours, name)(**params).fit(x)
    parts = getattr(ours, name)(**params)
    for chunk in np.split(x, list(chunks)):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(chunk)))
    assert_same_state(parts, whole, 1e-13)


@pytest.mark.parametrize("chunks", [[], [50], range(1, 100)])
def test_close_values_far_from_zero(chunks):
    x = np.stack([1e8 + np.tile([-1.0, 1.0], 50), 1e15 + np.arange(100) % 7.0], axis=1)
    scaler = ours.StandardScaler()
    for chunk in np.split(x, list(chunks)):
        scaler.partial_fit(chunk)
    for c in range(2):
        values = [Fraction(v) for v in x[:, c]]
        mean = sum(values) / len(values)
        var = sum((v - mean) ** 2 for v in values) / len(values)
        assert scaler.mean_[c] == float(mean)
        assert abs(Fraction(scaler.var_[c]) / var - 1) < Fraction(1, 10**14)
    np.testing.assert_allclose(scaler.transform(x)[:, 0], np.tile([-1.0, 1.0], 50), rtol=1e-13)
    low = ours.MinMaxScaler((-1, 1)).fit(x)
    np.testing.assert_array_equal(low.transform(x)[:, 0], np.tile([-1.0, 1.0], 50))
    single = (1e8 + 8 * np.arange(5, dtype=np.float32)).reshape(-1, 1).astype(np.float32)
    np.testing.assert_array_equal(
        ours.MinMaxScaler().fit_transform(single).ravel(), np.float32([0, 0.25, 0.5, 0.75, 1])
    )


@each_dtype
@pytest.mark.parametrize("nan", [False, True])
def test_rounded_once(dtype, nan):
    x = data(dtype, nan=nan)
    wide = x.astype(np.longdouble)
    scaler = ours.StandardScaler().fit(x)
    largest = 0.51 if dtype == np.float32 else 3
    mean, scale = (np.asarray(a, np.longdouble) for a in (scaler.mean_, scaler.scale_))
    z = (wide - mean) / scale
    assert ulp_distance(scaler.transform(x), z).max() <= largest
    back = wide * scale + mean
    assert ulp_distance(scaler.inverse_transform(x), back).max() <= largest
    scaler = ours.MinMaxScaler((-1, 3)).fit(x)
    low, high = np.nanmin(wide, axis=0), np.nanmax(wide, axis=0)
    span = np.where(high == low, 1, high - low)
    unit = 4 * (wide - low) / span - 1
    # One more where the factor is an ULP less, so that the maximum does not leave the range.
    most = largest if dtype == np.float32 else 4
    assert ulp_distance(scaler.transform(x), unit, 1.0).max() <= most
    back = (wide + 1) * (span / 4) + low
    magnitude = np.abs(low) + np.abs(wide + 1) * (span / 4)
    assert ulp_distance(scaler.inverse_transform(x), back, magnitude).max() <= largest


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e300, 1.7e308, -2.0, 0.0, np.inf])
def test_scales_whose_inverse_is_no_normal_number(scale):
    x = np.array([[1e-310, 1.0], [3e-310, 2.0], [1e300, 3.0], [np.nan, 4.0]])
    mine, other = pair("StandardScaler", {}, x[:2])
    for scaler in (mine, other):
        scaler.mean_ = np.array([0.0, 1.0])
        scaler.scale_ = np.array([scale, 2.0])
    with np.errstate(all="ignore"):
        for method in ("transform", "inverse_transform"):
            result, expected = getattr(mine, method)(x), getattr(other, method)(x)
            np.testing.assert_allclose(result, expected, rtol=1e-15)


@each_setting
@pytest.mark.parametrize("size", [1e-310, 1e-200, 1e-20, 1e100, 1e153, 1e160, 1e300, 1.7e308])
@pytest.mark.parametrize("chunked", [False, True])
def test_huge_and_tiny_values(name, params, size, chunked):
    """scikit-learn#19726, #19898: they come out scaled, where scikit-learn takes them for constant."""
    unit = np.array([[-1.0, 0.5], [0.25, 0.5], [1.0, -0.5], [0.5, 0.0]])
    if not params.get("with_std", True):
        size = min(size, 1e308)  # or differences from the mean are beyond float64
    x = unit * size
    mine, other = (getattr(library, name)(**params) for library in (ours, theirs))
    other.fit(unit.copy())
    for part in np.split(x, 2) if chunked else [x]:
        mine.partial_fit(part.copy())
    near = {"rtol": 1e-12, "atol": 1e-14} if size > 1e-300 else {"rtol": 1e-10, "atol": 1e-12}
    result, expected = mine.transform(x.copy()), other.transform(unit.copy())
    if name == "StandardScaler" and not params.get("with_std", True):
        size_of = np.abs(x).max()
        np.testing.assert_allclose(result / size_of, expected / np.abs(unit).max(), **near)
    else:
        np.testing.assert_allclose(result, expected, **near)
    back = mine.inverse_transform(result.copy())
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-14 * size)
    assert pickle.loads(pickle.dumps(mine)).transform(x.copy()).tobytes() == result.tobytes()


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e160, 1e300])
def test_huge_and_tiny_values_with_weights(size):
    x = np.array([[-1.0, 0.5, 7.0], [0.25, 0.5, 7.0], [1.0, -0.5, 7.0], [0.5, 0.0, 7.0]])
    weight = np.array([1.0, 2.0, 0.5, 1.0])
    expected = theirs.StandardScaler().fit(x, sample_weight=weight).transform(x)
    far = x * [size, 1, 1]
    with np.errstate(all="ignore"):
        scaler = ours.StandardScaler().fit(far, sample_weight=weight)
    np.testing.assert_allclose(scaler.transform(far), expected, rtol=1e-12, atol=1e-14)
    assert scaler.scale_[2] == 1


def test_small_units():
    """scikit-learn#19898: nanometers in meters, charges of electrons."""
    for x in (
        np.linspace(4e-7, 7e-7, 7, dtype=np.float32)[:, np.newaxis],
        np.array([[0.0], [2**-149]], np.float32),
        1.6e-19 * np.arange(1.0, 6.0)[:, np.newaxis],
        np.array([[-3.4e38], [3.4e38], [1.0]], np.float32),
    ):
        wide = x.astype(np.longdouble)
        expected = (wide - wide.min()) / np.ptp(wide)
        scaler = ours.MinMaxScaler().fit(x)
        result = scaler.transform(x)
        assert result.dtype == x.dtype
        np.testing.assert_allclose(result, expected, rtol=0, atol=np.finfo(x.dtype).eps)
        np.testing.assert_allclose(
            scaler.inverse_transform(result), x, rtol=0, atol=1e-7 * abs(x).max()
        )
        assert np.isfinite(scaler.scale_).all()
        z = ours.StandardScaler().fit_transform(x).astype(float)
        assert z.std() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("feature_range", [(0, 1), (-1, 1), (0.1, 0.9)])
def test_a_fitted_column_stays_in_its_range(feature_range):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2000)) * 10.0 ** rng.integers(-8, 8, 2000) + rng.normal(size=2000)
    y = ours.MinMaxScaler(feature_range=feature_range).fit_transform(x)
    assert y.min() >= feature_range[0]
    assert y.max() <= feature_range[1]


@each_class
def test_an_infinity_is_said_to_be_in_its_column(name):
    x = data(np.float64)
    x[7, 3] = -np.inf
    for scaler, method in (
        (getattr(ours, name)(), "fit"),
        (pair(name, {}, data(np.float64))[0], "transform"),
    ):
        with pytest.raises(ValueError, match="contains infinity") as info:
            getattr(scaler, method)(x)
        assert info.value.__notes__ == ["There is an infinity in column 3, first in row 7."]


@each_class
@pytest.mark.parametrize("first", ["sparse", "weights", "theirs", "edited"])
def test_continues_from_any_state(name, first):
    params = {"with_mean": False} if name == "StandardScaler" else {}
    x, more = data(np.float64), data(np.float64, seed=1)
    mine, other = pair(name, params)
    for scaler in (mine, other):
        if first == "sparse" and name == "StandardScaler":
            scaler.fit(sparse.csr_array(x))
        elif first == "weights" and name == "StandardScaler":
            # Whole numbers: scikit-learn rounds the sum of weights down here.
            scaler.fit(x, sample_weight=np.arange(len(x)) % 3 + 1.0)
        elif first == "theirs":
            vars(scaler).update(state(getattr(theirs, name)(**params).fit(x)))
        else:
            scaler.fit(x)
            if name == "StandardScaler":
                scaler.mean_ += 1.0
        scaler.partial_fit(more)
    assert_same_state(mine, other, 1e-12)
    mine.partial_fit(x)
    other.partial_fit(x)
    assert_same_state(mine, other, 1e-12)
    if name == "StandardScaler":  # and the way back
        for scaler in (mine, other):
            scaler.partial_fit(sparse.csr_array(more))
            scaler.partial_fit(x, sample_weight=np.ones(len(x)))
            scaler.partial_fit(more)
        assert_same_state(mine, other, 1e-12)


def test_a_mean_that_was_set_has_no_hidden_digits():
    scaler = ours.StandardScaler().fit([[1e8], [1e8 + 1], [1e8 + 1]])
    scaler.mean_, scaler.var_ = np.zeros(1), np.zeros(1)
    assert scaler.partial_fit(np.zeros((3, 1))).mean_[0] == 0


def test_edited_attributes_count():
    x = data(np.float64)
    scaler = ours.StandardScaler().fit(x)
    scaler.mean_ = scaler.mean_ + 1
    scaler.scale_[0] = 8.0
    np.testing.assert_allclose(scaler.transform(x), (x - scaler.mean_) / scaler.scale_, rtol=1e-12)
    for change in ({"scale_": np.arange(1.0, 8)}, {"min_": np.arange(7.0)}):
        scaler = ours.MinMaxScaler().fit(x)
        vars(scaler).update(change)
        np.testing.assert_allclose(scaler.transform(x), x * scaler.scale_ + scaler.min_, rtol=1e-12)
        back = (x - scaler.min_) / scaler.scale_
        np.testing.assert_allclose(scaler.inverse_transform(x), back, rtol=1e-12, atol=1e-9)
    scaler = ours.MinMaxScaler().fit(x).set_params(feature_range=(5, 6))
    np.testing.assert_allclose(scaler.transform(x).min(axis=0), 0, atol=1e-12)


# ---- errors and warnings -------------------------------------------------------------------------


@each_setting
@each_dtype
@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("nan", [False, True])
def test_infinity_changes_nothing(name, params, dtype, value, nan):
    x = data(dtype, rows=300, nan=nan)
    bad = x.copy()
    bad[-1, -1] = value
    if nan:
        bad[3, -1] = -value
    mine, other = pair(name, params, x)
    before = pickle.dumps(mine)
    for method in ("partial_fit", "transform", "inverse_transform"):
        given = bad.copy()
        messages = []
        for scaler in (mine, other):
            with pytest.raises(ValueError, match="contains infinity") as info:
                getattr(scaler, method)(given)
            messages.append(str(info.value))
        assert messages[0] == messages[1]
        np.testing.assert_array_equal(given, bad)
        assert pickle.dumps(mine) == before
    fresh = clone(mine)
    with pytest.raises(ValueError, match="Input X contains infinity"):
        fresh.fit(bad)
    assert not state(fresh)
    with config_context(assume_finite=True), np.errstate(all="ignore"):
        mine.transform(bad)


@each_class
@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("fit", np.zeros(3)),
        ("fit", np.zeros((0, 3))),
        ("fit", np.zeros((3, 0))),
        ("fit", [["a"]]),
        ("fit", np.ones((2, 2), complex)),
        ("fit", np.ones((2, 2, 2))),
        ("fit", sparse.csr_array(np.eye(3))),
        ("partial_fit", np.zeros((3, 6))),
        ("transform", np.zeros((3, 6))),
        ("transform", np.zeros(7)),
        ("inverse_transform", np.zeros((3, 6))),
        ("inverse_transform", np.zeros((3, 1))),
    ],
    ids=str,
)
def test_errors_are_scikit_learns(name, call, given):
    messages = []
    for scaler in pair(name, {}, data(np.float64)):
        with pytest.raises((ValueError, TypeError)) as info:
            getattr(scaler, call)(given)
        messages.append((info.type, str(info.value)))
    assert messages[0] == messages[1]


@each_setting
@pytest.mark.parametrize(
    "change", [{"with_mean": True}, {"with_std": True}, {"copy": "no"}], ids=str
)
def test_parameters_changed_after_fit(name, params, change):
    if name == "MinMaxScaler":
        change = {"clip": True}
    outcomes = []
    x = data(np.float64)
    for scaler in pair(name, params, x):
        scaler.set_params(**change)
        try:
            outcomes.append(scaler.transform(x.copy()).sum())
        except (TypeError, AttributeError) as error:
            outcomes.append(str(error))
    if isinstance(outcomes[0], str):
        assert outcomes[0] == outcomes[1]
    else:
        np.testing.assert_allclose(*outcomes, rtol=1e-6, atol=1e-6)


def test_range_upside_down():
    with pytest.raises(ValueError, match="Minimum of desired feature range"):
        ours.MinMaxScaler((1, 1)).fit([[1.0]])


@each_setting
def test_columns_of_nan(name, params):
    x = data(np.float64)
    hole = x.copy()
    hole[:, 2] = np.nan
    warned = []
    scalers = [getattr(library, name)(**params) for library in (ours, theirs)]
    for scaler in scalers:
        with warnings.catch_warnings(record=True) as log:
            warnings.simplefilter("always")
            scaler.fit(hole)
        warned.append({str(w.message) for w in log})
    assert warned[0] == warned[1]
    assert_same_state(*scalers, 1e-9)
    # Then its numbers count, as if fitted at once.
    scaler = scalers[0].partial_fit(x)
    whole = clone(scaler).fit(np.vstack([hole, x]))
    assert_same_state(scaler, whole, 1e-12)


# ---- what else scikit-learn's estimators do ------------------------------------------------------


@each_setting
@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "list", "int", "float16", "big"])
def test_other_input(name, params, kind):
    x = np.round(data(np.float64), 2)
    names = list("abcdefg")
    make = {
        "pandas": lambda: pytest.importorskip("pandas").DataFrame(x, columns=names),
        "polars": lambda: pytest.importorskip("polars").DataFrame(x, schema=names),
        "pyarrow": lambda: pytest.importorskip("pyarrow").table(dict(zip(names, x.T, strict=True))),
        "list": x.tolist,
        "int": lambda: x.astype(np.int32),
        "float16": lambda: np.clip(x, -100, 100).astype(np.float16),
        "big": lambda: x.astype(">f8"),
    }[kind]
    mine, other = (getattr(library, name)(**params).fit(make()) for library in (ours, theirs))
    rtol = 1e-2 if kind == "float16" else 1e-9
    assert_same_state(mine, other, rtol)
    if kind in ("pandas", "polars", "pyarrow"):
        assert list(mine.feature_names_in_) == names
        np.testing.assert_array_equal(mine.get_feature_names_out(), names)
    for method in ("transform", "inverse_transform"):
        result, expected = (getattr(scaler, method)(make()) for scaler in (mine, other))
        assert result.dtype == expected.dtype
        size = np.max(np.abs(expected))
        np.testing.assert_allclose(result, expected, rtol=rtol, atol=rtol * size)


@each_class
def test_other_feature_names(name):
    x = data(np.float64)
    frame = pytest.importorskip("pandas").DataFrame(x, columns=list("abcdefg"))
    scaler = getattr(ours, name)().fit(frame)
    before = pickle.dumps(scaler)
    for method in (scaler.partial_fit, scaler.transform):
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame.rename(columns={"a": "z"}))
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame[["a", "b"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        scaler.transform(x)
    assert pickle.dumps(scaler) == before


@each_class
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(name, container):
    frames = pytest.importorskip(container)
    x = data(np.float64)
    frame = frames.DataFrame(dict(zip("abcdefg", x.T, strict=True)))
    mine, other = pair(name, {})
    for scaler in (mine, other):
        scaler.set_output(transform=container)
    result, expected = mine.fit_transform(frame), other.fit_transform(frame)
    assert type(result) is type(expected)
    assert list(result.columns) == list(expected.columns)
    np.testing.assert_allclose(result.to_numpy(), expected.to_numpy(), rtol=1e-9, atol=1e-12)
    # Where scikit-learn's own method does the work, too.
    mine.scale_ = np.full(7, 1e-310)
    mine.min_ = mine.mean_ = np.zeros(7)
    with np.errstate(over="ignore"):
        assert list(mine.transform(frame).columns) == list("abcdefg")


@each_setting
def test_clone_pickle_and_metadata(name, params):
    x = data(np.float32)
    scaler = clone(getattr(ours, name)(**params)).fit(x)
    again = pickle.loads(pickle.dumps(scaler))
    np.testing.assert_array_equal(again.transform(x.copy()), scaler.transform(x.copy()))
    assert isinstance(scaler, getattr(theirs, name))
    with config_context(enable_metadata_routing=True):
        other = getattr(theirs, name)(**params)
        assert str(scaler.get_metadata_routing()) == str(other.get_metadata_routing())
    for method in ("fit", "partial_fit", "transform", "inverse_transform"):
        signatures = [inspect.signature(getattr(s, method)) for s in (scaler, other)]
        assert signatures[0].parameters.keys() == signatures[1].parameters.keys()


@each_class
@each_dtype
def test_every_instruction_set(name, dtype, isa):
    x = data(dtype, nan=True)
    mine, other = pair(name, {}, x)
    assert_same_state(mine, other, 2e-5)
    np.testing.assert_allclose(mine.transform(x), other.transform(x), rtol=1e-3, atol=1e-3)
