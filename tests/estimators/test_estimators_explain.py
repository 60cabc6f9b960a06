"""What an estimator shows of its network, what it refuses to learn from, and what memory it takes."""

import tracemalloc
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from scipy import sparse
from scipy.special import expit, softmax
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dlcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations"),
    pytest.mark.filterwarnings("ignore:lbfgs failed to converge"),
]

RNG = np.random.default_rng(5)
X = RNG.normal(size=(200, 5)) * [1, 3, 0.2, 1, 1] + 1
SLOPE = X[:, 0] - 1
YES = (SLOPE > 0).astype(int)
THREE = np.digitize(SLOPE, [-0.5, 0.5])
MANY = np.stack([YES, THREE], axis=1)
LABELS = np.stack([SLOPE > 0, X[:, 1] > 1, X[:, 3] > 1], axis=1).astype(int)
TARGETS = {"two": YES, "three": THREE, "many": MANY, "labels": LABELS, "values": SLOPE}
each_target = pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)


def make(y, **params):
    params = {"hidden_layer_sizes": (9, 7), "max_iter": 8, "random_state": 0} | params
    params = {"learning_rate_init": 0.02} | params
    return (MLPRegressor if y.dtype.kind == "f" else MLPClassifier)(**params)


def outputs_of(estimator, x):
    """Return what scikit-learn's estimator makes of ``coefs_``, but for the last activation."""
    layers = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight + bias
        x = np.maximum(x, 0) if i < len(layers) - 1 else x
    return x


def raw(estimator, x):
    if isinstance(estimator, MLPRegressor):
        return estimator.predict(x)[:, np.newaxis]
    logits = estimator.decision_function(x)
    return np.hstack(logits) if isinstance(logits, list) else logits.reshape(len(x), -1)


# ---- parameters ----------------------------------------------------------------------------------


@each_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("params", [{}, {"dropout": 0.3}, {"batch_norm": True}], ids=str)
def test_coefs_predict_as_the_network(y, params, dtype):  # sklearn-onnx#606
    estimator = make(y, **params).fit(X.astype(dtype), y)
    assert {array.dtype for array in estimator.coefs_ + estimator.intercepts_} == {np.dtype(dtype)}
    expected = raw(estimator, X.astype(dtype))
    rtol = 1e-12 if dtype == np.float64 else 1e-4
    found = outputs_of(estimator, X)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    assert [coef.shape for coef in estimator.coefs_][:2] == [(5, 9), (9, 7)]


def test_folded_coefs_are_not_to_be_written():
    estimator = make(SLOPE, batch_norm=True).fit(X, SLOPE)
    with pytest.raises(ValueError, match="read-only"):
        estimator.coefs_[0][0, 0] = 1
    for name in ("coefs_", "intercepts_"):
        with pytest.raises(AttributeError, match=f"{name} cannot be set"):
            setattr(estimator, name, [])
    estimator.set_params(batch_norm=False).fit(X, SLOPE)
    estimator.coefs_[0][...] = 0
    assert len(np.unique(estimator.predict(X))) == 1


@pytest.mark.parametrize("params", [{}, {"batch_norm": True}], ids=str)
def test_layer_normalization_has_no_coefs(params):
    estimator = make(SLOPE, layer_norm=True, **params).fit(X, SLOPE)
    for name in ("coefs_", "intercepts_"):
        assert not hasattr(estimator, name)
        with pytest.raises(AttributeError, match=f"no {name} that say what a network with layer"):
            getattr(estimator, name)
    estimator.partial_fit(X, SLOPE)
    assert not hasattr(clone(estimator), "coefs_")


@each_target
@pytest.mark.parametrize("params", [{}, {"batch_norm": True}, {"layer_norm": True}], ids=str)
def test_hidden_values(y, params):
    estimator = make(y, activation=["gelu", "relu"], dropout=0.2, **params).fit(X, y)
    first, second = estimator.hidden_values(X)
    assert (first.shape, second.shape) == ((200, 9), (200, 7))
    last = estimator.model_[-1]
    expected = raw(estimator, X)
    np.testing.assert_allclose(second @ last.weight.T + last.bias, expected, rtol=1e-9, atol=1e-12)
    if not params.get("layer_norm"):
        inner = first @ estimator.coefs_[1] + estimator.intercepts_[1]
        np.testing.assert_allclose(np.maximum(inner, 0), second, rtol=1e-9, atol=1e-9)
    for rows in (sparse.csr_array(X), X.tolist(), X.astype(np.float32)):
        again = estimator.hidden_values(rows)
        np.testing.assert_allclose(again[1], second, rtol=1e-4, atol=1e-5)


def test_hidden_values_of_no_layer():
    assert make(SLOPE, hidden_layer_sizes=()).fit(X, SLOPE).hidden_values(X) == []
    with pytest.raises(NotFittedError):
        make(SLOPE).hidden_values(X)


# ---- decisions -----------------------------------------------------------------------------------


def test_decisions_are_logits():  # muffnn#67, scikit-learn#34312
    two, three = make(YES).fit(X, YES), make(THREE).fit(X, THREE)
    logits = two.decision_function(X)
    assert logits.shape == LogisticRegression().fit(X, YES).decision_function(X).shape == (200,)
    np.testing.assert_allclose(expit(logits), two.predict_proba(X)[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(two.classes_[(logits > 0).astype(int)], two.predict(X))
    logits = three.decision_function(X)
    assert logits.shape == (200, 3)
    np.testing.assert_allclose(softmax(logits, axis=1), three.predict_proba(X), rtol=1e-12)
    labels = make(LABELS).fit(X, LABELS)
    np.testing.assert_allclose(expit(labels.decision_function(X)), labels.predict_proba(X))
    many = make(MANY).fit(X, MANY)
    pairs = zip(many.decision_function(X), many.predict_proba(X), strict=True)
    for own, p in pairs:
        np.testing.assert_allclose(softmax(own, axis=1), p, rtol=1e-12)
    assert not hasattr(MLPRegressor, "decision_function")
    with pytest.raises(NotFittedError):
        make(YES).decision_function(X)


def test_calibration_and_ranks_take_decisions():
    estimator = make(THREE)
    calibrated = CalibratedClassifierCV(estimator, cv=2).fit(X, THREE)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)
    # Probabilities of 1 are ties; logits are not.
    sure = make(YES).fit(X, YES)
    sure.coefs_[-1][...] *= 1e4
    logits = sure.decision_function(X)
    assert len(np.unique(logits)) > len(np.unique(sure.predict_proba(X)[:, 1]))
    assert roc_auc_score(YES, logits) > 0.7


# ---- targets and weights -------------------------------------------------------------------------

DAYS = np.datetime64("2020-01-01") + np.arange(200)
NO_NUMBERS = {
    "dates": DAYS,
    "durations": DAYS - DAYS[0],
    "text": np.array(["low", "high"] * 100),
    "numbers as text": np.arange(200).astype(str),
    "bytes": np.array([b"1", b"2"] * 100),
    "objects": DAYS.astype(object),
}


@pytest.mark.parametrize("y", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_targets_that_are_no_numbers(y):
    for library in (theirs.MLPRegressor, MLPRegressor):
        with pytest.raises(TypeError):
            library(max_iter=2).fit(X, y)
    fitted = make(SLOPE).fit(X, SLOPE)
    with pytest.raises(TypeError):
        fitted.partial_fit(X, y)
    with pytest.raises(TypeError, match="X_val, y_val"):
        fitted.fit(X, SLOPE, X_val=X, y_val=y)


def test_targets_that_are_none():
    y = SLOPE.astype(object)
    assert np.isfinite(make(SLOPE).fit(X, y).predict(X)).all()
    y[3] = None
    with pytest.raises(ValueError, match=r"Input y contains nan, at y\[3\]"):
        make(SLOPE).fit(X, y)


@pytest.mark.parametrize(
    ("y", "warns"),
    [
        (SLOPE, False),
        (1e6 * SLOPE, False),
        (1e9 + 1e6 * SLOPE, True),  # TabPFN#563: steps of 1 are lost
        (1e6 + 0.1 * SLOPE, True),  # what tells the targets apart is
        (np.full(200, 5e5), False),
        ((1e9 + 1e6 * SLOPE).astype(np.float32), True),
        (np.stack([SLOPE, 1e9 + SLOPE], axis=1), True),
    ],
)
def test_large_targets_of_float32_rows_are_warned_of(y, warns):
    for dtype in (np.float32, np.float64):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make(SLOPE, max_iter=1).fit(X.astype(dtype), y)
        said = [str(w.message) for w in caught if "multiples of" in str(w.message)]
        assert len(said) == (warns and dtype == np.float32)


def test_targets_beyond_float32():
    y = np.where(np.arange(200) == 8, 1e39, SLOPE)
    for loss in ("squared_error", "poisson"):
        with pytest.raises(ValueError, match=r"y\[8\] is too large for float32"):
            make(SLOPE, loss=loss).fit(X.astype(np.float32), np.abs(y))


@each_target
@pytest.mark.parametrize("params", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
def test_negative_weights_are_refused(y, params):  # scikit-learn#33439
    weight = np.where(np.arange(200) < 5, -1.0, 1.0)
    weight[0] = 1
    with pytest.raises(ValueError, match=r"Negative .*\n.*-1.0 at sample_weight\[1\]"):
        make(y, **params).fit(X, y, weight)
    if not params:
        with pytest.raises(ValueError, match="Negative"):
            make(y).fit(X, y, None, X, y, weight)
        with pytest.raises(ValueError, match="Negative"):
            make(y).fit(X, y).partial_fit(X, y, weight)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.full(200, 1e308), "adds up to infinity"),
        (np.full(200, 1e-310), "no row counts"),
        (np.r_[np.nan, np.ones(199)], r"NaN.\nThe first is nan at sample_weight\[0\]"),
        (np.r_[1, np.inf, np.ones(198)], r"infinity.*\nThe first is inf at sample_weight\[1\]"),
    ],
)
def test_weights_that_are_none(weight, message):
    for params in ({}, {"solver": "lbfgs"}):
        with pytest.raises(ValueError, match=message):
            make(SLOPE, **params).fit(X, SLOPE, weight)


@pytest.mark.parametrize("scale", [1e160, 1e200])
def test_lbfgs_that_cannot_begin_is_an_error(scale):
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        make(SLOPE, solver="lbfgs").fit(X * scale, SLOPE)


# ---- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "container", [np.asarray, np.ndarray.tolist, sparse.csr_array, sparse.csc_array, "pandas"]
)
def test_errors_name_the_place_of_a_value(value, container):
    bad = X.copy()
    bad[9, 1] = bad[7, 2] = value
    place = rf"The first is {value} at X\[7, 2\]"
    if container == "pandas":
        pandas = pytest.importorskip("pandas")
        rows = pandas.DataFrame(bad, columns=list("abcde"))
        place += ", in the column 'c'"
    else:
        rows = container(bad)
    fitted = make(YES).fit(X, YES)
    calls = [
        lambda: make(YES).fit(rows, YES),
        lambda: fitted.fit(X, YES, X_val=rows, y_val=YES),
        lambda: fitted.partial_fit(rows, YES),
        lambda: fitted.predict(rows),
        lambda: fitted.predict_proba(rows),
        lambda: fitted.hidden_values(rows),
    ]
    for call in calls:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X has feature names")
            with pytest.raises(ValueError, match=place):
                call()


def test_errors_name_the_place_in_targets():
    y = SLOPE.copy()
    y[5] = np.nan
    for given, place in ((y, r"y\[5\]"), (np.stack([SLOPE, y], axis=1), r"y\[5, 1\]")):
        with pytest.raises(ValueError, match=f"Input y contains NaN.\nThe first is nan at {place}"):
            make(SLOPE).fit(X, given)
    with pytest.raises(ValueError, match=r"y\[5\]"):
        make(YES).fit(X, np.where(np.isnan(y), np.nan, YES))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_values_too_large_for_a_float32_network():
    fitted = make(SLOPE).fit(X.astype(np.float32), SLOPE)
    rows = X.copy()
    rows[4, 3] = 1e39
    with pytest.raises(ValueError, match=r"The first is 1e\+39 at X\[4, 3\]"):
        fitted.predict(rows)


# ---- memory --------------------------------------------------------------------------------------


def peak(call):
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_many_classes_take_little_memory():
    rows, classes = 20_000, 1000
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    y = rng.integers(0, classes, rows)
    estimator = MLPClassifier((4,), max_iter=1, random_state=0, batch_size=1000)
    one_hot = 8 * rows * classes
    estimator.fit(x, y)
    calls = {
        "fit": lambda: estimator.fit(x, y),
        "balanced": lambda: clone(estimator).set_params(class_weight="balanced").fit(x, y),
        "early_stopping": lambda: clone(estimator).set_params(early_stopping=True).fit(x, y),
        "validation": lambda: clone(estimator).fit(x, y, X_val=x, y_val=y),
        "partial_fit": lambda: clone(estimator).partial_fit(x, y, classes=range(classes)),
        "predict": lambda: estimator.predict(x),
        "score": lambda: estimator.score(x, y),
    }
    for name, call in calls.items():
        assert peak(call) < one_hot / 10, name
    assert peak(lambda: estimator.predict_proba(x)) < 1.2 * 4 * rows * classes
    np.testing.assert_array_equal(
        estimator.predict(x), estimator.classes_[estimator.decision_function(x).argmax(1)]
    )


@pytest.mark.parametrize("which", ["X", "y", "sample_weight"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_masks_are_not_ignored(kind, which):
    """A masked value that trains all the same would be read as a number."""
    rng = np.random.default_rng(0)
    plain = {"X": rng.normal(size=(20, 3)), "y": np.arange(20) % 2, "sample_weight": np.ones(20)}
    given = plain | {which: np.ma.masked_array(plain[which], plain[which] > 0.5)}
    estimator = kind(hidden_layer_sizes=(4,), max_iter=2)
    with pytest.raises(TypeError, match=f"{which} must not be a masked array"):
        estimator.fit(**given)
    estimator.fit(**plain)
    with pytest.raises(TypeError, match=f"{which} must not be a masked array"):
        estimator.partial_fit(**given)
    if which == "X":
        with pytest.raises(TypeError, match="X must not be a masked array"):
            estimator.predict(given["X"])


@pytest.mark.parametrize("unit", [1e-6, 5e-3])
def test_targets_of_a_small_unit_are_told(unit):
    """bofire#305: the unit of y decides whether a fit learns."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    y = x[:, 0] + x[:, 1]
    with pytest.warns(
        UserWarning, match=r"y varies so little that the loss of its mean, .*Scale y"
    ):
        MLPRegressor(max_iter=2, random_state=0).fit(x, unit * y)
    usual = [
        (unit * y, {"solver": "lbfgs"}),
        (unit * y, {"tol": 0.0}),
        (y, {}),
        (np.full(100, unit), {}),
        (np.column_stack([unit * y, y]), {}),
    ]
    for targets, options in usual:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            MLPRegressor(max_iter=2, random_state=0, **options).fit(x, targets)
