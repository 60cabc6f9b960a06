"""Snapshots of estimators, and what logits mean as probabilities."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import NotFittedError

from dlcore import num_threads, softmax
from dlcore.functional._activations import sigmoid
from dlcore.sklearn import MLPClassifier, MLPRegressor
from dlcore.sklearn._probabilities import binary_probabilities, class_probabilities

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")
DTYPES = (np.float32, np.float64)
TARGETS = {
    "two classes": lambda y: (y > 0).astype(int),
    "one class": lambda y: np.zeros(len(y), int),
    "three classes": lambda y: np.array(["a", "b", "c"])[(y > 0) + (y > 1).astype(int)],
    "labels": lambda y: np.stack([y > 0, y > 1], axis=1).astype(int),
    "columns": lambda y: np.stack([(y > 0) + (y > 1).astype(int), 2 * (y > 0)], axis=1),
}


def fitted(kind, dtype=np.float32, **params):
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(dtype)
    y = TARGETS[kind](x @ np.arange(4.0))
    options = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, **params}
    return MLPClassifier(**options).fit(x, y), x


def assert_equal(one, other):
    pairs = zip(one, other, strict=True) if isinstance(other, list) else [(one, other)]
    for own, expected in pairs:
        np.testing.assert_array_equal(own, expected)
        assert own.dtype == expected.dtype


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", TARGETS)
def test_a_snapshot_is_the_method_as_it_was(kind, method, dtype):
    estimator, x = fitted(kind, dtype)
    snapshot = estimator.snapshot(method)
    for rows in (x[:1], x[:7], np.asfortranarray(x), x[::2]):
        assert_equal(snapshot(rows), getattr(estimator, method)(rows))
    expected = getattr(estimator, method)(x)
    estimator.coefs_[0][:] = 1
    estimator.set_params(hidden_layer_sizes=(3,)).fit(x[::-1], np.arange(60) % 2)
    assert_equal(snapshot(x), expected)
    assert_equal(pickle.loads(pickle.dumps(snapshot))(x), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_snapshot_of_a_regressor():
    x = np.random.default_rng(0).normal(size=(60, 4))
    for params in ({}, {"loss": "poisson"}, {"loss": "quantile", "quantile": [0.9, 0.1]}):
        estimator = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, **params).fit(x, x[:, 0] ** 2)
        assert_equal(estimator.snapshot()(x), estimator.predict(x))
        with pytest.raises(AttributeError, match="MLPRegressor has no predict_proba"):
            estimator.snapshot("predict_proba")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_a_snapshot_refuses():
    with pytest.raises(NotFittedError):
        MLPClassifier().snapshot()
    estimator, x = fitted("two classes")
    with pytest.raises(
        ValueError, match=r"method must be 'predict', .* or 'decision_function', not 'fit'"
    ):
        estimator.snapshot("fit")
    snapshot = estimator.snapshot()
    with pytest.raises(TypeError, match="x is float64, the model float32"):
        snapshot(x.astype(np.float64))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 4\)"):
        snapshot(x[:, :3])
    assert np.isnan(estimator.snapshot("predict_proba")(np.full((1, 4), np.nan, np.float32))).all()


# ---- probabilities -------------------------------------------------------------------------------


def in_numpy(logits):
    p = softmax(logits)
    rows, largest = np.arange(len(p)), p.argmax(1)
    for _ in range(2):
        p[rows, largest] += 1 - p.sum(1)
    return p


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 9, 10, 16, 17, 100, 128, 129, 137, 300, 1001])
def test_probabilities_of_classes(classes, dtype):
    rng = np.random.default_rng(classes)
    logits = (10 * rng.standard_normal((211, classes))).astype(dtype)
    logits[3] = 0
    logits[4, -1] = np.nan
    logits[5, 0] = -np.inf
    expected = in_numpy(logits)
    for threads in (1, 2, 3):
        with num_threads(threads):
            np.testing.assert_array_equal(class_probabilities(logits.copy()), expected)
    sums = np.delete(expected, [4], axis=0).sum(1)
    np.testing.assert_allclose(sums[np.isfinite(sums)], 1, atol=np.finfo(dtype).eps)
    several = np.hstack([logits, logits])[:, :classes]  # rows that lie apart
    np.testing.assert_array_equal(class_probabilities(several), expected)
    assert class_probabilities(logits[:0].copy()).shape == (0, classes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8, 33, 511, 512, 513, 5000])
def test_probabilities_of_two_classes(rows, dtype):
    x = (20 * np.random.default_rng(rows).standard_normal(rows)).astype(dtype)
    x[:4] = np.array([0, -0.0, np.nan, np.inf])[: len(x[:4])]
    small = sigmoid(-np.abs(x))
    pairs = np.stack([1 - small, small], axis=1)
    expected = np.where((x > 0)[:, np.newaxis], pairs[:, ::-1], pairs)
    for threads in (1, 2, 3):
        with num_threads(threads):
            np.testing.assert_array_equal(binary_probabilities(x.reshape(-1, 1)), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_probabilities_are_in_the_order_of_their_logits():
    # scikit-learn's check_classifier_multioutput asks for one rank of both: logits of a network that
    # has learnt its rows by heart differ still where the probabilities round to 1.
    x, y = make_multilabel_classification(n_samples=42, n_labels=5, n_classes=3, random_state=42)
    estimator = MLPClassifier(10, solver="lbfgs", max_iter=100, random_state=0).fit(x, y)
    logits, p = estimator.decision_function(x), estimator.predict_proba(x)
    for own, probabilities in zip(logits.T, p.T, strict=True):
        ordered = probabilities[np.argsort(own)]
        assert (np.diff(ordered) >= 0).all()
        assert (np.diff(ordered[ordered < 0.999]) > 0).all()
