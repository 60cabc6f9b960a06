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

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn", "1.6")

import joblib
from scipy import sparse
from scipy.special import erf, expit, log_softmax, softmax
from sklearn import config_context, metrics
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
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
from sklearn.utils.validation import has_fit_parameter

import dlcore
from dlcore import sklearn as ours
from support.sklearn_suite import SINCE_1_9, lenient, parametrize_with_checks, scikit_learns_tests

NAMES = ["MLPClassifier", "MLPRegressor"]
CLASSIFICATION = ["binary", "multiclass", "multilabel"]
REGRESSION = ["regression", "multi_output", "poisson"]
KINDS = CLASSIFICATION + REGRESSION
# scikit-learn's perceptrons take weights of rows, and have a choice of losses, from 1.7 on.
THEY_WEIGH = has_fit_parameter(theirs.MLPClassifier(), "sample_weight")
THEIR_KINDS = KINDS if THEY_WEIGH else [kind for kind in KINDS if kind != "poisson"]


def name_of(value):
    """Return an id without addresses, which differ between processes."""
    return None if " at 0x" in str(value) else str(value)


each_class = pytest.mark.parametrize("name", NAMES)
each_kind = pytest.mark.parametrize("kind", KINDS)
each_of_their_kinds = pytest.mark.parametrize("kind", THEIR_KINDS)
as_they_weigh = pytest.mark.parametrize("weighted", [False, True] if THEY_WEIGH else [False])
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
        return {
            "check_classifiers_train": "the logarithm of what rounds to 0 is finite, as GaussianNB's",
            "check_classifier_multioutput": "logits still differ where probabilities round to 1",
        }
    return BALANCED if is_classifier and estimator.class_weight == "balanced" else {}


@parametrize_with_checks(
    [getattr(ours, name)(**{"max_iter": 100} | params) for name, params in SETTINGS],
    expected_failed_checks=expected_failures,
)
@lenient
def test_estimator_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else those of array API input are left out
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        (getattr(theirs, name)(max_iter=100, early_stopping=True), check)
        for name, more in zip(NAMES, (STOPPED_CLASSIFIER, STOPPED_REGRESSOR), strict=True)
        for check in STOPPED | more
        if THEY_WEIGH  # scikit-learn 1.6 holds out a single row, too
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


@pytest.mark.skipif(not THEY_WEIGH, reason="scikit-learn has no weights to compare with")
@pytest.mark.usefixtures("stratified")
def test_scikit_learn_stops_as_early_with_these_weights():
    # Those of check_class_weight_classifiers.
    x, y = make_blobs(centers=3, random_state=0, cluster_std=20)
    x, x_test, y, _ = train_test_split(x, y, test_size=0.5, random_state=0)
    class_weight = {0: 1000, 1: 0.0001, 2: 0.0001}
    params = {"early_stopping": True, "n_iter_no_change": 20, "random_state": 0}
    other = theirs.MLPClassifier(**params).fit(x, y, compute_sample_weight(class_weight, y))
    mine = ours.MLPClassifier(class_weight=class_weight, **params).fit(x, y)
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


def fit(estimator, x, y, weight=None):
    if not SINCE_1_9 and estimator.early_stopping and y.dtype.kind == "U":
        y = np.unique(y, return_inverse=True)[1]
    return estimator.fit(x, y) if weight is None else estimator.fit(x, y, weight)


def fit_pair(kind, weight=None, **params):
    """Return our estimator and scikit-learn's, fitted alike."""
    x, y = data(kind)
    return [fit(make(library, kind, **params), x, y, weight) for library in (ours, theirs)]


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


@each_of_their_kinds
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@as_they_weigh
def test_fits_are_scikit_learns(kind, solver, activation, weighted):
    params = {"solver": solver, "activation": activation, "batch_size": 20, "alpha": 0.03}
    mine, other = fit_pair(kind, weights() if weighted else None, **params)
    assert_same(mine, other, data(kind)[0], 1e-13)


@each_of_their_kinds
@as_they_weigh
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


def stratified_split(*arrays, stratify=None, **options):
    """Split as scikit-learn's perceptrons, but with the share of each of several classes, too."""
    y = arrays[1]
    if y.dtype == bool and y.shape[1] > 1 and (y.sum(1) == 1).all():
        stratify = y.argmax(1)
    return train_test_split(*arrays, stratify=stratify, **options)


@pytest.fixture
def stratified(monkeypatch):
    module = "sklearn.neural_network._multilayer_perceptron"
    monkeypatch.setattr(f"{module}.train_test_split", stratified_split)


@pytest.mark.usefixtures("stratified")
@each_of_their_kinds
@pytest.mark.parametrize("params", OPTIONS, ids=str)
@as_they_weigh
def test_options_are_scikit_learns(kind, params, weighted):
    mine, other = fit_pair(kind, weights() if weighted else None, **params)
    assert_same(mine, other, data(kind)[0], 1e-12)


@each_of_their_kinds
def test_float32_is_scikit_learns(kind):
    x, y = data(kind)
    x = x.astype(np.float32)
    mine, other = (make(library, kind).fit(x, y) for library in (ours, theirs))
    assert_same(mine, other, x, 2e-5)


@each_kind
@pytest.mark.parametrize("batch_size", [1, 16])
def test_rows_of_no_weight_are_none(kind, batch_size):  # scikit-learn's loss is NaN
    x, y = data(kind)
    params = {"solver": "sgd", "momentum": 0, "alpha": 0, "shuffle": False}
    weight = weights() * (np.arange(67) >= 16)
    mine = make(ours, kind, batch_size=batch_size, **params).fit(x, y, weight)
    rest = make(ours, kind, batch_size=batch_size, **params).fit(x[16:], y[16:], weight[16:])
    assert bits(mine) == bits(rest)
    assert np.isfinite(mine.loss_curve_).all()


@each_of_their_kinds
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
        estimator.partial_fit(x, y, *([weights()] if THEY_WEIGH else []))
        estimator.set_params(alpha=3.0, shuffle=False).partial_fit(x, y)
    assert_same(mine, other, x, 1e-13)
    for estimator in (mine, other):  # and after a fit of all, with its optimizer
        estimator.fit(x, y).partial_fit(x, y)
    assert_same(mine, other, x, 1e-13)


@each_of_their_kinds
@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_warm_start_is_scikit_learns(kind, solver):
    # Without running means, which ours keep.
    params = {"solver": solver, "warm_start": True, "momentum": 0, "max_iter": 4, "alpha": 3.0}
    x, y = data(kind)
    mine, other = fit_pair(kind, **params)
    for estimator in (mine, other):
        fit(estimator.fit(x, y), x, y, weights() if THEY_WEIGH else None)
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
    for params in ({}, {"warm_start": True}, {"warm_start": True, "early_stopping": True}):
        estimator = make(ours, "regression", solver="lbfgs").fit(x, y)
        estimator.set_params(solver="sgd", **params)
        method = estimator.fit if params else estimator.partial_fit
        method(x, y)
        assert len(estimator.loss_curve_) == estimator.n_iter_ > 0


def run(estimator, *args):
    """Return what a fit prints, and its warnings."""
    with (
        warnings.catch_warnings(record=True) as log,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", "scipy.optimize: The `disp`", DeprecationWarning)
        fit(estimator, *args)
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
        *([{"early_stopping": True, "validation_fraction": 0.01}] if THEY_WEIGH else []),
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
        *([("fit", lambda x, y: (x, y, [1, 2]))] if THEY_WEIGH else []),
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
        # Ours say in a line more where the first value is that is not finite.
        messages.append((info.type, str(info.value).partition("\nThe first is")[0]))
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
    kind=st.sampled_from(THEIR_KINDS),
    params=st.fixed_dictionaries(
        {
            "hidden_layer_sizes": st.lists(st.integers(1, 9), max_size=3),
            "activation": st.sampled_from(["identity", "logistic", "tanh", "relu"]),
            "solver": st.sampled_from(["sgd", "adam"]),
            "alpha": st.sampled_from([0.0, 1e-4, 1.0]),
            "batch_size": st.integers(1, 25),
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
    rows=st.integers(35, 50),
    features=st.integers(1, 9),
    weighted=st.booleans() if THEY_WEIGH else st.just(False),
    container=st.sampled_from([np.asarray, sparse.csr_array, sparse.csc_matrix]),
)
@pytest.mark.usefixtures("stratified")
@settings(
    max_examples=150,
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
        fit(make(library, kind, **params), container(x), y, weight) for library in (ours, theirs)
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


def one_step(loss, weight, start, alpha, x, y):
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


@pytest.mark.parametrize(("kind", "params", "loss"), BY_HAND, ids=name_of)
@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_by_hand(kind, params, loss, weighted):
    start, (x, y) = Start(), data(kind)
    weight = weights() if weighted else None
    sgd = {"solver": "sgd", "momentum": 0, "alpha": 0.3, "callbacks": [start]}
    estimator = make(ours, kind, **STEP, **sgd, **params).fit(x, y, weight)
    value, grads, biases = one_step(loss, weight, start, 0.3, x, y)
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
def test_regularized_step_by_hand(params):
    start, (x, y) = Start(), data("regression")
    sgd = {"solver": "sgd", "momentum": 0, "callbacks": [start], "weight_decay": 0.4, "alpha": 9}
    estimator = ours.MLPRegressor(**STEP, **(sgd | params), random_state=0).fit(x, y)
    alpha = 0 if "clip_grad_norm" in params else 9
    _, grads, biases = one_step(squared, None, start, alpha, x, y)
    slopes, begun = [*grads, *biases], [*start.coefs, *start.intercepts]
    if "clip_grad_norm" in params:
        norm = math.sqrt(sum((slope**2).sum() for slope in slopes))
        assert norm > 0.06
        slopes = [
            slope * 0.05 / (norm + 1e-6) + (9 / len(x) * p if p.ndim == 2 else 0)
            for slope, p in zip(slopes, begun, strict=True)
        ]
    steps = [0.1 * slope for slope in slopes]
    if "solver" in params:  # Adam's first step; epsilon as scikit-learn has it
        size = 0.1 * math.sqrt(1 - 0.999) / (1 - 0.9)
        steps = [size * 0.1 * g / (np.sqrt(0.001 * g**2) + 1e-8) for g in slopes]
        begun = [p * (1 - 0.1 * 0.4) if p.ndim == 2 else p for p in begun]
    ends = [p - step for p, step in zip(begun, steps, strict=True)]
    if "l1" in params:
        ends = [np.sign(p) * np.maximum(np.abs(p) - 0.07, 0) if p.ndim == 2 else p for p in ends]
        assert any((p == 0).any() for p in ends[:2])
    for own, end, p in zip([*estimator.coefs_, *estimator.intercepts_], ends, begun, strict=True):
        np.testing.assert_allclose(own - p, end - p, rtol=1e-9, atol=1e-13)
        np.testing.assert_array_equal(own == 0, end == 0)


def test_l1_leaves_few_weights():
    x = np.random.default_rng(5).normal(size=(200, 5))
    y = x[:, 0] - x[:, 1]
    params = {"solver": "sgd", "learning_rate_init": 0.05, "n_iter_no_change": np.inf}
    fits = [
        ours.MLPRegressor(
            hidden_layer_sizes=20, l1=l1, batch_size=20, random_state=0, **params
        ).fit(x, y)
        for l1 in (0.01, 0)
    ]
    sparsity = [(estimator.coefs_[0][2:] == 0).mean() for estimator in fits]
    assert sparsity[0] > 0.9
    assert sparsity[1] == 0
    assert fits[0].score(x, y) > 0.99


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
    ids=name_of,
)
def test_layers_by_finite_differences(activations, norm):
    x, y = data("regression", rows=30)
    states = []

    class Keep(dlcore.Callback):
        def on_fit_begin(self):
            states.append([p.copy() for p in self.trainer.model.parameters()])

        def on_epoch_end(self, *_):
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
    return [array.tobytes() for array in estimator._network()._named_arrays().values()]


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
    ids=name_of,
)
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_class_weight_is_a_sample_weight(kind, class_weight, early_stopping, solver):
    x, y = data(kind)
    params = {"early_stopping": early_stopping, "solver": solver}
    by_class = compute_sample_weight(class_weight, y)
    for weight in (None, weights()):
        mine = make(ours, kind, class_weight=class_weight, **params).fit(x, y, weight)
        other = make(ours, kind, **params).fit(
            x, y, by_class if weight is None else weight * by_class
        )
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
    estimator = ours.MLPRegressor(
        "quantile", 50, quantile=orders, learning_rate_init=0.01, max_iter=60, random_state=0
    ).fit(x, y)
    predicted = estimator.predict(x)
    assert predicted.shape == (3000, 4)
    for part in (np.abs(x[:, 0]) < 0.3, np.abs(x[:, 0]) > 0.7):
        np.testing.assert_allclose((y[part, None] < predicted[part]).mean(0), orders, atol=0.06)
    ascending = predicted[:, np.argsort(orders)]
    assert (np.diff(ascending, axis=1) >= 0).all()
    scores = [metrics.d2_pinball_score(y, p, alpha=a) for a, p in zip(orders, predicted.T)]  # noqa: B905
    np.testing.assert_allclose(estimator.score(x, y), np.mean(scores), rtol=1e-12)
    assert estimator.score(x, y) > 0.2
    # Where the outputs themselves cross, they are sorted.
    estimator.coefs_[-1][...] = np.random.default_rng(1).normal(size=estimator.coefs_[-1].shape)
    wild = estimator.predict(x)
    assert (np.diff(wild[:, np.argsort(orders)], axis=1) >= 0).all()
    np.testing.assert_array_equal(np.sort(wild, axis=1), np.sort(estimator._outputs(x), axis=1))
    one = ours.MLPRegressor("quantile", 5, quantile=[0.3], max_iter=2).fit(x, y)
    assert one.predict(x).shape == (3000,)
    assert np.isfinite(one.score(x, y))


@each_class
def test_dropout_is_reproducible(name):
    kind = "multiclass" if name == "MLPClassifier" else "regression"
    x, y = data(kind)
    fits = [
        make(ours, kind, dropout=dropout, random_state=seed).fit(x, y)
        for dropout, seed in [(0.4, 0), (0.4, 0), (0.4, 1), (0, 0), ([0, 0], 0), ([0.4, 0], 0)]
    ]
    a, again, other, plain, none, first = map(bits, fits)
    assert a == again
    assert plain == none
    assert len(set(map(tuple, (a, other, plain, first)))) == 4
    np.testing.assert_array_equal(fits[0].predict(x), fits[0].predict(x))
    still = {"learning_rate_init": 1e-300, "shuffle": False, "dropout": 0.4}
    losses = [make(ours, kind, **still, random_state=seed).fit(x, y).loss_curve_ for seed in (0, 0)]
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 6  # each step has masks of its own


@pytest.mark.parametrize("params", [{"batch_norm": True}, {"layer_norm": True}], ids=name_of)
@each_kind
def test_normalized_networks_learn(kind, params):
    x, y = data(kind, rows=300)
    x = x * [1, 100, 1e-2, 1, 1] + 3
    params = params | {"learning_rate_init": 0.03, "max_iter": 60, "hidden_layer_sizes": 20}
    estimator = make(ours, kind, **params).fit(x, y)
    assert estimator.loss_curve_[-1] < 0.7 * estimator.loss_curve_[0]
    one_by_one = np.concatenate([estimator.predict(x[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(
        number(one_by_one) if kind == "binary" else one_by_one,
        number(estimator.predict(x[:5])) if kind == "binary" else estimator.predict(x[:5]),
        rtol=1e-10,
    )
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict(x), estimator.predict(x))


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw"])
def test_a_callable_learning_rate_is_that_of_each_epoch(solver):
    x, y = data("regression")
    rates = []

    class Rates(dlcore.Callback):
        def on_epoch_end(self, *_):
            rates.append(self.trainer.optimizer.lr)

    params = {"solver": solver, "momentum": 0}
    estimator = make(
        ours,
        "regression",
        learning_rate=lambda epoch: 0.1 / (1 + epoch),
        callbacks=[Rates()],
        **params,
    ).fit(x, y)
    np.testing.assert_allclose(rates, 0.1 / (1 + np.arange(6)), rtol=1e-15)
    constant = make(ours, "regression", learning_rate=lambda _: 0.02, **params).fit(x, y)
    assert bits(constant) == bits(
        make(ours, "regression", learning_rate_init=0.02, **params).fit(x, y)
    )
    assert bits(constant) != bits(estimator)


# ---- callbacks and rows to validate on -----------------------------------------------------------


class Snapshots(dlcore.Callback):
    """Keeps the estimator after each epoch, and what it logged."""

    def on_fit_begin(self):
        self.estimators, self.logs = [], []

    def on_epoch_end(self, _, logs):
        estimator = copy.copy(self.trainer.estimator)
        estimator.callbacks = estimator.early_stopping_metric = None
        self.estimators.append(pickle.loads(pickle.dumps(estimator)))
        self.logs.append(dict(logs))


def three(kind):
    """Return rows to learn from, and others with weights."""
    x, y = data(kind, rows=97)
    if kind in ("binary", "multiclass"):
        order = np.argsort(np.arange(97) % 3, kind="stable")
        x, y = x[order], y[order]
    return x[:60], y[:60], x[60:], y[60:], weights(37)


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        *[(kind, metric) for kind in [*KINDS, "many"] for metric in (None, "loss")],
        ("binary", "balanced_accuracy"),
        ("multiclass", "neg_log_loss"),
        ("regression", "neg_mean_absolute_error"),
        ("poisson", metrics.make_scorer(metrics.d2_tweedie_score, power=1)),
        ("binary", lambda estimator, x, y, **_: estimator.score(x, y) / 2),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("params", [{}, {"dropout": 0.2, "batch_norm": True}], ids=name_of)
@pytest.mark.parametrize("weighted", [False, True])
def test_early_stopping_looks_at_the_given_rows(kind, metric, params, weighted):
    x, y, x_val, y_val, weight_val = three(kind)
    weight_val = weight_val if weighted else None
    seen = Snapshots()
    params = params | {"learning_rate_init": 0.05, "max_iter": 25, "n_iter_no_change": 3}
    estimator = make(
        ours, kind, early_stopping=True, early_stopping_metric=metric, callbacks=[seen], **params
    )
    estimator.fit(x, y, None, x_val, y_val, weight_val)
    if metric == "loss":
        scores = [-log["val_loss"] for log in seen.logs]
    elif metric is None:
        scores = [est.score(x_val, y_val, weight_val) for est in seen.estimators]
    else:
        scorer = metrics.get_scorer(metric) if isinstance(metric, str) else metric
        weighed = {} if weight_val is None else {"sample_weight": weight_val}
        scores = [scorer(est, x_val, y_val, **weighed) for est in seen.estimators]
    np.testing.assert_allclose(estimator.validation_scores_, scores, rtol=1e-12)
    assert estimator.validation_loss_curve_ == [log["val_loss"] for log in seen.logs]
    assert estimator.best_validation_score_ == max(estimator.validation_scores_)
    best = seen.estimators[int(np.argmax(estimator.validation_scores_))]
    assert bits(estimator) == bits(best)
    np.testing.assert_array_equal(estimator.predict(x_val), best.predict(x_val))
    assert dict(estimator.history_) == {
        "loss": estimator.loss_curve_,
        "val_loss": estimator.validation_loss_curve_,
        "val_score": estimator.validation_scores_,
    }
    # It stopped when it should.
    top, waited = -np.inf, 0
    for i, score in enumerate(estimator.validation_scores_):
        assert waited <= 3, i
        waited = 0 if score >= top + 1e-4 else waited + 1
        top = max(top, score)
    assert waited == 4 or estimator.n_iter_ == 25
    # All rows were learned from: as without early stopping.
    epochs = estimator.n_iter_
    plain = make(ours, kind, **params | {"max_iter": epochs, "tol": 0, "n_iter_no_change": 99})
    assert bits(plain.fit(x, y)) == bits(seen.estimators[-1])


@each_kind
def test_the_validation_loss_is_that_of_the_rows(kind):
    x, y, x_val, y_val, weight_val = three(kind)
    estimator = make(ours, kind).fit(x, y, None, x_val, y_val, weight_val)
    assert estimator.validation_scores_ is None
    predicted = (
        estimator.predict_proba(x_val) if kind in CLASSIFICATION else estimator.predict(x_val)
    )
    if kind == "multilabel":
        terms = -(y_val * np.log(predicted) + (1 - y_val) * np.log(1 - predicted)).sum(1)
        expected = np.average(terms, weights=weight_val)
    elif kind in CLASSIFICATION:
        expected = metrics.log_loss(y_val, predicted, sample_weight=weight_val)
    elif kind == "poisson":
        expected = metrics.mean_poisson_deviance(y_val, predicted, sample_weight=weight_val) / 2
    else:
        expected = metrics.mean_squared_error(y_val, predicted, sample_weight=weight_val) / 2
    np.testing.assert_allclose(estimator.validation_loss_curve_[-1], expected, rtol=1e-12)
    assert list(estimator.history_) == ["loss", "val_loss"]


@each_class
def test_dlcores_early_stopping(name):
    kind = "multiclass" if name == "MLPClassifier" else "regression"
    x, y, x_val, y_val, _ = three(kind)
    seen, stop = Snapshots(), dlcore.EarlyStopping(monitor="val_loss", patience=4)
    params = {"learning_rate_init": 0.1, "max_iter": 200, "callbacks": [seen, stop]}
    estimator = make(ours, kind, **params).fit(x, y, X_val=x_val, y_val=y_val)
    losses = estimator.validation_loss_curve_
    best = int(np.argmin(losses))
    assert len(losses) == best + 5 == estimator.n_iter_
    assert estimator.history_.best_epoch == best
    assert estimator.history_.stopped_epoch == best + 4
    assert "val_loss has not improved" in estimator.history_.reason
    assert bits(estimator) == bits(seen.estimators[best])
    fitted = clone(estimator).fit(x, y, X_val=x_val, y_val=y_val)
    assert bits(fitted) == bits(estimator)
    with pytest.raises(ValueError, match="this fit logs only loss"):
        estimator.fit(x, y)


@each_class
def test_callbacks_are_called_in_order(name):
    calls = []

    class Log(dlcore.Callback):
        def on_fit_begin(self):
            calls.append("begin")
            assert self.trainer.log_names == ["loss"]

        def on_epoch_begin(self, epoch):
            calls.append(epoch)

        def on_epoch_end(self, epoch, logs):
            calls.append(logs["loss"])
            if epoch == 2:
                self.trainer.stop("enough")

        def on_fit_end(self):
            calls.append("end")

    kind = "binary" if name == "MLPClassifier" else "regression"
    estimator = make(ours, kind, callbacks=[Log()]).fit(*data(kind))
    a, b, c = estimator.loss_curve_
    assert calls == ["begin", 0, a, 1, b, 2, c, "end"]
    assert estimator.history_.reason == "enough"


@each_kind
def test_partial_fit_of_several_epochs(kind):
    x, y = data(kind)
    first = {"classes": np.unique(y) if kind != "multilabel" else [0, 1, 2]}
    first = first if kind in CLASSIFICATION else {}
    several = make(ours, kind, shuffle=False, batch_size=20).partial_fit(x, y, epochs=4, **first)
    single = make(ours, kind, shuffle=False, batch_size=20)
    for _ in range(4):
        single.partial_fit(x, y, **first)
    assert bits(several) == bits(single)
    assert several.loss_curve_ == single.loss_curve_
    assert (several.n_iter_, single.n_iter_) == (4, 1)
    shuffled = make(ours, kind).partial_fit(x, y, epochs=6, **first)
    assert bits(shuffled) == bits(make(ours, kind).fit(x, y))
    for bad in (0, -1, 1.5, "2"):
        with pytest.raises((ValueError, TypeError), match="epochs"):
            single.partial_fit(x, y, epochs=bad)


@pytest.mark.parametrize("kind", ["multiclass", "regression", "many"])
def test_partial_fit_stops_early(kind):
    x, y, x_val, y_val, _ = three(kind)
    params = {"early_stopping": True, "learning_rate_init": 0.05, "n_iter_no_change": 2}
    estimator = make(ours, kind, **params, shuffle=False)
    first = {}
    if kind != "regression":
        first = {
            "classes": [np.unique(c) for c in data(kind, 97)[1].T] if kind == "many" else [3, 5, 7]
        }
    held = {"X_val": x_val, "y_val": y_val}
    estimator.partial_fit(x, y, epochs=400, **held, **first)
    scores = estimator.validation_scores_
    assert 3 < len(scores) == estimator.n_iter_ < 400
    assert max(scores[-3:]) < max(scores) + 1e-4
    assert estimator.score(x_val, y_val) == max(scores) == estimator.best_validation_score_
    # Later calls leave the best of their own epochs.
    estimator.partial_fit(x[:20], y[:20], epochs=7, **held)
    assert estimator.score(x_val, y_val) == max(estimator.validation_scores_[-estimator.n_iter_ :])


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw"])
@each_class
def test_running_means_are_kept(name, solver):
    kind = "multiclass" if name == "MLPClassifier" else "regression"
    x, y = data(kind)
    params = {"solver": solver, "shuffle": False, "tol": 0, "n_iter_no_change": 99}
    whole = make(ours, kind, max_iter=10, **params).fit(x, y)
    warm = make(ours, kind, max_iter=4, warm_start=True, **params).fit(x, y)
    warm.set_params(max_iter=6).fit(x, y)
    assert bits(warm) == bits(whole)
    assert warm.loss_curve_ == whole.loss_curve_
    steps = make(ours, kind, max_iter=4, **params).fit(x, y).partial_fit(x, y, epochs=6)
    assert bits(steps) == bits(whole)
    cold = make(ours, kind, max_iter=4, **params).fit(x, y)
    del cold._optimizer
    assert bits(cold.partial_fit(x, y, epochs=6)) != bits(whole)
    # Of another shape they are no use.
    warm.set_params(warm_start=False, hidden_layer_sizes=3).fit(x, y)
    assert warm.coefs_[0].shape == (5, 3)


# ---- several classifications at once -------------------------------------------------------------


def many(kind, rows=200):
    x, y = data("many", rows)
    if kind == "strings":
        y = np.array([["red", "green", "blue"], ["a", "bc", "d"]])[np.arange(2), y - [0, 5]]
    elif kind == "objects":
        y = np.array([["red", "green", "blue"], ["a", "bc", "d"]], object)[np.arange(2), y - [0, 5]]
    elif kind == "uneven":
        y = np.stack([y[:, 0] > 0, y[:, 0] + 3 * (y[:, 1] > 5)], axis=1).astype(int)
    return x, y


@pytest.mark.parametrize("kind", ["ints", "strings", "objects", "uneven"])
@pytest.mark.parametrize("params", [{}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=name_of)
def test_many_targets(kind, params):
    x, y = many(kind)
    params = {"learning_rate_init": 0.02, "max_iter": 150, "n_iter_no_change": 50} | params
    estimator = make(ours, "many", **params).fit(x, y)
    assert isinstance(estimator.classes_, list)
    for i, classes in enumerate(estimator.classes_):
        np.testing.assert_array_equal(classes, np.unique(y[:, i]))
    predicted = estimator.predict(x)
    assert predicted.shape == y.shape
    assert predicted.dtype == y.dtype
    p, log_p = estimator.predict_proba(x), estimator.predict_log_proba(x)
    assert [a.shape for a in p] == [(len(x), len(classes)) for classes in estimator.classes_]
    for i, classes in enumerate(estimator.classes_):
        np.testing.assert_allclose(p[i].sum(1), 1, rtol=1e-15)
        np.testing.assert_allclose(np.exp(log_p[i]), p[i], rtol=1e-12)
        np.testing.assert_array_equal(classes[p[i].argmax(1)], predicted[:, i])
    right = (predicted == y).all(axis=1)
    assert estimator.score(x, y) == right.mean() > (0.4 if estimator.early_stopping else 0.6)
    weight = weights(len(x))
    np.testing.assert_allclose(estimator.score(x, y, weight), right @ weight / weight.sum())
    pipeline = make_pipeline(ours.StandardScaler(), clone(estimator)).fit(x, y)
    assert pipeline.score(x, y) > 0.4
    assert len(cross_val_score(estimator.set_params(max_iter=5), x, y, cv=2)) == 2


@pytest.mark.parametrize("kind", ["ints", "strings"])
def test_many_targets_by_parts(kind):
    x, y = many(kind)
    classes = [np.unique(column) for column in y.T]
    estimator = make(ours, "many", shuffle=False)
    estimator.partial_fit(x[:3], y[:3], classes=[c[::-1].tolist() for c in classes])
    estimator.partial_fit(x, y).partial_fit(x, y, classes=classes)
    for own, value in zip(estimator.classes_, classes, strict=True):
        np.testing.assert_array_equal(own, value)
    with pytest.raises(ValueError, match="not the same as on last call to partial_fit"):
        estimator.partial_fit(x, y, classes=[classes[0], classes[0]])
    wrong = y.copy()
    wrong[3, 1] = classes[0][0] if kind == "strings" else 9
    with pytest.raises(ValueError, match=r"y\[:, 1\] has classes .* not among"):
        estimator.partial_fit(x, wrong)
    with pytest.raises(ValueError, match="2 columns"):
        estimator.partial_fit(x, y[:, :1])
    fitted = make(ours, "many", shuffle=False).fit(x, y)
    by_epochs = make(ours, "many", shuffle=False).partial_fit(x, y, classes=classes, epochs=6)
    assert bits(fitted) == bits(by_epochs)
    separate = MultiOutputClassifier(make(ours, "many")).fit(x, y)
    assert separate.predict(x).shape == y.shape


# ---- dtypes, probabilities -----------------------------------------------------------------------


@each_float
@pytest.mark.parametrize("kind", [*KINDS, "many"])
@pytest.mark.parametrize("params", [{}, {"solver": "lbfgs"}, {"batch_norm": True}], ids=name_of)
def test_dtypes_from_end_to_end(kind, dtype, params):
    x, y = data(kind)
    estimator = make(ours, kind, **params).fit(x.astype(dtype), y)
    for method in ("fit", "partial_fit"):
        if method == "fit" or not params.get("solver"):
            getattr(estimator, method)(x.astype(dtype), y)
        assert {a.dtype for a in estimator.coefs_ + estimator.intercepts_} == {np.dtype(dtype)}
        assert type(estimator.loss_) is float or isinstance(estimator.loss_, np.floating)
        for rows in (x.astype(dtype), x.astype(np.float32), sparse.csr_array(x)):
            if kind in REGRESSION:
                assert estimator.predict(rows).dtype == dtype
            else:
                for p in (estimator.predict_proba(rows), estimator.predict_log_proba(rows)):
                    for one in p if kind == "many" else [p]:
                        assert one.dtype == dtype


@each_float
@pytest.mark.parametrize("classes", [2, 3, 10, 37, 1000])
@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1e4, 1e8])
def test_probabilities_add_up_to_1(dtype, classes, scale):
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(200, 6)).astype(dtype)
    estimator = ours.MLPClassifier((), random_state=0, max_iter=1)
    estimator.partial_fit(x, np.arange(200) % classes, classes=range(classes))
    for coef in estimator.coefs_:
        coef[...] = rng.normal(size=coef.shape) * scale
    p, log_p = estimator.predict_proba(x), estimator.predict_log_proba(x)
    assert p.shape == (200, classes)
    assert np.abs(p.sum(1) - 1).max() <= np.finfo(dtype).eps
    assert ((p >= 0) & (p <= 1)).all()
    assert np.isfinite(log_p).all()
    logits = estimator._outputs(x).astype(np.longdouble)
    logits = np.hstack([np.zeros_like(logits), logits]) if classes == 2 else logits
    truth = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    eps = np.finfo(dtype).eps
    size = np.abs(logits).max(axis=1, keepdims=True)
    assert (np.abs(log_p - truth) <= 4 * eps * (1 + np.minimum(np.abs(truth) + size, 1e30))).all()
    if scale <= 30:  # small ones, too, to their last digits; the largest makes up the sum
        truth = np.exp(truth)
        largest = logits == logits.max(axis=1, keepdims=True)
        bound = np.where(largest, 8 * eps, 8 * eps * (1 + size) * truth)
        assert (np.abs(p - truth) <= bound + np.finfo(dtype).tiny).all()


# ---- sparse rows ---------------------------------------------------------------------------------


def sparse_data(kind):
    x, y = data(kind, features=30)
    x[np.random.default_rng(2).random(x.shape) < 0.7] = 0
    return x, y


def shuffled_csr(x):
    """Return rows with unsorted and duplicate entries, and 64-bit indices."""
    rng = np.random.default_rng(0)
    indices, values, starts = [], [], [0]
    for row in x:
        places = rng.permutation(np.repeat(np.flatnonzero(row), 2))
        indices += list(places)
        values += list(row[places] / 2)
        starts.append(len(indices))
    made = sparse.csr_array((np.array(values), np.array(indices), np.array(starts)), x.shape)
    made.indices, made.indptr = made.indices.astype(np.int64), made.indptr.astype(np.int64)
    assert not made.has_canonical_format
    return made


@each_float
@pytest.mark.parametrize("kind", [*KINDS, "many"])
@pytest.mark.parametrize(
    "container",
    [
        sparse.csr_array,
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_array,
        sparse.lil_array,
        shuffled_csr,
    ],
    ids=lambda container: container.__name__,
)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=name_of)
def test_sparse_is_dense(kind, container, params, dtype):
    x, y = sparse_data(kind)
    x = x.astype(dtype)
    dense = make(ours, kind, **params).fit(x, y)
    rows = container(x)
    mine = make(ours, kind, **params).fit(rows, y)
    if params.get("solver") == "lbfgs":  # whose sums over all weights have another order
        for own, other in zip(mine.coefs_, dense.coefs_, strict=True):
            np.testing.assert_allclose(
                own, other, rtol=0, atol=1e-3 if dtype == np.float32 else 1e-6
            )
        return
    assert bits(mine) == bits(dense)
    np.testing.assert_array_equal(mine.predict(rows), dense.predict(x))
    if kind in CLASSIFICATION:
        np.testing.assert_array_equal(mine.predict_proba(rows), dense.predict_proba(x))
    if params == {}:
        assert bits(mine.partial_fit(rows, y)) == bits(dense.partial_fit(x, y))
        held = {"X_val": rows, "y_val": y}
        mine.fit(x, y, **held)
        assert (
            mine.validation_loss_curve_ == dense.fit(x, y, X_val=x, y_val=y).validation_loss_curve_
        )


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows_are_never_all_dense(solver):
    rows, features = 8000, 31250
    x = sparse.random_array((rows, features), density=2e-4, rng=np.random.default_rng(0)).tocsr()
    y = np.arange(rows) % 2
    estimator = ours.MLPClassifier((2,), solver=solver, max_iter=1, batch_size=32, random_state=0)
    estimator.fit(x[:50], y[:50])
    tracemalloc.start()
    estimator.fit(x, y, X_val=x, y_val=y) if solver == "adam" else estimator.fit(x, y)
    estimator.predict_proba(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 8 * rows * features == 2e9
    assert peak < 2e8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :29], "X has 29 features, but MLPClassifier is expecting 30"),
        (lambda x: x[:0], "Found array with 0 sample"),
        (lambda x: x * np.nan, "Input X contains NaN"),
        (lambda x: abs(x) * np.inf, "Input X contains inf"),  # scikit-learn adds them up
    ],
)
def test_sparse_rows_that_a_network_cannot_take(change, message):
    x, y = sparse_data("binary")
    estimator = make(ours, "binary").fit(sparse.csr_array(x), y)
    with np.errstate(invalid="ignore"):
        wrong = change(sparse.csr_array(x))
    for call in (estimator.predict, estimator.predict_proba):
        with pytest.raises(ValueError, match=message):
            call(wrong)


# ---- copies, and parameters that a user sets -----------------------------------------------------


STOP = dlcore.EarlyStopping("loss", restore_best=False)


def through_joblib(estimator):
    with io.BytesIO() as file:
        joblib.dump(estimator, file)
        file.seek(0)
        return joblib.load(file)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda est: pickle.loads(pickle.dumps(est)), through_joblib],
    ids=["deepcopy", "copy", "pickle", "joblib"],
)
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "many"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "sgd"},
        {"solver": "adamw", "dropout": 0.3, "batch_norm": True, "l1": 1e-3},
        {"warm_start": True, "callbacks": [STOP]},
        {"early_stopping": True},
    ],
    ids=name_of,
)
def test_copies_go_on_as_the_original(copied, kind, params):
    x, y = data(kind)
    estimator = make(ours, kind, **params).fit(x, y)
    again = copied(estimator)
    before = bits(estimator)
    assert bits(again) == before
    np.testing.assert_array_equal(again.predict(x), estimator.predict(x))
    held = {"X_val": x, "y_val": y} if estimator.early_stopping else {}
    if copied is not copy.copy:  # which shares all, as everywhere
        again.partial_fit(x, y, **held).partial_fit(x, y, **held)
        assert bits(estimator) == before
        estimator.partial_fit(x, y, **held).partial_fit(x, y, **held)
        assert bits(again) == bits(estimator) != before
        assert again.loss_curve_ == estimator.loss_curve_
        again.model_.flat[0] += 1
        assert bits(again) != bits(estimator)
    assert bits(clone(estimator).fit(x, y)) == before
    fresh = clone(again)
    assert not hasattr(fresh, "coefs_")
    assert fresh.get_params().keys() == estimator.get_params().keys()


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_coefs_are_the_network(kind):
    x, y = data(kind)
    estimator, other = fit_pair(kind)
    estimator.coefs_[0][1] += 0.5
    other.coefs_[0][1] += 0.5
    np.testing.assert_allclose(estimator._forward_pass_fast(x), other._forward_pass_fast(x))
    estimator.coefs_[1] = estimator.coefs_[1] * 2
    estimator.intercepts_ = [np.ones_like(a) for a in estimator.intercepts_]
    other.coefs_[1] = other.coefs_[1] * 2
    other.intercepts_ = [np.ones_like(a) for a in other.intercepts_]
    again = pickle.loads(pickle.dumps(estimator))
    for est in (estimator, again):
        np.testing.assert_allclose(est._forward_pass_fast(x), other._forward_pass_fast(x))
    estimator.coefs_[0] = estimator.coefs_[0] + 1
    other.coefs_[0] = other.coefs_[0] + 1
    for est in (estimator, other):
        est.partial_fit(x, y)
    assert estimator.coefs_[0].base is not None
    estimator.coefs_[0] *= 0
    np.testing.assert_array_equal(np.ptp(estimator._forward_pass_fast(x), axis=0), 0)


# ---- scikit-learn around them --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["multiclass", "regression", "many", "multilabel"])
@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow", "list"])
def test_frames(kind, container):
    x, y = data(kind)
    names = list("abcde")
    frame = {
        "pandas": lambda: pytest.importorskip("pandas").DataFrame(x, columns=names),
        "polars": lambda: pytest.importorskip("polars").DataFrame(x, schema=names),
        "pyarrow": lambda: pytest.importorskip("pyarrow").table(dict(zip(names, x.T, strict=True))),
        "list": x.tolist,
    }[container]()
    for params in ({}, {"early_stopping": True}, {"early_stopping_metric": "neg_log_loss"}):
        if "early_stopping_metric" in params:
            if kind != "multiclass":
                continue
            params["early_stopping"] = True
        estimator = make(ours, kind, **params).fit(frame, y)
        assert bits(estimator) == bits(make(ours, kind, **params).fit(x, y))
        if container != "list":
            assert list(estimator.feature_names_in_) == names
        np.testing.assert_array_equal(
            estimator.predict(frame), make(ours, kind, **params).fit(x, y).predict(x)
        )
    estimator = make(ours, kind, early_stopping=True).fit(frame, y, X_val=frame, y_val=y)
    if container == "pandas":
        with pytest.raises(ValueError, match="feature names should match"):
            estimator.predict(frame.rename(columns={"a": "z"}))
        with pytest.raises(ValueError, match="feature names should match"):
            estimator.fit(frame, y, X_val=frame.rename(columns={"a": "z"}), y_val=y)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            estimator.predict(x)
        pandas = pytest.importorskip("pandas")
        column = pandas.DataFrame(y) if y.ndim == 2 else pandas.Series(y)
        assert bits(make(ours, kind).fit(frame, column)) == bits(make(ours, kind).fit(x, y))


def test_searches():
    x, y = data("multiclass", rows=120)
    grid = {
        "alpha": [1e-4, 1.0],
        "dropout": [0.0, 0.5],
        "class_weight": [None, "balanced"],
    }
    stop = dlcore.EarlyStopping("loss", patience=2)
    estimator = make(ours, "multiclass", max_iter=3, callbacks=[stop])
    search = GridSearchCV(estimator, grid, cv=2).fit(x, y)
    assert hasattr(search.best_estimator_, "coefs_")
    parallel = GridSearchCV(estimator, grid, cv=2, n_jobs=2).fit(x, y)
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )
    halving = HalvingGridSearchCV(
        make(ours, "multiclass"), {"alpha": [1e-4, 0.1, 1]}, resource="max_iter", max_resources=9
    )
    assert halving.fit(x, y).best_score_ > 0
    scores = cross_val_score(make(ours, "regression"), *data("regression"), cv=3)
    expected = cross_val_score(make(theirs, "regression"), *data("regression"), cv=3)
    np.testing.assert_allclose(scores, expected, rtol=1e-10)
    calibrated = CalibratedClassifierCV(make(ours, "multiclass"), cv=2).fit(x, y)
    np.testing.assert_allclose(calibrated.predict_proba(x).sum(1), 1)


def test_metadata_is_routed():
    x, y, x_val, y_val, _ = three("regression")
    weight = weights(60)
    scaler = ours.StandardScaler().fit(x)
    with config_context(enable_metadata_routing=True):
        estimator = make(ours, "regression", early_stopping=True)
        routed = clone(estimator).set_fit_request(sample_weight=True, X_val=True, y_val=True)
        pipeline = make_pipeline(
            ours.StandardScaler().set_fit_request(sample_weight=False),
            routed,
            transform_input=["X_val"],
        )
        pipeline.fit(x, y, sample_weight=weight, X_val=x_val, y_val=y_val)
        estimator.fit(scaler.transform(x), y, weight, scaler.transform(x_val), y_val)
        assert bits(pipeline[-1]) == bits(estimator)
        search = GridSearchCV(
            make(ours, "regression")
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True),
            {"alpha": [0.1, 1.0]},
            cv=2,
        ).fit(x, y, sample_weight=weight)
        other = make(ours, "regression", **search.best_params_).fit(x, y, weight)
        assert bits(search.best_estimator_) == bits(other)


@each_class
def test_constructors_take_what_scikit_learns_takes(name):
    mine, other = getattr(ours, name)(), getattr(theirs, name)()
    for key, value in other.get_params().items():
        assert mine.get_params()[key] == value
    assert isinstance(mine, getattr(theirs, name))
    assert repr(mine) == f"{name}()"
    mine.set_params(dropout=0.5, hidden_layer_sizes=(3,))
    assert repr(mine) == f"{name}(dropout=0.5, hidden_layer_sizes=(3,))"
    with pytest.raises(ValueError, match="Invalid parameter 'drop'"):
        mine.set_params(drop=1)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_only_the_module_imports_scikit_learn():
    code = "import sys, dlcore; assert not {'sklearn', 'scipy', 'joblib'} & sys.modules.keys()"
    assert run_python(code).returncode == 0
    result = run_python("import sys; sys.modules['sklearn'] = None; import dlcore.sklearn")
    assert "ImportError: dlcore.sklearn needs scikit-learn: pip install" in result.stderr
    code = "import sklearn; sklearn.__version__ = '1.5.2'; import dlcore.sklearn"
    assert "needs scikit-learn 1.6 or later, found 1.5.2" in run_python(code).stderr
    result = run_python("import sys; sys.modules['narwhals'] = None; import dlcore.sklearn")
    assert "ImportError: dlcore.sklearn needs Narwhals: pip install" in result.stderr


# ---- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        *[
            ("regression", {"solver": "lbfgs", name: value}, f"{name} needs a stochastic solver")
            for name, value in [
                ("dropout", 0.1),
                ("dropout", [0.0, 0.1]),
                ("batch_norm", True),
                ("l1", 0.1),
                ("clip_grad_norm", 1.0),
                ("callbacks", [STOP]),
            ]
        ],
        ("binary", {"focal_gamma": 1.0, "label_smoothing": 0.1}, "set one"),
        ("binary", {"label_smoothing": 1.1}, "label_smoothing"),
        ("binary", {"focal_gamma": -1}, "focal_gamma"),
        ("binary", {"class_weight": "even"}, "class_weight"),
        ("regression", {"activation": ["relu"]}, "one for each of the 2 hidden layers, got 1"),
        ("regression", {"activation": "swish"}, "activation"),
        ("regression", {"activation": ["relu", "swish"]}, "activation"),
        ("regression", {"dropout": [0.1] * 3}, "one for each of the 2 hidden layers, got 3"),
        ("regression", {"dropout": 1.0}, "dropout"),
        ("regression", {"dropout": [0.1, 1.5]}, "(?i)dropout"),
        ("regression", {"l1": -1.0}, "l1"),
        ("regression", {"weight_decay": -1.0}, "weight_decay"),
        ("regression", {"clip_grad_norm": 0}, "clip_grad_norm"),
        ("regression", {"solver": "rmsprop"}, "solver"),
        ("regression", {"loss": "quantile", "quantile": 1.5}, "quantile"),
        ("regression", {"loss": "quantile", "quantile": [0.5, 1.5]}, "quantile"),
        ("regression", {"loss": "huber", "huber_delta": 0}, "huber_delta"),
        ("regression", {"loss": "poisson"}, "needs y >= 0"),
        ("multi_output", {"loss": "quantile", "quantile": [0.1, 0.9]}, "of one column of y, got 3"),
        ("regression", {"early_stopping": True, "early_stopping_metric": "best"}, "scoring"),
        ("regression", {"learning_rate": "slow"}, "learning_rate"),
    ],
    ids=name_of,
)
def test_clear_errors_of_parameters(kind, params, message):
    with pytest.raises(ValueError, match=message):
        make(ours, kind, **params).fit(*data(kind))


def test_clear_errors_of_rows_to_validate_on():
    x, y = data("multiclass")
    estimator = make(ours, "multiclass")
    for held in ({"X_val": x}, {"y_val": y}, {"sample_weight_val": weights()}):
        with pytest.raises(ValueError, match="X_val and y_val must be given together"):
            estimator.fit(x, y, **held)
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 5"):
        estimator.fit(x, y, X_val=x[:, :3], y_val=y)
    with pytest.raises(ValueError, match="not among"):
        estimator.fit(x, y, X_val=x, y_val=y + 1)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(x, y, X_val=x, y_val=y[:5])
    with pytest.raises(ValueError, match="X_val needs a stochastic solver"):
        make(ours, "multiclass", solver="lbfgs").fit(x, y, X_val=x, y_val=y)
    with pytest.raises(ValueError, match="not support early_stopping=True without X_val"):
        make(ours, "multiclass", early_stopping=True).partial_fit(x, y, classes=[3, 5, 7])
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        make(ours, "multiclass", class_weight="balanced").partial_fit(x, y, classes=[3, 5, 7])


@each_class
@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_leaves_a_usable_model(name, early_stopping):
    class Interrupt(dlcore.Callback):
        def on_epoch_end(self, epoch, _):
            if epoch == 2:
                raise KeyboardInterrupt

    kind = "binary" if name == "MLPClassifier" else "regression"
    x, y = data(kind)
    estimator = make(ours, kind, callbacks=[Interrupt()], early_stopping=early_stopping)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator.fit(x, y)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 3
    assert np.isfinite(estimator.score(x, y))
    estimator.set_params(callbacks=None, early_stopping=False).partial_fit(x, y)


@each_class
def test_a_signal_in_the_middle_of_an_epoch(name):
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    class Send(dlcore.Callback):
        def on_epoch_begin(self, epoch):
            assert epoch == 0  # which takes seconds: its steps are cut short
            timer.start()

    kind = "binary" if name == "MLPClassifier" else "regression"
    x, y = data(kind, rows=20000)
    params = {"hidden_layer_sizes": (300, 300), "batch_size": 1, "callbacks": [Send()]}
    estimator = make(ours, kind, **params)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        estimator.fit(x, y)
    timer.join()
    assert estimator.n_iter_ == 0
    assert np.isfinite(estimator.score(x, y))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_divergence(solver):
    x, y = data("regression")
    params = {"solver": solver, "learning_rate_init": 1e200, "max_iter": 30}
    messages = []
    for library in (ours, theirs):
        with (
            pytest.raises(ValueError, match="non-finite parameter weights") as info,
            np.errstate(all="ignore"),
        ):
            make(library, "regression", **params).fit(x, y)
        messages.append(str(info.value))
    assert messages[0] == messages[1]


@each_class
def test_divergence_with_early_stopping(name):
    kind = "multiclass" if name == "MLPClassifier" else "regression"
    x, y = data(kind)
    params = {"solver": "sgd", "early_stopping": True, "max_iter": 30, "n_iter_no_change": 30}
    # Good for an epoch, whose weights are kept; then it diverges.
    params["learning_rate"] = lambda epoch: 1e-3 if epoch == 0 else 1e200
    with pytest.warns(ConvergenceWarning, match="non-finite parameter weights in epoch"):
        estimator = make(ours, kind, **params).fit(x, y)
    *scores, last = estimator.validation_scores_
    assert math.isnan(last)
    assert math.isnan(estimator.loss_)
    assert np.isfinite(scores[0])
    assert len(estimator.loss_curve_) == estimator.n_iter_ == len(scores) + 1
    assert np.isfinite(estimator.score(x, y))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_early_stopping_set_after_a_fit(early_stopping):  # scikit-learn's raises TypeError
    x, y = data("regression")
    params = {"warm_start": True, "learning_rate_init": 0.05}
    estimator = make(ours, "regression", early_stopping=early_stopping, **params).fit(x, y)
    before = bits(estimator)
    estimator.set_params(early_stopping=not early_stopping).fit(x, y)
    assert len(estimator.loss_curve_) == 12
    assert len(estimator.validation_scores_) == 6
    assert bits(estimator) != before
    estimator.set_params(early_stopping=False, n_iter_no_change=1, tol=99)
    for _ in range(3):
        before = bits(estimator)
        estimator.partial_fit(x, y)
        assert bits(estimator) != before


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_schedule_of_epochs_is_the_function_of_its_rates(solver):
    x, y = data("regression")
    schedule = dlcore.CosineAnnealingLR(6, eta_min=1e-4)
    params = {"solver": solver, "learning_rate_init": 0.01}
    one = make(ours, "regression", learning_rate=schedule, **params).fit(x, y)
    two = make(ours, "regression", learning_rate=lambda epoch: schedule(epoch, 0.01), **params).fit(
        x, y
    )
    assert bits(one) == bits(two)
    assert bits(clone(one).fit(x, y)) == bits(one)


def test_a_schedule_of_iterations_goes_on_in_partial_fit():
    x, y = data("regression")
    schedule = dlcore.LinearLR(1, 0.1, total_iters=12, per="iteration")
    params = {"learning_rate": schedule, "learning_rate_init": 0.05, "shuffle": False}
    one = make(ours, "regression", max_iter=4, **params)
    one.set_params(tol=0, n_iter_no_change=99).fit(x, y)
    two = make(ours, "regression", **params)
    for _ in range(4):
        two.partial_fit(x, y)
    updates = 4 * -(-len(x) // min(200, len(x)))
    assert one.history_.iteration[-1] == sum(one.history_.batches) == updates
    assert two._optimizer.lr == schedule(updates - 1, 0.05)
    assert bits(one) == bits(two)


def test_averages_of_the_weights():
    x, y = data("regression")
    params = {"max_iter": 5, "tol": 0, "n_iter_no_change": 99, "batch_size": len(x)}
    ends = []

    class Record(dlcore.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            ends.append(self.trainer.model.flat.astype(np.float64))

    plain = make(ours, "regression", callbacks=[Record()], **params).fit(x, y)
    swa = dlcore.StochasticWeightAveraging(2)
    mean = make(ours, "regression", callbacks=[swa], **params).fit(x, y)
    np.testing.assert_allclose(mean.model_.flat, np.mean(ends[2:], axis=0), rtol=1e-6)
    ema = make(ours, "regression", callbacks=[dlcore.ExponentialMovingAverage(0)], **params)
    np.testing.assert_allclose(ema.fit(x, y).model_.flat, plain.model_.flat, rtol=1e-6)
    with pytest.raises(ValueError, match="callbacks needs a stochastic solver"):
        make(ours, "regression", solver="lbfgs", callbacks=[swa]).fit(x, y)
