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
from sklearn.datasets import make_blobs
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_score,
    train_test_split,
)
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
            {"solver": "lbfgs", "hidden_layer_sizes": 10},
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
    # Those of check_class_weight_classifiers.
    x, y = make_blobs(centers=3, random_state=0, cluster_std=20)
    x, x_test, y, _ = train_test_split(x, y, test_size=0.5, random_state=0)
    given = {0: 1000, 1: 0.0001, 2: 0.0001}
    params = {"early_stopping": True, "n_iter_no_change": 20, "random_state": 0}
    other = theirs.MLPClassifier(**params).fit(x, y, compute_sample_weight(given, y))
    mine = ours.MLPClassifier(class_weight=given, **params).fit(x, y)
    assert mine.n_iter_ == other.n_iter_ < 50
    np.testing.assert_array_equal(mine.predict(x_test), other.predict(x_test))


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
    # With a penalty that keeps logits below 36, where scikit-learn clips probabilities.
    weight = weights() if weighted else None
    mine, other = fit_pair(kind, weight, solver="lbfgs", max_iter=10, alpha=3.0)
    assert_same(mine, other, data(kind)[0], 1e-12)


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
    params = {"solver": solver, "warm_start": True, "momentum": 0, "max_iter": 4, "alpha": 3.0}
    x, y = data(kind)
    mine, other = fit_pair(kind, **params)
    for estimator in (mine, other):
        estimator.fit(x, y).fit(x, y, weights())
    assert_same(mine, other, x, 1e-12 if solver == "lbfgs" else 1e-13)


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
        with pytest.raises(ValueError, match=r".") as info:
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
        ("fit", lambda x, _: (x, None)),
        ("fit", lambda x, y: (x, y, [1, 2])),
        ("fit", lambda x, y: (x.astype(complex), y)),
        ("fit", lambda x, y: (x.astype(str)[:, :1] + "a", y)),
        ("partial_fit", lambda x, y: (x[:, :3], y)),
        ("predict", lambda x, _: (x[:, :3],)),
        ("predict", lambda x, _: (np.where(x == x[3, 3], np.inf, x),)),
        ("predict", lambda x, _: (x[0],)),
        ("predict", lambda x, _: (x[:0],)),
        ("score", lambda x, y: (x, y[:4])),
        ("predict", lambda x, _: (sparse.csr_array(x[:, :3]),)),
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


# ---- more losses, by hand ------------------------------------------------------------------------


class Start(dlcore.Callback):
    """Keeps the parameters that a fit begins with."""

    def on_fit_begin(self):
        estimator = self.trainer.estimator
        self.coefs = [coef.copy() for coef in estimator.coefs_]
        self.intercepts = [intercept.copy() for intercept in estimator.intercepts_]


def softmax_slope(outputs, labels):
    return softmax(outputs, axis=1) - np.eye(outputs.shape[1])[labels]


def binary_focal(outputs, yes, gamma):
    """Return the focal loss and its slope, by (Lin et al., 2017)."""
    sign = np.where(yes, 1, -1)
    p = expit(sign * outputs)
    slope = sign * (1 - p) ** gamma * (gamma * p * np.log(p) + p - 1)
    return -((1 - p) ** gamma) * np.log(p), slope


def focal(outputs, labels, gamma):
    p = softmax(outputs, axis=1)
    rows = np.arange(len(p))
    right = p[rows, labels, np.newaxis]
    value = -((1 - right) ** gamma) * np.log(right)
    by_p = gamma * (1 - right) ** (gamma - 1) * np.log(right) - (1 - right) ** gamma / right
    return value.sum(1), by_p * right * (np.eye(p.shape[1])[labels] - p)


def smoothed(outputs, labels, share):
    k = outputs.shape[1]
    target = (1 - share) * np.eye(k)[labels] + share / k
    return -(target * log_softmax(outputs, axis=1)).sum(1), softmax(outputs, axis=1) - target


def smoothed_binary(outputs, yes, share):
    target = (1 - share) * yes + share / 2
    value = np.logaddexp(0, outputs) - target * outputs
    return value.sum(1), expit(outputs) - target


def quantile(outputs, y, orders):
    error = y.reshape(len(y), -1) - outputs
    slope = np.where(error > 0, -np.asarray(orders), 1 - np.asarray(orders))
    return (-slope * error).mean(1), slope


def huber(outputs, y, delta):
    error = outputs - y.reshape(len(y), -1)
    far = np.abs(error) > delta
    value = np.where(far, delta * (np.abs(error) - delta / 2), error**2 / 2)
    return value.mean(1), np.clip(error, -delta, delta)


def absolute(outputs, y):
    error = outputs - y.reshape(len(y), -1)
    return np.abs(error).mean(1), np.sign(error)


def joint(outputs, y, loss):
    parts = [
        loss(outputs[:, 3 * i : 3 * i + 3], np.unique(y[:, i], return_inverse=True)[1])
        for i in range(2)
    ]
    return sum(value for value, _ in parts), np.hstack([slope for _, slope in parts])


def total(pair):
    return pair[0].sum(1), pair[1]


def number(y):
    return np.unique(y, return_inverse=True)[1]


BY_HAND = [
    ("multiclass", {"label_smoothing": 0.3}, lambda o, y: smoothed(o, number(y), 0.3)),
    ("multiclass", {"label_smoothing": 1.0}, lambda o, y: smoothed(o, number(y), 1.0)),
    ("binary", {"label_smoothing": 0.3}, lambda o, y: smoothed_binary(o, number(y)[:, None], 0.3)),
    ("multilabel", {"label_smoothing": 0.3}, lambda o, y: smoothed_binary(o, y, 0.3)),
    ("multiclass", {"focal_gamma": 2.0}, lambda o, y: focal(o, number(y), 2.0)),
    ("multiclass", {"focal_gamma": 0.5}, lambda o, y: focal(o, number(y), 0.5)),
    ("binary", {"focal_gamma": 2.0}, lambda o, y: total(binary_focal(o, number(y)[:, None], 2.0))),
    ("multilabel", {"focal_gamma": 1.5}, lambda o, y: total(binary_focal(o, y, 1.5))),
    ("many", {}, lambda o, y: joint(o, y, lambda o, y: smoothed(o, y, 0.0))),
    ("many", {"focal_gamma": 2.0}, lambda o, y: joint(o, y, lambda o, y: focal(o, y, 2.0))),
    ("many", {"label_smoothing": 0.2}, lambda o, y: joint(o, y, lambda o, y: smoothed(o, y, 0.2))),
    ("regression", {"loss": "absolute_error"}, absolute),
    ("multi_output", {"loss": "absolute_error"}, absolute),
    ("regression", {"loss": "huber", "huber_delta": 0.4}, lambda o, y: huber(o, y, 0.4)),
    ("multi_output", {"loss": "huber"}, lambda o, y: huber(o, y, 1.0)),
    ("regression", {"loss": "quantile", "quantile": 0.9}, lambda o, y: quantile(o, y, 0.9)),
    ("multi_output", {"loss": "quantile", "quantile": 0.2}, lambda o, y: quantile(o, y, 0.2)),
    (
        "regression",
        {"loss": "quantile", "quantile": [0.9, 0.1, 0.5]},
        lambda o, y: quantile(o, y, [0.9, 0.1, 0.5]),
    ),
]


def one_step(kind, loss, weight, start, alpha, x, y):
    """Return the loss, the outputs and the gradient of weights and of biases, by hand."""
    hidden = np.tanh(x @ start.coefs[0] + start.intercepts[0])
    outputs = hidden @ start.coefs[1] + start.intercepts[1]
    values, slope = loss(outputs, y)
    w = np.ones(len(x)) if weight is None else weight
    mass = w.sum()
    slope = slope * w[:, np.newaxis] / mass
    inner = slope @ start.coefs[1].T * (1 - hidden**2)
    penalty = alpha / mass
    grads = [x.T @ inner + penalty * start.coefs[0], hidden.T @ slope + penalty * start.coefs[1]]
    squares = sum((coef**2).sum() for coef in start.coefs)
    return (w @ values) / mass + penalty / 2 * squares, grads, [inner.sum(0), slope.sum(0)]


STEP = {"hidden_layer_sizes": 6, "activation": "tanh", "max_iter": 1, "learning_rate_init": 0.1}


@pytest.mark.parametrize(("kind", "params", "loss"), BY_HAND, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_by_hand(kind, params, loss, weighted):
    start, (x, y) = Start(), data(kind)
    weight = weights() if weighted else None
    sgd = {"solver": "sgd", "momentum": 0, "alpha": 0.3, "callbacks": [start]}
    estimator = make(ours, kind, **STEP, **sgd, **params).fit(x, y, weight)
    value, grads, biases = one_step(kind, loss, weight, start, 0.3, x, y)
    np.testing.assert_allclose(estimator.loss_, value, rtol=1e-12)
    for i in range(2):
        np.testing.assert_allclose(
            estimator.coefs_[i], start.coefs[i] - 0.1 * grads[i], rtol=1e-10, atol=1e-13
        )
        np.testing.assert_allclose(
            estimator.intercepts_[i], start.intercepts[i] - 0.1 * biases[i], rtol=1e-10, atol=1e-13
        )
    lbfgs = make(ours, kind, hidden_layer_sizes=6, activation="tanh", solver="lbfgs", **params)
    lbfgs.fit(x, y, weight)
    assert lbfgs.loss_ < value  # the same loss without its native steps


def squared(outputs, y):
    error = outputs - y.reshape(len(y), -1)
    return (error**2).mean(1) / 2, error


@pytest.mark.parametrize("params", [{"clip_grad_norm": 0.05}, {"l1": 0.7}, {"solver": "adamw"}])
def test_regularised_step_by_hand(params):
    start, (x, y) = Start(), data("regression")
    sgd = {"solver": "sgd", "momentum": 0, "callbacks": [start], "weight_decay": 0.4}
    estimator = ours.MLPRegressor(**STEP, **(sgd | params), random_state=0).fit(x, y)
    _, grads, biases = one_step("regression", squared, None, start, 1e-4, x, y)
    slopes, begun = [*grads, *biases], [*start.coefs, *start.intercepts]
    if "clip_grad_norm" in params:
        norm = math.sqrt(sum((slope**2).sum() for slope in slopes))
        assert norm > 0.06
        slopes = [slope * 0.05 / (norm + 1e-6) for slope in slopes]
    steps = [0.1 * slope for slope in slopes]
    if "solver" in params:  # Adam's first step; epsilon as scikit-learn has it
        size = 0.1 * math.sqrt(1 - 0.999) / (1 - 0.9)
        steps = [size * 0.1 * g / (np.sqrt(0.001 * g**2) + 1e-8) for g in slopes]
        begun = [p * (1 - 0.1 * 0.4) if p.ndim == 2 else p for p in begun]
    ends = [p - step for p, step in zip(begun, steps, strict=True)]
    if "l1" in params:
        ends = [np.sign(p) * np.maximum(np.abs(p) - 0.07, 0) if p.ndim == 2 else p for p in ends]
        assert any((p == 0).any() for p in ends[:2])
    # The penalty comes before or after the norm is taken: 1e-4 of a small share.
    rtol = 1e-3 if "clip_grad_norm" in params else 1e-9
    for own, end, p in zip([*estimator.coefs_, *estimator.intercepts_], ends, begun, strict=True):
        np.testing.assert_allclose(own - p, end - p, rtol=rtol, atol=rtol * 1e-3)
        np.testing.assert_array_equal(own == 0, end == 0)


def test_l1_leaves_few_weights():
    x, y = data("regression", rows=200)
    x[:, 2:] = np.random.default_rng(5).normal(size=(200, 3))
    y = x[:, 0] - x[:, 1]
    params = {"hidden_layer_sizes": 20, "learning_rate_init": 0.01, "max_iter": 300}
    estimator = ours.MLPRegressor(l1=0.003, random_state=0, **params).fit(x, y)
    plain = ours.MLPRegressor(random_state=0, **params).fit(x, y)
    assert (estimator.coefs_[0][2:] == 0).mean() > 0.9
    assert (plain.coefs_[0] != 0).all()
    assert estimator.score(x, y) > 0.9


SMOOTH = {  # by hand, but for the names
    "identity": lambda x: x,
    "logistic": expit,
    "sigmoid": expit,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "silu": lambda x: x * expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
}


def forward(parameters, x, activations, norm, running=None):
    """Compute the outputs of a network by hand; statistics of the batch unless ``running``."""
    parameters = iter(parameters)
    for i, activation in enumerate(activations):
        weight, bias = next(parameters), next(parameters)
        x = x @ weight.T + bias
        for kind in norm:
            scale, shift = next(parameters), next(parameters)
            axis = 0 if kind == "batch_norm" else 1
            mean, var = x.mean(axis, keepdims=True), x.var(axis, keepdims=True)
            if kind == "batch_norm" and running is not None:
                mean, var = running[i]
            x = (x - mean) / np.sqrt(var + 1e-5) * scale + shift
        x = SMOOTH[activation](x)
    return x @ next(parameters).T + next(parameters)


@pytest.mark.parametrize(
    ("activations", "norm"),
    [
        *[([name, "tanh"], []) for name in SMOOTH],
        (["gelu", "softplus"], ["batch_norm"]),
        (["silu", "elu"], ["layer_norm"]),
        (["tanh", "leaky_relu"], ["batch_norm", "layer_norm"]),
    ],
    ids=str,
)
def test_layers_by_finite_differences(activations, norm):
    x, y = data("regression", rows=30)
    states = []

    class Keep(dlcore.Callback):
        def on_fit_begin(self):
            states.append([p.copy() for p in self.trainer.model.parameters()])

        def on_epoch_end(self, epoch, logs):
            states.append([p.copy() for p in self.trainer.model.parameters()])

    params = dict.fromkeys(norm, True) | {"activation": activations, "callbacks": [Keep()]}
    sgd = {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.1, "alpha": 0.0}
    estimator = make(ours, "regression", hidden_layer_sizes=(4, 3), max_iter=1, **sgd, **params)
    estimator.fit(x, y)

    def loss(parameters):
        return ((forward(parameters, x, activations, norm)[:, 0] - y) ** 2).mean() / 2

    before, after = states
    np.testing.assert_allclose(estimator.loss_, loss(before), rtol=1e-12)
    for i, p in enumerate(before):
        for place in np.ndindex(p.shape):
            ends = []
            for h in (1e-5, -1e-5):
                moved = [q.copy() for q in before]
                moved[i][place] += h
                ends.append(loss(moved))
            slope = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose((p - after[i])[place] / 0.1, slope, rtol=1e-5, atol=1e-8)
    running = [
        (layer.running_mean, layer.running_var)
        for layer in estimator.model_
        if isinstance(layer, dlcore.BatchNorm1d)
    ]
    expected = forward(after, x, activations, norm, running or None)
    np.testing.assert_allclose(estimator.predict(x), expected[:, 0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(estimator.predict(x[:1]), expected[0], rtol=1e-10, atol=1e-12)


# ---- more parameters -----------------------------------------------------------------------------


def bits(estimator):
    return [a.tobytes() for a in (*estimator.coefs_, *estimator.intercepts_)]


@pytest.mark.parametrize(
    ("kind", "class_weight"),
    [
        ("binary", "balanced"),
        ("binary", {"yes": 3.0, "no": 0.5}),
        ("multiclass", "balanced"),
        ("multiclass", {3: 2.0}),
        ("multilabel", "balanced"),
        ("multilabel", [{0: 1, 1: 5}, {0: 2, 1: 1}, {0: 1, 1: 1}]),
        ("many", "balanced"),
        ("many", [{0: 2.0}, {5: 3.0, 6: 0.5}]),
    ],
    ids=str,
)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weight_is_a_sample_weight(kind, class_weight, early_stopping, solver):
    x, y = data(kind)
    params = {"early_stopping": early_stopping, "solver": solver}
    by_class = compute_sample_weight(class_weight, y)
    for weight in (None, weights()):
        mine = make(ours, kind, class_weight=class_weight, **params).fit(x, y, weight)
        other = make(ours, kind, **params).fit(x, y, by_class if weight is None else weight * by_class)
        assert bits(mine) == bits(other) != bits(make(ours, kind, **params).fit(x, y, weight))
    if solver == "adam" and class_weight != "balanced" and not early_stopping:
        classes = [np.unique(c) for c in y.T] if kind == "many" else np.unique(y)
        classes = [0, 1, 2] if kind == "multilabel" else classes
        mine = make(ours, kind, class_weight=class_weight).partial_fit(x, y, classes=classes)
        other = make(ours, kind).partial_fit(x, y, by_class, classes)
        assert bits(mine) == bits(other)


def test_smoothing_and_focus_change_what_they_should():
    x, y = data("multiclass", rows=300)
    plain, smooth, focused = (
        make(ours, "multiclass", max_iter=300, learning_rate_init=0.01, **params)
        .fit(x, y)
        .predict_proba(x)
        .max(1)
        .mean()
        for params in ({}, {"label_smoothing": 0.3}, {"focal_gamma": 4.0})
    )
    assert smooth < plain - 0.1
    assert focused < plain - 0.05


def test_quantiles_cover_and_never_cross():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(3000, 1))
    y = x[:, 0] + (0.2 + np.abs(x[:, 0])) * rng.normal(size=3000)
    orders = [0.9, 0.1, 0.5, 0.3]
    params = {"loss": "quantile", "quantile": orders, "random_state": 0}
    estimator = ours.MLPRegressor(50, learning_rate_init=0.01, max_iter=60, **params, loss="quantile")
