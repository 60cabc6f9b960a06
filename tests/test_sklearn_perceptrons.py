"""dlcore.sklearn's perceptrons: scikit-learn's own tests, parity, and what they have more."""

import contextlib
import copy
import io
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", "1.9")

import joblib
from scipy import sparse
from scipy.special import expit, log_softmax, softmax
from sklearn import config_context, metrics
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.utils import compute_sample_weight, estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import dlcore
from dlcore import sklearn as ours
from sklearn_suite import lenient, scikit_learns_tests

NAMES = ["MLPClassifier", "MLPRegressor"]
CLASSIFICATION = ["binary", "multiclass", "multilabel"]
REGRESSION = ["regression", "multi_output", "poisson"]
KINDS = CLASSIFICATION + REGRESSION
each_class = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_float = pytest.mark.parametrize("dtype", [np.float32, np.float64])
short_fits = pytest.mark.filterwarnings(
    "ignore:Stochastic Optimizer. Maximum iterations", "ignore:lbfgs failed to converge"
)
pytestmark = short_fits


# ---- scikit-learn's tests ------------------------------------------------------------------------

SETTINGS = [
    *[
        (name, params)
        for name in NAMES
        for params in (
            {},
            {"solver": "sgd"},
            {"solver": "lbfgs"},
            {"solver": "adamw"},
            {"early_stopping": True},
            {"dropout": 0.1},
            {"batch_norm": True},
            {"layer_norm": True},
        )
    ],
    ("MLPClassifier", {"class_weight": "balanced"}),
    ("MLPRegressor", {"loss": "huber"}),
    ("MLPRegressor", {"loss": "poisson", "learning_rate_init": 0.02}),
]
EQUAL_TO_ROWS = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
STOPPED = {
    **dict.fromkeys(EQUAL_TO_ROWS, "weights do not say which rows are held out"),
    "check_estimators_partial_fit_n_features": "partial_fit cannot hold rows out",
    "check_n_features_in_after_fitting": "partial_fit cannot hold rows out",
    "check_estimators_nan_inf": "partial_fit cannot hold rows out",
    "check_fit_score_takes_y": "partial_fit cannot hold rows out",
    "check_fit2d_1feature": "too few rows to hold some out",
}
STOPPED_CLASSIFIER = {"check_classifiers_one_label": "too few rows to hold some out"}
STOPPED_REGRESSOR = {"check_regressors_no_decision_function": "too few rows to hold some out"}
BALANCED = {
    "check_n_features_in_after_fitting": "partial_fit has no balance, as SGDClassifier's",
    "check_estimators_partial_fit_n_features": "partial_fit has no balance, as SGDClassifier's",
    "check_fit_score_takes_y": "partial_fit has no balance, as SGDClassifier's",
    **dict.fromkeys(EQUAL_TO_ROWS, "the balance counts rows, as RidgeClassifier's"),
}


def expected_failures(estimator):
    """Return the checks that scikit-learn's class, or one of its others, fails too."""
    is_classifier = isinstance(estimator, ours.MLPClassifier)
    if estimator.early_stopping:
        if is_classifier:
            weights = {"check_class_weight_classifiers": "scikit-learn's fit with these weights"}
            return STOPPED | STOPPED_CLASSIFIER | weights
        return STOPPED | STOPPED_REGRESSOR
    if estimator.dropout:
        return dict.fromkeys(EQUAL_TO_ROWS, "what is drawn depends on the rows, as in bootstraps")
    if estimator.batch_norm:
        return dict.fromkeys(EQUAL_TO_ROWS, "the statistics are of rows without weights")
    if is_classifier and estimator.solver == "lbfgs":
        reason = "the logarithm of what rounds to 0 is finite, as GaussianNB's"
        return {"check_classifiers_train": reason}
    return BALANCED if is_classifier and estimator.class_weight == "balanced" else {}


@parametrize_with_checks(
    [getattr(ours, name)(**{"max_iter": 100} | params) for name, params in SETTINGS],
    expected_failed_checks=expected_failures,
    xfail_strict=True,
)
@lenient
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        (getattr(theirs, name)(max_iter=100, early_stopping=True), check)
        for name, more in zip(NAMES, (STOPPED_CLASSIFIER, STOPPED_REGRESSOR), strict=True)
        for check in STOPPED | more
    ]
    + [(SGDClassifier(class_weight="balanced"), check) for check in list(BALANCED)[:2]]
    + [(RidgeClassifier(class_weight="balanced"), check) for check in EQUAL_TO_ROWS],
    ids=str,
)
@lenient
def test_scikit_learn_fails_too(estimator, check):
    with pytest.raises((AssertionError, ValueError)):
        getattr(estimator_checks, check)(type(estimator).__name__, estimator)


def test_a_naive_bayes_has_finite_logarithms_too():
    x = np.array([[-50.0], [-49], [49], [50]])
    bayes = GaussianNB().fit(x, [0, 0, 1, 1])
    assert (bayes.predict_proba(x) == 0).any()
    assert np.isfinite(bayes.predict_log_proba(x)).all()


def test_scikit_learn_stops_as_early_with_these_weights():
    class Weighted(theirs.MLPClassifier):
        def __init__(self, class_weight=None, **params):
            super().__init__(**params)
            self.class_weight = class_weight

        def get_params(self, deep=True):
            return theirs.MLPClassifier().get_params() | {"class_weight": None} | vars(self)

        def set_params(self, **params):
            vars(self).update(params)
            return self

        def fit(self, x, y):
            return super().fit(x, y, compute_sample_weight(self.class_weight, y))

    with pytest.raises(AssertionError):
        estimator_checks.check_class_weight_classifiers("Weighted", Weighted(early_stopping=True))


TESTS = scikit_learns_tests(
    "sklearn.neural_network.tests.test_mlp", theirs, {name: getattr(ours, name) for name in NAMES}
)
globals().update({name.replace("test_", "test_scikit_learns_", 1): TESTS[name] for name in TESTS})


@pytest.fixture(params=[0])
def global_random_seed(request):
    """Scikit-learn's fixture."""
    return request.param


def test_tests_are_those_of_our_classes():
    assert len(TESTS) >= 35
    for name in NAMES:
        assert TESTS["test_gradient"].__globals__[name] is getattr(ours, name)


# ---- parity --------------------------------------------------------------------------------------


def data(kind, rows=67, features=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    clean = np.tanh(x @ rng.normal(size=(features, 3))) + 0.3 * rng.normal(size=(rows, 3))
    y = {
        "binary": lambda: np.where(clean[:, 0] > 0, "yes", "no"),
        "multiclass": lambda: clean.argmax(1) * 2 + 3,
        "multilabel": lambda: (clean > 0).astype(int),
        "regression": lambda: clean[:, 0],
        "multi_output": lambda: clean,
        "poisson": lambda: rng.poisson(np.exp(clean[:, 0])).astype(float),
        "many": lambda: np.stack([clean.argmax(1), clean.argmin(1) + 5], axis=1),
    }[kind]()
    return x, y


def weights(rows=67, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 3, rows)


def make(library, kind, **params):
    params = {"hidden_layer_sizes": (7, 6), "random_state": 0, "max_iter": 6} | params
    if kind in CLASSIFICATION or kind == "many":
        return library.MLPClassifier(**params)
    return library.MLPRegressor(**{"loss": "poisson"} if kind == "poisson" else {}, **params)


def fit_pair(kind, weight=None, **params):
    """Return our estimator and scikit-learn's, fitted alike."""
    x, y = data(kind)
    return [make(library, kind, **params).fit(x, y, weight) for library in (ours, theirs)]


def assert_same(mine, other, x, rtol=1e-10):
    """Compare all that a fit leaves, and what it predicts."""
    for key in ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(mine, key) == getattr(other, key), key
    for key in ("coefs_", "intercepts_"):
        for own, value in zip(getattr(mine, key), getattr(other, key), strict=True):
            assert own.shape == value.shape
            assert own.dtype == value.dtype
            scale = np.abs(value).max()
            np.testing.assert_allclose(own, value, rtol=0, atol=rtol * scale, err_msg=key)
    stochastic = ["loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"]
    for key in ["loss_", *(stochastic if mine.solver != "lbfgs" else [])]:
        own, value = getattr(mine, key), getattr(other, key)
        if value is None or own is None:
            assert own is value, key
        else:
            np.testing.assert_allclose(own, value, rtol=rtol, atol=rtol, err_msg=key)
    for method in ("predict_proba", "predict_log_proba"):
        if hasattr(other, method):
            own, value = getattr(mine, method)(x), getattr(other, method)(x)
            np.testing.assert_allclose(own, value, rtol=10 * rtol, atol=10 * rtol)
    own, value = mine.predict(x), other.predict(x)
    if hasattr(other, "predict_proba"):
        np.testing.assert_array_equal(own, value)
        np.testing.assert_array_equal(mine.classes_, other.classes_)
    else:
        np.testing.assert_allclose(own, value, rtol=10 * rtol, atol=10 * rtol)
    assert own.dtype == value.dtype
    assert own.shape == value.shape


@each_kind
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_are_scikit_learns(kind, solver, activation, weighted):
    params = {"solver": solver, "activation": activation, "batch_size": 20, "alpha": 0.03}
    mine, other = fit_pair(kind, weights() if weighted else None, **params)
    assert_same(mine, other, data(kind)[0], 1e-13)


@each_kind
@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_is_scikit_learns(kind, weighted):
    # Rounding grows from step to step: each looks along a line.
    weight = weights() if weighted else None
    mine, other = fit_pair(kind, weight, solver="lbfgs", max_iter=10)
    assert_same(mine, other, data(kind)[0], 1e-7)


OPTIONS = [
    {"shuffle": False},
    {"batch_size": 16, "shuffle": False},
    {"batch_size": 67},
    {"batch_size": 1, "max_iter": 2},
    {"hidden_layer_sizes": 4},
    {"hidden_layer_sizes": []},
    {"alpha": 0},
    {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    {"beta_1": 0.0},
    {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.3, "power_t": 0.3},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 9, "n_iter_no_change": 1, "max_iter": 99},
    {"solver": "sgd", "momentum": 0},
    {"solver": "sgd", "nesterovs_momentum": False},
    {"tol": 10, "n_iter_no_change": 3},
    {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 4, "learning_rate_init": 0.01},
    {"early_stopping": True, "validation_fraction": 0.4, "solver": "sgd", "max_iter": 20},
    {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 0.1},
]


@each_kind
@pytest.mark.parametrize("params", OPTIONS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_options_are_scikit_learns(kind, params, weighted):
    mine, other = fit_pair(kind, weights() if weighted else None, **params)
    assert_same(mine, other, data(kind)[0], 1e-12)


@each_kind
def test_float32_is_scikit_learns(kind):
    x, y = data(kind)
    x = x.astype(np.float32)
    mine, other = (make(library, kind).fit(x, y) for library in (ours, theirs))
    assert_same(mine, other, x, 2e-5)


@each_kind
@pytest.mark.parametrize("params", [{}, {"solver": "sgd"}, {"batch_size": 13}], ids=str)
def test_partial_fit_is_scikit_learns(kind, params):
    x, y = data(kind)
    first = {"classes": np.unique(y)} if kind in ("binary", "multiclass") else {}
    if kind == "multilabel":
        first = {"classes": [0, 1, 2]}
    mine, other = (make(library, kind, **params) for library in (ours, theirs))
    for estimator in (mine, other):
        estimator.partial_fit(x[:40], y[:40], **first)
        for part in (slice(40), slice(20, 67), slice(30, 67)):
            estimator.partial_fit(x[part], y[part])
        estimator.partial_fit(x, y, weights())
        estimator.set_params(alpha=3.0, shuffle=False).partial_fit(x, y)
    assert_same(mine, other, x, 1e-13)
    for estimator in (mine, other):  # and after a fit of all, with its optimizer
        estimator.fit(x, y).partial_fit(x, y)
    assert_same(mine, other, x, 1e-13)


@each_kind
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_warm_start_is_scikit_learns(kind, solver):
    # Without running means, which ours keep.
    params = {"solver": solver, "warm_start": True, "momentum": 0, "max_iter": 4}
    x, y = data(kind)
    mine, other = fit_pair(kind, **params)
    for estimator in (mine, other):
        estimator.fit(x, y).fit(x, y, weights())
    assert_same(mine, other, x, 1e-7 if solver == "lbfgs" else 1e-13)


def test_refit_after_other_solvers():
    x, y = data("regression")
    mine, other = fit_pair("regression")
    for estimator in (mine, other):
        estimator.set_params(solver="lbfgs", hidden_layer_sizes=(3,)).fit(x, y)
        estimator.set_params(solver="sgd").fit(x, y)
    assert_same(mine, other, x)
    mine.set_params(hidden_layer_sizes=(4,), solver="lbfgs").fit(x, y)
    before = [coef.copy() for coef in mine.coefs_]
    mine.set_params(solver="adam").partial_fit(x, y)  # scikit-learn's raises
    assert all((a != b).any() for a, b in zip(mine.coefs_, before, strict=True))


def run(estimator, *args):
    """Return what a fit prints, and its warnings."""
    with (
        warnings.catch_warnings(record=True) as log,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        warnings.simplefilter("always")
        estimator.fit(*args)
    return out.getvalue(), [(w.category, str(w.message)) for w in log]


@each_class
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_iter": 300, "learning_rate_init": 0.03},
        {"batch_size": 100},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1, "max_iter": 60},
        {"early_stopping": True, "max_iter": 40},
        {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 1},
        {"solver": "lbfgs", "verbose": False, "max_iter": 3},
    ],
    ids=str,
)
def test_text_and_warnings_are_scikit_learns(name, params):
    kind = "binary" if name == "MLPClassifier" else "regression"
    params = {"verbose": True, "n_iter_no_change": 2} | params
    mine, other = (run(make(library, kind, **params), *data(kind)) for library in (ours, theirs))
    assert mine == other
    assert mine[0] or not params["verbose"]


def test_lbfgs_says_how_it_ended(capsys):
    estimator = ours.MLPRegressor(solver="lbfgs", verbose=True, max_iter=5).fit(*data("regression"))
    said = capsys.readouterr().out
    assert "L-BFGS" in said
    assert f"loss = {estimator.loss_:.8f}" in said


@each_class
@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": 0},
        {"hidden_layer_sizes": (5, -1)},
        {"hidden_layer_sizes": "big"},
        {"alpha": -1},
        {"batch_size": 0},
        {"batch_size": "all"},
        {"learning_rate_init": 0},
        {"power_t": -1},
        {"max_iter": 0},
        {"shuffle": "yes"},
        {"tol": -1},
        {"verbose": -1},
        {"warm_start": "yes"},
        {"momentum": 2},
        {"nesterovs_momentum": "yes"},
        {"early_stopping": "yes"},
        {"validation_fraction": 1},
        {"early_stopping": True, "validation_fraction": 0.01},
        {"beta_1": 1},
        {"beta_2": -0.1},
        {"epsilon": 0},
        {"n_iter_no_change": 0},
        {"max_fun": 0},
        {"random_state": "today"},
    ],
    ids=str,
)
def test_errors_of_parameters_are_scikit_learns(name, params):
    kind = "binary" if name == "MLPClassifier" else "regression"
    messages = []
    for library in (ours, theirs):
        estimator = make(library, kind, **params)
        with pytest.raises(ValueError, match=".") as info:
            estimator.fit(*data(kind))
        messages.append((info.type, str(info.value)))
    assert messages[0] == messages[1]


@each_class
@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("fit", lambda x, y: (x[:, 0], y)),
        ("fit", lambda x, y: (x[:5], y)),
        ("fit", lambda x, y: (np.where(x == x[3, 3], np.nan, x), y)),
        ("fit", lambda x, y: (x[:0], y[:0])),
        ("fit", lambda x, y: (x, None)),
        ("fit", lambda x, y: (x, y, [1, 2])),
        ("fit", lambda x, y: (x.astype(complex), y)),
        ("fit", lambda x, y: (x.astype(str)[:, :1] + "a", y)),
        ("partial_fit", lambda x, y: (x[:, :3], y)),
        ("predict", lambda x, y: (x[:, :3],)),
        ("predict", lambda x, y: (np.where(x == x[3, 3], np.inf, x),)),
        ("predict", lambda x, y: (x[0],)),
        ("predict", lambda x, y: (x[:0],)),
        ("score", lambda x, y: (x, y[:4])),
        ("predict", lambda x, y: (sparse.csr_array(x[:, :3]),)),
    ],
)
def test_errors_of_data_are_scikit_learns(name, method, change):
    kind = "binary" if name == "MLPClassifier" else "regression"
    messages = []
    for estimator in fit_pair(kind, max_iter=2):
        with pytest.raises((ValueError, TypeError)) as info:
            getattr(estimator, method)(*change(*data(kind)))
        messages.append((info.type, str(info.value)))
    assert messages[0] == messages[1]


def test_errors_of_classes_are_scikit_learns():
    x, y = data("multiclass")
    calls = [
        lambda est: est.partial_fit(x, y),
        lambda est: est.partial_fit(x, y, classes=[3, 5]),
        lambda est: est.fit(x, y).partial_fit(x, y, classes=[3, 5]),
        lambda est: est.set_params(warm_start=True).fit(x, y).fit(x, np.where(y == 3, 9, y)),
        lambda est: est.predict(x),
        lambda est: est.set_params(solver="lbfgs").partial_fit,
    ]
    for call in calls:
        messages = []
        for library in (ours, theirs):
            with pytest.raises((ValueError, AttributeError)) as info:
                call(make(library, "multiclass", max_iter=2))
            messages.append((info.type, str(info.value)))
        assert messages[0] == messages[1] or "that are not among" in messages[0][1]


@given(
    kind=st.sampled_from(KINDS),
    params=st.fixed_dictionaries(
        {
            "hidden_layer_sizes": st.lists(st.integers(1, 9), max_size=3),
            "activation": st.sampled_from(["identity", "logistic", "tanh", "relu"]),
            "solver": st.sampled_from(["sgd", "adam"]),
            "alpha": st.sampled_from([0.0, 1e-4, 1.0]),
            "batch_size": st.integers(1, 30),
            "learning_rate": st.sampled_from(["constant", "invscaling", "adaptive"]),
            "learning_rate_init": st.sampled_from([1e-3, 1e-2]),
            "max_iter": st.integers(1, 5),
            "shuffle": st.booleans(),
            "random_state": st.integers(0, 2**32 - 1),
            "tol": st.sampled_from([0.0, 1e-4, 1.0]),
            "momentum": st.sampled_from([0.0, 0.5, 0.9]),
            "nesterovs_momentum": st.booleans(),
            "early_stopping": st.booleans(),
            "n_iter_no_change": st.integers(1, 3),
        }
    ),
    rows=st.integers(30, 50),
    features=st.integers(1, 9),
    weighted=st.booleans(),
    container=st.sampled_from([np.asarray, sparse.csr_array, sparse.csc_matrix]),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_any_fit_is_scikit_learns(kind, params, rows, features, weighted, container):
    x, y = data(kind, rows, features, seed=rows)
    if kind in ("binary", "multiclass"):
        y[: 3 * 9] = np.resize(np.unique(y), 27)
    weight = weights(rows) if weighted else None
    mine, other = (
        make(library, kind, **params).fit(container(x), y, weight) for library in (ours, theirs)
    )
    assert_same(mine, other, x, 1e-11)
